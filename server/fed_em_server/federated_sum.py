"""Drives the coordinator's state machine over a hub: messages and deadlines in, messages and sums out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fed_em_protocols.coordinator import (
    coordinator_close,
    coordinator_receive,
    coordinator_request,
    coordinator_tick,
    coordinator_unlinked,
)
from fed_em_protocols.coordinator_state import (
    CoordinatorState,
    CoordinatorStep,
    Notice,
    NoticeKind,
    SumNotOpened,
    SumOpened,
    SumRequest,
)
from fed_em_protocols.errors import AnotherRoster, PeerFault, SumFailed
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.transitions import CoordinatorPhase
from fed_em_server.hub import Arrived, Hub

# A sum is attempted this often; who fell silent is late by then, and not waited for.
_ATTEMPTS = 3


class FederatedSum:
    """Sums of the tenants' encoded vectors, one at a time.

    Args:
        state: As `coordinator_start` gives it.
        hub: The links.
        watch: Called with every notice, *before* the messages of the same step are sent.
    """

    def __init__(self, state: CoordinatorState, hub: Hub, watch: Callable[[Notice], None]) -> None:
        self.state = state
        self._hub = hub
        self._watch = watch
        self._waited = 0.0

    def sum(self, request: SumRequest) -> SumOpened:
        """The exact sum over everybody who answered in time.

        All attempts together wait for tenants who are not here as long as the timetable says, and no longer.

        Raises:
            SumFailed: no sum could be opened in three attempts, or one was final; the message says why.
        """
        return self._repeated(lambda: self._attempt(request))

    def sum_behind_gate(self, counts: SumRequest, moments: Callable[[SumOpened], SumRequest]) -> SumOpened:
        """A sum of moments over exactly the tenants that were counted just before; if one of them goes away, they are counted anew.

        Args:
            counts: The sum of counts.
            moments: Given the opened counts, the request for the moments.

        Returns:
            The sum of moments.

        Raises:
            SumFailed: as `sum`, of three attempts at both; or what `moments` raises.
        """

        def pair() -> SumOpened | SumNotOpened:
            counted = self._attempt(counts)
            return self._attempt(moments(counted)) if isinstance(counted, SumOpened) else counted

        return self._repeated(pair)

    def _repeated(self, attempt: Callable[[], SumOpened | SumNotOpened]) -> SumOpened:
        reason, self._waited = "", 0.0
        for _ in range(_ATTEMPTS):
            outcome = attempt()
            if isinstance(outcome, SumOpened):
                return outcome
            reason = outcome.reason
            if outcome.final:
                break
        raise SumFailed(
            reason,
            remedy="ask those who are missing or refuse; [times] in the session's file says how long the server waits",
        )

    def close(self, reason: CloseReason, parameters: bytes = b"") -> None:
        """End the session at every tenant, with the final parameters if there are any."""
        self._take(coordinator_close(self.state, reason, parameters))
        self._hub.close()

    def _attempt(self, request: SumRequest) -> SumOpened | SumNotOpened:
        now = self._hub.now()
        result = self._take(coordinator_request(self.state, request, now))
        if result is None and self._waited:
            # What earlier attempts at the same sum have waited for tenants counts.
            self.state = replace(self.state, give_up=max(now, self.state.give_up - self._waited))
            result = self._take(coordinator_tick(self.state, now))
        while result is None:
            result = self._wait()
        return result

    def _wait(self) -> SumOpened | SumNotOpened | None:
        for_tenants, since = self.state.phase is CoordinatorPhase.GATHERING and not self.state.upcoming, self._hub.now()
        event = self._hub.receive(self.state.deadline)
        now = self._hub.now()
        self._waited += now - since if for_tenants else 0.0
        if event is None:
            return self._take(coordinator_tick(self.state, now))
        if not isinstance(event, Arrived):
            return self._take(coordinator_unlinked(self.state, event.tenant, now))
        try:
            return self._take(coordinator_receive(self.state, event.tenant, event.data, now))
        except PeerFault as fault:
            self._watch(Notice(NoticeKind.FAULT, self.state.last_round, (fault.peer,), fault.fault))
            if isinstance(fault, AnotherRoster):
                # Its own check of the terms tells its operator what a link that breaks cannot; then it leaves.
                self._hub.send(event.tenant, self.state.terms.to_bytes())
            else:
                self._hub.cut(event.tenant)
            return self._take(coordinator_unlinked(self.state, event.tenant, now))

    def _take(self, step: CoordinatorStep) -> SumOpened | SumNotOpened | None:
        self.state = step.state
        for notice in step.notices:
            self._watch(notice)
        for tenant, data in step.sends:
            self._hub.send(tenant, data)
        return step.result
