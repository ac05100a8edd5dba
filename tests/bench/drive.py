"""Secure sums of this project in memory: the machines of `fed_em_protocols`, one message at a time.

A tenant's answer reaches the server before the next tenant hears anything, so one upload is in flight. Charged to tenants:
everything from a message's bytes to the answer's bytes (parsing, signatures, agreements, masks, hashing). To the server: the same on
its side. Left out: the E-step, encoding, durable marks, the network.
"""

from __future__ import annotations

import random
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np

from fed_em_client.tenant_session import TenantSession
from fed_em_protocols import coordinator_round, round_sum
from fed_em_protocols.coordinator import coordinator_receive, coordinator_request, coordinator_start, coordinator_tick
from fed_em_protocols.coordinator_state import CoordinatorStep, SumNotOpened, SumOpened, SumRequest, Timetable
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.graph_parameters import SECURITY_BITS
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import Certificate, Header
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.ring import RING_64, RINGS
from fed_em_protocols.roster import Roster
from fed_em_protocols.tenant_state import Evaluate, TenantSelf
from fed_em_protocols.terms import SessionTerms
from fed_em_simulations.volatile_marks import VolatileMarks
from tests.bench.cpu_ledger import NOBODY, TENANTS, CpuLedger, Spent
from tests.bench.fixed_work import FixedWork, fixed_sum
from tests.protocols.federation import DESCRIPTION, identity_of, kind_of

ROUND_CAP = 1000

# Whoever is silent hears nothing from the first of these messages of a round on.
BEFORE_UPLOAD, AFTER_UPLOAD = Header, Certificate

UNMASKING = "unmasking"
# Who is not watched spends time that nobody asks for.
CHEAP = "cheap"


@dataclass(frozen=True)
class Traffic:
    """Messages of one kind: how many, and their bytes."""

    count: int
    size: int


@dataclass(frozen=True)
class Costs:
    """What watched tenants spent, by roster index, and the server, by kind of message."""

    tenants: dict[int, Spent]
    parts: dict[str, Spent]

    @property
    def tenant(self) -> float:
        """Processor time of a watched tenant, on average over those that spent any."""
        return statistics.fmean(spent.cpu for spent in self.tenants.values()) if self.tenants else 0.0

    @property
    def server(self) -> Spent:
        """Of the server, all parts."""
        return total_of(self.parts.values())


class _UnchargedWork(FixedWork):
    """What a tenant computes from its rows is nobody's expense here."""

    ledger: CpuLedger

    def evaluate(self, asked: Evaluate) -> RingVector:
        with self.ledger.charge(NOBODY):
            return super().evaluate(asked)


class Drive:
    """A federation in memory.

    Args:
        roster: Of `tests.protocols.federation`.
        terms: For it.
        watched: The tenants whose time is charged to tenants; None: all. See `tests.bench.cheap_tenants` for the others.
        held: The bitmap that the mass gate gives.
        settle: Called with the session of a tenant that is not watched after each of its messages.
        demanding: Whether tenants refuse a graph that is no match for the colluders that the terms promise to withstand.

    Attributes:
        ledger: The server's time goes by the message that it takes ("Upload", …), to `UNMASKING`, and to "deadlines".
        silent, silent_at: Who hears nothing, and from which message on.
        around: A context for each of the server's steps.
        network: What draws in which order tenants answer headers, each when it can. The server then reads messages into memory of its own,
            as a step that keeps an upload has to be seen to. None: headers are answered as they are sent, messages handed over.
    """

    def __init__(
        self,
        roster: Roster,
        terms: SessionTerms,
        watched: Iterable[int] | None = None,
        held: bytes = b"\0",
        settle: Callable[[TenantSession], None] = lambda _: None,
        demanding: bool = True,
    ) -> None:
        self.roster = roster
        self.watched = frozenset(range(roster.n) if watched is None else watched)
        self.ledger = CpuLedger()
        self.around: Callable[[], AbstractContextManager[None]] = nullcontext
        self.network: random.Random | None = None
        self.silent: frozenset[int] = frozenset()
        self.silent_at: type = BEFORE_UPLOAD
        self._gone = False
        self._settle = settle
        self._sent: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._queue: deque[tuple[int, bytes]] = deque()
        self._parameters: dict[int, bytes] = {}
        self._rounds = 0
        self.now = 0.0
        self._policy = TermsPolicy(
            allow_semi_honest=True,
            colluders=terms.colluders if demanding else 0,
            round_cap=ROUND_CAP,
            difference_guard=False,
            graph_bits=SECURITY_BITS if demanding else 0,
        )
        self.state = coordinator_start(roster, identity_of("server"), terms, DESCRIPTION, Timetable(), 0.0)
        self.sessions = [self._session(index, held) for index in range(roster.n)]
        for index in range(roster.n):
            self._greet(index)

    def _session(self, index: int, held: bytes) -> TenantSession:
        me = TenantSelf(self.roster, index, identity_of(f"t{index}"), self._policy, "bench")
        work = _UnchargedWork(index, held)
        work.ledger = self.ledger
        return TenantSession(me, work, VolatileMarks())

    # --- sums ---

    def sum(self, length: int, whole: bool = False) -> SumOpened:
        """A sum at parameters of its own, as many bytes of them as of statistics; checked, integer for integer."""
        opened = self.try_sum(length, whole)
        assert isinstance(opened, SumOpened), opened
        return opened

    def try_sum(self, length: int, whole: bool = False) -> SumOpened | SumNotOpened:
        """The same, or why there is none."""
        self._rounds += 1
        parameters = self._rounds.to_bytes(8, "little") + bytes(8 * length - 8)
        outcome = self.ask(SumRequest(parameters, _encoding(length), length, whole=whole))
        if isinstance(outcome, SumOpened):
            self._check(outcome, length, self._rounds)
        return outcome

    def gated_sum(self, length: int, counts: Encoding, held: bytes) -> tuple[SumOpened, SumOpened]:
        """Counts for everybody, then the moments behind the gate that they give, at the same parameters."""
        ring, parameters = RINGS[counts.ring.bits], bytes(8 * length)
        counted = self.ask(SumRequest(parameters, counts.digest, counts.length, counts=True, ring=ring))
        assert isinstance(counted, SumOpened), counted
        opened = self.ask(SumRequest(parameters, _encoding(length), length, whole=True, held=held))
        assert isinstance(opened, SumOpened), opened
        return counted, opened

    def ask(self, request: SumRequest) -> SumOpened | SumNotOpened:
        """One attempt at a sum."""
        self._gone = False
        result = self._take("deadlines", lambda: coordinator_request(self.state, request, self.now))
        while result is None:
            if self._queue:
                result = self._deliver(*self._queue.popleft())
            else:
                assert self.state.deadline is not None, "the server waits for nobody"
                self.now = max(self.now, self.state.deadline)
                result = self._take("deadlines", lambda: coordinator_tick(self.state, self.now))
        # What was still on its way (the counts of a gate) arrives.
        while self._queue:
            self._deliver(*self._queue.popleft())
        return result

    def recall(self) -> None:
        """Let those who were silent be heard again."""
        silent, self.silent, self._gone = self.silent, frozenset(), False
        for index in sorted(silent):
            self._greet(index)

    def _check(self, opened: SumOpened, length: int, number: int) -> None:
        """The total is everybody's vector, each shifted by the parameters that it was last summed at."""
        self._parameters = {i: at for i, at in self._parameters.items() if i not in opened.missing}
        self._parameters.update(dict.fromkeys(opened.survivors, number))  # type: ignore[arg-type]
        assert set(self._parameters) == {*opened.survivors, *opened.stale}
        expected = fixed_sum(sorted(self._parameters), length)
        expected[: -RING_64.tail_words] += np.uint64(sum(self._parameters.values()))  # type: ignore[arg-type]
        assert np.array_equal(opened.vector, expected), "the sum is exact"

    # --- messages ---

    def _greet(self, index: int) -> None:
        """A new link of the same process, to the end of what follows from it."""
        for data in self.sessions[index].greet():
            self._receive(index, data)
        while self._queue:
            self._deliver(*self._queue.popleft())

    def _deliver(self, index: int, data: bytes) -> SumOpened | SumNotOpened | None:
        kind = kind_of(data)
        if index in self.silent:
            self._gone = self._gone or kind is self.silent_at
            if self._gone:
                return None
        self._count("down", kind, data)
        watched = index in self.watched
        with self.ledger.charge(f"{TENANTS} {index}" if watched else CHEAP):
            answers = self.sessions[index].handle(data)
        if not watched:
            self._settle(self.sessions[index])
        result = None
        for answer in answers:
            result = self._receive(index, answer) or result
        return result

    def _receive(self, index: int, data: bytes) -> SumOpened | SumNotOpened | None:
        kind = kind_of(data)
        self._count("up", kind, data)
        network = self.network is not None
        return self._take(
            kind.__name__,
            lambda: coordinator_receive(self.state, index, bytes(bytearray(data)) if network else data, self.now),
        )

    def _take(self, owner: str, step_of: Callable[[], CoordinatorStep]) -> SumOpened | SumNotOpened | None:
        with self.ledger.charge(owner), self.around():
            step = step_of()
            self.state = step.state
        sends = list(step.sends)
        if self.network is not None and all(kind_of(data) is Header for _, data in sends):
            self.network.shuffle(sends)
        self._queue.extend(sends)
        return step.result

    # --- accounts ---

    def _count(self, way: str, kind: type, data: bytes) -> None:
        self._sent[way, kind.__name__] += 1
        self._bytes[way, kind.__name__] += len(data)

    def take_traffic(self) -> dict[tuple[str, str], Traffic]:
        """Messages since the last time this was asked, by way ("up", "down") and kind."""
        taken = {key: Traffic(count, self._bytes[key]) for key, count in self._sent.items()}
        self._sent.clear()
        self._bytes.clear()
        return taken

    def take_costs(self) -> Costs:
        """What everybody spent since the last time this was asked."""
        spent = self.ledger.take_all()
        for owner in (NOBODY, CHEAP):
            spent.pop(owner, None)
        mine = [owner for owner in spent if owner.startswith(TENANTS)]
        tenants = {int(owner.removeprefix(TENANTS)): spent.pop(owner) for owner in mine}
        return Costs(tenants, spent)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Charge the removal of masks apart from the message that completed them."""
        unmasked = round_sum.unmasked

        def charged(*arguments: object, **options: object) -> RingVector:
            with self.ledger.charge(UNMASKING):
                return unmasked(*arguments, **options)  # type: ignore[arg-type]

        with patch.object(coordinator_round, "unmasked", charged):
            yield


def _encoding(length: int) -> bytes:
    """Stands for the digest of an encoding of some length."""
    return length.to_bytes(32, "little")


def total_of(spent: Iterable[Spent]) -> Spent:
    """The sum of some expenses."""
    each = list(spent)
    return Spent(sum(one.cpu for one in each), sum(one.wall for one in each))
