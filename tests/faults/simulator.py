"""A deterministic fault simulator over the two state machines of the secure sum: real messages, real cryptography, virtual time.

    outcome = simulate(plan)

Raises `Violated` if a sum is wrong, a round is opened twice, a sum splits a block, or moments are not those of the tenants that were
counted; anything but a `PeerFault` that escapes a machine is a violation as well. What is checked of every running total: it is the
plain integer sum of its members' vectors, each at the parameters of its unit's base round, over the rows that it then had.

Everybody is honest, and links that break and sides that crash are everyday trouble: whoever accuses anybody over them violates a
property too. Messages that are lost, changed or out of order on a link that holds are more than any transport does; a tenant's process
that they happened to may accuse the server, and be accused.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from fed_em.errors import FedEmError
from fed_em_client.tenant_session import SessionLeft, TenantSession
from fed_em_protocols.coordinator import (
    coordinator_receive,
    coordinator_request,
    coordinator_restart,
    coordinator_start,
    coordinator_tick,
    coordinator_unlinked,
)
from fed_em_protocols.coordinator_state import (
    CoordinatorState,
    CoordinatorStep,
    NoticeKind,
    SumNotOpened,
    SumOpened,
    SumRequest,
    Timetable,
)
from fed_em_protocols.errors import PeerFault
from fed_em_protocols.masks import RingVector
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.ring import RING_64
from fed_em_protocols.tenant_state import Evaluate, TenantSelf
from fed_em_protocols.terms import Trust, guarded_units
from fed_em_simulations.simulated_parties import seeded_randomness
from tests.faults.plan import Fault, FaultKind, Plan
from tests.protocols.auditor import Auditor
from tests.protocols.federation import (
    DESCRIPTION,
    KnownVector,
    MemoryMarks,
    gate_of,
    identity_of,
    roster_of,
    terms_of,
)

_LATENCY = 0.01
_REDIAL = 0.2
_RESTART = 0.3
_LENGTH = 2 + RING_64.tail_words
_GATED_LENGTH = 2 + RING_64.for_counts.tail_words
_MASS_FLOOR = 1000
# No graph of nine tenants has any bits of security: what is tested here is that the machines find their way on one.
_WITNESSES = 5
_OF_A_GRAPH = {"neighbours": 6, "share_threshold": 3, "minimum_survivors": 7}
_SPARSE = {
    Trust.SEMI_HONEST: _OF_A_GRAPH,
    Trust.MALICIOUS_SERVER: {**_OF_A_GRAPH, "side_honest": 1, "witnesses": _WITNESSES, "certificate_quorum": 3},
}
_MOST_EVENTS = 20_000
_MOST_ATTEMPTS = 4

_MEDDLING = frozenset({FaultKind.DROP, FaultKind.DELAY, FaultKind.REORDER, FaultKind.DUPLICATE, FaultKind.CORRUPT})

TIMES = Timetable(
    gather=8.0, patience=0.5, set_up=1.0, upload=1.5, quorum=0.75, straggler=0.5, open=0.7, pause=8.0
)  # fmt: skip


class Violated(Exception):
    """A property of the secure sum was violated in a simulated session."""


@dataclass(frozen=True)
class Outcome:
    """What a simulated session came to: sums opened, requests that ended without one, faults that struck, who was blamed."""

    opened: int
    failed: int
    struck: int
    blamed: tuple[str, ...]
    seconds: float


@dataclass
class _Tenant:
    """A tenant's process and its link. What travels on links numbered up to `broken` never arrives.

    `meddled_with`: what happened to messages of this process that no transport does.
    """

    marks: MemoryMarks = field(default_factory=MemoryMarks)
    session: TenantSession | None = None
    link: int = 0
    broken: int = 0
    meddled_with: bool = False


def simulate(plan: Plan) -> Outcome:
    """Run one session to its end.

    Raises:
        Violated: a property does not hold.
    """
    return _Simulation(plan).run()


@dataclass
class _Rows(KnownVector):
    """What a tenant's process computes from its rows; `given` remembers of which rows, by the parameters.

    Rows that are not the first ones are found to be others at every start, as whoever has kept a fingerprint of the rows finds it.
    """

    others: bool = False
    given: dict[bytes, KnownVector] = field(default_factory=dict)

    def changed(self, session: bytes) -> bool:
        return self.others

    def evaluate(self, asked: Evaluate) -> RingVector:
        self.given.setdefault(asked.parameters, self)
        return super().evaluate(asked)


class _Simulation:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._draw = random.Random(plan.seed)
        self._roster = roster_of(plan.n, blocks=plan.blocks or 1, witnesses=_WITNESSES if plan.sparse else None)
        self._length = _GATED_LENGTH if plan.gated else _LENGTH
        self._seeds = [1000 * plan.seed + i for i in range(plan.n)]
        self._given: list[dict[bytes, KnownVector]] = [{} for _ in range(plan.n)]
        self._tenants = [_Tenant() for _ in range(plan.n)]
        self._roster_index = {tenant.name: index for index, tenant in enumerate(self._roster.tenants)}
        self._faults = {fault.message: fault for fault in plan.faults}
        self._auditor = Auditor(plan.n)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = self._messages = self._lives = self._struck = 0
        self._now = 0.0
        self._result: SumOpened | SumNotOpened | None = None
        self._blamed: list[str] = []
        self._up = True
        terms = terms_of(
            self._roster,
            trust=int(plan.trust), colluders=plan.colluders, blocks=plan.blocks, window_rounds=plan.window_rounds,
            mass_floor=_MASS_FLOOR if plan.gated else 0, **(_SPARSE[plan.trust] if plan.sparse else {}),
        )  # fmt: skip
        self._units = guarded_units(self._roster, terms)
        self._state: CoordinatorState = coordinator_start(
            self._roster, identity_of("server"), terms, DESCRIPTION, TIMES, 0.0
        )

    def run(self) -> Outcome:
        for index in range(self._plan.n):
            self._start(index)
        opened = failed = attempts = 0
        while opened < self._plan.rounds and attempts < self._plan.rounds + _MOST_ATTEMPTS:
            attempts += 1
            if self._plan.change is not None and opened == self._plan.change[0]:
                self._change_rows(self._plan.change[1])
            result = self._request(b"parameters %d" % attempts)
            if isinstance(result, SumOpened):
                opened += 1
            else:
                failed += 1
                if result is not None and result.final:
                    break
        return Outcome(opened, failed, self._struck, tuple(self._blamed), self._now)

    def _request(self, parameters: bytes) -> SumOpened | SumNotOpened | None:
        """One sum, behind the mass gate if there is one. None if the server crashed meanwhile: whoever wanted it asks again."""
        request = SumRequest(parameters, bytes(32), self._length)
        if not self._plan.gated:
            return self._sum(request)
        counted = self._sum(replace(request, encoding=b"c" * 32, counts=True, ring=RING_64.for_counts))
        if not isinstance(counted, SumOpened):
            return counted
        self._check_counts(counted, parameters)
        if not self._up:
            return None
        opened = self._sum(replace(request, whole=True, held=gate_of(counted.vector)))
        if isinstance(opened, SumOpened) and opened.survivors != counted.survivors:
            raise Violated(f"the moments of round {opened.round} are not those of the tenants that were counted")
        return opened

    def _sum(self, request: SumRequest) -> SumOpened | SumNotOpened | None:
        self._result = None
        if not self._up:
            self._wait_for(lambda: self._up)
        self._take(coordinator_request(self._state, request, self._now))
        self._wait_for(lambda: self._result is not None or not self._up)
        return self._result

    def _wait_for(self, over: Callable[[], bool]) -> None:
        while not over():
            deadline = self._state.deadline if self._up else None
            if self._queue and (deadline is None or self._queue[0][0] <= deadline):
                self._now, _, happen = heapq.heappop(self._queue)
                happen()
            elif deadline is not None:
                self._now = max(self._now, deadline)
                self._take(coordinator_tick(self._state, self._now))
            else:
                raise Violated("nothing is under way, and the server waits without a deadline")
            if self._number > _MOST_EVENTS:
                raise Violated(f"more than {_MOST_EVENTS} events")

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (self._now + seconds, self._number, happen))

    # --- the server ---

    def _take(self, step: CoordinatorStep) -> None:
        """The state is kept before anything is sent, as a server that can come back must."""
        before, self._state = self._state, step.state
        for notice in step.notices:
            if notice.kind is NoticeKind.FAULT:
                self._blame(notice.text, *(self._roster_index[name] for name in notice.tenants))
        if step.state.total is not before.total:
            self._check_total()
        if isinstance(step.result, SumOpened):
            self._check_whole(step.result)
        if step.result is not None:
            self._result = step.result
        for index, data in step.sends:
            self._send(index, data, to_server=False)

    def _check_total(self) -> None:
        total = self._state.total
        if total is None:
            return
        plain = np.zeros(self._length, dtype=np.uint64)
        for unit, base in zip(self._units, total.bases, strict=True):
            for index in unit if base else ():
                at = total.headers[base].attachment
                plain += self._given[index][at].vector_at(at)
        if not np.array_equal(plain, total.vector):
            raise Violated(f"the running total after round {self._state.last_round} is wrong")

    def _check_counts(self, counted: SumOpened, parameters: bytes) -> None:
        plain = np.zeros(self._length, dtype=np.uint64)
        for index in counted.survivors:
            plain += self._given[index][parameters].vector_at(parameters, RING_64.for_counts)
        if not np.array_equal(plain, counted.vector):
            raise Violated(f"the counts of round {counted.round} are wrong")

    def _blame(self, fault: str, *tenants: int) -> None:
        """Somebody is accused over messages from or to these tenants."""
        self._blamed.append(fault)
        if not any(self._tenants[index].meddled_with for index in tenants):
            raise Violated(f"a false accusation: {fault}")

    def _check_whole(self, opened: SumOpened) -> None:
        survivors = frozenset(opened.survivors)
        if any(unit & survivors and not unit <= survivors for unit in self._units):
            raise Violated(f"the sum of round {opened.round} splits a block")

    def _crash_server(self, seconds: float) -> None:
        self._up = False
        for index in range(self._plan.n):
            self._break(index, tell=False)

        def restart() -> None:
            self._state, self._up = coordinator_restart(self._state, self._now), True

        self._after(seconds, restart)

    # --- tenants ---

    def _start(self, index: int) -> None:
        self._lives += 1
        me = TenantSelf(
            self._roster, index, identity_of(f"t{index}"),
            TermsPolicy(allow_semi_honest=True, colluders=0, difference_guard=False, graph_bits=0), "simulated",
        )  # fmt: skip
        randomness = seeded_randomness(1000 * self._plan.seed + self._lives)
        tenant = self._tenants[index]
        tenant.meddled_with = False
        # What a process has counted it does not know from its predecessor.
        seed, first = self._seeds[index], 1000 * self._plan.seed + index
        work = _Rows(seed, self._length, others=seed != first, given=self._given[index])
        tenant.session = TenantSession(me, work, tenant.marks, randomness)
        self._dial(index)

    def _dial(self, index: int) -> None:
        tenant = self._tenants[index]
        if tenant.session is None or tenant.session.over:
            return
        if not self._up:
            self._after(_REDIAL, lambda: self._dial(index))
            return
        tenant.broken = tenant.link
        tenant.link += 1
        for data in tenant.session.greet():
            self._send(index, data, to_server=True)

    def _break(self, index: int, tell: bool = True) -> None:
        """The link is down, with all that is under way on it; the tenant dials again."""
        tenant = self._tenants[index]
        link = tenant.broken = tenant.link
        self._after(_REDIAL, lambda: self._dial(index) if tenant.link == link else None)

        def unlinked() -> None:
            if self._up and tenant.link == link:
                self._take(coordinator_unlinked(self._state, index, self._now))

        if tell:
            self._after(_LATENCY, unlinked)

    def _change_rows(self, index: int) -> None:
        """Once: its operator stops it, gives it other rows, and starts it again."""
        changed = 1000 * self._plan.seed + self._plan.n + index
        if self._seeds[index] != changed:
            self._seeds[index] = changed
            self._crash_tenant(index, _RESTART)

    def _crash_tenant(self, index: int, seconds: float) -> None:
        tenant = self._tenants[index]
        if tenant.session is None:
            return
        tenant.session = None
        self._break(index)
        self._after(seconds, lambda: self._start(index) if tenant.session is None else None)

    # --- messages ---

    def _send(self, index: int, data: bytes, to_server: bool) -> None:
        tenant, number = self._tenants[index], self._messages
        self._messages += 1
        link = tenant.link
        fault = self._faults.get(number)
        deliver = self._arrival(index, link, data, to_server)
        self._auditor.sees(index, data)
        if fault is None:
            self._after(_LATENCY, deliver)
            return
        self._struck += 1
        self._strike(fault, index, link, data, to_server)

    def _strike(self, fault: Fault, index: int, link: int, data: bytes, to_server: bool) -> None:
        deliver = self._arrival(index, link, data, to_server)
        self._tenants[index].meddled_with |= fault.kind in _MEDDLING
        if fault.kind is FaultKind.DELAY:
            self._after(_LATENCY + fault.seconds, deliver)
        elif fault.kind is FaultKind.REORDER:
            self._after(2.5 * _LATENCY, deliver)
        elif fault.kind is FaultKind.DUPLICATE:
            self._after(_LATENCY, deliver)
            self._after(_LATENCY + fault.seconds, deliver)
        elif fault.kind is FaultKind.CORRUPT:
            self._after(_LATENCY, self._arrival(index, link, _corrupted(data, fault.place), to_server))
        elif fault.kind is FaultKind.BREAK_LINK:
            self._break(index)
        elif fault.kind is FaultKind.CRASH_TENANT:
            self._after(_LATENCY, deliver if to_server else lambda: None)
            self._crash_tenant(index, fault.seconds)
        elif fault.kind is FaultKind.CRASH_SERVER:
            self._after(_LATENCY, deliver)
            self._after(_LATENCY, lambda: self._crash_server(fault.seconds) if self._up else None)

    def _arrival(self, index: int, link: int, data: bytes, to_server: bool) -> Callable[[], None]:
        tenant = self._tenants[index]

        def arrive() -> None:
            if link != tenant.link or link <= tenant.broken:
                return
            if to_server and self._up:
                self._at_server(index, data)
            elif not to_server and tenant.session is not None:
                self._at_tenant(index, tenant.session, data)

        return arrive

    def _at_server(self, index: int, data: bytes) -> None:
        before = self._state
        try:
            step = coordinator_receive(self._state, index, data, self._now)
        except PeerFault as fault:
            self._blame(fault.message, index)
            if self._state is not before:
                raise Violated("a message that the server refused changed its state") from None
            self._break(index, tell=False)
            step = coordinator_unlinked(self._state, index, self._now)
        self._take(step)

    def _at_tenant(self, index: int, session: TenantSession, data: bytes) -> None:
        try:
            answers = session.handle(data)
        except SessionLeft as left:
            raise Violated(f"tenant {index} left: {left}") from left
        except FedEmError as error:
            if not isinstance(error, PeerFault):
                raise
            self._blame(error.message, index)
            self._crash_tenant(index, _RESTART)  # its operator looks, and starts it again
            return
        for answer in answers:
            self._send(index, answer, to_server=True)


def _corrupted(data: bytes, place: float) -> bytes:
    bit = int(place * 8 * len(data))
    turned = bytearray(data)
    turned[bit // 8] ^= 1 << (bit % 8)
    return bytes(turned)
