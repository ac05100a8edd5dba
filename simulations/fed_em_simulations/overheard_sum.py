"""A coordinator that is listened to: every sum that it opens, decoded, as whoever reads all of a session sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from fed_em.broadcast import Broadcast
from fed_em_protocols.coordinator_state import CoordinatorState, Notice, SumNotOpened, SumOpened, SumRequest
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.messages import Mode
from fed_em_protocols.roster import Roster
from fed_em_protocols.running_total import RunningTotal
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transcript.recorder import TranscriptRecorder
from fed_em_protocols.transcript.released import ReleasedSum
from fed_em_protocols.transcript.walk import encoding_asked
from fed_em_server.federated_sum import FederatedSum
from fed_em_server.hub import Hub


class Listener(Protocol):
    """Who listens to sessions, one after the other."""

    def session_started(self, description: SessionDescription, terms: SessionTerms, roster: Roster) -> None:
        """What is public of a session, before its first sum."""
        ...

    def sum_opened(self, released: ReleasedSum) -> None:
        """A sum was opened."""
        ...


class OverheardSum(FederatedSum):
    """See `FederatedSum`.

    Args:
        listener: Who listens.
        description: Of the session.
        state, hub, watch, recorder: As of a `FederatedSum`.
    """

    def __init__(
        self,
        listener: Listener,
        description: SessionDescription,
        state: CoordinatorState,
        hub: Hub,
        watch: Callable[[Notice], None],
        recorder: TranscriptRecorder | None = None,
    ) -> None:
        super().__init__(state, hub, watch, recorder)
        self._listener = listener
        self._description = description
        listener.session_started(description, state.terms.content, state.roster)

    def _attempt(self, request: SumRequest) -> SumOpened | SumNotOpened:
        outcome = super()._attempt(request)
        if isinstance(outcome, SumOpened):
            self._tell(request, outcome)
        return outcome

    def _tell(self, request: SumRequest, opened: SumOpened) -> None:
        broadcast, mode = Broadcast.from_bytes(request.parameters), Mode.COUNTS if request.counts else Mode.WHOLE
        encoding = encoding_asked(self._description, mode, broadcast, self.state.roster)
        if encoding.ring.faults_in(opened.vector):
            return
        kind, bases = self._terms(request, opened)
        statistics = encoding.decode(opened.vector)
        self._listener.sum_opened(
            ReleasedSum(self.state.terms.content.session, opened.round, kind, bases, broadcast, statistics)
        )

    def _terms(
        self, request: SumRequest, opened: SumOpened
    ) -> tuple[Literal["counts", "whole", "increment"], tuple[int, ...]]:
        """Of what kind the sum is, and of which round each tenant's term."""
        n, total = self.state.roster.n, self.state.total
        if request.counts or not isinstance(total, RunningTotal):
            return "counts", tuple(opened.round if i in opened.survivors else 0 for i in range(n))
        bases = {i: base for unit, base in zip(self.state.units, total.bases, strict=True) for i in unit}
        mode = total.headers[opened.round].content.mode
        return "whole" if mode == Mode.WHOLE else "increment", tuple(bases[i] for i in range(n))
