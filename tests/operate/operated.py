"""An operator in virtual time over rows that drift: sums in one place, by the same statistics, in place of a federation."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from fed_em.estimators import GaussianMixture
from fed_em.measured_models import MeasuredModels
from fed_em.measurement import Measurement, measurement_of
from fed_em.model_file import FittedModel, load_model, model_files, save_model
from fed_em.reference import REFERENCE_FILE, broadcast_of
from fed_em.reference_edges import ReferenceEdges
from fed_em_server.operate.drift import Drift
from fed_em_server.operate.operator import Judge, Operator, OperatorWatchers, Plan, Retrained
from fed_em_server.operate.operator_metrics import OperatorMetrics
from fed_em_server.operate.schedule import Schedule
from fed_em_server.operate.trigger import TriggerRule
from fed_em_server.registry import Lineage, Registry, Version
from fed_em_server.registry.canary import decide
from fed_em_server.registry.canary_rule import CanaryRule
from fed_em_server.registry.history import Decision
from fed_em_server.registry.version import MODEL_FOLDER

HOUR = 3600.0
RECORDS = 400
PLAN = Plan(schedule=Schedule(HOUR), rule=TriggerRule(window=10 * HOUR), retry=60.0)
AT_ONCE = replace(PLAN, rule=TriggerRule(k=1, m=1, window=100 * HOUR))


class Killed(BaseException):
    """The process is gone; nothing catches it."""


class Interruptions:
    """Ends the process at the n-th place where it can be killed, counted from 1; 0: never."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.passed = 0

    def __call__(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise Killed


def mixture_rows(n: int, shift: float, generator: np.random.Generator) -> np.ndarray:
    """Two clusters; the second one is `shift` away from where it was."""
    labels = generator.random(n) < 0.5
    rows = generator.standard_normal((n, 2))
    rows[labels] += np.array([4.0 + shift, 0.0])
    return rows


def fitted_to(rows: np.ndarray, components: int = 2) -> FittedModel:
    return GaussianMixture(components, random_state=0, max_iter=30).fit(rows).to_fitted_model()


@cache
def first_model() -> FittedModel:
    """Of rows before they drift."""
    return fitted_to(mixture_rows(2000, 0.0, np.random.default_rng(0)))


class PooledOperations:
    """Implements `Operations`. Every step may be interrupted before it and after it.

    Args:
        now: The virtual clock.
        shift: By how much the rows have drifted, by time.
        here: Called wherever the process may die.
        bad: Whether a retrain comes to a model that is worse.
    """

    def __init__(
        self, now: Callable[[], float], shift: Callable[[float], float], here: Callable[[], None], bad: bool = False
    ) -> None:
        self._now, self._shift, self._here, self._bad = now, shift, here, bad
        self._drawn = 0
        self.sums = self.fits = 0
        self.missing: tuple[str, ...] = ()

    def rows(self) -> np.ndarray:
        """Fresh ones, never the same twice."""
        self._drawn += 1
        return mixture_rows(RECORDS, self._shift(self._now()), np.random.default_rng((7, self._drawn)))

    def measure(self, models: Sequence[FittedModel], edges: ReferenceEdges) -> Measurement:
        self._here()
        asked = broadcast_of(models, edges)
        assert isinstance(asked.model, MeasuredModels)
        self.sums += 1
        statistics = asked.model.e_step(asked.parameters, self.rows())
        self._here()
        return measurement_of(asked.model, models[0].columns, statistics, self.missing)

    def retrain(self, start: Path, folder: Path) -> Path:
        self._here()
        load_model(start)
        output = folder / "session"
        if not (output / "done").exists():
            self.fits += 1
            rows = self.rows() + (5.0 if self._bad else 0.0)
            self._here()
            save_model(output / MODEL_FOLDER, fitted_to(rows))
            self._here()
            (output / "done").touch()
        self._here()
        return output

    def add(self, registry: Registry, output: Path, reason: str) -> Version:
        self._here()
        fitted = load_model(output / MODEL_FOLDER)
        files = {f"{MODEL_FOLDER}/{name}": data for name, data in model_files(fitted).items()}
        files[f"{MODEL_FOLDER}/{REFERENCE_FILE}"] = (output / MODEL_FOLDER / REFERENCE_FILE).read_bytes()
        version = registry.add_files(fitted, files, Lineage.of_model(fitted, ""), reason=reason)
        self._here()
        return version


class Lines:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.scores: list[float] = []
        self.planned: list[bool] = []
        self.decisions: list[Decision] = []
        self.outcomes: list[Retrained] = []

    def said(self, line: str) -> None:
        self.lines.append(line)

    def measured(self, drift: Drift, score: float) -> None:
        assert drift.records[0] > 0
        self.scores.append(score)

    def retraining(self, planned: bool) -> None:
        self.planned.append(planned)

    def compared(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def retrained(self, outcome: Retrained) -> None:
        self.outcomes.append(outcome)


def canary(here: Callable[[], None] = lambda: None) -> Judge:
    rule = CanaryRule(min_records=30)

    def judge(measurement: Measurement, before: Version, candidate: Version) -> tuple[Decision, str]:
        here()
        verdict = decide(rule, measurement, 5)
        return verdict.decision(before, candidate), verdict.reason

    return judge


class World:
    """A registry with one model in use, an operator's folder, and a clock."""

    def __init__(
        self,
        folder: Path,
        shift: Callable[[float], float],
        bad: bool = False,
        plan: Plan = PLAN,
        here: Interruptions | None = None,
    ) -> None:
        self.time = 1e6
        self.plan = plan
        self.here = here or Interruptions()
        self.lines = Lines()
        self.folder = folder / "operate"
        self.metrics = OperatorMetrics(self.folder, folder / "operate.prom", lambda: self.time)
        self.registry = Registry(folder / "registry", lambda: "2026-01-01T00:00:00+00:00", "test")
        self.operations = PooledOperations(lambda: self.time, shift, self.here, bad)
        self.first = self.registry.add(first_model(), Lineage.of_model(first_model(), ""))
        if self.registry.current() is None:
            self.registry.promote(self.first)
        self.operator = self.begin()

    def begin(self) -> Operator:
        """A process that starts anew."""
        judge, watchers = canary(self.here), OperatorWatchers((self.lines, self.metrics))
        return Operator(self.plan, self.folder, self.registry, self.operations, judge, watchers, lambda: self.time)

    def wait(self, seconds: float) -> None:
        self.time += seconds

    def run(self, measurements: int) -> None:
        self.operator.run(self.wait, iter(range(measurements)))

    def in_use(self) -> Version:
        current = self.registry.current()
        assert current is not None
        return current


def run_and_die(folder: Path, place: int) -> None:
    """A process that ends itself as by `kill -9` at the n-th place where it can; with 0, it does not."""

    class Dying(Interruptions):
        def __call__(self) -> None:
            try:
                super().__call__()
            except Killed:
                os.kill(os.getpid(), signal.SIGKILL)

    world = World(folder, lambda time: 1.5 if time > 1e6 else 0.0, plan=AT_ONCE, here=Dying(place))
    world.time = max(world.time, world.operator.state.seen_at)
    world.run(3)


if __name__ == "__main__":
    run_and_die(Path(sys.argv[1]), int(sys.argv[2]))
