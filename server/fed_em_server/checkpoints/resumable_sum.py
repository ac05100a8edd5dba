"""Sums over a hub that another process can go on with: what each attempt came to is kept before anybody is told.

Where tenants are missing for longer than the timetable says, the session pauses: the process ends as if it had been killed, and the
next one goes on. Only sums that the model does not need (those of standard errors) are given up.
"""

from __future__ import annotations

from collections.abc import Callable

from fed_em.errors import EnvironmentFault
from fed_em_protocols.coordinator_state import (
    RESTARTED,
    CoordinatorState,
    CoordinatorStep,
    Notice,
    SumNotOpened,
    SumOpened,
    SumRequest,
)
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.transcript.recorder import TranscriptRecorder
from fed_em_server.checkpoints.session_checkpoint import SessionCheckpoint
from fed_em_server.federated_sum import FederatedSum
from fed_em_server.hub import Hub
from fed_em_server.repeated_sums import ATTEMPTS
from fed_em_server.report_words import names_in_words

# For tenants that dial again every few seconds, where nothing is left to do but to tell them the end.
_REUNION_SECONDS = 10.0


class SessionPaused(EnvironmentFault):
    """Tenants are missing for longer than the session waits. Nothing is lost, and nobody was told of an end.

    Attributes:
        round: The last round that was begun.
        tenants: Who is missing.
    """

    def __init__(self, round_number: int, tenants: tuple[str, ...], reason: str) -> None:
        super().__init__(
            f"paused at round {round_number}, waiting for {names_in_words(tenants)}: {reason}",
            remedy="start the server again to go on, now or when they are back; their tenants' processes must run",
        )
        self.round = round_number
        self.tenants = tenants


class ResumableSum(FederatedSum):
    """See `FederatedSum`.

    Args:
        checkpoint: Keeps the session; what it has of attempts is given before any is made.
        state, hub, watch, recorder: As of a `FederatedSum`.
    """

    def __init__(
        self,
        checkpoint: SessionCheckpoint,
        state: CoordinatorState,
        hub: Hub,
        watch: Callable[[Notice], None],
        recorder: TranscriptRecorder | None = None,
    ) -> None:
        super().__init__(state, hub, watch, recorder)
        self._checkpoint = checkpoint
        self._request: SumRequest | None = None
        self._failed = 0
        self._interrupted = checkpoint.resumed

    def close(self, reason: CloseReason, parameters: bytes = b"") -> None:
        """See `FederatedSum`. Whose process only replayed what was done waits a little for the tenants, to tell them the end."""
        if reason is CloseReason.FINISHED and self._interrupted:
            until = self._clock + _REUNION_SECONDS
            while self.state.missing and self._clock < until:
                self._wait(until)
        super().close(reason, parameters)

    def _repeated(self, attempt: Callable[[], SumOpened | SumNotOpened]) -> SumOpened:
        self._failed = 0
        return super()._repeated(attempt)

    def _attempt(self, request: SumRequest) -> SumOpened | SumNotOpened:
        outcome = self._checkpoint.answer(request)
        if outcome is None:
            self._request = request
            outcome = self._resuming() if self._interrupted else super()._attempt(request)
            self._request = None
        self._failed += isinstance(outcome, SumNotOpened) and not outcome.interrupted
        return outcome

    def _resuming(self) -> SumNotOpened:
        """The attempt that the process before did not bring to its end."""
        self._interrupted = False
        nothing = SumNotOpened(self.state.last_round, RESTARTED, interrupted=True)
        self._take(CoordinatorStep(self.state, result=nothing))
        return nothing

    def _take(self, step: CoordinatorStep) -> SumOpened | SumNotOpened | None:
        result = step.result
        if isinstance(result, SumNotOpened) and self._pauses(result):
            raise SessionPaused(result.round, result.away, result.reason)
        return super()._take(step)

    def _pauses(self, result: SumNotOpened) -> bool:
        """Whether an outcome would be the last, for nothing but tenants who are away. At the start nothing is lost by an end."""
        last = result.final or self._failed + 1 == ATTEMPTS
        return last and bool(result.away) and result.round > 0 and self.essential

    def _keep(self, step: CoordinatorStep) -> None:
        if self._recorder is not None:
            self._recorder.stepped(step)
        self._checkpoint.keep(step, self._request)
        if self._recorder is not None:
            self._recorder.concluded(step)
