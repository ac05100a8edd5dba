"""Drives the coordinator's state machine over a hub: messages and deadlines in, messages and sums out."""

from __future__ import annotations

from collections import Counter
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
from fed_em_protocols.errors import AnotherRoster, PeerFault
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.transcript.recorder import TranscriptRecorder
from fed_em_protocols.transitions import CoordinatorPhase
from fed_em_server.hub import Arrived, Hub, HubEvent
from fed_em_server.repeated_sums import RepeatedSums

# The most that a tenant may say within one stage and so many seconds: it has a few messages to send, and as many again on each new link.
_MOST_MESSAGES, _SPAN = 64, 10.0

# If a wait ends so many seconds after its time, the machine stood still.
_OVERSLEPT = 1.0


class FederatedSum(RepeatedSums):
    """Sums of the tenants' encoded vectors, one at a time.

    Deadlines run on a clock that stands still while nobody listens to the hub: between two sums, while a message is worked on, or
    while the machine stands still. So nobody is late whose answer has come and waits to be read. Whoever would keep the clock still by
    never falling silent is cut off.

    Args:
        state: As `coordinator_start` gives it.
        hub: The links.
        watch: Called with every notice, *before* the messages of the same step are sent.
        recorder: Keeps the transcript; None for none.
    """

    def __init__(
        self,
        state: CoordinatorState,
        hub: Hub,
        watch: Callable[[Notice], None],
        recorder: TranscriptRecorder | None = None,
    ) -> None:
        self.state = state
        self._hub = hub
        self._watch = watch
        self._recorder = recorder
        self._waited = 0.0
        self._heard_until = hub.now()
        self._unheard = 0.0
        self._stage: object = None
        self._said: Counter[int] = Counter()
        self._counted_from = hub.now()

    def close(self, reason: CloseReason, parameters: bytes = b"") -> None:
        """End the session at every tenant, with the final parameters if there are any."""
        try:
            self._take(coordinator_close(self.state, reason, parameters))
        finally:
            self._hub.close()

    def _noted(self, notice: Notice) -> None:
        self._watch(notice)

    def _repeated(self, attempt: Callable[[], SumOpened | SumNotOpened]) -> SumOpened:
        self._waited = 0.0
        return super()._repeated(attempt)

    def _attempt(self, request: SumRequest) -> SumOpened | SumNotOpened:
        now = self._clock
        result = self._take(coordinator_request(self.state, request, now))
        if result is None and self._waited:
            # What earlier attempts at the same sum have waited for tenants counts.
            self.state = replace(self.state, give_up=max(now, self.state.give_up - self._waited))
            result = self._take(coordinator_tick(self.state, now))
        while result is None:
            result = self._wait()
        return result

    def _wait(self, until: float | None = None) -> SumOpened | SumNotOpened | None:
        """Work on the next event, or on the deadline if that comes first; or wait until the clock shows `until` without one."""
        for_tenants = self.state.phase is CoordinatorPhase.GATHERING and not self.state.upcoming
        since = self._clock
        deadline = self.state.deadline if until is None else until
        event = self._listen(deadline)
        now = self._clock
        if event is None and deadline is not None:
            # A clock that is a difference may show a rounding error less than the deadline. Virtual time would stand still there for ever.
            now = max(now, deadline)
        self._waited += now - since if for_tenants else 0.0
        if event is None:
            return self._take(coordinator_tick(self.state, now))
        if not isinstance(event, Arrived):
            return self._take(coordinator_unlinked(self.state, event.tenant, now))
        try:
            self._require_moderation(event.tenant)
            step = coordinator_receive(self.state, event.tenant, event.data, now)
            if self._recorder is not None:
                self._recorder.heard(step, event.tenant, event.data)
            return self._take(step)
        except PeerFault as fault:
            self._watch(Notice(NoticeKind.FAULT, self.state.last_round, (fault.peer,), fault.fault))
            if isinstance(fault, AnotherRoster):
                # Its own check of the terms tells its operator what a link that breaks cannot; then it leaves.
                self._hub.send(event.tenant, self.state.terms.to_bytes())
            else:
                self._hub.cut(event.tenant)
            return self._take(coordinator_unlinked(self.state, event.tenant, now))

    def _require_moderation(self, tenant: int) -> None:
        """Count a message. Raises `PeerFault` naming the tenant if it floods the server."""
        state, upcoming, now = self.state, self.state.upcoming, self._hub.now()
        stage = (state.phase, state.last_round, upcoming and (upcoming.opening.digest, upcoming.phase))
        if stage != self._stage or now >= self._counted_from + _SPAN:
            self._stage, self._counted_from = stage, now
            self._said.clear()
        self._said[tenant] += 1
        if self._said[tenant] > _MOST_MESSAGES:
            raise PeerFault(state.name(tenant), f"sent more than {_MOST_MESSAGES} messages where a few are due")

    def _listen(self, deadline: float | None) -> HubEvent | None:
        """The next event, or None once the clock of those who listen shows `deadline` and nothing that has come is unread."""
        since = self._clock
        event, overslept = self._wait_once(deadline)
        if overslept:
            self._unheard = self._heard_until - since
            # What came while the machine stood still is handed in only now: the same wait begins anew. Once, or a hub that is
            # slow to return would keep a deadline off for ever.
            return event or self._wait_once(deadline)[0]
        return event

    def _wait_once(self, deadline: float | None) -> tuple[HubEvent | None, bool]:
        """The next event or None, and whether the machine stood still meanwhile."""
        began = self._hub.now()
        self._unheard += began - self._heard_until
        until = None if deadline is None else deadline + self._unheard
        event = self._hub.receive(until)
        self._heard_until = self._hub.now()
        return event, until is not None and self._heard_until > max(began, until) + _OVERSLEPT

    @property
    def _clock(self) -> float:
        """The hub's time less that in which nobody listened to it."""
        return self._heard_until - self._unheard

    def _take(self, step: CoordinatorStep) -> SumOpened | SumNotOpened | None:
        self.state = step.state
        for notice in step.notices:
            self._watch(notice)
        self._keep(step)
        for tenant, data in step.sends:
            self._hub.send(tenant, data)
        return step.result

    def _keep(self, step: CoordinatorStep) -> None:
        """Keep what must be kept of a step before its messages leave."""
        if self._recorder is not None:
            self._recorder.stepped(step)
            self._recorder.concluded(step)
