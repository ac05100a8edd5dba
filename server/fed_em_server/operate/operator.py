"""The operator's loop: measure, decide, retrain, compare, promote or keep; one step at a time, each kept before the next begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from fed_em.errors import CallerError, FedEmError
from fed_em.measurement import Measurement
from fed_em.model_file import FittedModel, load_model
from fed_em.reference import Reference, edges_of, load_reference, model_digest, save_reference
from fed_em.reference_edges import ReferenceEdges
from fed_em.whole_files import write_whole
from fed_em_client.durable_files import disk_trouble
from fed_em_server.operate.drift import Drift, Thresholds, drift_between
from fed_em_server.operate.operating_state import OperatingState, Phase, TriggerTable, read_state, write_state
from fed_em_server.operate.operations import Operations
from fed_em_server.operate.schedule import Schedule
from fed_em_server.operate.trigger import TriggerRule
from fed_em_server.registry import Registry, Version
from fed_em_server.registry.history import Decided, Decision, Moved
from fed_em_server.registry.version import MODEL_FOLDER

REFERENCES_FOLDER, RETRAINS_FOLDER = "references", "retrains"
PLANNED_RETRAIN_FILE = "planned-retrain"

# Makes of a measurement of the model in use and its candidate what to do, and says why.
Judge = Callable[[Measurement, Version, Version], tuple[Decision, str]]


class Retrained(Enum):
    """What became of a retrain."""

    PROMOTED = "promoted"
    KEPT_OUT = "kept-out"
    FAILED = "failed"
    """An attempt came to no model, and another one is made later."""


class OperatorWatcher(Protocol):
    """Whoever looks on."""

    def said(self, line: str) -> None:
        """What it does, and why."""
        ...

    def measured(self, drift: Drift, score: float) -> None:
        """A measurement of the model in use was held against its reference."""
        ...

    def retraining(self, planned: bool) -> None:
        """A planned retrain begins, or is over: alerts on what it makes slow are to be held back while it lasts."""
        ...

    def compared(self, decision: Decision) -> None:
        """The model in use and the one that a retrain came to were measured side by side, and the canary's rule applied."""
        ...

    def retrained(self, outcome: Retrained) -> None:
        """A retrain, or an attempt at one, is over."""
        ...


@dataclass(frozen=True)
class OperatorWatchers:
    """Several as one, told everything in order. Implements `OperatorWatcher`."""

    watchers: Sequence[OperatorWatcher]

    def said(self, line: str) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.said(line)

    def measured(self, drift: Drift, score: float) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.measured(drift, score)

    def retraining(self, planned: bool) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.retraining(planned)

    def compared(self, decision: Decision) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.compared(decision)

    def retrained(self, outcome: Retrained) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.retrained(outcome)


@dataclass(frozen=True)
class Plan:
    """What an operator goes by.

    Attributes:
        stage: Of the registry: whose version is in use.
        schedule: When it measures.
        thresholds: What drift matters.
        rule: When a retrain is asked for.
        same_tenants: Whether a measurement counts only if the same tenants are in it as in the reference: others have other rows.
        retry: Seconds until a step that failed is tried again.
        private: Whether measurements are sums with noise (`fed_em.reference.edges_of`).
    """

    stage: str = "production"
    schedule: Schedule = field(default_factory=Schedule)
    thresholds: Thresholds = field(default_factory=Thresholds)
    rule: TriggerRule = field(default_factory=TriggerRule)
    same_tenants: bool = True
    retry: float = 900.0
    private: bool = False


class Operator:
    """One model under operation. Only one process at a time may have one (`fed_em_server.operate.operate.operating`).

    Args:
        plan: What it goes by.
        folder: Of its state, its references and its retrains.
        registry: Of the versions.
        operations: What the federation does for it.
        judge: The canary's rule.
        watcher: Who looks on.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        registry: Registry,
        operations: Operations,
        judge: Judge,
        watcher: OperatorWatcher,
        clock: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._registry = registry
        self._operations = operations
        self._judge = judge
        self._watcher = watcher
        self._clock = clock
        self._steps: Mapping[Phase, Callable[[OperatingState], OperatingState]] = {
            Phase.WATCHING: self._watch,
            Phase.RETRAINING: self._retrain,
            Phase.REFERENCING: self._refer,
            Phase.ADDING: self._add,
            Phase.COMPARING: self._compare,
            Phase.DECIDING: self._decide,
        }
        self.state = read_state(folder)
        self._mark(self.state)

    @property
    def due_at(self) -> float:
        """When the next step is due: now, while a retrain is under way."""
        state, now = self.state, self._clock()
        # A clock that was put back must not keep the next measurement off for as long as it was wrong.
        at_once = state.phase is not Phase.WATCHING or now < state.seen_at
        return now if at_once else state.next_at

    def proceed(self) -> None:
        """All steps that are due, one after another.

        Raises:
            FedEmError: a step failed, and is to be tried again later; all before it are kept.
        """
        if self._clock() < self.due_at:
            return
        self._keep(self._steps[self.state.phase](self.state))
        while self.state.phase is not Phase.WATCHING:
            self._keep(self._steps[self.state.phase](self.state))

    def run(self, wait: Callable[[float], None], rounds: Iterator[object]) -> None:
        """Proceed whenever something is due, once for each of `rounds`; a step that fails is tried again after the plan's `retry`.

        Args:
            wait: Waits so many seconds.
            rounds: Endless, but for tests.
        """
        for _ in rounds:
            wait(max(0.0, self.due_at - self._clock()))
            try:
                self.proceed()
            except FedEmError as error:
                self._watcher.said(
                    f"{self.state.phase.value} failed, and is tried again in {self._plan.retry:g} s: {error}"
                )
                wait(self._plan.retry)

    def _keep(self, state: OperatingState) -> None:
        self._mark(state)
        self.state = state.model_copy(update={"seen_at": self._clock()})
        write_state(self._folder, self.state)

    def _mark(self, state: OperatingState) -> None:
        """A file that is there while a retrain is under way, for whoever holds alerts back, and the watcher told of it."""
        path, planned = self._folder / PLANNED_RETRAIN_FILE, state.phase is not Phase.WATCHING
        if planned == path.exists():
            return
        with disk_trouble(path):
            if planned:
                self._folder.mkdir(parents=True, exist_ok=True)
                write_whole(path, f"{state.reason}\n".encode())
            else:
                path.unlink()
        self._watcher.retraining(planned)

    def _watch(self, state: OperatingState) -> OperatingState:
        version = self._in_use()
        if version.id != state.model:
            self._watcher.said(f"{version.name} is in use; what was measured of another model is forgotten")
            renewed = TriggerTable.of(state.trigger.trigger.renewed())
            state = state.model_copy(update={"model": version.id, "trigger": renewed})
        fitted = self._registry.load(version)
        reference = self._reference_of(version)
        if reference is None:
            reference = self._measured_alone(fitted)
            self._keep_reference(version, reference)
            return self._waiting(state, f"took the reference of {version.name}: {_words(reference.measurement)}")
        fresh = self._operations.measure([fitted], reference.edges)
        if self._plan.same_tenants and set(fresh.missing) != set(reference.measurement.missing):
            others = sorted(set(fresh.missing) ^ set(reference.measurement.missing))
            return self._waiting(state, f"measured, and did not count it: other tenants answered ({', '.join(others)})")
        return self._judged(state, version, fitted, reference, fresh)

    def _judged(
        self, state: OperatingState, version: Version, fitted: FittedModel, reference: Reference, fresh: Measurement
    ) -> OperatingState:
        plan, now = self._plan, self._clock()
        drift = drift_between(reference.measurement, fresh, fitted.schema, plan.thresholds.significance)
        score, worst = plan.thresholds.score(drift), plan.thresholds.worst(drift)
        self._watcher.measured(drift, score)
        trigger = state.trigger.trigger.after(plan.rule, score)
        drop = f"drop {drift.drop.value:+.4g} +- {drift.drop_error:.2g}"
        found = f"measured {version.name}: {_words(fresh)}, {drop}, score {score:.3g} ({worst})"
        if not trigger.asks(now):
            why = "no drift that matters" if not trigger.alarmed else "drift, within the quiet window"
            return self._waiting(state.model_copy(update={"trigger": TriggerTable.of(trigger)}), f"{found}: {why}")
        reason = f"{worst}: score {score:.3g} against {version.name}"
        self._watcher.said(f"{found}: drift; retrain {state.retrains + 1} begins")
        return state.model_copy(
            update={
                "phase": Phase.RETRAINING,
                "trigger": TriggerTable.of(trigger.asked(plan.rule, now)),
                "retrains": state.retrains + 1,
                "reason": reason,
                "output": "",
                "candidate": "",
                "decision": None,
                "decided": "",
                "last": found,
            }
        )

    def _retrain(self, state: OperatingState) -> OperatingState:
        start = self._registry.path(self._registry.version(state.model)) / MODEL_FOLDER
        try:
            output = self._operations.retrain(start, self._folder / RETRAINS_FOLDER / str(state.retrains))
        except FedEmError:
            self._watcher.retrained(Retrained.FAILED)
            raise
        self._watcher.said(f"retrain {state.retrains} is done: {output}")
        return state.model_copy(
            update={"phase": Phase.REFERENCING, "output": output.relative_to(self._folder).as_posix()}
        )

    def _refer(self, state: OperatingState) -> OperatingState:
        folder = self._folder / state.output / MODEL_FOLDER
        if load_reference(folder) is None:
            reference = self._measured_alone(load_model(folder))
            save_reference(folder, reference)
            self._watcher.said(f"took the reference of retrain {state.retrains}: {_words(reference.measurement)}")
        return state.model_copy(update={"phase": Phase.ADDING})

    def _add(self, state: OperatingState) -> OperatingState:
        version = self._operations.add(
            self._registry, self._folder / state.output, f"retrain {state.retrains}: {state.reason}"
        )
        self._watcher.said(f"retrain {state.retrains} is {version.name}")
        return state.model_copy(update={"phase": Phase.COMPARING, "candidate": version.id})

    def _compare(self, state: OperatingState) -> OperatingState:
        before, candidate = self._registry.version(state.model), self._registry.version(state.candidate)
        reference = self._reference_of(before)
        models = [self._registry.load(before), self._registry.load(candidate)]
        edges = self._edges_of(models[0]) if reference is None else reference.edges
        decision, said = self._judge(self._operations.measure(models, edges), before, candidate)
        self._watcher.said(f"{candidate.name} against {before.name}: {said}")
        self._watcher.compared(decision)
        return state.model_copy(update={"phase": Phase.DECIDING, "decision": decision, "decided": said})

    def _decide(self, state: OperatingState) -> OperatingState:
        candidate, decision = self._registry.version(state.candidate), state.decision
        assert decision is not None
        before, current = self._registry.version(state.model), self._registry.current(self._plan.stage)
        if current is None:
            return self._kept_out(state, f"{candidate.name} is kept out: {self._plan.stage} was emptied meanwhile")
        if current.id not in (before.id, candidate.id):
            return self._kept_out(state, f"{candidate.name} is kept out: {current.name} was put to use meanwhile")
        if decision.outcome != "promote":
            self._note(decision, state.decided)
            return self._kept_out(state, f"{candidate.name} is kept out: {state.decided}")
        if current.id != candidate.id:
            if self._has_moved(decision):
                return self._kept_out(state, f"{candidate.name} was in use, and somebody went back to {before.name}")
            self._registry.promote(candidate, self._plan.stage, state.decided, expecting=current, decision=decision)
        self._watcher.retrained(Retrained.PROMOTED)
        renewed = TriggerTable.of(state.trigger.trigger.renewed())
        done = state.model_copy(update={"model": candidate.id, "trigger": renewed})
        return self._waiting(done, f"{candidate.name} is in use: {state.decided}")

    def _kept_out(self, state: OperatingState, said: str) -> OperatingState:
        self._watcher.retrained(Retrained.KEPT_OUT)
        return self._waiting(state, said)

    def _has_moved(self, decision: Decision) -> bool:
        """Whether it was carried out, by this process or one that died before it could keep that."""
        moves = (each for each in self._registry.history(self._plan.stage) if isinstance(each, Moved))
        return any(each.decision == decision for each in moves)

    def _note(self, decision: Decision, said: str) -> None:
        """Keep a decision that moves nothing, once."""
        last = self._registry.history(self._plan.stage)[-1:]
        if not any(isinstance(each, Decided | Moved) and each.decision == decision for each in last):
            self._registry.decided(self._plan.stage, decision, said)

    def _waiting(self, state: OperatingState, said: str) -> OperatingState:
        """Until the next measurement."""
        self._watcher.said(said)
        now = self._clock()
        next_at = self._plan.schedule.after(now, state.model)
        return state.model_copy(update={"phase": Phase.WATCHING, "next_at": next_at, "last": said})

    def _in_use(self) -> Version:
        version = self._registry.current(self._plan.stage)
        if version is None:
            raise CallerError(
                f"the registry has no version in {self._plan.stage}",
                remedy="add a model and promote it: `fed-em registry add`, `fed-em registry promote`",
            )
        return version

    def _measured_alone(self, fitted: FittedModel) -> Reference:
        edges = self._edges_of(fitted)
        return Reference(model_digest(fitted), edges, self._operations.measure([fitted], edges))

    def _edges_of(self, fitted: FittedModel) -> ReferenceEdges:
        return edges_of(fitted, private=self._plan.private)

    def _reference_of(self, version: Version) -> Reference | None:
        """The one that its version holds, or the one that was taken here; None if there is neither."""
        places = (self._registry.path(version) / MODEL_FOLDER, self._folder / REFERENCES_FOLDER / version.id)
        found = [reference for reference in map(load_reference, places) if reference is not None]
        for reference in found[:1]:
            reference.require_of(self._registry.load(version))
        return found[0] if found else None

    def _keep_reference(self, version: Version, reference: Reference) -> None:
        folder = self._folder / REFERENCES_FOLDER / version.id
        with disk_trouble(folder):
            folder.mkdir(parents=True, exist_ok=True)
        save_reference(folder, reference)


def _words(measurement: Measurement) -> str:
    return f"{measurement.records:g} records, {measurement.models[0].log_likelihood:.6g} nats a record"
