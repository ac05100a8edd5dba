"""A federation in memory whose sums stand behind the mass gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fed_em_protocols.coordinator_state import SumOpened, SumRequest
from fed_em_protocols.masks import RingVector
from fed_em_protocols.ring import RING_64
from fed_em_simulations.memory_hub import Fate, Interference
from tests.protocols.federation import TestFederation
from tests.protocols.interferences import Watch

HELD = b"\x02"
LENGTH = 48


class Gated:
    """A federation whose tenants all hold component 1, whatever the counts; they remember which counts they were shown.

    Like real ones, those who have not counted themselves have no rule to apply.
    """

    def __init__(
        self,
        n: int,
        interfere: Interference = lambda _: Fate.DELIVER,
        latency: float | Sequence[float] = 0.001,
        **terms: int,
    ) -> None:
        self.watch = Watch(interfere)
        self.federation = TestFederation(n, LENGTH, interfere=self.watch, latency=latency, mass_floor=1000, **terms)
        self.shown: dict[int, list[RingVector]] = {index: [] for index in range(n)}
        for index, work in enumerate(self.federation.works):
            work.held = self._rule(index)  # type: ignore[method-assign]
        self._pairs = 0

    def _rule(self, index: int) -> Callable[[RingVector], bytes]:
        def held(counts: RingVector) -> bytes:
            self.shown[index].append(counts)
            return HELD if self.federation.works[index].has_counted else b""

        return held

    def counts(self, parameters: bytes = b"counts") -> SumRequest:
        return SumRequest(parameters, b"c" * 32, self.federation.length, counts=True, ring=RING_64.for_counts)

    def moments(self, parameters: bytes = b"moments") -> SumRequest:
        return SumRequest(parameters, bytes(32), self.federation.length, held=HELD)

    def sum(self) -> tuple[SumOpened, SumOpened]:
        """Counts, and moments behind them; both exact."""
        self._pairs += 1
        at, counted = b"parameters %d" % self._pairs, list[SumOpened]()

        def moments(opened: SumOpened) -> SumRequest:
            counted.append(opened)
            return self.moments(at)

        opened = self.federation.server.sum_behind_gate(self.counts(at), moments)
        self.federation._assert_exact(opened, at)
        self.assert_counted(counted[-1], at)
        return counted[-1], opened

    def assert_counted(self, counted: SumOpened, parameters: bytes) -> None:
        plain = np.zeros(self.federation.length, dtype=np.uint64)
        for index in counted.survivors:
            plain += self.federation.works[index].vector_at(parameters, RING_64.for_counts)
        assert np.array_equal(counted.vector, plain) and counted.stale == ()
        for index, shown in self.shown.items():
            if index in counted.survivors:
                assert np.array_equal(shown[-1], plain)
