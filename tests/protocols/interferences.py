"""What tests do to messages on their way, and an eye on all that passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from fed_em_protocols.envelope import Sealed, unquote, unseal
from fed_em_protocols.messages import Certificate, Header, Payload
from fed_em_simulations.memory_hub import Direction, Fate, Interference, Passing
from tests.protocols.federation import TestFederation, kind_of

TO_SERVER, TO_TENANT = Direction.TO_SERVER, Direction.TO_TENANT
Place = tuple[Direction, type]
P = TypeVar("P", bound=Payload)


def name_of(place: Place | None) -> str:
    """For test ids: "unread" is on its way to a tenant, "sent" is a tenant's own."""
    if place is None:
        return "never"
    return f"{'sent' if place[0] is TO_SERVER else 'unread'}-{place[1].__name__}"


def once(fate: Fate, place: Place, tenants: Iterable[int]) -> Interference:
    """Each of these tenants meets the fate once, at its first message of this kind in this direction."""
    left = set(tenants)

    def interfere(passing: Passing) -> Fate:
        if passing.tenant in left and (passing.direction, kind_of(passing.data)) == place:
            left.discard(passing.tenant)
            return fate
        return Fate.DELIVER

    return interfere


def parsed(passing: Passing, kind: type[P]) -> Sealed[P]:
    """A message of a known kind."""
    sealed = unseal(passing.data, "somebody")
    assert isinstance(sealed.content, kind)
    return cast("Sealed[P]", sealed)


def in_turn(*interferences: Interference) -> Interference:
    """The first fate that is not delivery."""

    def interfere(passing: Passing) -> Fate:
        fates = (each(passing) for each in interferences)
        return next((fate for fate in fates if fate is not Fate.DELIVER), Fate.DELIVER)

    return interfere


class Watch:
    """Sees all messages that pass, and lets another interference decide."""

    def __init__(self, inner: Interference = lambda _: Fate.DELIVER) -> None:
        self.inner = inner
        self._passed: dict[type, list[Passing]] = {}
        self._in_order: list[tuple[type, Passing]] = []

    def __call__(self, passing: Passing) -> Fate:
        kind = kind_of(passing.data)
        self._passed.setdefault(kind, []).append(passing)
        self._in_order.append((kind, passing))
        return self.inner(passing)

    def everything(self) -> list[Passing]:
        """All that passed, in order."""
        return [passing for _, passing in self._in_order]

    def passed(self, kind: type[P]) -> list[tuple[int, Sealed[P]]]:
        """All messages of a kind, in order, each with the tenant that it came from or went to."""
        found = self._passed.get(kind, [])
        return [(passing.tenant, parsed(passing, kind)) for passing in found]

    def sequence(self, *kinds: type) -> list[tuple[type, int, int]]:
        """Kind, round and tenant of all messages of some kinds that name a round, in order."""
        found = [(kind, passing) for kind, passing in self._in_order if kind in kinds]
        contents = [cast(Any, unseal(passing.data, "somebody").content) for _, passing in found]
        return [(kind, content.round, p.tenant) for (kind, p), content in zip(found, contents, strict=True)]

    def seen(self, kind: type[P]) -> list[Sealed[P]]:
        """The distinct messages of a kind, in order."""
        return list({sealed.digest: sealed for _, sealed in self.passed(kind)}.values())

    def by(self, kind: type) -> set[int]:
        """Tenants that a message of this kind came from, or went to."""
        return {passing.tenant for passing in self._passed.get(kind, [])}

    def headers(self) -> dict[int, Header]:
        """The header of each round; there must be one alone."""
        found = self.seen(Header)
        assert len({sealed.content.round for sealed in found}) == len(found)
        return {sealed.content.round: sealed.content for sealed in found}

    def certified_by(self, header: Header) -> Certificate | None:
        """The certificate of the round before, as a header shows it."""
        return unquote(header.previous[0], Certificate, "server").content if header.previous else None


def assert_no_error(federation: TestFederation) -> None:
    """No tenant left of its own accord, and nobody was said to be at fault."""
    errors = [federation.hub.error_of(index) for index in range(len(federation.works))]
    assert errors == [None] * len(errors) and federation.faults() == []


def notices(federation: TestFederation, kind: Any) -> list[tuple[int, tuple[str, ...]]]:
    """Round and tenants of the notices of one kind."""
    return [(notice.round, notice.tenants) for notice in federation.notices if notice.kind is kind]


def revive(federation: TestFederation, fate: Callable[[Passing], bool], after: float) -> Interference:
    """Whoever's message is picked dies, and is started anew after some seconds."""

    def interfere(passing: Passing) -> Fate:
        if not fate(passing):
            return Fate.DELIVER
        federation.hub.restart(passing.tenant, after)
        return Fate.KILL

    return interfere
