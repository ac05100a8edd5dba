"""Rounds of counts, and the gated rounds behind them: everybody recomputes the counts, and the moments are those of whom was counted."""

from __future__ import annotations

import numpy as np
import pytest

from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import (
    Certificate,
    Counted,
    Endorsement,
    Header,
    Mode,
    Opening,
    OpenWindow,
    Proposal,
    Recover,
    Shares,
    Upload,
)
from fed_em_protocols.ring import RING_64
from fed_em_simulations.memory_hub import Fate, Passing
from tests.protocols.federation import kind_of
from tests.protocols.gated import HELD, Gated
from tests.protocols.interferences import (
    TO_SERVER,
    TO_TENANT,
    Place,
    assert_no_error,
    in_turn,
    name_of,
    notices,
    once,
)

pytestmark = pytest.mark.usefixtures("remembered_keys")


def test_counts_are_shown_to_everybody_and_leave_the_total_alone() -> None:
    gated = Gated(5)
    for number in range(3):
        counted, opened = gated.sum()
        assert counted.survivors == opened.survivors == (0, 1, 2, 3, 4)
        assert (counted.round, opened.round) == (2 * number + 1, 2 * number + 2)
    headers = gated.watch.headers()
    assert [headers[t].mode for t in range(1, 7)] == [Mode.COUNTS, Mode.WHOLE, *[Mode.COUNTS, Mode.INCREMENT] * 2]
    assert [headers[t].held for t in range(1, 7)] == [b"", HELD] * 3
    assert headers[3].base_rounds == () and headers[6].base_rounds == (4,) * 5
    assert gated.watch.by(Counted) == {0, 1, 2, 3, 4} and len(gated.watch.passed(Counted)) == 15
    assert_no_error(gated.federation)


def test_tenants_compute_what_the_server_computed_from_masked_uploads_alone() -> None:
    """The evidence holds uploads as they came, and keys of masks: no tenant's own counts."""
    gated = Gated(4)
    counted, _ = gated.sum()
    (evidence,) = gated.watch.seen(Counted)
    for work in gated.federation.works:
        assert work.vector_at(b"parameters 1", RING_64.for_counts)[:8].tobytes() not in evidence.attachment
    assert all(np.array_equal(shown[0], counted.vector) for shown in gated.shown.values())


DIES: list[Place] = [
    (TO_TENANT, Header),
    (TO_SERVER, Upload),
    (TO_TENANT, Proposal),
    (TO_TENANT, Certificate),
    (TO_SERVER, Opening),
    (TO_TENANT, Counted),
]


@pytest.mark.parametrize("place", DIES, ids=name_of)
def test_counts_are_exact_when_a_tenant_dies_in_their_round(place: Place) -> None:
    """Then moments follow over whoever was counted; if one of them is gone by then, they are counted anew."""
    gated = Gated(5, once(Fate.KILL, place, {2}))
    counted, opened = gated.sum()
    assert counted.survivors == opened.survivors == (0, 1, 3, 4)
    assert opened.round == counted.round + 1
    assert_no_error(gated.federation)


def test_a_tenant_that_was_asked_but_not_in_time_is_shown_the_counts_too() -> None:
    def interfere(passing: Passing) -> Fate:
        if passing.tenant == 4 and kind_of(passing.data) is Header:
            gated.federation.hub.set_latency(4, 1.5)
        if passing.tenant == 0 and kind_of(passing.data) is Certificate:
            gated.federation.hub.set_latency(4, 0.05)
        return Fate.DELIVER

    gated = Gated(5, interfere, latency=0.05)
    counted = gated.federation.server.sum(gated.counts())
    assert counted.survivors == (0, 1, 2, 3)
    gated.federation.hub.close()
    assert gated.watch.by(Counted) == {0, 1, 2, 3, 4} and np.array_equal(gated.shown[4][0], counted.vector)
    assert_no_error(gated.federation)


@pytest.mark.parametrize("tenants", [{1}, {0, 1, 2, 3}], ids=str)
@pytest.mark.parametrize("place", [*DIES, (TO_SERVER, Endorsement)], ids=name_of)
def test_a_link_that_breaks_costs_nothing_but_time(place: Place, tenants: set[int]) -> None:
    gated = Gated(4, once(Fate.BREAK, place, tenants))
    counted, opened = gated.sum()
    assert (counted.round, opened.round) == (1, 2) and opened.survivors == (0, 1, 2, 3)
    assert_no_error(gated.federation)


@pytest.mark.parametrize("place", [(TO_TENANT, Recover), (TO_SERVER, Shares)], ids=name_of)
def test_nor_does_one_that_breaks_while_counts_are_recovered(place: Place) -> None:
    gated = Gated(5, in_turn(once(Fate.KILL, (TO_TENANT, Certificate), {4}), once(Fate.BREAK, place, {0, 1, 2})))
    counted, opened = gated.sum()
    assert counted.survivors == opened.survivors == (0, 1, 2, 3)
    assert gated.watch.headers()[1].participants == b"\x1f"
    assert_no_error(gated.federation)


# --- the gated round ---


@pytest.mark.parametrize("blocks", [0, 2])
def test_a_gated_round_opens_for_all_that_were_counted_or_not_at_all(blocks: int) -> None:
    """t3 dies before its upload of the moments: that round is void, and without t3 (and its block) the counts are taken again."""

    def interfere(passing: Passing) -> Fate:
        last = gated.federation.server.state.last_round
        return Fate.KILL if (passing.tenant, kind_of(passing.data), last) == (3, Header, 2) else Fate.DELIVER

    gated = Gated(6, interfere, blocks=blocks, colluders=1)
    counted, opened = gated.sum()
    left = (0, 2, 4) if blocks else (0, 1, 2, 4, 5)
    assert counted.survivors == opened.survivors == left and (counted.round, opened.round) == (3, 4)
    failures = [notice.text for notice in gated.federation.notices if notice.kind is NoticeKind.ROUND_FAILED]
    assert failures[0] == "round 2: 5 uploads, needed are all that were counted; missing: t3"
    proposed = {sealed.content.survivors for sealed in gated.watch.seen(Proposal)}
    assert {len(from_bitmap(survivors, 6)) for survivors in proposed} == {6, 0, len(left)}
    assert_no_error(gated.federation)


def test_one_that_dies_after_its_upload_of_the_moments_is_replaced() -> None:
    def interfere(passing: Passing) -> Fate:
        last = gated.federation.server.state.last_round
        return Fate.KILL if (passing.tenant, kind_of(passing.data), last) == (3, Certificate, 2) else Fate.DELIVER

    gated = Gated(5, interfere)
    _, opened = gated.sum()
    assert opened.round == 2 and opened.survivors == (0, 1, 2, 3, 4)
    assert_no_error(gated.federation)


def test_who_comes_later_is_not_in_the_moments_of_those_who_were_counted() -> None:
    gated = Gated(5, once(Fate.KILL, (TO_TENANT, Header), {4}), window_rounds=40)
    survivors = []
    for _ in range(5):
        counted, opened = gated.sum()
        survivors.append(opened.survivors)
        gated.federation.hub.restart(4, 0.0) if len(survivors) == 1 else None
        assert counted.survivors == opened.survivors
    assert survivors[0] == (0, 1, 2, 3) and survivors[-1] == (0, 1, 2, 3, 4)
    assert_no_error(gated.federation)


def test_moments_need_counts_of_the_very_round_before() -> None:
    gated = Gated(4)
    server = gated.federation.server
    with pytest.raises(SumFailed, match="the mass gate has no counts of the round before"):
        server.sum(gated.moments())
    server.sum(gated.counts())
    gated.federation.sum()  # without a gate, and of the same numbers of rounds
    with pytest.raises(SumFailed, match="the mass gate has no counts of the round before"):
        server.sum(gated.moments())
    gated.sum()
    assert_no_error(gated.federation)


def test_counts_in_the_last_round_of_a_window_are_followed_by_moments_in_the_next() -> None:
    gated = Gated(4, window_rounds=3)
    for number in range(4):
        counted, opened = gated.sum()
        assert (counted.round, opened.round) == (2 * number + 1, 2 * number + 2)
    setups = {number: header.setup for number, header in gated.watch.headers().items()}
    assert setups[3] != setups[4] and setups[6] != setups[7]
    assert_no_error(gated.federation)


def test_a_process_that_started_after_the_counts_is_not_asked_for_moments_behind_them() -> None:
    """t2 has read the counts of round 3, the last of its window, and is back as another process in the next window."""

    def interfere(passing: Passing) -> Fate:
        last = gated.federation.server.state.last_round
        if (passing.tenant, kind_of(passing.data), last) != (2, OpenWindow, 3) or died:
            return Fate.DELIVER
        died.append(2)
        gated.federation.hub.restart(2, 0.0)
        return Fate.KILL

    died: list[int] = []
    gated = Gated(4, interfere, window_rounds=3)
    gated.sum()
    counted, opened = gated.sum()
    assert died and counted.survivors == opened.survivors and opened.round == counted.round + 1 > 4
    assert "after the counts of round 3 these went away: t2" in {notice.text for notice in gated.federation.notices}
    assert_no_error(gated.federation)


def test_a_restarted_tenant_computes_its_gated_base_with_the_components_that_were_held() -> None:
    gated = Gated(4, window_rounds=40)
    gated.sum()
    gated.federation.hub.kill(2)
    gated.federation.hub.restart(2, 0.0)
    for _ in range(4):
        _, opened = gated.sum()
    assert opened.survivors == (0, 1, 2, 3) and opened.stale == ()
    recalled = [asked for asked in gated.federation.works[2].asked if asked.recall]
    assert [(asked.held, asked.mode) for asked in recalled] == [(HELD, Mode.WHOLE)]
    assert notices(gated.federation, NoticeKind.FAULT) == []
