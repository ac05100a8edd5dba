"""When a tenant dials again, and when it gives up: on a clock and over links that the test makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Self, cast

import grpc
import pytest

from fed_em.errors import EnvironmentFault
from fed_em_client import grpc_link
from fed_em_client.grpc_link import Endpoint, serve_session
from fed_em_client.tenant_session import TenantSession
from fed_em_client.tenant_watcher import UNWATCHED

PATIENCE = 300.0
DAY = 86400.0


class _Broken(grpc.RpcError):  # type: ignore[misc]
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "ping timeout"


@dataclass
class World:
    """Each link in turn: the seconds until each of its messages comes, and until it breaks.

    Attributes:
        links: The last is dialled as often as need be.
        over_at: How many messages end the session; 0: no number.
    """

    links: Sequence[tuple[Sequence[float], float]]
    over_at: int = 0
    now: float = 1000.0
    dialled: int = 0
    heard: int = 0
    said: list[str] = field(default_factory=list)
    joined: bool = False
    watcher = UNWATCHED
    address = "somewhere:1"

    def check_certificates(self, now: datetime) -> None:
        """None expires here."""

    def greet(self) -> tuple[bytes, ...]:
        return ()

    def handle(self, _: bytes) -> tuple[bytes, ...]:
        self.heard += 1
        return ()

    @property
    def over(self) -> bool:
        return self.heard == self.over_at

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def link(self, _: Endpoint) -> _Link:
        self.dialled += 1
        return _Link(self, *self.links[min(self.dialled, len(self.links)) - 1])


@dataclass
class _Link:
    world: World
    messages: Sequence[float]
    breaks: float

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It is gone."""

    def __iter__(self) -> Iterator[bytes]:
        for seconds in self.messages:
            self.world.now += seconds
            yield b"message"
        self.world.now += self.breaks
        raise _Broken


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def serve(world: World, loyalty: float = 0.0) -> None:
        monkeypatch.setattr(grpc_link, "time", SimpleNamespace(monotonic=lambda: world.now, sleep=world.sleep))
        monkeypatch.setattr(grpc_link, "GrpcLink", world.link)
        session, endpoint = cast(TenantSession, world), cast(Endpoint, world)
        serve_session(session, endpoint, PATIENCE, world.said.append, loyalty)

    return serve


@pytest.mark.parametrize("quiet", [PATIENCE + 1, DAY])
def test_a_link_that_was_quiet_for_longer_than_the_patience_and_breaks_is_dialled_again(
    serving: Callable[..., None], quiet: float
) -> None:
    """As one that is half-open and found by its pings: a server that asks for nothing for an hour is no server that is away."""
    world = World(links=[([0.1], quiet), ([0.1], 0.0)], over_at=2)
    serving(world)
    assert world.dialled == 2
    assert world.said == ["no link to somewhere:1 (ping timeout); dialling again for 300 seconds"]


def test_who_never_hears_anything_gives_up_when_the_patience_is_over(serving: Callable[..., None]) -> None:
    world = World(links=[([], 1.0)])
    with pytest.raises(EnvironmentFault, match="no link to the server at somewhere:1 for 300 seconds: ping timeout"):
        serving(world)
    assert world.dialled > 30 and PATIENCE < world.now - 1000 < PATIENCE + 10


def test_the_patience_begins_anew_with_each_link_that_carries_something(serving: Callable[..., None]) -> None:
    world = World(links=[([0.1, DAY], DAY), ([], 1.0)])
    with pytest.raises(EnvironmentFault, match="for 300 seconds"):
        serving(world)
    assert PATIENCE < world.now - 1000 - 2 * DAY < PATIENCE + 10


def test_who_has_joined_dials_for_as_long_as_it_is_loyal(serving: Callable[..., None]) -> None:
    world = World(links=[([0.1], DAY), ([], 1.0)], joined=True)
    with pytest.raises(EnvironmentFault, match="for 86400 seconds"):
        serving(world, loyalty=DAY)
    assert world.now - 1000 > 2 * DAY
