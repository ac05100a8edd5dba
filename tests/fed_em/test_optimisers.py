"""Optimisers in the loop: monotone, as good as EM and sooner there, and safe where sums are partial or no numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em import GaussianMixture, LatentClass
from fed_em.chart import ChartedModel
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.em import Fit, Iteration, Step, Stopping, Summed, converged, fit
from fed_em.errors import CallerError, EnvironmentFault, NotEvaluated
from fed_em.evaluation import Evaluation
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.lbfgs import LBFGS
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import Model
from fed_em.observed_moments import ObservedMomentsModel
from fed_em.optimiser import OPTIMISERS, PlainEM, optimiser_for
from fed_em.parameters import Parameters
from fed_em.squarem import Squarem
from fed_em.totals import IncrementalTotal, TotalOfRows
from tests.fed_em import mixtures
from tests.fed_em.test_charts import item_parameters, items
from tests.fed_em.test_mixed_mixture import PRIOR, mixed
from tests.fed_em.test_mixed_mixture import parameters_of as mixed_parameters

Vector = NDArray[np.float64]

ACCELERATED = ("squarem", "lbfgs")
OVERLAPPING = 0.45


def gaussian_case(structure: CovarianceStructure = "full", prior: bool = False) -> tuple[Model, Parameters, Vector]:
    """Three components that overlap much."""
    model = mixtures.mixture(structure, mixtures.PRIOR if prior else None)
    truth = mixtures.parameters_of(structure, spread=OVERLAPPING)
    return model, truth, model.sample(truth, 600, np.random.default_rng(8))[0]


def cases() -> dict[str, tuple[Model, Parameters, Vector]]:
    found = {structure: gaussian_case(structure) for structure in COVARIANCE_STRUCTURES}
    found["prior"] = gaussian_case(prior=True)
    model, truth, rows = gaussian_case()
    holes = np.where(np.random.default_rng(1).random(rows.shape) < 0.15, np.nan, rows)
    assert isinstance(model, GaussianMixtureModel)
    found["missing cells"] = (replace(model, missing=True), truth, holes[:250])
    mixture = mixed("full", PRIOR)
    found["mixed"] = (mixture, mixed_parameters(), mixture.sample(mixed_parameters(), 200, np.random.default_rng(3))[0])
    classes = items(prior=True)
    found["latent classes"] = (
        classes,
        item_parameters(),
        classes.sample(item_parameters(), 500, np.random.default_rng(4))[0],
    )
    return found


CASES = cases()


def run(model: Model, rows: Vector, start: Parameters, name: str, tolerance: float = 1e-10, most: int = 20_000) -> Fit:
    optimiser = optimiser_for(name, model)
    return fit(model, TotalOfRows(model, rows), start, Stopping(tolerance, most), optimiser=optimiser)


@cache
def by_em(case: str) -> Fit:
    return run(*CASES[case][::2], CASES[case][1], "em")


def objective(model: Model, parameters: Parameters, rows: Vector) -> float:
    return (float(model.log_prob(parameters, rows).sum()) + model.log_prior(parameters)) / len(rows)


@pytest.mark.parametrize("name", ACCELERATED)
@pytest.mark.parametrize(
    "case", [pytest.param(each, marks=pytest.mark.slow) if each == "missing cells" else each for each in CASES]
)
def test_it_rises_to_the_optimum_of_em_and_sooner(case: str, name: str) -> None:
    model, start, rows = CASES[case]
    ours, theirs = run(model, rows, start, name), by_em(case)
    assert ours.converged and theirs.converged
    risen = [i.objective for i in ours.iterations if i.step.is_gone_on_from]
    assert np.diff(risen).min() > -1e-12
    assert any(i.step is Step.LEAP for i in ours.iterations)
    assert objective(model, ours.parameters, rows) > objective(model, theirs.parameters, rows) - 1e-7
    assert len(ours.iterations) < len(theirs.iterations)


def test_lbfgs_needs_a_tenth_of_the_rounds_where_em_is_slow() -> None:
    model, start, rows = CASES["full"]
    ours, theirs = run(model, rows, start, "lbfgs"), by_em("full")
    assert len(theirs.iterations) > 300
    assert len(ours.iterations) * 10 < len(theirs.iterations)


def test_plain_em_is_chosen_by_name_and_by_default() -> None:
    model, start, rows = gaussian_case()
    total = TotalOfRows(model, rows)
    named = run(model, rows, start, "em", most=40)
    unnamed = fit(model, total, start, Stopping(1e-10, 40))
    parameters = start
    for one, other in zip(named.iterations, unnamed.iterations, strict=True):
        parameters = model.m_step(total(parameters).statistics, parameters)
        assert one.parameters.distance(parameters) == other.parameters.distance(parameters) == 0.0
        assert one.step is other.step is Step.EM


def test_the_same_input_takes_the_same_steps() -> None:
    model, start, rows = gaussian_case()
    first, second = run(model, rows, start, "lbfgs"), run(model, rows, start, "lbfgs")
    assert first.parameters.distance(second.parameters) == 0.0
    assert [i.objective for i in first.iterations] == [i.objective for i in second.iterations]


def test_an_optimiser_is_a_frozen_state() -> None:
    model, start, rows = gaussian_case()
    assert isinstance(model, ChartedModel)
    fresh = LBFGS(model)
    run_1 = fit(model, TotalOfRows(model, rows), start, Stopping(1e-8, 60), optimiser=fresh)
    run_2 = fit(model, TotalOfRows(model, rows), start, Stopping(1e-8, 60), optimiser=fresh)
    assert fresh.best is None and fresh.memory == ()
    assert run_1.parameters.distance(run_2.parameters) == 0.0


def after_leaps(
    model: Model, rows: Vector, spoil: Callable[[Summed], Summed], leaps: range
) -> Callable[[Parameters], Summed]:
    """A total that spoils what is evaluated at some of the leaps; an EM point it knows by its own M-step."""
    total, points, number = TotalOfRows(model, rows), [gaussian_case()[1]], iter(range(10**6))

    def summed(parameters: Parameters) -> Summed:
        good = total(parameters)
        leap = all(parameters.distance(point) > 0 for point in points)
        points.append(model.m_step(good.statistics, parameters))
        return spoil(good) if leap and next(number) in leaps else good

    return summed


def no_number(summed: Summed) -> Summed:
    summed.statistics["log_likelihood"][...] = np.nan
    return summed


def no_statistics(summed: Summed) -> Summed:
    raise NotEvaluated("a row is far from everything")


def much_less(summed: Summed) -> Summed:
    summed.statistics["log_likelihood"][...] -= 1e6
    return summed


@pytest.mark.parametrize("name", ACCELERATED)
@pytest.mark.parametrize("spoil", [no_number, no_statistics, much_less])
def test_after_leaps_that_fail_it_goes_on_from_the_em_point(spoil: Callable[[Summed], Summed], name: str) -> None:
    model, start, rows = gaussian_case()
    most = 40
    total = after_leaps(model, rows, spoil, range(10**6))
    spoilt = fit(model, total, start, Stopping(0.0, most), optimiser=optimiser_for(name, model))
    plain = run(model, rows, start, "em", 0.0, most)
    # Every leap fails, so what is left are EM's own iterations, in their order.
    left = [i for i in spoilt.iterations if i.step.is_gone_on_from]
    assert 10 < len(left) < most
    for ours, theirs in zip(left, plain.iterations, strict=False):
        assert ours.objective == theirs.objective
        assert ours.parameters.distance(theirs.parameters) == 0.0
    assert all(i.step is Step.EM for i in left)
    assert spoilt.parameters.distance(left[-1].parameters) == 0.0


def test_it_recovers_from_leaps_that_fail() -> None:
    model, start, rows = gaussian_case()
    for spoil in (no_number, no_statistics, much_less):
        total = after_leaps(model, rows, spoil, range(3, 6))
        ours = fit(model, total, start, Stopping(1e-10, 2000), optimiser=optimiser_for("lbfgs", model))
        assert ours.converged
        assert objective(model, ours.parameters, rows) > objective(model, by_em("full").parameters, rows) - 1e-7


def test_what_is_wrong_at_an_em_point_is_an_error_still() -> None:
    model, start, rows = gaussian_case()
    with pytest.raises(NotEvaluated, match="iteration 1"):
        fit(
            model,
            lambda p: no_number(TotalOfRows(model, rows)(p)),
            start,
            Stopping(),
            optimiser=optimiser_for("lbfgs", model),
        )


@pytest.mark.parametrize("error", [CallerError("wrong"), EnvironmentFault("no network")])
def test_errors_that_are_no_fault_of_a_leap_are_not_swallowed(error: Exception) -> None:
    model, start, rows = gaussian_case()

    def fail(summed: Summed) -> Summed:
        raise error

    total = after_leaps(model, rows, fail, range(10**6))
    with pytest.raises(type(error)):
        fit(model, total, start, Stopping(0.0, 40), optimiser=optimiser_for("lbfgs", model))


class TestPartialSums:
    PARTS = 4

    def partly(self, absent: range, most: int, tolerance: float = 0.0) -> Fit:
        """Four parties, one of which does not answer some of the sums."""
        model, start, rows = gaussian_case()
        names = [f"p{i}" for i in range(self.PARTS)]
        parts = dict(zip(names, np.array_split(rows, self.PARTS), strict=True))
        total = IncrementalTotal(model, parts, lambda number: names[number in absent :])
        return fit(model, total, start, Stopping(tolerance, most), optimiser=optimiser_for("lbfgs", model))

    def test_partial_rounds_pause_it_and_say_so(self) -> None:
        steps = [i.step for i in self.partly(range(3, 40), 30).iterations]
        assert steps == [Step.EM] * 2 + [Step.PAUSED] * 28

    def test_it_is_incremental_em_then(self) -> None:
        ours = self.partly(range(3, 40), 30)
        model, start, rows = gaussian_case()
        names = [f"p{i}" for i in range(self.PARTS)]
        parts = dict(zip(names, np.array_split(rows, self.PARTS), strict=True))
        total = IncrementalTotal(model, parts, lambda number: names[number in range(3, 40) :])
        theirs = fit(model, total, start, Stopping(0.0, 30))
        assert ours.parameters.distance(theirs.parameters) == 0.0

    def test_a_leap_into_a_partial_round_is_abandoned_for_the_em_point(self) -> None:
        whole = self.partly(range(0), 30)
        first = next(i for i in whole.iterations if i.step is Step.LEAP)
        seen = self.partly(range(first.number, first.number + 3), 30).iterations
        known = seen[first.number - 2]
        at = seen[first.number - 1]
        assert at.step is Step.ABANDONED
        assert at.parameters.distance(known.parameters) == 0.0
        # Then two paused rounds, and the warm-up anew.
        later = [i.step for i in seen[first.number :]]
        assert later[:5] == [Step.PAUSED] * 2 + [Step.EM] * 3
        assert Step.LEAP in later

    def test_it_gets_to_the_same_optimum_in_the_end(self) -> None:
        model, _, rows = CASES["full"]
        ours = self.partly(range(9, 14), 400, 1e-10)
        assert ours.converged
        best = objective(model, by_em("full").parameters, rows)
        assert objective(model, ours.parameters, rows) > best - 1e-7

    def test_held_components_and_missing_parties_pause_it_too(self) -> None:
        model, start, rows = gaussian_case()
        for partial in ({"held": (1,)}, {"missing": ("p1",)}):

            def total(parameters: Parameters, partial: dict[str, tuple[object, ...]] = partial) -> Summed:
                return replace(TotalOfRows(model, rows)(parameters), **partial)

            ours = fit(model, total, start, Stopping(0.0, 12), optimiser=optimiser_for("lbfgs", model))
            assert {i.step for i in ours.iterations} == {Step.PAUSED}


def iterations_of(*steps: tuple[Step, float]) -> list[Iteration]:
    parameters = gaussian_case()[1]
    return [
        Iteration(number, value, value, 100.0, (), (), (), parameters, step)
        for number, (step, value) in enumerate(steps, 1)
    ]


def test_refused_proposals_are_no_evidence_and_one_small_leap_is_not_enough() -> None:
    em, leap, refused = Step.EM, Step.LEAP, Step.REFUSED
    assert converged(iterations_of((em, -2.0), (em, -2.0)), 1e-6)
    assert not converged(iterations_of((em, -2.0), (refused, -2.0)), 1e-6)
    assert not converged(iterations_of((em, -2.5), (em, -2.0), (leap, -2.0)), 1e-6)
    assert converged(iterations_of((em, -2.0), (leap, -2.0), (refused, -3.0), (leap, -2.0)), 1e-6)
    assert converged(iterations_of((leap, -2.0), (refused, -3.0), (em, -2.0)), 1e-6)


def test_models_without_charts_and_unknown_names() -> None:
    assert OPTIMISERS == ("em", "squarem", "lbfgs")
    assert isinstance(optimiser_for("lbfgs", ObservedMomentsModel(2)), PlainEM)
    with pytest.raises(CallerError, match=r"lbgfs.*lbfgs"):
        optimiser_for("lbgfs", mixtures.mixture("full"))


def test_squarem_leaps_as_published() -> None:
    # By hand: θ' = θ₀ − 2αr + α²v in the chart about θ₀.
    model, start, rows = gaussian_case()
    assert isinstance(model, ChartedModel)
    seen, parameters = [], start
    for _ in range(2):
        statistics = model.e_step(parameters, rows)
        updated = model.m_step(statistics, parameters)
        seen.append(Evaluation(parameters, statistics, float(statistics["log_likelihood"]) / len(rows), updated))
        parameters = updated
    chart = model.chart(start)
    zero, one, two = chart.vector(start), chart.vector(seen[1].parameters), chart.vector(parameters)
    r, v = one - zero, two - 2 * one + zero
    alpha = -np.linalg.norm(r) / np.linalg.norm(v)
    assert alpha < -1
    state = Squarem(model).risen(seen[0]).risen(seen[1])
    assert state.proposal is not None
    expected = chart.parameters(zero - 2 * alpha * r + alpha**2 * v)
    assert state.proposal.distance(expected) < 1e-12


def test_a_component_on_the_floor_falls_back_to_em() -> None:
    # Four equal rows take a component for themselves: its covariance has nothing but the floor, and there is no chart.
    model = GaussianMixtureModel(2, 1, "full", covariance_floor=1e-6)
    rows = np.concatenate((np.random.default_rng(0).normal(0, 1, (60, 1)), np.full((4, 1), 9.0)))
    start = Parameters({"weights": [0.5, 0.5], "means": [[0.0], [9.0]], "covariances": [[[1.0]], [[0.1]]]})
    ours, theirs = run(model, rows, start, "lbfgs", 1e-9), run(model, rows, start, "em", 1e-9)
    assert ours.converged
    assert ours.parameters["covariances"][1, 0, 0] < 1e-5
    assert objective(model, ours.parameters, rows) > objective(model, theirs.parameters, rows) - 1e-6


def test_maximum_likelihood_on_the_edge_of_the_simplex() -> None:
    # One class never shows a level: EM goes there for ever, and nothing may become no number on the way.
    model = MixedMixtureModel(2, items(prior=False).schema)
    truth = item_parameters()
    levels = truth["level_probabilities"][:2].copy()
    levels[0, :2], levels[1, 2:5] = (1.0, 0.0), (0.0, 0.3, 0.7)
    edge = Parameters({"weights": [0.4, 0.6], "level_probabilities": levels})
    rows, _ = model.sample(edge, 300, np.random.default_rng(2))
    start = Parameters({"weights": [0.5, 0.5], "level_probabilities": truth["level_probabilities"][:2]})
    ours, theirs = run(model, rows, start, "lbfgs"), run(model, rows, start, "em")
    assert objective(model, ours.parameters, rows) > objective(model, theirs.parameters, rows) - 1e-6


def test_estimators_choose_by_name() -> None:
    rows = CASES["full"][2][:300]
    fits = {
        name: GaussianMixture(3, optimiser=name, tol=1e-8, max_iter=2000, random_state=0).fit(rows)
        for name in OPTIMISERS
    }
    assert fits["lbfgs"].converged_
    assert fits["lbfgs"].n_iter_ * 3 < fits["em"].n_iter_
    assert fits["lbfgs"].lower_bound_ > fits["em"].lower_bound_ - 1e-6
    table = items(prior=True).sample(item_parameters(), 200, np.random.default_rng(4))[0]
    classes = {
        name: LatentClass(3, optimiser=name, n_init=2, tol=1e-8, random_state=0).fit(table) for name in ("em", "lbfgs")
    }
    assert classes["lbfgs"].lower_bound_ > classes["em"].lower_bound_ - 1e-5
    for estimator in (GaussianMixture(2, optimiser="newton"), LatentClass(2, optimiser="newton")):
        with pytest.raises(CallerError, match="newton"):
            estimator.fit(rows if isinstance(estimator, GaussianMixture) else table)
