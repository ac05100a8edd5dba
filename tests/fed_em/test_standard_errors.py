"""Standard errors by outer products of scores: against numerical scores of every record, closed forms, and simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.covariance import COVARIANCE_STRUCTURES
from fed_em.em import Stopping, fit
from fed_em.errors import CallerError
from fed_em.families import build_summand
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.optimiser import L_BFGS, optimiser_for
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.standard_errors import Remark, StandardErrors, standard_errors
from fed_em.statistic_products import StatisticProducts
from fed_em.tenant_mixing import TenantMixing
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]
Mixture = GaussianMixtureModel | MixedMixtureModel

SCHEMA = ColumnSchema(
    (
        GaussianColumn("age"),
        CategoricalColumn("ward", ("north", "south", "west")),
        GaussianColumn("pressure"),
        BernoulliColumn("smoker"),
        PoissonColumn("visits", 30.0),
    )
)


def errors_of(model: Mixture, parameters: Parameters, rows: Vector | Records) -> StandardErrors:
    products = StatisticProducts(model)
    return standard_errors(products, parameters, products.e_step(parameters, rows))


def some_parameters(model: Mixture, seed: int) -> Parameters:
    """Well inside of what is possible, components apart."""
    generator, k = np.random.default_rng(seed), model.n_components
    arrays: dict[str, Vector] = {"weights": generator.dirichlet(np.full(k, 20.0))}
    gaussian = model if isinstance(model, GaussianMixtureModel) else model.gaussian
    if gaussian is not None:
        d = gaussian.n_columns
        arrays["means"] = 2.0 * generator.standard_normal((k, d))
        roots = np.eye(d) + 0.3 * generator.standard_normal((k, d, d))
        full = roots @ np.swapaxes(roots, 1, 2)
        arrays["covariances"] = {
            "full": full,
            "tied": full[0],
            "diag": np.diagonal(full, axis1=1, axis2=2),
            "spherical": full[:, 0, 0],
        }[gaussian.covariance]
    if isinstance(model, MixedMixtureModel):
        levels = [generator.dirichlet(np.full(part.stop - part.start, 5.0), k) for part in model.schema.level_slices]
        arrays["level_probabilities"] = np.concatenate([np.empty((k, 0)), *levels], axis=1)
        arrays["success_probabilities"] = generator.uniform(0.2, 0.8, (k, len(model.schema.bernoulli)))
        arrays["rates"] = generator.uniform(1.0, 6.0, (k, len(model.schema.poisson)))
    return Parameters({name: array for name, array in arrays.items() if array.size})


def free_coordinates(model: Mixture, parameters: Parameters) -> tuple[Vector, Callable[[Vector], Parameters]]:
    """A minimal parametrisation in natural units, other than the one under test: the last weight and level depend on the others."""
    arrays = {name: array.copy() for name, array in parameters.items()}
    slots: list[tuple[str, list[tuple[int, ...]], tuple[int, ...] | None]] = []
    k = model.n_components
    slots += [("weights", [(j,)], (k - 1,)) for j in range(k - 1)]
    for name, array in arrays.items():
        if name in ("weights", "level_probabilities"):
            continue
        for place in np.ndindex(array.shape):
            matrix = name == "covariances" and array.ndim >= 2 and array.shape[-1] == array.shape[-2]
            if name == "covariances" and _is_matrix(model):
                assert matrix
                if place[-2] > place[-1]:
                    continue
                mirrored = (*place[:-2], place[-1], place[-2])
                slots.append((name, sorted({place, mirrored}), None))
            else:
                slots.append((name, [place], None))
    if "level_probabilities" in arrays:
        assert isinstance(model, MixedMixtureModel)
        for component in range(k):
            for part in model.schema.level_slices:
                last = (component, part.stop - 1)
                slots += [("level_probabilities", [(component, j)], last) for j in range(part.start, part.stop - 1)]

    def at(vector: Vector) -> Parameters:
        moved = {name: array.copy() for name, array in arrays.items()}
        for (name, places, dependent), value in zip(slots, vector, strict=True):
            for place in places:
                moved[name][place] = value
            if dependent is not None:
                moved[name][dependent] -= value - arrays[name][places[0]]
        return Parameters(moved)

    return np.array([arrays[name][places[0]] for name, places, _ in slots]), at


def _is_matrix(model: Mixture) -> bool:
    return model.covariance in ("full", "tied")


def errors_by_differences(model: Mixture, parameters: Parameters, records: Records) -> dict[str, Vector]:
    """The same standard errors from central differences of each record's log-density."""
    vector, at = free_coordinates(model, parameters)
    weights = np.ones(len(records)) if records.weights is None else records.weights
    bare = Records(records.rows, admissible=records.admissible)
    step, scores, moves = 1e-5, [], []
    for j in range(len(vector)):
        ahead, behind = vector.copy(), vector.copy()
        ahead[j] += step
        behind[j] -= step
        scores.append((model.log_prob(at(ahead), bare) - model.log_prob(at(behind), bare)) / (2 * step))
        moves.append({name: (at(ahead)[name] - at(behind)[name]) / (2 * step) for name in parameters})
    s = np.array(scores)
    gradient = s @ weights
    inverse = np.linalg.inv((s * weights) @ s.T - np.outer(gradient, gradient) / weights.sum())
    errors = {}
    for name in parameters:
        derivatives = np.stack([move[name].ravel() for move in moves], axis=1)
        variances = np.einsum("ap,pq,aq->a", derivatives, inverse, derivatives)
        errors[name] = np.sqrt(variances).reshape(parameters[name].shape)
    return errors


def rows_of(model: Mixture, parameters: Parameters, n: int, seed: int, missing: float) -> Vector:
    generator = np.random.default_rng(seed)
    rows, _ = model.sample(parameters, n, generator)
    rows[generator.random(rows.shape) < missing] = np.nan
    if isinstance(model, MixedMixtureModel):
        places = model.schema.poisson
        rows[:, places] = np.minimum(rows[:, places], 30.0)
    return rows


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_gaussian_mixtures_against_numerical_scores(structure: str, missing: float) -> None:
    model = GaussianMixtureModel(3, 3, structure, missing=missing > 0)  # type: ignore[arg-type]
    parameters = some_parameters(model, 1)
    rows = rows_of(model, parameters, 300, 2, missing)
    found, expected = errors_of(model, parameters, rows), errors_by_differences(model, parameters, Records(rows))
    for name in parameters:
        np.testing.assert_allclose(found.errors[name], expected[name], rtol=1e-5)
        assert not found.remarks[name].any()
    assert found.records == 300


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_mixed_mixtures_with_missing_cells_labels_and_weights_against_numerical_scores(structure: str) -> None:
    model = MixedMixtureModel(2, SCHEMA, structure)  # type: ignore[arg-type]
    parameters, generator = some_parameters(model, 3), np.random.default_rng(4)
    rows = rows_of(model, parameters, 400, 5, 0.15)
    admissible = np.ones((400, 2), dtype=np.bool_)
    admissible[:40] = np.eye(2, dtype=np.bool_)[generator.integers(2, size=40)]
    records = Records(rows, generator.choice([0.0, 0.5, 2.5], 400), admissible, 4.0)
    found, expected = errors_of(model, parameters, records), errors_by_differences(model, parameters, records)
    for name in parameters:
        np.testing.assert_allclose(found.errors[name], expected[name], rtol=1e-5)
    assert found.records == pytest.approx(records.total_weight)


def test_one_gaussian_has_the_errors_of_textbooks() -> None:
    rows = np.random.default_rng(6).standard_normal((4000, 2)) * [1.0, 3.0] + [2.0, -1.0]
    model = GaussianMixtureModel(1, 2, "diag", covariance_floor=0.0)
    mean, variance = rows.mean(axis=0), rows.var(axis=0)
    parameters = Parameters({"weights": np.ones(1), "means": mean[np.newaxis], "covariances": variance[np.newaxis]})
    found = errors_of(model, parameters, rows)
    # To one part in √n, as the information is an empirical one: σ/√n and σ² √(2/n); and a weight of 1 is certain.
    np.testing.assert_allclose(found.errors["means"][0], np.sqrt(variance / 4000), rtol=0.05)
    np.testing.assert_allclose(found.errors["covariances"][0], variance * np.sqrt(2 / 4000), rtol=0.1)
    assert found.errors["weights"] == 0
    assert found.shift < 1e-10


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_every_product_is_sent_once_and_is_within_its_bound(structure: str, missing: bool) -> None:
    model = GaussianMixtureModel(2, 2, structure, missing=missing)  # type: ignore[arg-type]
    products, parameters = StatisticProducts(model), some_parameters(model, 7)
    rows = np.clip(rows_of(model, parameters, 50, 8, 0.3 if missing else 0.0), -4.0, 4.0)
    statistics = products.e_step(parameters, rows)
    t = products.of_record.of_rows(parameters, rows, model.responsibilities(parameters, rows))
    np.testing.assert_allclose(products.matrix(statistics), t.T @ t, rtol=1e-10, atol=1e-10)
    layout = products.layout(np.array([4.0, 4.0]))
    for row in rows:
        one = products.e_step(parameters, row[np.newaxis], layout)
        for block in layout:
            assert (np.abs(one[block.name]) <= block.bound).all()


def test_products_of_complete_columns_are_their_moments_up_to_the_fourth() -> None:
    # Three pairs of two components, times the monomials of degree 0 to 4 in three columns.
    assert StatisticProducts(GaussianMixtureModel(2, 3)).n_products == 3 * math.comb(3 + 4, 4)
    # Of one binary column in two classes: r r, r r x, r r (1 − x); and not x (1 − x).
    schema = ColumnSchema((BernoulliColumn("b"),))
    assert StatisticProducts(MixedMixtureModel(2, schema)).n_products == 3 * 3


def test_products_of_a_mixed_mixture_against_brute_force() -> None:
    model = MixedMixtureModel(2, SCHEMA)
    products, parameters = StatisticProducts(model), some_parameters(model, 9)
    rows = rows_of(model, parameters, 80, 10, 0.25)
    t = products.of_record.of_rows(parameters, rows, model.responsibilities(parameters, rows))
    statistics = products.e_step(parameters, rows)
    np.testing.assert_allclose(products.matrix(statistics), t.T @ t, rtol=1e-10, atol=1e-10)
    size = t.shape[1]
    assert products.n_products < size * (size + 1) // 2
    assert build_summand(products.describe()) == products


def test_a_weight_counts_as_so_many_rows() -> None:
    model = GaussianMixtureModel(2, 2)
    products, parameters = StatisticProducts(model), some_parameters(model, 11)
    rows = rows_of(model, parameters, 60, 12, 0.0)
    weights = np.tile([0.0, 1.0, 3.0], 20)
    weighted = products.e_step(parameters, Records(rows, weights, weight_bound=3.0))
    repeated = products.e_step(parameters, np.repeat(rows, weights.astype(int), axis=0))
    np.testing.assert_allclose(weighted.vector, repeated.vector, rtol=1e-12)


def test_what_is_on_the_boundary_is_known_and_the_others_errors_are_given_it() -> None:
    schema = ColumnSchema((CategoricalColumn("c", ("a", "b", "c")), BernoulliColumn("b"), PoissonColumn("p", 9.0)))
    model = MixedMixtureModel(1, schema)
    parameters = Parameters(
        {
            "weights": np.ones(1),
            "level_probabilities": np.array([[0.25, 0.75, 0.0]]),
            "success_probabilities": np.ones((1, 1)),
            "rates": np.zeros((1, 1)),
        }
    )
    rows = np.array([[0.0, 1.0, 0.0]] * 25 + [[1.0, 1.0, 0.0]] * 75)
    found = errors_of(model, parameters, rows)
    boundary, none = Remark.BOUNDARY, Remark.NONE
    np.testing.assert_array_equal(found.remarks["level_probabilities"], [[none, none, boundary]])
    error = math.sqrt(0.25 * 0.75 / 100)
    np.testing.assert_allclose(found.errors["level_probabilities"], [[error, error, np.nan]])
    assert found.remarks["success_probabilities"] == found.remarks["rates"] == boundary
    assert np.isnan(found.errors["rates"]).all()


def test_what_the_records_do_not_determine_has_no_number() -> None:
    schema = ColumnSchema((BernoulliColumn("a"), BernoulliColumn("b")))
    model = MixedMixtureModel(2, schema)
    parameters = some_parameters(model, 13)
    # Two classes over two binary columns: five parameters, three frequencies.
    rows = rows_of(model, parameters, 500, 14, 0.0)
    found = errors_of(model, parameters, rows)
    for name in parameters:
        assert (found.remarks[name] == Remark.NOT_IDENTIFIED).all()
        assert np.isnan(found.errors[name]).all()


def test_a_column_that_nobody_shows_leaves_the_errors_of_the_others() -> None:
    schema = ColumnSchema((BernoulliColumn("a"), PoissonColumn("hidden", 9.0)))
    model, rows = MixedMixtureModel(1, schema), np.array([[0.0, np.nan]] * 30 + [[1.0, np.nan]] * 70)
    parameters = Parameters(
        {"weights": np.ones(1), "success_probabilities": np.array([[0.7]]), "rates": np.array([[2.0]])}
    )
    found = errors_of(model, parameters, rows)
    assert found.remarks["rates"] == Remark.NOT_IDENTIFIED
    np.testing.assert_allclose(found.errors["success_probabilities"], math.sqrt(0.21 / 100))


def test_fewer_records_than_parameters_determine_nothing() -> None:
    model = GaussianMixtureModel(2, 3)
    parameters = some_parameters(model, 15)
    found = errors_of(model, parameters, rows_of(model, parameters, 6, 16, 0.0))
    assert (found.remarks["means"] == Remark.NOT_IDENTIFIED).all()


def test_directions_that_the_rounding_of_the_sum_hides_are_not_identified() -> None:
    model = GaussianMixtureModel(1, 1, "full")
    parameters = Parameters({"weights": np.ones(1), "means": np.zeros((1, 1)), "covariances": np.full((1, 1, 1), 1e-4)})
    rows = 1e-2 * np.random.default_rng(17).standard_normal((200, 1))
    products = StatisticProducts(model)
    statistics = products.e_step(parameters, rows)
    fine, coarse = ({block.name: size for block in statistics.layout} for size in (1e-15, 1e-6))
    assert not standard_errors(products, parameters, statistics, fine).remarks["covariances"].any()
    # Fourth moments are about 200 · 3 · 1e-8, and known to 1e-6 only.
    hidden = standard_errors(products, parameters, statistics, coarse)
    assert (hidden.remarks["covariances"] == Remark.NOT_IDENTIFIED).all()


def test_a_covariance_at_the_floor_is_on_the_boundary() -> None:
    model = GaussianMixtureModel(2, 1, "full", covariance_floor=1e-3)
    parameters = Parameters(
        {"weights": np.full(2, 0.5), "means": np.array([[0.0], [4.0]]), "covariances": np.array([[[1e-3]], [[1.0]]])}
    )
    rows = np.concatenate((np.full((20, 1), 1e-4), -np.full((20, 1), 1e-4), rows_of(model, parameters, 60, 18, 0.0)))
    found = errors_of(model, parameters, rows)
    np.testing.assert_array_equal(found.remarks["covariances"].ravel(), [Remark.BOUNDARY, Remark.NONE])


def test_what_there_are_no_errors_of_is_refused() -> None:
    with pytest.raises(CallerError, match="products of 4960 statistics"):
        StatisticProducts(GaussianMixtureModel(10, 30))
    with pytest.raises(CallerError, match="each tenant's own"):
        StatisticProducts(GaussianMixtureModel(2, 2, mixing=TenantMixing()))
    model = GaussianMixtureModel(2, 2)
    with pytest.raises(CallerError, match="not finite"):
        errors_of(model, some_parameters(model, 1), np.array([[np.nan, 1.0]]))
    with pytest.raises(CallerError, match="no record"):
        errors_of(model, some_parameters(model, 1), np.empty((0, 2)))


@pytest.mark.slow
def test_intervals_cover_what_was_simulated() -> None:
    """95 % intervals of 11 parameters in 300 simulated tables.

    Were each exactly 95 %, a parameter's share would be that of a binomial(300, 0.95), of standard deviation 1.26 points, and the mean over
    parameters, at worst all one, no wider. Bounds are four of them for each parameter, and two and a half for the mean: a false
    alarm in about one set of seeds in 75 (11 · 6.3e-5 and 0.0124), and the seeds are fixed.
    """
    truth = Parameters(
        {
            "weights": np.array([0.35, 0.65]),
            "means": np.array([[0.0, 0.0], [3.0, 1.0]]),
            "covariances": np.array([[[1.0, 0.4], [0.4, 1.5]], [[0.8, -0.3], [-0.3, 0.6]]]),
        }
    )
    model, covered = GaussianMixtureModel(2, 2, covariance_floor=0.0), []
    for seed in range(300):
        rows, _ = model.sample(truth, 1500, np.random.default_rng(seed))
        run = fit(model, TotalOfRows(model, rows), truth, Stopping(1e-9, 500))
        errors = errors_of(model, run.parameters, rows).errors
        inside = [np.abs(run.parameters[name] - truth[name]) <= 1.959964 * errors[name] for name in truth]
        covered.append(np.concatenate([array.ravel() for array in inside]))
    shares = np.mean(covered, axis=0)
    assert (np.abs(shares - 0.95) <= 4 * math.sqrt(0.95 * 0.05 / 300)).all(), shares
    assert abs(shares.mean() - 0.95) <= 2.5 * math.sqrt(0.95 * 0.05 / 300)


@pytest.mark.slow
def test_intervals_of_mixed_columns_cover_what_was_simulated() -> None:
    """95 % intervals of 18 entries, 15 of them free, in 300 simulated tables.

    Were each exactly 95 %, an entry's share would be that of a binomial(300, 0.95); bounds are its quantiles of 1e-8 on either side, 0.867
    and 1: a false alarm for one set of seeds in three millions, and the seeds are fixed. Errors that are a quarter too small cover 0.858.
    """
    columns = (
        GaussianColumn("g"), CategoricalColumn("c", ("x", "y", "z")), BernoulliColumn("b"), BernoulliColumn("d"), PoissonColumn("p", 60.0)
    )  # fmt: skip
    model = MixedMixtureModel(2, ColumnSchema(columns), covariance_floor=0.0)
    truth = Parameters(
        {
            "weights": np.array([0.4, 0.6]),
            "means": np.array([[0.0], [1.5]]),
            "covariances": np.array([[[1.0]], [[0.7]]]),
            "level_probabilities": np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]]),
            "success_probabilities": np.array([[0.75, 0.3], [0.35, 0.6]]),
            "rates": np.array([[2.0], [5.0]]),
        }
    )
    covered = []
    for seed in range(300):
        rows, _ = model.sample(truth, 600, np.random.default_rng(seed))
        run = fit(model, TotalOfRows(model, rows), truth, Stopping(1e-8, 200), optimiser=optimiser_for(L_BFGS, model))
        errors = errors_of(model, run.parameters, rows).errors
        inside = [np.abs(run.parameters[name] - truth[name]) <= 1.959964 * errors[name] for name in truth]
        covered.append(np.concatenate([array.ravel() for array in inside]))
    least, most = binom.ppf([1e-8, 1 - 1e-8], 300, 0.95)
    seen = np.sum(covered, axis=0)
    assert ((least <= seen) & (seen <= most)).all(), seen / 300
