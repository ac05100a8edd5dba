"""Candidates in one payload, and starts by sums only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em.candidates import Candidates
from fed_em.columns import CategoricalColumn, Column, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.divergence import hausdorff_distance
from fed_em.em import Stopping, Summed, fit
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.lloyd import guarded
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import MixedMomentsModel, standard_columns
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.starts import EM_ROUNDS, GENERATION_ROUNDS, LLOYD_ROUNDS, ROUNDS, Start, StartRound, best_starts, rounds_of
from fed_em.statistics import Statistics
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]


def grid_of_clusters() -> tuple[Vector, Vector]:
    """Eight clusters at the corners of a cuboid, standardised, and their centres."""
    generator = np.random.default_rng(4)
    corners = np.array(np.meshgrid([-4.0, 4.0], [-3.0, 3.0], [-5.0, 5.0])).reshape(3, -1).T
    rows = np.repeat(corners, 60, axis=0) + generator.standard_normal((480, 3))
    location, scale = rows.mean(axis=0), rows.std(axis=0)
    return (rows - location) / scale, (corners - location) / scale


def moments_of(rows: Vector) -> Parameters:
    one, gaussian = moments_model(rows.shape[1]), standard_gaussian(rows.shape[1])
    return one.m_step(one.e_step(gaussian, rows), gaussian)


def start_of(
    model: GaussianMixtureModel, rows: Vector, seed: int = 0, n_starts: int = 4, generations: int = 0
) -> Start:
    moments = moments_of(rows)
    return best_starts(
        [model], lambda candidates: TotalOfRows(candidates, rows), moments, seed, n_starts, generations=generations
    )[0]


def pairs_of_clusters() -> tuple[Vector, Vector]:
    """Two pairs of clusters along a line, standardised, and their centres."""
    centres = np.array([[-6.0, -6.0], [-3.0, -3.5], [3.0, 3.0], [6.0, 6.5]])
    rows = np.repeat(centres, 80, axis=0) + 0.4 * np.random.default_rng(5).standard_normal((320, 2))
    location, scale = rows.mean(axis=0), rows.std(axis=0)
    return (rows - location) / scale, (centres - location) / scale


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_the_split_start_cuts_the_longest_axis_first_whatever_the_seed(structure: CovarianceStructure) -> None:
    rows, centres = pairs_of_clusters()
    model = GaussianMixtureModel(4, 2, structure)
    start, other = (start_of(model, rows, seed, n_starts=1) for seed in (0, 1))
    assert start.objectives[-1] == other.objectives[-1]
    assert start.objectives[-1] == pytest.approx(max(*start.objectives, *other.objectives), rel=1e-6)
    for centre in centres:
        assert np.linalg.norm(start.parameters["means"] - centre, axis=1).min() < 0.1
    np.testing.assert_allclose(start.parameters["weights"], 1 / 4, atol=0.02)


def test_the_best_goes_on_and_seeds_reproduce() -> None:
    rows, _ = grid_of_clusters()
    model = GaussianMixtureModel(8, 3)
    one, again, other = (start_of(model, rows, seed) for seed in (0, 0, 1))
    assert one.parameters.distance(again.parameters) == 0.0
    assert one.objectives == again.objectives != other.objectives
    assert len(one.objectives) == 5 and len(set(one.objectives)) > 2
    first = fit(model, TotalOfRows(model, rows), one.parameters, Stopping(1e-6, 1)).iterations[0]
    assert first.objective == pytest.approx(max(one.objectives), abs=1e-3)


def test_others_are_unlike_the_best_and_each_other() -> None:
    """Two of these candidates find the four clusters, and count once."""
    rows, _ = pairs_of_clusters()
    model = GaussianMixtureModel(4, 2)
    start = start_of(model, rows, n_starts=6)
    best, points = max(start.objectives), [start.parameters, *start.others]
    assert sum(objective > best - 1e-6 for objective in start.objectives) == 2
    assert len(points) > 2
    assert min(hausdorff_distance(model, one, other) for one, other in combinations(points, 2)) > 0.08
    total = TotalOfRows(model, rows)
    ends = [fit(model, total, each, Stopping(1e-6, 1)).iterations[0].objective for each in points]
    assert ends == sorted(ends, reverse=True) and ends[1] < best - 0.1


def test_a_start_takes_eighteen_sums_and_only_sums() -> None:
    rows, _ = grid_of_clusters()
    model = GaussianMixtureModel(8, 3)
    payloads: list[Statistics] = []

    def total_for(candidates: Candidates) -> TotalOfRows:
        counted = TotalOfRows(candidates, rows)

        def total(parameters: Parameters) -> Summed:
            candidates.validate(parameters)
            summed = counted(parameters)
            payloads.append(summed.statistics)
            return summed

        return total  # type: ignore[return-value]

    best_starts([model], total_for, moments_of(rows), 0, 3)
    assert len(payloads) == LLOYD_ROUNDS + EM_ROUNDS == 18
    assert {payload.vector.size for payload in payloads} == {4 * (model.layout().size - 1) + 1}


def test_generations_go_on_looking_where_starts_found_little() -> None:
    """Of two starts and the split one none finds all eight of these clusters by itself."""
    rows, centres = grid_of_clusters()
    model = GaussianMixtureModel(8, 3)
    for seed in range(3):
        few, more = (start_of(model, rows, seed, 5, generations) for generations in (0, 3))
        assert max(more.objectives) >= max(few.objectives) - 1e-9
        assert len(more.objectives) == len(few.objectives)
        for centre in centres:
            assert np.linalg.norm(more.parameters["means"] - centre, axis=1).min() < 0.15
    again = start_of(model, rows, 2, 5, 3)
    assert again.parameters.distance(more.parameters) == 0.0


def test_columns_without_numbers_climb_on_through_generations() -> None:
    model, truth = mixed_of("cccc")
    rows, _ = model.sample(truth, 200, np.random.default_rng(2))
    seen: list[StartRound] = []
    best_starts(
        [model], lambda c: TotalOfRows(c, rows), mixed_moments_of(model, rows), 0, 2, seen.append, generations=1
    )
    assert len(seen) == rounds_of(1) == ROUNDS + GENERATION_ROUNDS
    climbed = np.array([each.objectives for each in seen[LLOYD_ROUNDS:]])
    assert (np.diff(climbed, axis=0) > -1e-3).all(), "under a prior that is not this objective's"


def test_no_start_collapses_on_a_value_that_is_often_repeated() -> None:
    generator = np.random.default_rng(0)
    rows = np.concatenate((generator.standard_normal((100, 2)), np.full((30, 2), 0.7)))
    start = start_of(GaussianMixtureModel(3, 2, covariance_floor=0.0), (rows - rows.mean(axis=0)) / rows.std(axis=0))
    assert np.isfinite(start.objectives).all()
    assert np.linalg.eigvalsh(start.parameters["covariances"]).min() > 1e-3


@pytest.mark.parametrize(("seed", "n_starts", "named"), [(-1, 2, "seed"), (0, 0, "n_starts")])
def test_impossible_numbers_are_refused(seed: int, n_starts: int, named: str) -> None:
    rows, _ = grid_of_clusters()
    with pytest.raises(CallerError, match=named):
        start_of(GaussianMixtureModel(8, 3), rows, seed, n_starts)


@pytest.mark.parametrize("count", [0.0, -1.0])
def test_a_sum_of_no_records_is_named(count: float) -> None:
    """As whoever sends any numbers for its own can bring about."""
    rows, _ = pairs_of_clusters()

    def total_for(candidates: Candidates) -> Callable[[Parameters], Summed]:
        layout = candidates.layout()
        return lambda _: Summed(Statistics(layout, np.full(layout.size, count)))

    with pytest.raises(CallerError, match="summed no records at all"):
        best_starts([GaussianMixtureModel(2, 2)], total_for, moments_of(rows), 0, 2)


def mixed_of(kinds: str, n_components: int = 3) -> tuple[MixedMixtureModel, Parameters]:
    """A mixture over columns of some kinds ("g", "c", "p"), and parameters of well separated components."""
    made: dict[str, Column] = {
        "g": GaussianColumn("g"),
        "c": CategoricalColumn("c", tuple("uvw")),
        "p": PoissonColumn("p", 60),
    }
    places = np.arange(n_components)
    arrays: dict[str, Vector] = {"weights": np.full(n_components, 1 / n_components)}
    if "g" in kinds:
        arrays |= {"means": 6.0 * places[:, None] - 6.0, "covariances": np.ones((n_components, 1, 1))}
    n_levels = kinds.count("c")
    if n_levels:
        arrays["level_probabilities"] = np.tile(np.where(np.eye(3)[places % 3] == 1, 0.9, 0.05), (1, n_levels))
    if "p" in kinds:
        arrays["rates"] = 1.0 + 12.0 * places[:, None]
    columns = [replace(made[kind], name=f"{kind}{d}") for d, kind in enumerate(kinds)]
    return MixedMixtureModel(n_components, ColumnSchema(tuple(columns))), Parameters(arrays)


def mixed_moments_of(model: MixedMixtureModel, rows: Vector) -> Parameters:
    one, standard = MixedMomentsModel(model.schema), standard_columns(model.schema)
    return one.m_step(one.e_step(standard, rows), standard)


@pytest.mark.parametrize("kinds", ["gcp", "cccccc", "cpc"])
def test_mixed_columns_with_holes_lead_to_the_components_that_they_were_drawn_from(kinds: str) -> None:
    """Or to components that explain the rows better than these do."""
    model, truth = mixed_of(kinds)
    generator = np.random.default_rng(8)
    rows, _ = model.sample(truth, 600, generator)
    if kinds.startswith("g"):
        rows[:, 0] = (rows[:, 0] - rows[:, 0].mean()) / rows[:, 0].std()
    rows[generator.random(rows.shape) < 0.05] = np.nan
    total = TotalOfRows(model, rows)
    moments, ends = mixed_moments_of(model, rows), []
    for seed in range(2):
        start = best_starts([model], lambda candidates: TotalOfRows(candidates, rows), moments, seed, 4)[0]
        ends.append(fit(model, total, start.parameters, Stopping(1e-8, 300)).iterations[-1].objective)
    assert ends[0] == pytest.approx(ends[1], abs=1e-5)
    if kinds.startswith("g"):
        found = np.sort(start.parameters["means"][:, 0])
        assert np.all(np.diff(found) > 0.8)
    else:
        assert min(ends) >= model.log_prob(truth, rows).mean()


def test_several_models_start_together_as_each_does_alone() -> None:
    rows, _ = grid_of_clusters()
    models = [GaussianMixtureModel(k, 3, structure) for k, structure in ((2, "full"), (8, "full"), (3, "diag"))]
    seen: list[StartRound] = []

    def sums(candidates: Candidates) -> TotalOfRows:
        return TotalOfRows(candidates, rows)

    starts = best_starts(models, sums, moments_of(rows), 3, 2, seen.append, 1)
    for model, start in zip(models, starts, strict=True):
        alone = start_of(model, rows, 3, 2, 1)
        assert start.parameters.distance(alone.parameters) < 1e-12
        assert start.objectives == pytest.approx(alone.objectives, abs=1e-12)
    assert [each.number for each in seen] == list(range(1, rounds_of(1) + 1))
    assert [len(each.objectives) for each in seen] == [0] * LLOYD_ROUNDS + [9] * (EM_ROUNDS + GENERATION_ROUNDS)
    assert seen[-1].objectives == sum((start.objectives for start in starts), ())


def test_what_has_a_prior_of_its_own_keeps_it_and_the_rest_is_guarded() -> None:
    model, truth = mixed_of("gcp")
    rows, _ = model.sample(truth, 50, np.random.default_rng(1))
    moments = mixed_moments_of(model, rows)
    weak, own = guarded(model, moments).prior, MixedMixturePrior(level_records=5.0, weight_concentration=2.0)
    kept = guarded(replace(model, prior=own), moments).prior
    assert isinstance(weak, MixedMixturePrior) and isinstance(kept, MixedMixturePrior)
    assert (kept.level_records, kept.weight_concentration) == (5.0, 2.0)
    assert kept.gaussian == weak.gaussian and kept.poisson_rates == weak.poisson_rates == (moments["rates"][0, 0],)
    assert guarded(replace(model, prior=weak), moments).prior == weak


def test_labels_say_which_component_is_which() -> None:
    rows, centres = grid_of_clusters()
    corner = np.repeat(np.arange(8), 60)
    told = np.arange(480) % 6 == 0
    admissible = np.where(told[:, None], np.eye(8, dtype=bool)[corner], True)
    records, model = Records(rows, admissible=admissible), GaussianMixtureModel(8, 3)
    start = best_starts([model], lambda candidates: TotalOfRows(candidates, records), moments_of(rows), 0, 4)[0]
    np.testing.assert_allclose(start.parameters["means"], centres, atol=0.1)


def test_hundreds_of_columns_stay_within_the_declared_bound_of_a_log_density() -> None:
    """At one tenth of a standard deviation rows of 400 columns would be beyond half of it."""
    rows = np.random.default_rng(0).standard_normal((60, 400))
    model, bounds = GaussianMixtureModel(2, 400, "diag"), []

    def total_for(candidates: Candidates) -> TotalOfRows:
        bounds.append(candidates.layout()["0.log_likelihood"].bound)
        return TotalOfRows(candidates, rows)

    watched: list[float] = []

    def watching(candidates: Candidates) -> Callable[[Parameters], Summed]:
        inner = total_for(candidates)

        def total(parameters: Parameters) -> Summed:
            summed = inner(parameters)
            watched.extend(
                abs(float(each["log_likelihood"])) / 60 for each in candidates.statistics_of(summed.statistics)
            )
            return summed

        return total

    moments = Parameters({"weights": np.ones(1), "means": np.zeros((1, 400)), "covariances": np.eye(400)[None]})
    best_starts([model], watching, moments, 0, 1)
    assert max(watched) < bounds[0] / 2
