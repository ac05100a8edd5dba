"""A rule's decisions: right where they are clear, wrong no more often than it says, and kept in the history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from models import lineage, mixture
from pydantic import ValidationError
from scipy.stats import binom
from small_federation import clustered_rows

from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.measurement import Histogram, Measurement, ModelMeasured, PairedDifference
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em_server.registry import Registry, Version
from fed_em_server.registry.canary import Outcome, apply, baseline_of, decide
from fed_em_server.registry.canary_rule import CanaryRule
from fed_em_server.registry.history import Decided, Moved
from fed_em_simulations import Federation

NO_BINS = Histogram((), (0.0,))


def measured(
    gain: float, deviation: float = 1.0, records: float = 10_000, missing: tuple[str, ...] = ()
) -> Measurement:
    """Differences with this mean and standard deviation; the log-likelihoods vary much more, as they do."""
    models = (ModelMeasured(-3.0, 4.0, NO_BINS), ModelMeasured(-3.0 + gain, 4.0, NO_BINS))
    return Measurement(records, models, {}, missing, None, PairedDifference(gain, deviation**2))


class TestDecisions:
    """At 10000 records and a deviation of 1 a bound with confidence 0.99 is 0.0233 from the gain."""

    @pytest.mark.parametrize(
        ("rule", "gain", "outcome"),
        [
            ({}, 0.03, Outcome.PROMOTE),
            ({}, 0.02, Outcome.KEEP),
            ({}, -0.02, Outcome.KEEP),
            ({}, -0.03, Outcome.ROLL_BACK),
            ({"min_gain": 0.05}, 0.08, Outcome.PROMOTE),
            ({"min_gain": 0.05}, 0.06, Outcome.KEEP),
            # Not good enough for sure, and not worse.
            ({"min_gain": 0.05}, 0.01, Outcome.KEEP),
            ({"min_gain": 0.05}, -0.03, Outcome.ROLL_BACK),
            ({"max_loss": 0.1}, -0.07, Outcome.PROMOTE),
            ({"max_loss": 0.1}, -0.09, Outcome.KEEP),
            ({"max_loss": 0.1}, -0.13, Outcome.ROLL_BACK),
            ({"confidence": 0.9}, 0.0135, Outcome.PROMOTE),
            ({"confidence": 0.9}, 0.0125, Outcome.KEEP),
        ],
    )
    def test_bounds_decide(self, rule: dict[str, float], gain: float, outcome: Outcome) -> None:
        assert decide(CanaryRule(**rule), measured(gain), 9).outcome is outcome  # type: ignore[arg-type]

    def test_too_few_records_or_tenants_decide_nothing(self) -> None:
        rule = CanaryRule(min_records=10_001, max_missing=0.2)
        few = decide(rule, measured(5.0), 9)
        assert (few.outcome, few.reason) == (
            Outcome.KEEP,
            "10000 records are fewer than the 10001 that a decision takes",
        )
        absent = decide(rule, measured(5.0, records=1e6, missing=("ash", "elm")), 9)
        assert absent.outcome is Outcome.KEEP
        assert absent.reason == "2 tenants are missing (ash, elm), 22% of all where 20% may be"
        assert decide(rule, measured(5.0, records=1e6, missing=("ash", "elm")), 10).outcome is Outcome.PROMOTE

    @pytest.mark.parametrize("rule", [{}, {"max_loss": 0.1}])
    def test_where_no_record_differs_nothing_is_proved(self, rule: dict[str, float]) -> None:
        """As where all records are clipped to the low end of the range under both models."""
        verdict = decide(CanaryRule(**rule), measured(0.0, deviation=0.0), 9)  # type: ignore[arg-type]
        assert verdict.outcome is Outcome.KEEP
        assert "no record tells it from" in verdict.reason

    def test_the_reason_has_the_numbers(self) -> None:
        verdict = decide(CanaryRule(), measured(0.03), 9)
        assert verdict.reason == (
            "its gain is +0.03 nats a record over 10000 records, with 0.99 confidence at least +0.006737, where +0 are asked for"
        )
        assert verdict.numbers.lower == pytest.approx(0.03 - 2.3263479 / 100)
        assert verdict.numbers.upper == pytest.approx(0.03 + 2.3263479 / 100)

    def test_a_measurement_of_one_model_decides_nothing(self) -> None:
        with pytest.raises(CallerError, match="of two models"):
            decide(CanaryRule(), Measurement(5.0, measured(0.0).models[:1], {}), 3)

    @pytest.mark.parametrize(
        "rule", [{"min_gain": 0.1, "max_loss": 0.1}, {"min_records": 1}, {"confidence": 0.5}, {"max_missing": 1.0}]
    )
    def test_rules_that_make_no_sense_are_refused(self, rule: dict[str, float]) -> None:
        with pytest.raises(ValidationError):
            CanaryRule(**rule)  # type: ignore[arg-type]


class TestFalseAlarms:
    """1000 measurements of 100 rows each, of a truth that is symmetric and two models that are each other's mirror image.

    So neither is better: the true gain is 0 exactly, whatever the models are. Of 1000 decisions with confidence 0.95 a share of 0.05 is
    wrong each way; the number lies outside of the binomial bounds below with probability 2e-6, where the rule is right.
    """

    RUNS, ROWS, CONFIDENCE = 1000, 100, 0.95
    RULE = CanaryRule(min_records=ROWS, confidence=CONFIDENCE)
    LEAST, MOST = binom.ppf([1e-6, 1 - 1e-6], RUNS, 1 - CONFIDENCE)

    @pytest.fixture(scope="class")
    @classmethod
    def measurements(cls) -> list[Measurement]:
        truth, left, right = _two(0.0, 0.5), _two(-0.1, 0.45), _two(0.1, 0.55)
        rows, _ = truth.sample(cls.RUNS * cls.ROWS, seed=0)
        first, second = (each.score_samples(rows).reshape(cls.RUNS, cls.ROWS) for each in (left, right))
        return [_measured(one, other) for one, other in zip(first, second, strict=True)]

    def counted(self, measurements: list[Measurement], outcome: Outcome) -> int:
        return sum(decide(self.RULE, each, 3).outcome is outcome for each in measurements)

    def test_as_many_as_the_rule_says(self, measurements: list[Measurement]) -> None:
        for outcome in (Outcome.PROMOTE, Outcome.ROLL_BACK):
            assert self.LEAST <= self.counted(measurements, outcome) <= self.MOST

    def test_a_variance_that_is_too_small_is_found(self, measurements: list[Measurement]) -> None:
        halved = [_with_variance(each, each.difference.variance / 2) for each in measurements if each.difference]
        assert self.counted(halved, Outcome.PROMOTE) > self.MOST

    def test_variances_as_of_other_records_for_each_model_are_found(self, measurements: list[Measurement]) -> None:
        """Without pairing, what the records share hides the gain: next to nothing is ever decided."""
        unpaired = [_with_variance(each, sum(model.variance for model in each.models)) for each in measurements]
        assert self.counted(unpaired, Outcome.PROMOTE) < self.LEAST


def _two(shift: float, weight: float) -> FittedModel:
    """Two components at −1.5 and 1.5, moved."""
    arrays = {
        "weights": np.array([1 - weight, weight]),
        "means": np.array([[-1.5 + shift], [1.5 + shift]]),
        "covariances": np.ones((2, 1)),
    }
    return FittedModel(GaussianMixtureModel(2, 1, "diag"), Coordinates.identity(1), ("x",), Parameters(arrays), {})


def _measured(first: np.ndarray, second: np.ndarray) -> Measurement:
    models = tuple(ModelMeasured(float(each.mean()), float(each.var(ddof=1)), NO_BINS) for each in (first, second))
    gain = second - first
    pair = PairedDifference(float(gain.mean()), float(gain.var(ddof=1)))
    return Measurement(float(len(first)), models, {}, (), None, pair)


def _with_variance(measurement: Measurement, variance: float) -> Measurement:
    assert measurement.difference is not None
    pair = PairedDifference(measurement.difference.mean, variance)
    return Measurement(measurement.records, measurement.models, {}, (), None, pair)


class TestInARegistry:
    @pytest.fixture
    def registry(self, tmp_path: Path) -> Registry:
        registry = Registry(tmp_path / "registry")
        for k in range(2):
            registry.add(mixture(float(k)), lineage())
        return registry

    @pytest.fixture
    def versions(self, registry: Registry) -> tuple[Version, Version]:
        first, second = registry.versions()
        registry.promote(first)
        registry.promote(second, "canary")
        return first, second

    def judged(self, registry: Registry, candidate: Version, gain: float) -> str:
        baseline = baseline_of(registry, candidate)
        return apply(registry, baseline, candidate, decide(CanaryRule(), measured(gain), 3))

    def test_a_better_one_is_promoted_and_is_no_canary_any_more(
        self, registry: Registry, versions: tuple[Version, Version]
    ) -> None:
        first, second = versions
        assert "production is version 2" in self.judged(registry, second, 1.0)
        assert registry.current() == second
        assert registry.current("canary") is None
        entry = registry.history()[-1]
        assert isinstance(entry, Moved) and entry.decision is not None
        assert (entry.decision.outcome, entry.decision.baseline, entry.decision.candidate) == (
            "promote",
            first.id,
            second.id,
        )
        assert entry.decision.numbers["gain"] == 1.0
        assert "its gain is +1 nats a record" in entry.reason

    def test_one_that_is_not_proved_stays_a_canary(self, registry: Registry, versions: tuple[Version, Version]) -> None:
        first, second = versions
        assert "production stays version 1" in self.judged(registry, second, 0.001)
        assert (registry.current(), registry.current("canary")) == (first, second)
        entry = registry.history()[-1]
        assert isinstance(entry, Decided) and entry.decision.outcome == "keep"

    def test_a_worse_one_never_comes_into_production(
        self, registry: Registry, versions: tuple[Version, Version]
    ) -> None:
        first, second = versions
        assert "production stays version 1" in self.judged(registry, second, -1.0)
        assert (registry.current(), registry.current("canary")) == (first, None)
        assert isinstance(registry.history()[-1], Decided)

    def test_one_that_proves_worse_in_production_is_rolled_back(
        self, registry: Registry, versions: tuple[Version, Version]
    ) -> None:
        first, second = versions
        registry.promote(second)
        assert baseline_of(registry, second) == first
        assert "production stays version 2" in self.judged(registry, second, 0.5)
        assert "production is version 1" in self.judged(registry, second, -0.5)
        assert registry.current() == first
        assert [entry.kind for entry in registry.history()] == ["promoted", "promoted", "decided", "rolled-back"]

    def test_without_a_baseline_there_is_nothing_to_compare(self, registry: Registry) -> None:
        first, second = registry.versions()
        with pytest.raises(CallerError, match="production is empty"):
            baseline_of(registry, second)
        registry.promote(first)
        with pytest.raises(CallerError, match="the only version that production ever had"):
            baseline_of(registry, first)

    def test_a_stage_that_changed_while_it_was_measured_is_left_alone(
        self, registry: Registry, versions: tuple[Version, Version]
    ) -> None:
        first, second = versions
        third = registry.add(mixture(5.0), lineage())
        verdict = decide(CanaryRule(), measured(1.0), 3)
        registry.promote(third)
        with pytest.raises(CallerError, match="somebody changed it meanwhile"):
            apply(registry, first, second, verdict)
        assert registry.current() == third


def test_a_secure_sum_of_fresh_rows_decides(tmp_path: Path) -> None:
    """Both models are measured by the protocol itself; the candidate is fitted to such rows, the one in use is not."""
    tables = clustered_rows((400, 300, 350), seed=1)
    rows = np.concatenate(list(tables.values()))
    good, poor = _normal(rows.mean(axis=0), np.cov(rows.T)), _normal(rows.mean(axis=0) + 2.0, np.cov(rows.T))
    registry = Registry(tmp_path / "registry")
    first, second = registry.add(poor, lineage(poor)), registry.add(good, lineage(good))
    registry.promote(first)
    measurement = Federation(tables, colluders=0, seed=0).measure([registry.load(first), registry.load(second)])
    verdict = decide(CanaryRule(), measurement, 3)
    gain = good.score_samples(rows).mean() - poor.score_samples(rows).mean()
    assert verdict.outcome is Outcome.PROMOTE
    assert verdict.numbers.gain == pytest.approx(gain, abs=1e-6)
    assert verdict.numbers.records == len(rows)


def _normal(mean: np.ndarray, covariance: np.ndarray) -> FittedModel:
    arrays = {"weights": np.ones(1), "means": mean[np.newaxis], "covariances": covariance[np.newaxis]}
    model = GaussianMixtureModel(1, 3, "full")
    return FittedModel(model, Coordinates.identity(3), ("x0", "x1", "x2"), Parameters(arrays), {})
