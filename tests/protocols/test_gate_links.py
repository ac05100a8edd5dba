"""Links that break and processes that start anew around the mass gate: at most the counts are taken again, and nobody is accused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fed_em_protocols.messages import Certificate, Counted, Endorsement, Header, Hello, Opening, Proposal, Upload
from fed_em_protocols.transitions import CoordinatorPhase
from fed_em_simulations.memory_hub import Fate, Interference, Passing
from tests.protocols.crashes import crash_and_restart
from tests.protocols.federation import kind_of
from tests.protocols.gated import Gated
from tests.protocols.interferences import TO_SERVER, TO_TENANT, Place, assert_no_error, in_turn, name_of, once

pytestmark = pytest.mark.usefixtures("remembered_keys")

# The server waits for t0 in every stage of a round. Whoever dials again is back in less than its patience.
LATENCY = [0.05, 0.001, 0.001, 0.001]
COUNTS, MOMENTS = 1, 2

PLACES: list[Place] = [
    (TO_TENANT, Header),
    (TO_SERVER, Upload),
    (TO_TENANT, Proposal),
    (TO_SERVER, Endorsement),
    (TO_TENANT, Certificate),
    (TO_SERVER, Opening),
]
STEPS = [(number, place) for number in (COUNTS, MOMENTS) for place in PLACES] + [(MOMENTS, (TO_TENANT, Counted))]

at_each_step = pytest.mark.parametrize(
    ("number", "place"), STEPS, ids=lambda part: name_of(part) if isinstance(part, tuple) else f"round-{part}"
)
to_some = pytest.mark.parametrize("tenants", [{1}, {1, 2, 3}], ids=str)


class Mishap:
    """Something happens to tenants at the moment that a message of the slow t0 passes a place in a round."""

    def __init__(self, number: int, place: Place, happen: Callable[[], None]) -> None:
        self._at, self._happen = (number, place), happen
        self.happened = False

    def within(self, gated: Gated) -> Interference:
        def interfere(passing: Passing) -> Fate:
            here = (passing.direction, kind_of(passing.data))
            number = gated.federation.server.state.last_round
            if passing.tenant == 0 and not self.happened and (number, here) == self._at:
                self.happened = True
                self._happen()
            return Fate.DELIVER

        return interfere


def federation_with(number: int, place: Place, happen: Callable[[Gated], None]) -> tuple[Gated, Mishap]:
    gated = Gated(4, latency=LATENCY, window_rounds=40)
    mishap = Mishap(number, place, lambda: happen(gated))
    gated.watch.inner = mishap.within(gated)
    return gated, mishap


def break_links(tenants: set[int]) -> Callable[[Gated], None]:
    def happen(gated: Gated) -> None:
        for tenant in tenants:
            gated.federation.hub.break_link(tenant)

    return happen


def start_anew(tenants: set[int], after: float) -> Callable[[Gated], None]:
    def happen(gated: Gated) -> None:
        for tenant in tenants:
            gated.federation.hub.kill(tenant)
            gated.federation.hub.restart(tenant, after)

    return happen


@to_some
@at_each_step
def test_a_link_that_breaks_at_any_step_costs_nothing_but_time(number: int, place: Place, tenants: set[int]) -> None:
    gated, mishap = federation_with(number, place, break_links(tenants))
    counted, opened = gated.sum()
    assert mishap.happened and (counted.round, opened.round) == (1, 2)
    assert counted.survivors == opened.survivors == (0, 1, 2, 3)
    assert_no_error(gated.federation)


@pytest.mark.parametrize("after", [0.0, 0.3, 1.0])
@to_some
@at_each_step
def test_a_process_that_starts_anew_at_any_step_costs_a_repetition_at_most(
    number: int, place: Place, tenants: set[int], after: float
) -> None:
    """Whoever is left is counted anew, and who is back is in the next window."""
    gated, mishap = federation_with(number, place, start_anew(tenants, after))
    counted, opened = gated.sum()
    assert mishap.happened and opened.round == counted.round + 1 <= 4
    assert counted.survivors == opened.survivors
    for _ in range(5):
        _, opened = gated.sum()
    assert opened.survivors == (0, 1, 2, 3)
    assert_no_error(gated.federation)


def test_a_process_that_starts_after_the_counts_is_not_asked_for_moments_in_the_next_window() -> None:
    """The counts are in the last round of their window. While the server waits for t3's link, t1 starts anew and joins."""
    gated = Gated(4, latency=LATENCY, window_rounds=3)
    breaks = Mishap(3, (TO_SERVER, Opening), lambda: break_links({3})(gated))
    starts_anew = Mishap(3, (TO_TENANT, Counted), lambda: start_anew({1}, 0.0)(gated))
    gated.watch.inner = in_turn(breaks.within(gated), starts_anew.within(gated))
    gated.sum()
    counted, opened = gated.sum()
    assert breaks.happened and starts_anew.happened
    assert (counted.round, opened.round) == (4, 5) and opened.survivors == counted.survivors
    went_away = "after the counts of round 3 these went away: t1"
    assert went_away in {notice.text for notice in gated.federation.notices}
    assert_no_error(gated.federation)


@to_some
def test_on_a_new_link_the_counts_come_before_the_moments_that_stand_behind_them(tenants: set[int]) -> None:
    """t1 opens the counts, its link breaks before t0 has, and the server asks for moments as soon as t1 says hello again."""
    gated, _ = federation_with(COUNTS, (TO_SERVER, Opening), break_links(tenants))
    gated.sum()
    for tenant in tenants:
        told = [(kind, number) for kind, number, t in gated.watch.sequence(Header, Counted) if t == tenant]
        assert told[:3] == [(Header, 1), (Counted, 1), (Header, 2)]
    assert_no_error(gated.federation)


def test_counts_that_come_again_change_nothing() -> None:
    """The link breaks once the counts have been read, and once more while the moments are computed."""
    gated, _ = federation_with(MOMENTS, (TO_TENANT, Counted), break_links({1}))
    again = Mishap(MOMENTS, (TO_SERVER, Upload), lambda: break_links({1})(gated))
    gated.watch.inner = in_turn(gated.watch.inner, again.within(gated))
    _, opened = gated.sum()
    assert again.happened and opened.round == 2 and opened.survivors == (0, 1, 2, 3)
    assert [tenant for tenant, _ in gated.watch.passed(Counted)].count(1) > 1
    assert_no_error(gated.federation)


@pytest.mark.parametrize("phase", [CoordinatorPhase.UPLOADING, CoordinatorPhase.CERTIFYING], ids=lambda p: p.value)
@pytest.mark.parametrize("sends", [False, True])
def test_a_server_that_starts_anew_has_no_evidence_left_and_closes_the_moments_all_the_same(
    phase: CoordinatorPhase, sends: bool
) -> None:
    """t1 never saw the counts: it endorses that nothing was opened behind them, and is counted anew."""
    gated = Gated(4, once(Fate.BREAK, (TO_TENANT, Counted), {1}), window_rounds=40)
    crash_and_restart(gated.federation, phase, sends, gated.sum)
    counted, opened = gated.sum()
    assert counted.survivors == opened.survivors == (0, 1, 2, 3) and (counted.round, opened.round) == (3, 4)
    assert_no_error(gated.federation)


def test_a_witness_that_was_not_counted_leaves_the_gate_to_those_who_were() -> None:
    """t1 loses the header of the counts with its link, and is back in time to certify them, and the moments, but not to answer."""

    def interfere(passing: Passing) -> Fate:
        kind = kind_of(passing.data)
        lost = passing.tenant == 1 and gated.federation.server.state.last_round == COUNTS and kind in {Header, Hello}
        broken.extend([kind] if lost else [])
        return Fate.BREAK if lost and len(broken) <= 3 else Fate.DELIVER

    broken: list[type] = []
    gated = Gated(4, interfere, latency=[0.15, 0.001, 0.001, 0.001], window_rounds=40)
    counted, opened = gated.sum()
    assert counted.survivors == opened.survivors == (0, 2, 3)
    assert 1 in gated.watch.by(Counted)
    assert_no_error(gated.federation)
