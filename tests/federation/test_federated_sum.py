"""How often a sum is attempted, and how long all attempts wait for tenants together."""

from __future__ import annotations

import pytest

from fed_em_protocols.coordinator_state import NoticeKind, SumOpened, SumRequest
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.messages import Header
from fed_em_protocols.ring import RING_64
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from tests.protocols.federation import SHORT_TIMES, TestFederation, gate_of, kind_of

PAUSE = SHORT_TIMES.pause


class Dying:
    """A tenant of the only block dies whenever it is asked for a sum, and is back after some seconds, if at all."""

    def __init__(self, back_after: float | None) -> None:
        self.alive = True
        self._back_after = back_after
        self.federation = TestFederation(5, interfere=self._fate, blocks=1, window_rounds=16)
        self.federation.sum()
        self.alive = False
        self.began = self.federation.hub.now()

    def _fate(self, passing: Passing) -> Fate:
        asked = passing.direction is Direction.TO_TENANT and kind_of(passing.data) is Header
        if self.alive or passing.tenant != 2 or not asked:
            return Fate.DELIVER
        if self._back_after is not None:
            self.federation.hub.restart(2, self._back_after)
        return Fate.KILL

    def seconds(self) -> float:
        return self.federation.hub.now() - self.began

    def pauses(self) -> int:
        return sum(notice.kind is NoticeKind.PAUSED for notice in self.federation.notices)


def test_a_tenant_that_never_comes_back_is_waited_for_once() -> None:
    dying = Dying(back_after=None)
    with pytest.raises(SumFailed, match="missing: t2"):
        dying.federation.sum()
    assert dying.pauses() == 1
    assert PAUSE < dying.seconds() < PAUSE + 2


def test_a_tenant_that_keeps_leaving_is_waited_for_no_longer_in_all() -> None:
    dying = Dying(back_after=0.7 * PAUSE)
    with pytest.raises(SumFailed, match="4 of 5 tenants answer"):
        dying.federation.sum()
    assert dying.pauses() == 2
    assert PAUSE < dying.seconds() < PAUSE + 2


def test_the_next_sum_waits_anew() -> None:
    dying = Dying(back_after=0.7 * PAUSE)
    with pytest.raises(SumFailed):
        dying.federation.sum()
    dying.alive = True
    dying.began = dying.federation.hub.now()
    assert dying.federation.sum().survivors == (0, 1, 2, 3, 4)
    assert dying.seconds() < PAUSE


class TestPairs:
    """Counts and moments, here of the same vectors: only what is asked for when is looked at."""

    def pair(self, federation: TestFederation, then: list[SumOpened]) -> SumOpened:
        counts = SumRequest(b"here", bytes(32), federation.length, counts=True, ring=RING_64.for_counts)

        def moments(counted: SumOpened) -> SumRequest:
            then.append(counted)
            return SumRequest(b"here", bytes(32), federation.length, whole=True, held=gate_of(counted.vector))

        return federation.server.sum_behind_gate(counts, moments)

    def test_moments_are_of_those_who_were_counted(self) -> None:
        federation, counted = TestFederation(5, 48, mass_floor=10_000), []
        opened = self.pair(federation, counted)
        assert [c.survivors for c in counted] == [opened.survivors] == [(0, 1, 2, 3, 4)]
        assert opened.round == counted[0].round + 1 == 2

    def test_a_pair_that_fails_is_repeated_from_the_counts_on(self) -> None:
        counted: list[SumOpened] = []

        def fate(passing: Passing) -> Fate:
            moments = len(counted) == 1 and passing.direction is Direction.TO_TENANT and kind_of(passing.data) is Header
            return Fate.KILL if moments and passing.tenant == 3 else Fate.DELIVER

        federation = TestFederation(5, 48, interfere=fate, mass_floor=10_000)
        opened = self.pair(federation, counted)
        assert [c.survivors for c in counted] == [(0, 1, 2, 3, 4), (0, 1, 2, 4)]
        assert opened.survivors == (0, 1, 2, 4)
        assert opened.round == counted[1].round + 1

    def test_a_pair_is_not_repeated_for_ever(self) -> None:
        counted: list[SumOpened] = []

        def fate(passing: Passing) -> Fate:
            killed = {1: 6, 2: 5, 3: 4}.get(len(counted))
            moments = passing.direction is Direction.TO_TENANT and kind_of(passing.data) is Header
            return Fate.KILL if moments and passing.tenant == killed else Fate.DELIVER

        federation = TestFederation(7, 48, interfere=fate, mass_floor=10_000, colluders=1)
        with pytest.raises(SumFailed, match="all that were counted"):
            self.pair(federation, counted)
        assert [len(c.survivors) for c in counted] == [7, 6, 5]

    def test_what_the_counts_say_may_end_it(self) -> None:
        federation = TestFederation(5, 48, mass_floor=10_000)

        def refuse(counted: SumOpened) -> SumRequest:
            raise SumFailed("as counted")

        counts = SumRequest(b"here", bytes(32), federation.length, counts=True, ring=RING_64.for_counts)
        with pytest.raises(SumFailed, match="as counted"):
            federation.server.sum_behind_gate(counts, refuse)
        assert federation.server.state.last_round == 1
