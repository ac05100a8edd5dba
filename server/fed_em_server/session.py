"""One session of the coordinator, from the first hello to the final model: over any hub.

fit_session over FederatedTotal over FederatedSum over a hub
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from fed_em.arithmetic import computed_on
from fed_em.beginnings import Beginning, OneDraw
from fed_em.bootstrap import MOST_SUMS as BOOTSTRAP_ROUNDS
from fed_em.em import Iteration, Stopping
from fed_em.errors import EnvironmentFault, FedEmError
from fed_em.lock_step import RoundOfFits
from fed_em.model_file import FittedModel
from fed_em.optimiser import EM
from fed_em.selection import Picked
from fed_em.standardised_fit import StandardisedFit
from fed_em.starts import StartRound
from fed_em_protocols.clock import time_in_words
from fed_em_protocols.coordinator import coordinator_start
from fed_em_protocols.coordinator_state import CoordinatorState, Notice, NoticeKind, SumOpened, Timetable
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms, Trust
from fed_em_protocols.transcript.fit_notes import FitNotes
from fed_em_protocols.transcript.fit_plan import planned
from fed_em_protocols.transcript.recorder import TranscriptRecorder, TranscriptStore
from fed_em_server.checkpoints.kept_record import KeptRecord, RecordLine
from fed_em_server.checkpoints.resumable_sum import ResumableSum
from fed_em_server.checkpoints.session_checkpoint import SessionCheckpoint
from fed_em_server.configuration import ServerConfiguration
from fed_em_server.federated_sum import FederatedSum
from fed_em_server.hub import Hub
from fed_em_server.model_words import model_in_words, models_in_words
from fed_em_server.onlookers import Onlookers
from fed_em_server.record import Happening, Participation, RoundRecord, SessionRecord
from fed_em_server.report_words import HAPPENINGS, happening_of
from fed_em_server.selection_record import reason_in_words, selection_record
from fed_em_server.session_fit import fit_session
from fed_em_server.session_terms import BANNER, planned_rounds, privacy_plan, session_terms, warnings_of
from fed_em_server.standings import Standing, Standings

# What a tenant that was not asked has to do with a round, from where it stands; the others are away.
_PARTS = {
    Standing.IN: Participation.STALE,
    Standing.BLOCKED: Participation.STALE,
    Standing.LATE: Participation.LATE,
}


# What sums over a hub, from the coordinator's first state.
Summing = Callable[[CoordinatorState, Hub, Callable[[Notice], None], TranscriptRecorder | None], FederatedSum]


class Watcher(Protocol):
    """Whoever looks on: a live view, a log, a test. Called on the session's own thread, before it goes on."""

    def session_started(self, record: SessionRecord) -> None:
        """The session's terms are fixed; nobody is linked yet."""
        ...

    def noticed(self, notice: Notice) -> None:
        """Something happened in the protocol."""
        ...

    def round_opened(self, record: RoundRecord) -> None:
        """A round was summed and its M-step is done."""
        ...


@dataclass(frozen=True)
class SessionPlan:
    """Everything that fixes a session before it starts."""

    roster: Roster
    identity: SigningKey = field(repr=False)
    description: SessionDescription
    terms: SessionTerms
    timetable: Timetable
    stopping: Stopping
    seed: int
    transport: str
    optimiser: str = EM
    beginning: Beginning = field(default_factory=OneDraw)
    planned_rounds: int = 0
    doubts: tuple[str, ...] = ()
    """Why noise may leave little of the fit."""


@dataclass(frozen=True)
class SessionOutcome:
    """What a session leaves behind."""

    fitted: FittedModel
    result: StandardisedFit
    record: SessionRecord


def plan_session(
    configuration: ServerConfiguration, roster: Roster, identity: SigningKey, transport: str
) -> SessionPlan:
    """The plan of a configuration, with a fresh session number.

    Raises:
        CallerError: no sparse graph will do, the model to start from is not there, or noise cannot keep what the session promises.
        EnvironmentFault: it cannot be read.
    """
    description = configuration.description
    fit = configuration.fit
    beginning = configuration.beginning()
    sums = beginning.rounds + fit.max_iterations + (description.selection.rounds if description.selection else 0)
    sums += configuration.privacy.spare_sums if configuration.privacy else 0
    sums += BOOTSTRAP_ROUNDS if description.bootstrap else 0
    terms = session_terms(configuration.trust, roster, description, sums)
    timetable = configuration.times.timetable()
    noise = privacy_plan(configuration.trust, roster, description)
    return SessionPlan(
        roster,
        identity,
        description,
        terms,
        timetable,
        fit.stopping,
        fit.seed,
        transport,
        configuration.optimiser,
        beginning,
        planned_rounds(configuration.trust, description, sums),
        noise.warnings if noise else (),
    )


def run_session(
    plan: SessionPlan,
    hub: Hub,
    watcher: Watcher,
    summing: Summing = FederatedSum,
    store: TranscriptStore | None = None,
    checkpoint: SessionCheckpoint | None = None,
) -> SessionOutcome:
    """Run a session to its end, of which tenants are told.

    With checkpoints, only the session itself can end without a model; what happens to its process (an interrupt, a disk that is full) or
    to its tenants (too few are there) ends the process alone, and the next goes on.

    Args:
        plan: What fixes it.
        hub: The links.
        watcher: Who looks on.
        summing: Who sums.
        store: Where its transcript goes; None for none.
        checkpoint: Keeps what another process needs to go on, and has what the one before kept; None for none. `summing` is then the
            one that it needs, whatever it is.

    Raises:
        SumFailed: a sum could not be opened, again and again, or a tenant could not compute its statistics.
        CallerError: the encoding's range cannot be proved, a column is constant, or too few cells of it pass the mass gate.
        SessionPaused: tenants are missing for too long; never without checkpoints.
        EnvironmentFault: the store does not take the transcript or the checkpoints, or what was kept leads elsewhere here.
    """
    recorder = None if store is None else TranscriptRecorder(store, plan.identity, time_in_words)
    try:
        state = coordinator_start(
            plan.roster,
            plan.identity,
            plan.terms,
            plan.description.to_json(),
            plan.timetable,
            hub.now(),
            plan.planned_rounds,
        )
        if checkpoint is not None and checkpoint.resumed:
            state = checkpoint.state_over(state)
            if recorder is not None:
                recorder.resumed(state.terms, checkpoint.entries)
        elif recorder is not None:
            recorder.opened(plan.roster, state.terms, planned(plan), computed_on())
        if checkpoint is not None and not checkpoint.resumed:
            checkpoint.begin(state.terms, planned(plan), computed_on(), "" if store is None else store.name)
        keeper = _RecordKeeper(plan, hub, watcher, checkpoint)
        if checkpoint is not None:
            checkpoint.follow(keeper, recorder)
            summing = partial(ResumableSum, checkpoint)
    except BaseException:
        hub.close()
        raise
    notes = None if recorder is None else FitNotes(recorder.noted)
    sums = summing(state, hub, keeper.noticed, recorder)
    try:
        onlooker = keeper if notes is None else Onlookers((notes, keeper))
        done = fit_session(plan, sums, hub, onlooker, keeper.opened, keeper.projected)
        if notes is not None and done.errors is not None:
            notes.errors(done.errors)
    except BaseException as error:
        if checkpoint is None or _ends_the_session(error):
            sums.close(CloseReason.FAILED)
        else:
            hub.close()
        raise
    sums.close(CloseReason.FINISHED, done.final.to_bytes())
    record = keeper.finished(done.result).model_copy(update={"standard_errors": done.error_round})
    return SessionOutcome(replace(_fitted_model(plan, done.result, record), errors=done.errors), done.result, record)


def _ends_the_session(error: BaseException) -> bool:
    """Whether another process would come to the same end: not if only this one cannot go on."""
    return isinstance(error, SumFailed) or (isinstance(error, FedEmError) and not isinstance(error, EnvironmentFault))


def _fitted_model(plan: SessionPlan, result: StandardisedFit, record: SessionRecord) -> FittedModel:
    provenance: dict[str, object] = {
        "session": record.session,
        "federation": record.federation,
        "roster": plan.roster.digest.hex(),
        "trust": record.trust,
        "rounds": len(record.rounds),
        "converged": record.converged,
    }
    if record.selection is not None:
        provenance |= {"picked_by": record.selection.criterion, "picked_from": len(record.selection.candidates)}
    if result.n_pruned or result.n_merged:
        provenance |= {"components_left_out": result.n_pruned, "components_merged": result.n_merged}
    return FittedModel(result.model, result.coordinates, plan.description.names, result.fit.parameters, provenance)


class _RecordKeeper:
    """Turns notices, sums, iterations and picks into the session's record. Implements `fed_em.standardised_fit.Onlooker`.

    Of a session that goes on, the fit runs once more through the sums that were opened before: their records are those that were kept.
    """

    def __init__(self, plan: SessionPlan, hub: Hub, watcher: Watcher, before: SessionCheckpoint | None = None) -> None:
        self._plan = plan
        self._hub = hub
        self._watcher = watcher
        self._start = hub.now()
        self._recovered: frozenset[str] = frozenset()
        self._asked: frozenset[str] = frozenset()
        self._uploaded: set[str] = set()
        self._summed: tuple[int, ...] = ()
        self._in_sum: frozenset[str] = frozenset()
        self._bases = (0,) * plan.roster.n
        self._mark = (hub.now(), *hub.traffic())
        self._rounds: list[RoundRecord] = []
        self._starts = 0
        self._happenings: list[Happening] = []
        self._record = first_record(plan)
        self._standings = self._stood = Standings.at_start(self._record)
        self._known: deque[RoundRecord] = deque()
        self._new: list[RecordLine] = []
        if before is not None and before.record is not None:
            self._go_on(before.record, before.lines)
        watcher.session_started(self._record)
        if before is not None and before.resumed:
            self.noticed(Notice(NoticeKind.RESTARTED, before.last_round))

    def _go_on(self, kept: KeptRecord, lines: Sequence[RecordLine]) -> None:
        now, up, down = self._hub.now(), *self._hub.traffic()
        self._start = now - kept.seconds
        self._mark = (now - kept.since_sum, up - kept.bytes_up, down - kept.bytes_down)
        self._record = self._record.model_copy(update={"started": kept.started})
        self._asked, self._recovered, self._uploaded = (
            frozenset(kept.asked), frozenset(kept.recovered), set(kept.uploaded)
        )  # fmt: skip
        self._summed, self._in_sum, self._bases = kept.summed, frozenset(kept.in_sum), kept.bases
        self._standings = self._standings.standing(kept.stand, kept.members)
        self._stood = self._stood.standing(kept.stood, kept.members)
        self._known.extend(line.opened for line in lines if line.opened is not None)
        self._happenings.extend(line.happened for line in lines if line.happened is not None)

    def kept(self) -> KeptRecord:
        """What a process that goes on needs to know."""
        now, up, down = self._hub.now(), *self._hub.traffic()
        since, up_before, down_before = self._mark
        return KeptRecord(
            started=self._record.started,
            seconds=now - self._start,
            since_sum=now - since,
            bytes_up=up - up_before,
            bytes_down=down - down_before,
            asked=tuple(sorted(self._asked)),
            recovered=tuple(sorted(self._recovered)),
            uploaded=tuple(sorted(self._uploaded)),
            summed=self._summed,
            in_sum=tuple(sorted(self._in_sum)),
            bases=self._bases,
            stand={name: found.value for name, found in self._standings.of.items()},
            stood={name: found.value for name, found in self._stood.of.items()},
            members=tuple(sorted(self._standings.members)),
        )

    def new_lines(self) -> Sequence[RecordLine]:
        """What came since this was asked for last."""
        new, self._new = self._new, []
        return new

    def noticed(self, notice: Notice) -> None:
        """Keep what happened, and pass it on."""
        if notice.kind is NoticeKind.NOT_COMPUTED and not self._has_come_to_nothing(notice.round):
            return
        self._standings = self._standings.after(notice)
        if notice.kind is NoticeKind.ROUND_STARTED:
            self._asked, self._recovered, self._uploaded = frozenset(notice.tenants), frozenset(), set()
            self._stood = self._standings
        if notice.kind is NoticeKind.UPLOADED:
            self._uploaded.update(notice.tenants)
        if notice.kind is NoticeKind.RECOVERING:
            self._recovered = frozenset(notice.tenants)
        if notice.kind is NoticeKind.SUMMED:
            self._summed += (notice.round,)
            self._in_sum = frozenset(notice.tenants)
        if notice.kind in HAPPENINGS:
            self._happenings.append(happening_of(notice, self._hub.now() - self._start))
            self._new.append(RecordLine(happened=self._happenings[-1]))
        self._watcher.noticed(notice)

    def _has_come_to_nothing(self, number: int) -> bool:
        """Note that a sum that was opened holds no statistics; False if that is known, in a session that goes on."""
        before = (one.round for one in self._happenings if one.kind == NoticeKind.NOT_COMPUTED.value)
        if number in before:
            return False
        self._summed = tuple(one for one in self._summed if one != number)
        bases = zip(self._plan.roster.tenants, self._bases, strict=True)
        self._bases = tuple(number if tenant.name in self._in_sum else base for tenant, base in bases)
        return True

    def projected(self, components: int) -> None:
        """Noise made the sum that was opened last inadmissible in so many components."""
        self._rounds[-1] = self._rounds[-1].model_copy(update={"projected": components})

    def opened(self, opened: SumOpened) -> None:
        """A sum is there; its M-step is still to come."""
        if self._known:
            record = self._known.popleft()
        else:
            record = self._just_opened(opened)
            self._new.append(RecordLine(opened=record))
        self._rounds.append(record)
        if record.iteration == 0:
            self._watcher.round_opened(record)

    def _just_opened(self, opened: SumOpened) -> RoundRecord:
        now, up, down = self._hub.now(), *self._hub.traffic()
        began, up_before, down_before = self._mark
        self._mark = (now, up, down)
        iteration = max(len(self._rounds) - self._starts, 0)
        counts = [number for number in self._summed if number < opened.round]
        self._summed = ()
        survivors, stale = frozenset(opened.survivors), frozenset(opened.stale)
        self._bases = tuple(
            opened.round if index in survivors else base if index in stale else 0
            for index, base in enumerate(self._bases)
        )
        return RoundRecord(
            round=opened.round,
            iteration=iteration,
            counted=counts[-1] if counts else None,
            participation=tuple(self._part(index, survivors) for index in range(self._plan.roster.n)),
            bases=self._bases,
            seconds=now - began,
            bytes_up=up - up_before,
            bytes_down=down - down_before,
        )

    def _part(self, index: int, survivors: frozenset[int]) -> Participation:
        name = self._plan.roster.tenants[index].name
        if index in survivors:
            return Participation.RECOVERED if name in self._recovered else Participation.SUMMED
        if name in self._asked:
            return Participation.STALE if name in self._uploaded else Participation.LATE
        return _PARTS.get(self._stood.of[name], Participation.AWAY)

    def started(self, seen: StartRound) -> None:
        """The round that was opened last was one of the start."""
        objectives = (float(objective) for objective in seen.objectives)
        candidates = tuple(objective if math.isfinite(objective) else None for objective in objectives)
        known = {"iteration": 0, "start": seen.number, "candidates": candidates, "left_out": seen.left_out}
        done = self._rounds[-1].model_copy(update=known)
        self._starts += 1
        self._rounds[-1] = done
        self._watcher.round_opened(done)

    def iterated(self, iteration: Iteration) -> None:
        """The M-step of the round that was opened last is done."""
        parameters = iteration.parameters
        weights = tuple(float(w) for w in parameters["weights"].ravel()) if "weights" in parameters else ()
        seen = {
            "log_likelihood": iteration.log_likelihood,
            "objective": iteration.objective,
            "records": iteration.records,
            "weights": weights,
            "held": iteration.held,
            "step": iteration.step,
        }
        self._done(seen)

    def fitted_together(self, iterations: RoundOfFits) -> None:
        """The M-steps of a round of models to pick from are done."""
        n = len(self._plan.description.models)
        each = [iterations[number].log_likelihood if number in iterations else None for number in range(n)]
        self._done({"fitted_together": tuple(each)})

    def picked(self, picked: Picked) -> None:
        """The last round of models to pick from said which is best."""
        selection = selection_record(picked)
        self._record = self._record.model_copy(update={"selection": selection, "model": model_in_words(picked.model)})
        said = f"{self._record.model}: {reason_in_words(selection)}"
        each = [None if one is None else one.log_likelihood / one.records for one in picked.evidence]
        self._done({"fitted_together": tuple(each), "picked": said})
        self._rounds = [_of_candidate(opened, picked.number) for opened in self._rounds]

    def _done(self, seen: Mapping[str, object]) -> None:
        """The round that was opened last is over, and this was seen in it."""
        done = self._rounds[-1].model_copy(update=seen)
        self._rounds[-1] = done
        self._watcher.round_opened(done)

    def finished(self, result: StandardisedFit) -> SessionRecord:
        """The whole record."""
        return self._record.model_copy(
            update={
                "rounds": tuple(_in_order(opened, result.order) for opened in self._rounds),
                "happenings": tuple(self._happenings),
                "converged": result.fit.converged,
                "ends": result.fit.ends,
                **({"model": model_in_words(result.model)} if result.n_pruned or result.n_merged else {}),
                "seconds": self._hub.now() - self._start,
            }
        )


def _of_candidate(opened: RoundRecord, number: int) -> RoundRecord:
    """A round of models to pick from, as one of the picked model."""
    if not opened.fitted_together:
        return opened
    return opened.model_copy(update={"log_likelihood": opened.fitted_together[number]})


def _in_order(opened: RoundRecord, order: tuple[int, ...] | None) -> RoundRecord:
    """A round of the components that the session ends with, by their final numbers."""
    if order is None or len(opened.weights) != len(order):
        return opened
    weights = tuple(opened.weights[k] for k in order)
    held = tuple(sorted(order.index(k) for k in opened.held))
    return opened.model_copy(update={"weights": weights, "held": held})


def first_record(plan: SessionPlan) -> SessionRecord:
    """The record of a session that has not begun."""
    trust = Trust(plan.terms.trust)
    return SessionRecord(
        title=plan.description.title,
        federation=plan.roster.federation,
        session=plan.terms.session.hex(),
        started=time_in_words(),
        transport=plan.transport,
        trust=trust.label,
        banner=BANNER[trust],
        warnings=warnings_of(plan.terms),
        tenants=tuple(tenant.name for tenant in plan.roster.tenants),
        blocks=_blocks_of(plan),
        columns=plan.description.names,
        model=models_in_words(plan.description.models),
        colluders=plan.terms.colluders,
        minimum_survivors=plan.terms.minimum_survivors,
        pause=plan.timetable.pause,
        mass_floor=plan.terms.mass_floor / 1000,
        privacy=plan.description.privacy,
        centres=plan.description.by_centres and plan.description.starts is not None,
        doubts=plan.doubts,
        stream=plan.description.stream is not None,
        tolerance=plan.stopping.tolerance,
    )


def _blocks_of(plan: SessionPlan) -> tuple[int, ...]:
    if not plan.terms.blocks:
        return ()
    blocks = plan.roster.blocks
    return tuple(next(k for k, block in enumerate(blocks) if index in block) for index in range(plan.roster.n))
