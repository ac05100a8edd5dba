"""The checkpoints of one session: everything that a fit and its record follow from, kept as the session goes.

The fit is a function of its plan and of what each attempt at a sum came to. So no state of an optimiser is kept: another process fits
anew, is given the outcomes that are here, each for the very request that it was of, and goes on from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

from pydantic import Field, ValidationError

from fed_em.errors import EnvironmentFault, FedEmError
from fed_em_protocols.clock import time_of_day
from fed_em_protocols.coordinator_state import CoordinatorState, CoordinatorStep, SumNotOpened, SumOpened, SumRequest
from fed_em_protocols.envelope import Sealed
from fed_em_protocols.hashing import digest
from fed_em_protocols.kept_state import KeptState, kept_of, state_from
from fed_em_protocols.limits import PROTOCOL_VERSION
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transcript.entries import Base64, FitPlanned, LineTable, Number
from fed_em_protocols.transcript.recorder import (
    OTHER_ARITHMETIC,
    REMEDY_OTHER_ARITHMETIC,
    TranscriptRecorder,
    in_bytes,
)
from fed_em_server.checkpoints.kept_record import KeptRecord, RecordLine
from fed_em_server.checkpoints.state_lines import state_from_json, state_to_json, total_to_json
from fed_em_server.checkpoints.store import (
    FAILED,
    FINISHED,
    RUNNING,
    AttemptRow,
    Changes,
    CheckpointStore,
    SessionRow,
)


class KeptPlan(LineTable):
    """What fixes a session."""

    protocol: Number = PROTOCOL_VERSION
    terms: Base64 = Field(repr=False)
    """The signed message, with the description attached."""
    fit: FitPlanned
    computed_on: dict[str, str]


class AttemptLine(LineTable):
    """An outcome without its vector: of a sum that was opened (`survivors`), or of one that was not (`reason`)."""

    round: Number
    survivors: tuple[Number, ...] | None = None
    stale: tuple[Number, ...] = ()
    missing: tuple[Number, ...] = ()
    reason: str = ""
    final: bool = False
    away: tuple[str, ...] = ()
    interrupted: bool = False


class KeepsRecord(Protocol):
    """Who keeps the session's record."""

    def kept(self) -> KeptRecord:
        """Where it stands."""
        ...

    def new_lines(self) -> Sequence[RecordLine]:
        """What was added since this was asked for last."""
        ...


class SessionCheckpoint:
    """Keeps one session in a store.

    Args:
        store: Open.
        row: The session as it was kept last; None for a new one.
        transcript: Name of the folder of its transcript.
        time: The time of day, ISO 8601 UTC.

    Raises:
        EnvironmentFault: what was kept cannot be read.
    """

    def __init__(
        self,
        store: CheckpointStore,
        row: SessionRow | None,
        time: Callable[[], str] = lambda: time_of_day().isoformat(),
    ) -> None:
        self._store = store
        self._time = time
        self._attempts = deque(() if row is None else row.attempts)
        self._n_attempts = self._n_lines = 0
        self._kept = KeptState()
        self.resumed = row is not None
        self.record: KeptRecord | None = None
        self.lines: tuple[RecordLine, ...] = ()
        self.entries = 0
        self.transcript = ""
        self._session, self._life = "", 1
        if row is not None:
            self._take_up(row)

    def _take_up(self, row: SessionRow) -> None:
        try:
            self._kept = state_from_json(row.state, row.total)
            self.record = KeptRecord.model_validate_json(row.record)
            self.lines = tuple(RecordLine.model_validate_json(line) for line in row.lines)
            self.plan = KeptPlan.model_validate_json(row.plan)
        except (ValidationError, ValueError, FedEmError) as error:
            raise EnvironmentFault(
                f"what is kept of session {row.session} cannot be read: {type(error).__name__}",
                remedy="put the checkpoints back as they were, or begin another session with --new",
            ) from None
        self._session, self._life, self._n_lines = row.session, row.life + 1, len(row.lines)
        self.entries, self.transcript = row.entries, row.transcript

    @property
    def session(self) -> str:
        """Its number, hexadecimal; empty before it has begun."""
        return self._session

    @property
    def last_round(self) -> int:
        """The last round that was begun."""
        return self._kept.last_round

    def begin(self, terms: Sealed[SessionTerms], fit: FitPlanned, computed_on: dict[str, str], transcript: str) -> None:
        """A new session, whose transcript has its first entry."""
        self._session, self.transcript = terms.content.session.hex(), transcript
        self.plan = KeptPlan(terms=terms.to_bytes(), fit=fit, computed_on=computed_on)

    def take_over(self) -> None:
        """Go on: from here, no other process may. Raises `EnvironmentFault` if another was quicker."""
        self._store.commit(self._session, self._life - 1, Changes({"life": self._life}))

    def state_over(self, fresh: CoordinatorState) -> CoordinatorState:
        """The coordinator's state that the session goes on with."""
        return state_from(fresh, self._kept)

    def follow(self, record: KeepsRecord, recorder: TranscriptRecorder | None) -> None:
        """Say who else keeps the session. A new one is in the store from here."""
        self._record, self._recorder = record, recorder
        if self.resumed:
            return
        if recorder is not None:
            recorder.sync()
        kept = record.kept()
        self._store.begin(
            SessionRow(
                self._session, RUNNING, self._life, self._time(), self.plan.model_dump_json(), self.transcript,
                self._size(), state_to_json(self._kept), kept.model_dump_json(),
            )
        )  # fmt: skip

    def _size(self) -> int:
        return 0 if self._recorder is None else self._recorder.size

    def answer(self, request: SumRequest) -> SumOpened | SumNotOpened | None:
        """What the next attempt came to in a process before; None if none has made it.

        Raises:
            EnvironmentFault: it was of another request.
        """
        if not self._attempts:
            return None
        row = self._attempts.popleft()
        if row.request != request_digest(request):
            raise EnvironmentFault(OTHER_ARITHMETIC, remedy=REMEDY_OTHER_ARITHMETIC)
        self._n_attempts += 1
        line = AttemptLine.model_validate_json(row.outcome)
        if line.survivors is None or row.vector is None:
            return SumNotOpened(line.round, line.reason, line.final, line.away, line.interrupted)
        return SumOpened(line.round, request.ring.read(row.vector), line.survivors, line.stale, line.missing)

    def keep(self, step: CoordinatorStep, request: SumRequest | None) -> None:
        """Keep what a step changed; durable when this returns. Call it before the step's messages leave.

        Args:
            step: The step.
            request: What is asked for at present.
        """
        kept = self._kept if step.closed is not None else kept_of(step.state)
        if step.result is None and step.closed is None and kept.is_as(self._kept):
            return
        if self._recorder is not None:
            self._recorder.sync()
        columns: dict[str, object] = {"entries": self._size(), "record": self._record.kept().model_dump_json()}
        if not kept.is_as(self._kept):
            columns["state"] = state_to_json(kept)
        if kept.total is not self._kept.total:
            columns["total"] = None if kept.total is None else total_to_json(kept.total)
        if step.closed is not None and step.closed.content.reason == CloseReason.FAILED:
            columns["status"] = FAILED
        attempts = {}
        if step.result is not None and request is not None:
            attempts[self._n_attempts] = _row_of(step.result, request)
        lines = dict(zip(count(self._n_lines), (each.model_dump_json() for each in self._record.new_lines())))
        self._store.commit(self._session, self._life, Changes(columns, attempts, lines))
        self._kept, self._n_lines, self._n_attempts = kept, self._n_lines + len(lines), self._n_attempts + len(attempts)

    def done(self) -> None:
        """The session's outcome is kept elsewhere."""
        self._store.commit(self._session, self._life, Changes({"status": FINISHED}))


def request_digest(request: SumRequest) -> bytes:
    """What tells one request from another."""
    flags = (request.length, request.ring.bits, request.ring.check_bits, request.whole, request.counts)
    return digest("request", request.parameters, request.encoding, request.held, *map(int, flags))


def _row_of(result: SumOpened | SumNotOpened, request: SumRequest) -> AttemptRow:
    if isinstance(result, SumOpened):
        line = AttemptLine(
            round=result.round, survivors=result.survivors, stale=result.stale, missing=result.missing
        )  # fmt: skip
        return AttemptRow(request_digest(request), line.model_dump_json(), in_bytes(result.vector))
    line = AttemptLine(
        round=result.round, reason=result.reason, final=result.final, away=result.away, interrupted=result.interrupted
    )
    return AttemptRow(request_digest(request), line.model_dump_json())
