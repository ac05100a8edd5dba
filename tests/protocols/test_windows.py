"""Windows that follow each other: the next is set up beside running rounds, and what happens to it disturbs none of them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import Advertise, Boxes, Certificate, Deposit, Header, OpenWindow, Ready, Recover, SetUp
from fed_em_protocols.terms import Trust
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from tests.protocols.federation import TestFederation, kind_of
from tests.protocols.interferences import TO_SERVER, TO_TENANT, Place, Watch, assert_no_error, name_of, notices, once

pytestmark = pytest.mark.usefixtures("remembered_keys")

both_trusts = pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)


def durations(federation: TestFederation, rounds: int) -> list[float]:
    """How long each of the next sums takes; each must be opened by its first round."""
    found = []
    for _ in range(rounds):
        began, before = federation.hub.now(), federation.server.state.last_round
        assert federation.sum().round == before + 1
        found.append(federation.hub.now() - began)
    return found


def windows_of(federation: TestFederation) -> list[tuple[int, int]]:
    """First and last round of each window that was set up."""
    texts = [notice.text.split() for notice in federation.notices if notice.kind is NoticeKind.WINDOW_OPENED]
    return [(int(first), int(last)) for _, first, _, last in texts]


@both_trusts
@pytest.mark.parametrize("blocks", [0, 1])
def test_the_next_window_is_ready_when_the_last_one_ends_and_no_round_waits(trust: Trust, blocks: int) -> None:
    watch = Watch()
    federation = TestFederation(4, interfere=watch, window_rounds=16, trust=int(trust), blocks=blocks)
    first, *others = durations(federation, 60)
    usual = min(others)
    assert first > 2 * usual and max(others) < 1.01 * usual
    windows = windows_of(federation)
    assert len(windows) >= 4 and windows[0] == (1, 16)
    for (_, last), (start, end) in itertools.pairwise(windows):
        assert last - 16 // 8 < start <= last and end == start + 15
    assert notices(federation, NoticeKind.ROUND_FAILED) == notices(federation, NoticeKind.WINDOW_ABANDONED) == []
    # Every window that was set up served rounds.
    assert len({header.setup for header in watch.headers().values()}) == len(windows)
    assert_no_error(federation)


@both_trusts
def test_no_window_is_set_up_for_rounds_that_the_session_does_not_plan(trust: Trust) -> None:
    federation = TestFederation(4, window_rounds=16, trust=int(trust))
    federation.server.state = replace(federation.server.state, planned_rounds=16)
    durations(federation, 16)
    assert windows_of(federation) == [(1, 16)]
    # It was wrong about that: the next sum waits for a window, as it would have for one that could not be set up in time.
    assert federation.sum().round == 17
    assert windows_of(federation) == [(1, 16), (17, 32)]


@both_trusts
def test_a_round_that_fails_is_one_more_to_have_a_window_for(trust: Trust) -> None:
    federation = TestFederation(4, window_rounds=16, trust=int(trust))
    federation.server.state = replace(federation.server.state, planned_rounds=16, failed_rounds=1)
    durations(federation, 16)
    assert [first for first, _ in windows_of(federation)] == [1, 15]


@pytest.mark.slow
@both_trusts
def test_a_window_may_serve_two_hundred_rounds(trust: Trust) -> None:
    federation = TestFederation(3, 1, window_rounds=200, round_cap=250, trust=int(trust))
    _, *others = durations(federation, 210)
    assert max(others) < 1.01 * min(others)
    assert windows_of(federation) == [(1, 200), (176, 375)]
    assert_no_error(federation)


def test_a_window_too_short_for_that_is_followed_by_another_all_the_same() -> None:
    federation = TestFederation(3, window_rounds=1)
    for _ in range(4):
        federation.sum()
    assert windows_of(federation) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_tenant_that_waits_gets_an_early_window_and_the_others_do_not_wait_for_it() -> None:
    federation = TestFederation(5, window_rounds=100)
    durations(federation, 2)
    federation.hub.kill(2)
    federation.hub.restart(2, 0.0)
    federation.sum()
    found = durations(federation, 10)
    # But for the moment in which it is back and has not yet joined.
    assert sum(each > 1.01 * min(found) for each in found) <= 1
    assert federation.sum().survivors == (0, 1, 2, 3, 4)
    first, second = windows_of(federation)
    assert first == (1, 100) and second[0] < 8
    assert_no_error(federation)


# --- a set-up that fails ---


SET_UP: list[Place] = [
    (TO_TENANT, OpenWindow),
    (TO_SERVER, Advertise),
    (TO_TENANT, SetUp),
    (TO_SERVER, Deposit),
    (TO_TENANT, Boxes),
    (TO_SERVER, Ready),
]


@both_trusts
@pytest.mark.parametrize("place", SET_UP, ids=name_of)
def test_a_set_up_that_fails_does_not_disturb_the_rounds_beside_it(place: Place, trust: Trust) -> None:
    """t3 waits for an early window and dies in each of its set-ups; with four tenants that all advertised, the three others are too
    few to replace one another, so the set-up is given up. Rounds go on in the old window meanwhile."""

    def interfere(passing: Passing) -> Fate:
        dies = passing.tenant == 3 and (passing.direction, kind_of(passing.data)) == place
        if not dies or federation.server.state.last_round == 0:
            return Fate.DELIVER
        deaths.append(passing.time)
        if len(deaths) < 3:
            federation.hub.restart(3, 0.01)
        return Fate.KILL

    deaths: list[float] = []
    federation = TestFederation(4, interfere=interfere, window_rounds=100, trust=int(trust))
    federation.sum()
    federation.hub.kill(3)
    federation.hub.restart(3, 0.0)
    federation.sum()
    found = durations(federation, 60)
    assert len(deaths) == 3
    # Nobody waits longer than for a tenant that has just left.
    assert all(each < 0.6 for each in found) and sum(each < 1.01 * min(found) for each in found) > 50
    assert notices(federation, NoticeKind.ROUND_FAILED) == []
    assert (len(windows_of(federation)) == 1) == (place not in {(TO_TENANT, OpenWindow), (TO_SERVER, Ready)})
    assert_no_error(federation)


def test_a_window_that_cannot_be_set_up_in_time_makes_the_next_round_wait_and_none_fail() -> None:
    """All links break in the set-up of the second window: the first runs out before it is complete."""
    breaks = once(Fate.BREAK, (TO_TENANT, Boxes), {0, 1, 2, 3})

    def interfere(passing: Passing) -> Fate:
        return breaks(passing) if federation.server.state.last_round > 1 else Fate.DELIVER

    federation = TestFederation(4, interfere=interfere, window_rounds=8)
    durations(federation, 20)
    assert notices(federation, NoticeKind.ROUND_FAILED) == []
    assert_no_error(federation)


# --- rounds across the change ---


@both_trusts
def test_a_round_that_fails_at_the_change_is_told_of_in_the_next_window(trust: Trust) -> None:
    """Round 16, the last of its window, is not opened: too few survivors are left to replace the others. They start anew."""
    dies = once(Fate.KILL, (TO_TENANT, Certificate), {1, 2, 3})

    def interfere(passing: Passing) -> Fate:
        if federation.server.state.last_round != 16 or dies(passing) is Fate.DELIVER:
            return Fate.DELIVER
        federation.hub.restart(passing.tenant, 0.1)
        return Fate.KILL

    watch = Watch(interfere)
    federation = TestFederation(4, interfere=watch, window_rounds=16, trust=int(trust))
    for _ in range(20):
        federation.sum()
    headers = watch.headers()
    assert headers[16].setup != headers[18].setup and headers[17].base_rounds == headers[16].base_rounds
    assert_no_error(federation)


@both_trusts
def test_a_member_whose_block_is_incomplete_helps_in_every_window(trust: Trust) -> None:
    """t4 is gone, so t0, of its block, is a member that is asked for nothing but shares; t1 dies beside set-ups, and comes back."""
    asked: list[int] = []

    def interfere(passing: Passing) -> Fate:
        if passing.direction is Direction.TO_TENANT and passing.tenant == 0 and kind_of(passing.data) is Recover:
            asked.append(federation.server.state.last_round)
        dies = passing.tenant == 1 and kind_of(passing.data) is Certificate and federation.server.state.upcoming
        if not dies:
            return Fate.DELIVER
        federation.hub.restart(1, 0.01)
        return Fate.KILL

    federation = TestFederation(8, interfere=interfere, blocks=4, colluders=0, window_rounds=16, trust=int(trust))
    federation.sum()
    federation.hub.kill(4)
    for _ in range(50):
        federation.sum()
    assert len(windows_of(federation)) >= 4
    assert len(asked) >= 2
    assert_no_error(federation)


def test_members_of_a_window_are_those_that_are_there_when_it_is_set_up() -> None:
    watch = Watch()
    federation = TestFederation(5, interfere=watch, window_rounds=8)
    federation.sum()
    federation.hub.kill(4)
    for _ in range(10):
        federation.sum()
    members = [from_bitmap(sealed.content.members, 5) for sealed in watch.seen(SetUp)]
    assert members[0] == {0, 1, 2, 3, 4} and members[-1] == {0, 1, 2, 3}
    witnesses = {number: from_bitmap(header.witnesses, 5) for number, header in watch.headers().items()}
    assert witnesses[2] == {0, 1, 2, 3, 4} and witnesses[11] == {0, 1, 2, 3}
    # A header goes to members only.
    assert {tenant for tenant, sealed in watch.passed(Header) if sealed.content.round == 11} == {0, 1, 2, 3}
