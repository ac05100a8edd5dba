"""Fuzz target for a whole federation: a network that holds no key and does what it likes with what passes, live."""

from __future__ import annotations

from contextlib import suppress

from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.errors import SumFailed
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from tests.fuzz.choices import Choices
from tests.fuzz.sessions import SESSION_KINDS, TENANTS, SessionKind, federation_of, request_of
from tests.fuzz.signatures import Signatures, noted_signatures
from tests.fuzz.twists import damaged
from tests.fuzz.watched import WatchedSession
from tests.protocols.auditor import Auditor
from tests.protocols.federation import TestFederation

_SUMS = 2
# Of virtual time: three attempts, each at most a gathering, set-ups of windows and a round.
_LONGEST_SUM = 200.0

# What becomes of one message in so many to a tenant.
_FATES = {1: Fate.BREAK, 2: Fate.LOSE, 3: Fate.KILL}
_FATES_IN = 32


class Network:
    """Every choice that is not the first is some mischief with the message that passes.

    Attributes:
        passed: Everything that the parties wrote, for replays.
    """

    def __init__(self, choices: Choices, signatures: Signatures) -> None:
        self.choices = choices
        self.signatures = signatures
        self.auditor = Auditor(TENANTS)
        self.passed: list[bytes] = []
        self._held: dict[tuple[int, Direction], list[bytes]] = {}

    def carries(self, tenant: int, direction: Direction, messages: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """What arrives in place of the messages."""
        held = self._held.setdefault((tenant, direction), [])
        arriving: list[bytes] = []
        for data in messages:
            self.passed.append(data)
            match self.choices.below(16):
                case 1:
                    arriving += [data, data]
                case 2:
                    arriving += [damaged(data, self.choices), data]
                case 3:
                    arriving += [self.choices.one(self.passed), data]
                case 4:
                    arriving += [data, self.choices.one(self.passed)]
                case 5:
                    held.append(data)
                    continue
                case 6:
                    arriving.append(damaged(data, self.choices))
                case _:
                    arriving.append(data)
            arriving += held
            held.clear()
        return tuple(arriving)


def network(data: bytes) -> None:
    """Every sum is exact over its survivors or fails in time, and nobody breaks a rule of the auditor's."""
    choices, signatures = Choices(data), Signatures()
    kind = choices.one(SESSION_KINDS)
    with noted_signatures(signatures):
        federation = _federation(Network(choices, signatures), kind)
        for number, asked in enumerate(kind.sums[:_SUMS]):
            start = federation.hub.now()
            with suppress(SumFailed):
                if asked:
                    federation.server.sum(request_of(federation, number, asked))
                else:
                    federation.sum()  # and compares it with the plain sum
            assert federation.hub.now() - start <= _LONGEST_SUM, "a sum was waited for too long"


def _federation(troubled: Network, kind: SessionKind) -> TestFederation:
    def interfere(passing: Passing) -> Fate:
        if passing.direction is Direction.TO_SERVER:
            return Fate.DELIVER
        fate = _FATES.get(troubled.choices.below(_FATES_IN), Fate.DELIVER)
        if fate is Fate.KILL:
            federation.hub.restart(passing.tenant, troubled.choices.below(2**8) / 32)
        return fate

    sessions = {index: _session_on(troubled, index) for index in range(TENANTS)}
    federation = federation_of(kind, interfere, sessions)
    return federation


def _session_on(troubled: Network, index: int) -> type[TenantSession]:
    class TroubledSession(WatchedSession):
        """A tenant at the end of a bad link."""

        def handle(self, data: bytes) -> tuple[bytes, ...]:
            sends: list[bytes] = []
            for arriving in troubled.carries(index, Direction.TO_TENANT, (data,)):
                sends += self.hears(arriving, index, troubled.auditor, troubled.signatures)
            return troubled.carries(index, Direction.TO_SERVER, tuple(sends))

        def greet(self) -> tuple[bytes, ...]:
            return troubled.carries(index, Direction.TO_SERVER, super().greet())

    return TroubledSession
