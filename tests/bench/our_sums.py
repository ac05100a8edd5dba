"""Secure sums of this project in memory: the machines of `fed_em_protocols`, driven as over any transport.

Charged to tenants: everything from a message's bytes to the answer's bytes (parsing, signatures, agreements, masks, hashing). To the
server: the same on its side, and the memory hub's own bookkeeping. Left out: the E-step, encoding, durable marks, the network.
"""

from __future__ import annotations

import statistics

import numpy as np

from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.coordinator import coordinator_start
from fed_em_protocols.coordinator_state import Notice, NoticeKind, SumOpened, SumRequest, Timetable
from fed_em_protocols.messages import Opening, Upload
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.tenant import TenantSelf
from fed_em_server.federated_sum import FederatedSum
from fed_em_simulations.memory_hub import Direction, Fate, MemoryHub, Passing
from fed_em_simulations.volatile_marks import VolatileMarks
from tests.bench.cpu_ledger import NOBODY, SERVER, TENANTS, CpuLedger
from tests.bench.figures import Spread, SumFigures
from tests.bench.fixed_work import FixedWork, fixed_sum
from tests.protocols.federation import DESCRIPTION, identity_of, kind_of, roster_of, terms_of

WINDOW_ROUNDS, ROUND_CAP = 64, 1000
COMPLETE = "complete"
NO_DROPOUT, BEFORE_UPLOAD, AFTER_UPLOAD = "no dropout", "10 % of the uploads lost", "10 % silent after the upload"

_LOST = {NO_DROPOUT: None, BEFORE_UPLOAD: Upload, AFTER_UPLOAD: Opening}
_RECALL_LENGTH = 4


class _ChargedSession(TenantSession):
    """A tenant's session whose work is charged to the tenants."""

    ledger: CpuLedger

    def greet(self) -> tuple[bytes, ...]:
        with self.ledger.charge(TENANTS):
            return super().greet()

    def handle(self, data: bytes) -> tuple[bytes, ...]:
        with self.ledger.charge(TENANTS):
            return super().handle(data)


class OurSums:
    """A federation of n tenants in memory, whose window is opened by the first sum."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._ledger = CpuLedger()
        self._silent: frozenset[int] = frozenset()
        self._lost: type | None = None
        self._set_ups: list[tuple[float, float]] = []
        roster = roster_of(n)
        self._hub = MemoryHub([lambda i=i: self._start(i) for i in range(n)], 0.001, self._interfere)  # type: ignore[misc]
        terms = terms_of(roster, window_rounds=WINDOW_ROUNDS, round_cap=ROUND_CAP)
        state = coordinator_start(roster, identity_of("server"), terms, DESCRIPTION, Timetable(), 0.0)
        self._sums = FederatedSum(state, self._hub, self._watch)
        self._sum(_RECALL_LENGTH)

    def measure(self, length: int, dropout: str, silent: int, times: int) -> SumFigures:
        """Sums of vectors of `length`, in which the first `silent` tenants fall silent."""
        costs = [self._sum_without(frozenset(range(silent)), _LOST[dropout], length) for _ in range(times)]
        tenants_set_up, server_set_up = map(statistics.median, zip(*self._set_ups, strict=True))
        return SumFigures(
            system="fed-em",
            graph=COMPLETE,
            tenants=self._n,
            length=length,
            dropout=dropout,
            tenant_cpu=Spread.of([tenants / self._n for tenants, _ in costs]),
            server_cpu=Spread.of([server for _, server in costs]),
            tenant_set_up_cpu=tenants_set_up / (self._n * WINDOW_ROUNDS),
            server_set_up_cpu=server_set_up / WINDOW_ROUNDS,
        )

    def _sum_without(self, silent: frozenset[int], lost: type | None, length: int) -> tuple[float, float]:
        """Processor time of all tenants together, and of the server, in one sum; it is checked."""
        everybody = tuple(range(self._n))
        fixed_sum(everybody, length)  # makes the vectors, which are kept
        self._silent, self._lost = silent, lost
        self._ledger.take(TENANTS), self._ledger.take(SERVER)
        opened = self._sum(length)
        costs = self._ledger.take(TENANTS), self._ledger.take(SERVER)
        assert frozenset(opened.survivors) == frozenset(everybody) - (silent if lost is Upload else frozenset())
        self._recall()
        return costs

    def _recall(self) -> None:
        """Let those who were silent link again, and take part in sums that do not count until nobody is missing."""
        silent, self._silent = self._silent, frozenset()
        for tenant in silent:
            self._hub.break_link(tenant)
        while silent and self._sum(_RECALL_LENGTH).missing:
            pass

    def _sum(self, length: int) -> SumOpened:
        with self._ledger.charge(SERVER):
            opened = self._sums.sum(SumRequest(b"parameters", bytes(32), length))
        assert np.array_equal(opened.vector, fixed_sum(opened.survivors, length)), "the sum is exact"
        return opened

    def _start(self, index: int) -> TenantSession:
        policy = TermsPolicy(allow_semi_honest=True, colluders=0, round_cap=ROUND_CAP)
        me = TenantSelf(roster_of(self._n), index, identity_of(f"t{index}"), policy, "bench")
        session = _ChargedSession(me, FixedWork(index), VolatileMarks())
        session.ledger = self._ledger
        return session

    def _interfere(self, passing: Passing) -> Fate:
        if passing.direction is Direction.TO_TENANT or passing.tenant not in self._silent:
            return Fate.DELIVER
        with self._ledger.charge(NOBODY):
            return Fate.LOSE if kind_of(passing.data) is self._lost else Fate.DELIVER

    def _watch(self, notice: Notice) -> None:
        """Keep what a window's set-up costs apart from its sums; hellos and terms, once a session, are dropped."""
        if notice.kind is NoticeKind.WINDOW_OPENED:
            self._set_ups.append((self._ledger.take(TENANTS), self._ledger.take(SERVER)))
        elif notice.kind is NoticeKind.JOINED:
            self._ledger.take(TENANTS), self._ledger.take(SERVER)
