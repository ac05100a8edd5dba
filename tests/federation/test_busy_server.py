"""A server that is busy longer than a stage may take, or whose machine stands still: what has come by then is not late."""

from __future__ import annotations

import pytest

from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.messages import Header, Upload
from fed_em_protocols.terms import Trust
from fed_em_protocols.transitions import CoordinatorPhase, SetUpPhase
from fed_em_server.hub import Arrived, HubEvent
from fed_em_simulations.memory_hub import Fate
from tests.protocols.federation import SHORT_TIMES, TestFederation, kind_of
from tests.protocols.interferences import TO_TENANT, assert_no_error, notices, once

LONG = 4 * max(SHORT_TIMES.set_up, SHORT_TIMES.upload, SHORT_TIMES.open)


def assert_nobody_was_late(federation: TestFederation) -> None:
    for kind in (NoticeKind.LATE, NoticeKind.WINDOW_ABANDONED, NoticeKind.RECOVERING, NoticeKind.ROUND_FAILED):
        assert notices(federation, kind) == []
    assert not any(member.late for member in federation.server.state.members.values())
    assert_no_error(federation)


def test_a_set_up_goes_on_after_a_long_step_between_sums() -> None:
    """A set-up has three trips and a round two: what the last one waits for comes while the server computes, beyond its time."""
    federation = TestFederation(4, window_rounds=16, trust=int(Trust.SEMI_HONEST))
    overtaken = set()
    for _ in range(20):
        assert federation.sum().survivors == (0, 1, 2, 3)
        upcoming = federation.server.state.upcoming
        overtaken |= {upcoming.phase} if upcoming else set()
        federation.hub.busy(LONG)
    assert SetUpPhase.CONFIRMING in overtaken
    assert_nobody_was_late(federation)


def test_a_tenant_that_is_silent_is_still_late_after_its_time() -> None:
    """The clock stands still while the server is busy, not for ever."""
    silent = once(Fate.LOSE, (TO_TENANT, Header), {2})
    federation = TestFederation(
        4, interfere=lambda p: silent(p) if federation.server.state.last_round == 2 else Fate.DELIVER
    )
    federation.sum()
    federation.hub.busy(LONG)
    began = federation.hub.now()
    assert federation.sum().survivors == (0, 1, 3)
    assert federation.hub.now() - began < SHORT_TIMES.upload + 1


@pytest.mark.parametrize("phase", [CoordinatorPhase.UPLOADING, CoordinatorPhase.CERTIFYING, CoordinatorPhase.OPENING])
def test_a_machine_that_stands_still_reads_what_came_before_it_judges(phase: CoordinatorPhase) -> None:
    federation = TestFederation(4)
    hub = federation.hub
    receive, stops = hub.receive, [LONG]  # it stands still once

    def stopping(until: float | None) -> HubEvent | None:
        if stops and federation.server.state.phase is phase:
            hub.busy(stops.pop())
            return None
        return receive(until)

    hub.receive = stopping  # type: ignore[method-assign]
    assert federation.sum().survivors == (0, 1, 2, 3)
    assert not stops
    assert_nobody_was_late(federation)


def test_a_tenant_that_never_falls_silent_is_cut_off() -> None:
    """Its messages are in order, and the clock stands still while they are read: the others would wait for ever."""
    silent = once(Fate.LOSE, (TO_TENANT, Header), {3})
    federation = TestFederation(4, interfere=silent)
    hub, receive = federation.hub, federation.hub.receive
    uploads: list[Arrived] = []

    def flooded(until: float | None) -> HubEvent | None:
        if uploads and not notices(federation, NoticeKind.FAULT):
            return uploads[0]
        event = receive(until)
        if isinstance(event, Arrived) and event.tenant == 2 and kind_of(event.data) is Upload:
            uploads.append(event)
        return event

    hub.receive = flooded  # type: ignore[method-assign]
    assert {0, 1} <= set(federation.sum().survivors)
    faults = [notice for notice in federation.notices if notice.kind is NoticeKind.FAULT]
    assert {notice.tenants for notice in faults} == {("t2",)}
    assert all("more than 64 messages" in notice.text for notice in faults)
