"""Links that break: the same process dials again and goes on where it stood; late and flapping tenants stop nobody."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from fed_em.errors import CallerError
from fed_em_protocols.coordinator import (
    coordinator_receive,
    coordinator_request,
    coordinator_tick,
    coordinator_unlinked,
)
from fed_em_protocols.coordinator_state import CoordinatorState, NoticeKind, SumRequest, Timetable
from fed_em_protocols.envelope import seal
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.limits import MAX_VECTOR_LENGTH
from fed_em_protocols.messages import (
    Advertise,
    Boxes,
    Certificate,
    Deposit,
    Endorsement,
    Header,
    Hello,
    Join,
    Neighbours,
    Opening,
    OpenWindow,
    Proposal,
    Ready,
    Recover,
    SetUp,
    Shares,
    Upload,
)
from fed_em_protocols.terms import SessionTerms, Trust
from fed_em_protocols.transitions import CoordinatorPhase, SetUpPhase
from fed_em_server.federated_sum import FederatedSum
from fed_em_simulations.memory_hub import Fate, Passing
from tests.protocols.federation import SHORT_TIMES, TestFederation, identity_of, kind_of
from tests.protocols.interferences import TO_SERVER, TO_TENANT, Place, assert_no_error, name_of, once

pytestmark = pytest.mark.usefixtures("remembered_keys")

PLACES: list[Place] = [
    *((TO_SERVER, kind) for kind in (Hello, Join, Advertise, Deposit, Ready, Upload, Endorsement, Opening)),
    *(
        (TO_TENANT, kind)
        for kind in (SessionTerms, OpenWindow, SetUp, Neighbours, Boxes, Header, Proposal, Certificate)
    ),
]
RECOVERY: list[Place] = [(TO_SERVER, Shares), (TO_TENANT, Recover)]


both_trusts = pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)


@both_trusts
@pytest.mark.parametrize("tenants", [{0}, {2}, {0, 1, 2}], ids=str)
@pytest.mark.parametrize("place", PLACES, ids=name_of)
def test_a_link_that_breaks_at_any_stage_costs_nothing_but_time(place: Place, tenants: set[int], trust: Trust) -> None:
    """All three tenants are needed, and the first attempt succeeds."""
    federation = TestFederation(3, interfere=once(Fate.BREAK, place, tenants), trust=int(trust))
    opened = federation.sum()
    assert opened.round == 1 and opened.missing == ()
    assert all(len(work.asked) == 1 for work in federation.works)
    assert_no_error(federation)


@both_trusts
@pytest.mark.parametrize("tenants", [{0}, {0, 1, 2}], ids=str)
@pytest.mark.parametrize("place", RECOVERY, ids=name_of)
def test_so_does_one_that_breaks_in_recovery(place: Place, tenants: set[int], trust: Trust) -> None:
    """Tenant 3 dies after its upload, and all three others are needed to replace it."""
    breaks = once(Fate.BREAK, place, tenants)
    dies = once(Fate.KILL, (TO_TENANT, Certificate), {3})

    def interfere(passing: Passing) -> Fate:
        return dies(passing) if passing.tenant == 3 else breaks(passing)

    federation = TestFederation(4, interfere=interfere, colluders=1, trust=int(trust))
    opened = federation.sum()
    assert opened.round == 1 and opened.missing == ()
    assert_no_error(federation)


def test_the_answer_to_a_repeated_message_has_the_same_bytes() -> None:
    seen: dict[tuple[int, type], set[bytes]] = {}
    counts: Counter[tuple[int, type]] = Counter()
    breaking = {place: once(Fate.BREAK, place, {0, 1, 2}) for place in PLACES if place[0] is TO_SERVER}

    def interfere(passing: Passing) -> Fate:
        kind = kind_of(passing.data)
        if passing.direction is TO_SERVER and kind not in {Hello, Join}:
            seen.setdefault((passing.tenant, kind), set()).add(passing.data)
            counts[passing.tenant, kind] += 1
        breaks = breaking.get((passing.direction, kind))
        return breaks(passing) if breaks else Fate.DELIVER

    federation = TestFederation(3, interfere=interfere, timetable=Timetable(patience=5.0))
    federation.try_sum()  # links that break again and again within one round are not waited for
    assert max(counts.values()) > 1
    assert all(len(messages) == 1 for messages in seen.values())
    assert_no_error(federation)


def test_a_restarted_process_is_out_of_the_window_and_in_the_next() -> None:
    federation = TestFederation(4, window_rounds=20, latency=0.1)
    federation.sum()
    federation.hub.kill(1)
    federation.hub.restart(1, 1.0)
    survivors = []
    for _ in range(8):
        opened = federation.sum()
        survivors.append(opened.survivors)
    assert survivors[0] == (0, 2, 3) and survivors[-1] == (0, 1, 2, 3)
    assert_no_error(federation)


def test_a_message_meant_for_the_last_process_does_not_hurt_the_new_one() -> None:
    """The new process has dialled, and the server, which does not know yet, asks its predecessor for an upload."""
    federation = TestFederation(4)
    federation.sum()
    federation.hub.restart(3, 0.0)
    assert federation.hub.receive(federation.hub.now()) is None
    opened = federation.sum()
    assert opened.survivors == (0, 1, 2)
    assert_no_error(federation)


def test_a_certificate_does_not_go_to_the_successor_of_the_process_that_uploaded() -> None:
    """Tenant 0 uploads, dies, and has joined anew before the slow tenant 4 completes the round."""

    def interfere(passing: Passing) -> Fate:
        if passing.tenant == 0 and (passing.direction, kind_of(passing.data)) == (TO_SERVER, Upload) and not restarted:
            restarted.append(0)
            federation.hub.restart(0, 0.01)
            return Fate.KILL
        return Fate.DELIVER

    restarted: list[int] = []
    federation = TestFederation(5, interfere=interfere, latency=[0.001] * 4 + [0.2])
    opened = federation.sum()
    assert opened.round == 1 and opened.missing == () and restarted
    assert_no_error(federation)


def test_processes_that_restart_all_at_once_are_not_taken_for_late() -> None:
    federation = TestFederation(4)
    federation.sum()
    for index in range(4):
        federation.hub.restart(index, 0.0)
    opened = federation.sum()
    assert opened.missing == ()
    assert_no_error(federation)


def test_a_round_that_cannot_have_enough_uploads_any_more_does_not_wait_for_its_deadline() -> None:
    """With three tenants of three needed, one that starts anew must not cost the whole time for uploads."""
    federation = TestFederation(3)
    federation.sum()
    began = federation.hub.now()
    federation.hub.kill(1)
    federation.hub.restart(1, 0.2)
    opened = federation.sum()
    assert opened.missing == ()
    assert federation.hub.now() - began < SHORT_TIMES.upload
    assert_no_error(federation)


def test_a_window_that_runs_out_is_followed_by_another() -> None:
    federation = TestFederation(3, window_rounds=2)
    rounds = [federation.sum().round for _ in range(7)]
    assert rounds == list(range(1, 8))
    opened = [notice.text for notice in federation.notices if notice.kind is NoticeKind.WINDOW_OPENED]
    assert opened == ["rounds 1 to 2", "rounds 3 to 4", "rounds 5 to 6", "rounds 7 to 8"]


def test_a_window_whose_rounds_run_out_within_a_request_is_followed_by_another() -> None:
    """Round 2, the last of the window, fails for want of holders: its retry needs keys of a new window."""
    dies = once(Fate.KILL, (TO_TENANT, Certificate), {3, 4, 5})

    def interfere(passing: Passing) -> Fate:
        return dies(passing) if federation.server.state.last_round == 2 else Fate.DELIVER

    federation = TestFederation(6, window_rounds=2, colluders=1, interfere=interfere)
    federation.sum()
    opened = federation.sum()
    assert opened.round == 3 and opened.survivors == (0, 1, 2)


# --- tenants that are slow ---


def test_a_slow_upload_is_left_out_and_its_tenant_welcome_later() -> None:
    federation = TestFederation(4, latency=0.1, window_rounds=50)
    federation.sum()
    federation.hub.set_latency(3, 1.2)  # longer than the straggler clock, there and back
    left_out = federation.sum()
    assert left_out.survivors == (0, 1, 2)
    federation.hub.set_latency(3, 0.1)
    later = [federation.sum().survivors for _ in range(8)]
    assert later[-1] == (0, 1, 2, 3)
    assert_no_error(federation)


def test_tenants_that_were_all_late_once_are_asked_again() -> None:
    federation = TestFederation(3)
    federation.sum()
    for index in range(3):
        federation.hub.set_latency(index, 2.5)
    with pytest.raises(SumFailed, match=r"missing: t0, t1, t2|late: t0, t1, t2|needed"):
        federation.sum()
    for index in range(3):
        federation.hub.set_latency(index, 0.001)
    opened = federation.sum()
    assert opened.missing == ()
    assert_no_error(federation)


def test_an_opening_that_comes_while_shares_are_gathered_is_taken_instead() -> None:
    """Nobody's mask is taken off twice, and the silent one's word does as well as the shares that are missing."""
    kills = once(Fate.KILL, (TO_TENANT, Recover), {0, 1})

    def interfere(passing: Passing) -> Fate:
        if passing.tenant == 3 and passing.direction is TO_TENANT and kind_of(passing.data) is Certificate:
            federation.hub.set_latency(3, 1.3)
        return kills(passing)

    federation = TestFederation(4, interfere=interfere, colluders=1)
    opened = federation.sum()
    assert opened.round == 1 and opened.missing == ()
    assert [notice.kind for notice in federation.notices].count(NoticeKind.RECOVERING) == 1
    assert_no_error(federation)


@pytest.mark.parametrize("delay", [1.05, 1.1, 1.5])
def test_an_opening_that_races_with_shares_is_counted_once(delay: float) -> None:
    def interfere(passing: Passing) -> Fate:
        if passing.tenant == 3 and passing.direction is TO_TENANT and kind_of(passing.data) is Certificate:
            federation.hub.set_latency(3, delay)
        if passing.tenant == 2 and passing.direction is TO_TENANT and kind_of(passing.data) is Recover:
            federation.hub.set_latency(2, 0.8)
        return Fate.DELIVER

    federation = TestFederation(4, interfere=interfere, colluders=1)
    opened = federation.sum()
    assert opened.round == 1
    assert_no_error(federation)


def test_of_two_silent_ones_the_one_that_speaks_is_counted_once_and_the_other_is_replaced() -> None:
    dies = once(Fate.KILL, (TO_TENANT, Certificate), {5})

    def interfere(passing: Passing) -> Fate:
        if passing.tenant == 4 and passing.direction is TO_TENANT and kind_of(passing.data) is Certificate:
            federation.hub.set_latency(4, 1.2)
        if passing.tenant < 4 and passing.direction is TO_TENANT and kind_of(passing.data) is Recover:
            federation.hub.set_latency(passing.tenant, 0.5)
        return dies(passing)

    federation = TestFederation(6, interfere=interfere, colluders=1)
    opened = federation.sum()
    assert opened.round == 1 and opened.missing == ()
    recoveries = [notice.tenants for notice in federation.notices if notice.kind is NoticeKind.RECOVERING]
    assert recoveries == [("t4", "t5")]
    assert_no_error(federation)


def test_a_tenant_that_was_too_slow_for_the_set_up_is_not_asked_to_endorse() -> None:
    """It advertised, so it counts as a witness of the window, but cannot act in it; and it is heard again in mid-round."""

    def interfere(passing: Passing) -> Fate:
        if (passing.tenant, kind_of(passing.data)) == (3, Neighbours) and federation.server.state.last_round == 0:
            federation.hub.set_latency(3, 2.35)  # its deposit comes after the cut-off, while others upload
        if (passing.tenant, kind_of(passing.data)) == (0, Boxes):
            federation.hub.set_latency(3, 0.1)
        return Fate.DELIVER

    federation = TestFederation(5, interfere=interfere, window_rounds=20, latency=0.1)
    survivors = [federation.sum().survivors for _ in range(10)]
    assert survivors[0] == (0, 1, 2, 4) and survivors[-1] == (0, 1, 2, 3, 4)
    assert_no_error(federation)


# --- tenants that come and go ---


class Flapper:
    """Breaks a tenant's link each time one of these places is passed, for ever."""

    def __init__(self, tenant: int, *places: Place) -> None:
        self._tenant, self._places = tenant, places
        self.broken = 0

    def __call__(self, passing: Passing) -> Fate:
        if passing.tenant != self._tenant or (passing.direction, kind_of(passing.data)) not in self._places:
            return Fate.DELIVER
        self.broken += 1
        return Fate.BREAK


@pytest.mark.parametrize("place", PLACES, ids=name_of)
def test_a_tenant_that_flaps_for_ever_delays_each_round_by_its_patience_only(place: Place) -> None:
    flapper = Flapper(1, place)
    federation = TestFederation(5, interfere=flapper, window_rounds=50)
    federation.sum()
    for _ in range(8):
        start = federation.hub.now()
        opened = federation.sum()
        assert {0, 2, 3, 4} <= set(opened.survivors)
        # Patience in the round, and in each stage of a window that is opened for it now and then.
        assert federation.hub.now() - start < 3 * SHORT_TIMES.patience + SHORT_TIMES.straggler
    assert flapper.broken
    windows = sum(notice.kind is NoticeKind.WINDOW_OPENED for notice in federation.notices)
    assert windows <= 4
    assert_no_error(federation)


def test_a_tenant_that_never_gets_into_a_window_is_tried_ever_more_rarely() -> None:
    """It joins anew all the time and never advertises: each early window for it costs the others a set-up's deadline."""

    def interfere(passing: Passing) -> Fate:
        if passing.tenant != 4 or passing.direction is TO_SERVER or kind_of(passing.data) is SessionTerms:
            return Fate.DELIVER
        federation.hub.restart(4, 0.0)
        return Fate.LOSE

    federation = TestFederation(5, interfere=interfere, window_rounds=60)
    for _ in range(50):
        opened = federation.sum()
        assert opened.survivors == (0, 1, 2, 3)
    tries = [notice.round for notice in federation.notices if notice.kind is NoticeKind.WINDOW_OPENED]
    assert len(tries) <= 5
    assert_no_error(federation)


def test_a_process_that_restarts_for_ever_stalls_nobody() -> None:
    """Killed by each header it reads, back at once: never in a sum, never in the way."""

    def interfere(passing: Passing) -> Fate:
        if passing.tenant == 1 and passing.direction is TO_TENANT and kind_of(passing.data) is Header:
            federation.hub.restart(1, 0.05)
            return Fate.KILL
        return Fate.DELIVER

    federation = TestFederation(5, interfere=interfere, window_rounds=50)
    for _ in range(10):
        start = federation.hub.now()
        opened = federation.sum()
        assert opened.survivors == (0, 2, 3, 4)
        assert federation.hub.now() - start < 2.0
    assert sum(notice.kind is NoticeKind.WINDOW_OPENED for notice in federation.notices) <= 4


@pytest.mark.parametrize("place", [(TO_TENANT, SetUp), (TO_TENANT, Boxes), (TO_TENANT, Header)], ids=name_of)
def test_a_federation_that_needs_a_tenant_that_always_restarts_gives_up_in_time(place: Place) -> None:
    def interfere(passing: Passing) -> Fate:
        if passing.tenant == 1 and (passing.direction, kind_of(passing.data)) == place:
            federation.hub.restart(1, 0.05)
            return Fate.KILL
        return Fate.DELIVER

    federation = TestFederation(3, interfere=interfere)
    with pytest.raises(SumFailed) as caught:
        federation.sum()
    assert "t1" in caught.value.message
    assert federation.hub.now() < 3 * (SHORT_TIMES.gather + 2 * 3 * SHORT_TIMES.set_up + SHORT_TIMES.upload)


def test_restarts_between_set_up_and_round_do_not_open_windows_for_ever() -> None:
    """Tenant 1 dies once it has confirmed, and is back, as another, when the slower tenant 2 completes the window."""
    deaths = 0

    def interfere(passing: Passing) -> Fate:
        nonlocal deaths
        if passing.tenant == 1 and (passing.direction, kind_of(passing.data)) == (TO_SERVER, Ready):
            deaths += 1
            assert deaths < 10
            federation.hub.restart(1, 0.3)
            return Fate.KILL
        return Fate.DELIVER

    federation = TestFederation(3, interfere=interfere, latency=[0.001, 0.001, 0.1])
    with pytest.raises(SumFailed, match="leave as fast as windows are opened"):
        federation.sum()
    assert deaths == 6  # two windows in each of three attempts


def test_a_patience_longer_than_the_gathering_stalls_nobody() -> None:
    state = TestFederation(4, timetable=replace(SHORT_TIMES, patience=100.0)).server.state
    for index in range(4):
        state = greeted(state, index, 0.0, join=True)
    left = coordinator_unlinked(state, 3, 1.0).state
    step = coordinator_request(left, SumRequest(b"", bytes(32), 8), 1.0)
    assert step.state.phase is CoordinatorPhase.GATHERING and step.state.deadline == 1.0 + SHORT_TIMES.gather
    step = coordinator_tick(step.state, 1.0 + SHORT_TIMES.gather)
    assert step.state.upcoming is not None and step.state.upcoming.phase is SetUpPhase.ADVERTISING
    assert [tenant for tenant, _ in step.sends] == [0, 1, 2]


def greeted(state: CoordinatorState, index: int, now: float, join: bool) -> CoordinatorState:
    """A process of this tenant that started now says hello, and joins or not."""
    key, boot = identity_of(f"t{index}"), int(1000 * now).to_bytes(16, "little")
    hello = seal(Hello(f"t{index}", state.roster.digest, boot, "x", bytes(32)), key).to_bytes()
    state = coordinator_receive(state, index, hello, now).state
    content = Join(state.terms.content.session, state.terms.digest, boot, 0, bytes(32))
    return coordinator_receive(state, index, seal(content, key).to_bytes(), now).state if join else state


@pytest.mark.parametrize(("joins", "longest"), [(False, SHORT_TIMES.gather), (True, SHORT_TIMES.patience)])
def test_gathering_ends_whoever_comes_and_goes(joins: bool, longest: float) -> None:
    """Two tenants link and leave by turns, faster than anybody's patience: one of them is always away."""
    state = TestFederation(5).server.state
    for index in (0, 3, 4):
        state = greeted(state, index, 0.0, join=True)
    step = coordinator_request(greeted(state, 1, 0.0, joins), SumRequest(b"", bytes(32), 8), 0.0)
    now, coming, going = 0.0, 2, 1
    while step.state.upcoming is None and now < 100.0:
        now += 0.1
        step = coordinator_unlinked(step.state, going, now)
        state = greeted(step.state, coming, now + 0.01, joins)
        step = coordinator_tick(state, now + 0.02)
        coming, going = going, coming
    assert now <= longest + 0.25


def test_a_tenant_that_links_and_says_nothing_more_is_not_waited_for_after_the_gathering() -> None:
    silent = Flapper(1)

    def interfere(passing: Passing) -> Fate:
        return Fate.LOSE if passing.tenant == 1 and passing.direction is TO_TENANT else silent(passing)

    federation = TestFederation(4, interfere=interfere)
    opened = federation.sum()
    assert opened.survivors == (0, 2, 3)
    assert federation.hub.now() < SHORT_TIMES.gather + 1.0
    start = federation.hub.now()
    federation.sum()
    assert federation.hub.now() - start < 0.1


def test_deadlines_are_never_missing_while_something_is_awaited() -> None:
    class Watched(FederatedSum):
        def _wait(self):  # type: ignore[no-untyped-def]
            assert self.state.deadline is not None
            return super()._wait()

    federation = TestFederation(5, interfere=once(Fate.LOSE, (TO_TENANT, Certificate), {1}))
    federation.server.__class__ = Watched
    for _ in range(3):
        federation.sum()


def test_a_sum_beyond_the_limits_is_the_callers_fault() -> None:
    federation = TestFederation(3)
    for length in (0, 2, MAX_VECTOR_LENGTH + 1):
        with pytest.raises(CallerError, match="beyond the protocol's limits"):
            federation.server.sum(SumRequest(b"", bytes(32), length))
    federation.sum()


def test_one_seeded_federation_gives_one_result() -> None:
    runs = [TestFederation(4, seed=7) for _ in range(2)]
    first, second = (run.sum() for run in runs)
    assert np.array_equal(first.vector, second.vector) and runs[0].notices == runs[1].notices
    assert runs[0].hub.now() == runs[1].hub.now()
