"""The fit of a session once more, by the code that fitted it, over the sums that its transcript holds.

The fit is a function of its plan and its sums. So whatever proposed the parameters (EM, an optimiser, starts, a pick among models), it is
checked in one way: the sums come out of the transcript in place of the tenants, and each is given only for the very parameters that the
header of its round has sent out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fed_em.arithmetic import computed_on
from fed_em.broadcast import Broadcast
from fed_em.errors import FedEmError
from fed_em.parameters import Parameters
from fed_em_protocols.coordinator_state import SumNotOpened, SumOpened, SumRequest
from fed_em_protocols.errors import SERVER
from fed_em_protocols.messages import CloseReason, Header, Mode
from fed_em_protocols.transcript.entries import FitEntry, LineTable
from fed_em_protocols.transcript.faults import Place, TranscriptFault
from fed_em_protocols.transcript.fit_notes import FitNotes
from fed_em_protocols.transcript.fit_plan import recorded_plan
from fed_em_protocols.transcript.walk import Attempt, WalkedSession
from fed_em_server.measurement.measuring_session import sum_measurement
from fed_em_server.repeated_sums import RepeatedSums
from fed_em_server.session_fit import fit_session

# Relative; where the arithmetic is not that of the recorded platform and versions.
TOLERANCE = 1e-12


class _TranscriptEnds(Exception):
    """The fit goes on beyond the transcript: the session ended before."""


@dataclass(frozen=True)
class Replayed:
    """What a replay came to.

    Attributes:
        same_arithmetic: Whether it ran on the recorded platform and versions: then everything had to be equal bit for bit.
        difference: The largest relative difference of parameters from those that were sent out; 0 if all are equal bit for bit.
        sums: How many opened sums the fit used.
        complete: Whether the fit came to its end, and the session with it.
        failure: Why the fit ended without a model, as the session did; empty if it did not.
        converged: Whether the fit did.
    """

    same_arithmetic: bool
    difference: float
    sums: int
    complete: bool
    failure: str = ""
    converged: bool = False


class _Comparison:
    """Holds what is computed here against what was recorded."""

    def __init__(self, exactly: bool) -> None:
        self.exactly = exactly
        self.difference = 0.0

    def points(self, computed: bytes, recorded: bytes, place: Place) -> None:
        """Two broadcasts."""
        if computed == recorded:
            return
        here, there = (Broadcast.from_bytes(data, "parameters") for data in (computed, recorded))
        difference = math.inf
        if here.model.describe() == there.model.describe() and set(here.parameters) == set(there.parameters):
            ours = Parameters({"location": here.coordinates.location, "scale": here.coordinates.scale})
            theirs = Parameters({"location": there.coordinates.location, "scale": there.coordinates.scale})
            difference = max(here.parameters.distance(there.parameters), ours.distance(theirs))
        if self.exactly or not difference <= TOLERANCE:
            how_far = "of another model" if math.isinf(difference) else f"off by {difference:.2g} of their size"
            raise TranscriptFault(f"the fit does not lead to these parameters: they are {how_far}", place)
        self.difference = max(self.difference, difference)

    def numbers(self, computed: float, recorded: float) -> bool:
        """Whether two numbers are equal, as far as they must be."""
        if self.exactly or not (math.isfinite(computed) and math.isfinite(recorded)):
            return computed == recorded
        return abs(computed - recorded) <= TOLERANCE * max(1.0, abs(recorded))


class RecordedSums(RepeatedSums):
    """The sums of a transcript, each for the request that it was opened for."""

    def __init__(self, session: WalkedSession, comparison: _Comparison) -> None:
        self._attempts = session.attempts
        self._comparison = comparison
        self.used = 0

    def _attempt(self, request: SumRequest) -> SumOpened | SumNotOpened:
        if self.used == len(self._attempts):
            raise _TranscriptEnds
        attempt = self._attempts[self.used]
        self.used += 1
        if attempt.header is not None:
            self._require_asked(request, attempt, attempt.header.content)
        return attempt.outcome

    def _require_asked(self, request: SumRequest, attempt: Attempt, header: Header) -> None:
        assert attempt.header is not None
        place = Place(line=attempt.entry, field="parameters", party=SERVER)
        self._comparison.points(request.parameters, attempt.header.attachment, place)
        place = Place(line=attempt.entry, field="header", party=SERVER)
        if request.parameters == attempt.header.attachment and request.encoding != header.encoding:
            raise TranscriptFault("the fit asks for another encoding", place)
        if (request.length, request.ring.bits, request.held) != (header.length, header.ring, header.held):
            raise TranscriptFault("the fit asks for another vector, or with other components held", place)
        if request.counts != (header.mode == Mode.COUNTS) or (request.whole and header.mode == Mode.INCREMENT):
            raise TranscriptFault("the fit asks for a sum of another kind", place)


class _NotesCompared:
    """Takes the notes of the fit that runs here, and holds each against the one in the transcript."""

    def __init__(self, session: WalkedSession, sums: RecordedSums, comparison: _Comparison) -> None:
        self._session = session
        self._recorded = session.fit
        self._sums = sums
        self._comparison = comparison
        self.used = 0

    def take(self, computed: FitEntry) -> None:
        """The next note."""
        if self.used == len(self._recorded):
            if self._session.closed is None and self._sums.used == len(self._session.attempts):
                raise _TranscriptEnds
            what = f"a '{computed.kind}' that the fit comes to is not in the transcript"
            raise TranscriptFault(what, Place(line=self._next_entry, field="kind"))
        step = self._recorded[self.used]
        self.used += 1
        if computed.kind != step.done.kind:
            raise TranscriptFault(f"the fit comes to a '{computed.kind}' here", Place(line=step.entry, field="kind"))
        if step.attempts != self._sums.used:
            raise TranscriptFault("the fit comes to it behind another sum", Place(line=step.entry, field="kind"))
        for name in type(computed).model_fields:
            here, there = getattr(computed, name), getattr(step.done, name)
            if not self._alike(here, there):
                raise TranscriptFault("the fit comes to another value", Place(line=step.entry, field=name))

    @property
    def _next_entry(self) -> int:
        """The first entry behind the sums that were used."""
        attempts = self._session.attempts
        if self._sums.used < len(attempts):
            return attempts[self._sums.used].entry
        return self._session.closed_entry if self._session.closed else attempts[-1].entry

    def _alike(self, here: object, there: object) -> bool:
        if isinstance(here, float) and isinstance(there, float):
            return self._comparison.numbers(here, there)
        if isinstance(here, bytes):  # digests of parameters, which the next header's are compared with as numbers
            return here == there or not self._comparison.exactly
        if isinstance(here, tuple) and isinstance(there, tuple):
            return len(here) == len(there) and all(map(self._alike, here, there))
        if isinstance(here, LineTable) and type(here) is type(there):
            return all(self._alike(getattr(here, name), getattr(there, name)) for name in type(here).model_fields)
        return here == there


class _NoClock:
    """Nothing is measured. Implements `Clock`."""

    def now(self) -> float:
        """0."""
        return 0.0

    def traffic(self) -> tuple[int, int]:
        """None."""
        return 0, 0


def replayed(session: WalkedSession) -> Replayed:
    """Fit a verified session once more.

    Raises:
        TranscriptFault: the fit does not lead to the parameters of a round, to the fit's notes, or to the model at the close.
        CallerError: the plan is none.
    """
    same = session.opened.computed_on == computed_on()
    comparison = _Comparison(same)
    sums = RecordedSums(session, comparison)
    notes = _NotesCompared(session, sums, comparison)
    onlooker, failure, final, converged = FitNotes(notes.take), "", b"", False
    closed = session.closed
    try:
        final, converged = _again(session, sums, onlooker)
    except TranscriptFault:
        raise
    except _TranscriptEnds:
        failure = "the session ended before the fit did"
    except FedEmError as error:
        failure = str(error)
    _require_all_used(session, sums, notes)
    if closed is not None:
        place = Place(line=session.closed_entry, field="message", party=SERVER)
        finished = closed.content.reason == CloseReason.FINISHED
        if finished and failure:
            raise TranscriptFault(f"the session is closed as finished, and its fit is not: {failure}", place)
        if not finished and not failure:
            raise TranscriptFault("the session is closed as failed, and its fit came to an end", place)
        if finished:
            place = Place(line=session.closed_entry, field="parameters", party=SERVER)
            comparison.points(final, closed.attachment, place)
    opened = sum(isinstance(attempt.outcome, SumOpened) for attempt in session.attempts)
    return Replayed(same, comparison.difference, opened, closed is not None, failure, converged)


def _again(session: WalkedSession, sums: RecordedSums, onlooker: FitNotes) -> tuple[bytes, bool]:
    """The final model, and whether its fit converged; empty of a session that measures, whose one sum is of what its description names."""
    plan = recorded_plan(session)
    if session.description.measured is not None:
        sum_measurement(plan, _measured(session), sums)
        return b"", False
    done = fit_session(plan, sums, _NoClock(), onlooker, lambda _: None, lambda _: None)
    if done.errors is not None:
        onlooker.errors(done.errors)
    return done.final.to_bytes(), done.result.fit.converged


def _measured(session: WalkedSession) -> Broadcast:
    """What the first round asked for, which is to be what the description names."""
    asked = next((attempt for attempt in session.attempts if attempt.header is not None), None)
    if asked is None:
        raise _TranscriptEnds
    if not session.description.asks_to_measure(asked.broadcast):
        place = Place(line=asked.entry, field="parameters", party=SERVER)
        raise TranscriptFault("it measures something else than the session's description names", place)
    return asked.broadcast


def _require_all_used(session: WalkedSession, sums: RecordedSums, notes: _NotesCompared) -> None:
    if sums.used < len(session.attempts):
        left = session.attempts[sums.used]
        raise TranscriptFault("the fit never asked for this sum", Place(line=left.entry, field="kind", party=SERVER))
    if notes.used < len(session.fit):
        left_note = session.fit[notes.used]
        raise TranscriptFault("the fit never came to it", Place(line=left_note.entry, field="kind"))
