"""Gaussian mixtures of records with missing cells: by definition, against a plain EM, and where others are biased."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from fed_em import GaussianMixture
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure, covariance_matrices, unvech
from fed_em.em import Stopping, fit
from fed_em.errors import CallerError, FedEmError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.missing_gaussian import GaussianComponents
from fed_em.model import COUNT, LOG_LIKELIHOOD, MISSING_ENTROPY
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.records import Records
from fed_em.totals import TotalOfRows
from fed_em_protocols.encoding import Encoding
from tests.fed_em.test_gaussian_densities import CASES, rows_near, scaled
from tests.fed_em.test_gaussian_mixture import PRIOR, GaussianMixtureConformance, components, two_components

Vector = NDArray[np.float64]

EVERY_STRUCTURE = pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)


def blanked(rows: Vector, share: float = 0.2, seed: int = 11) -> Vector:
    """The rows with a share of their cells missing completely at random."""
    return np.where(np.random.default_rng(seed).random(rows.shape) < share, np.nan, rows)


def incomplete(structure: CovarianceStructure, prior: GaussianMixturePrior | None = None) -> GaussianMixtureModel:
    return GaussianMixtureModel(2, 3, structure, covariance_floor=0.0, prior=prior, missing=True)


class IncompleteConformance(GaussianMixtureConformance):
    def model(self) -> GaussianMixtureModel:
        return incomplete(self.structure, self.prior)

    def rows(self, n: int, seed: int = 7) -> Vector:
        return blanked(super().rows(n, seed))

    def log_density_by_definition(self, parameters: Parameters, row: Vector) -> float:
        seen = np.flatnonzero(~np.isnan(row))
        if len(seen) == 0:
            return 0.0
        return math.log(
            sum(
                weight * multivariate_normal(mean[seen], matrix[np.ix_(seen, seen)]).pdf(row[seen])
                for weight, mean, matrix in components(self.structure, parameters)
            )
        )

    def test_the_free_energy_at_the_parameters_of_the_e_step_is_the_log_likelihood(self) -> None:
        model, rows, at = self.model(), self.rows(300), self.start()
        statistics = model.e_step(at, rows)
        assert model.free_energy(statistics, at) == pytest.approx(model.log_prob(at, rows).sum(), rel=1e-12)

    def test_and_elsewhere_a_bound_from_below_that_the_m_step_raises(self) -> None:
        model, rows, at = self.model(), self.rows(300), self.start()
        statistics = model.e_step(at, rows)
        updated = model.m_step(statistics, at)
        before = model.free_energy(statistics, at) + model.log_prior(at)
        after = model.free_energy(statistics, updated) + model.log_prior(updated)
        assert before < after < model.log_prob(updated, rows).sum() + model.log_prior(updated)


class TestFull(IncompleteConformance):
    structure = "full"


class TestTied(IncompleteConformance):
    structure = "tied"


class TestDiag(IncompleteConformance):
    structure = "diag"


class TestSpherical(IncompleteConformance):
    structure = "spherical"


class TestFullWithPrior(IncompleteConformance):
    structure = "full"
    prior = PRIOR


class TestTiedWithPrior(IncompleteConformance):
    structure = "tied"
    prior = PRIOR


def plain_em(rows: Vector, weights: Vector, means: Vector, matrices: Vector, iterations: int) -> tuple[Vector, ...]:
    """EM for full covariances, row by row, with precision matrices instead of regressions."""
    n_components, n_columns = means.shape
    for _ in range(iterations):
        counts = np.zeros(n_components)
        first, second = np.zeros_like(means), np.zeros_like(matrices)
        for row in rows:
            seen, unseen = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
            joint = weights.copy()
            completed, residual = [], []
            for k in range(n_components):
                if len(seen):
                    joint[k] *= multivariate_normal(means[k, seen], matrices[k][np.ix_(seen, seen)]).pdf(row[seen])
                precision = np.linalg.inv(matrices[k])
                covariance = np.zeros((n_columns, n_columns))
                full = row.copy()
                if len(unseen):
                    conditional = np.linalg.inv(precision[np.ix_(unseen, unseen)])
                    pull = precision[np.ix_(unseen, seen)] @ (row[seen] - means[k, seen])
                    full[unseen] = means[k, unseen] - conditional @ pull
                    covariance[np.ix_(unseen, unseen)] = conditional
                completed.append(full)
                residual.append(covariance)
            for k, r in enumerate(joint / joint.sum()):
                counts[k] += r
                first[k] += r * completed[k]
                second[k] += r * (np.outer(completed[k], completed[k]) + residual[k])
        weights = counts / counts.sum()
        means = first / counts[:, np.newaxis]
        matrices = second / counts[:, np.newaxis, np.newaxis] - np.einsum("ki,kj->kij", means, means)
    return weights, means, matrices


def test_ten_iterations_are_those_of_a_plain_em() -> None:
    model, start = incomplete("full"), two_components("full", distance=0.8)
    rows = blanked(model.sample(two_components("full", 1.2), 120, np.random.default_rng(0))[0], share=0.4)
    run = fit(model, TotalOfRows(model, rows), start, Stopping(0.0, 10))
    weights, means, matrices = plain_em(rows, start["weights"], start["means"], start["covariances"], 10)
    expected = Parameters({"weights": weights, "means": means, "covariances": matrices})
    assert run.parameters.distance(expected) < 1e-9


@EVERY_STRUCTURE
def test_statistics_are_expectations_over_the_missing_cells(structure: CovarianceStructure) -> None:
    """The moments of one component from its conditional distribution, cell by cell."""
    parameters = two_components(structure, distance=0.6)
    model = incomplete(structure)
    rows = blanked(model.sample(parameters, 40, np.random.default_rng(0))[0], share=0.5)
    r = model.responsibilities(parameters, rows)
    statistics = model.e_step(parameters, rows)
    matrices = covariance_matrices(structure, parameters["covariances"], parameters["means"])
    first, second, entropy = np.zeros((2, 3)), np.zeros((2, 3, 3)), 0.0
    for i, row in enumerate(rows):
        for k, (mean, matrix) in enumerate(zip(parameters["means"], matrices, strict=True)):
            unseen = np.flatnonzero(np.isnan(row))
            full, residual = row.copy(), np.zeros((3, 3))
            if len(unseen):
                precision, seen = np.linalg.inv(matrix), np.flatnonzero(~np.isnan(row))
                conditional = np.linalg.inv(precision[np.ix_(unseen, unseen)])
                full[unseen] = mean[unseen] - conditional @ precision[np.ix_(unseen, seen)] @ (row[seen] - mean[seen])
                residual[np.ix_(unseen, unseen)] = conditional
                entropy += r[i, k] * multivariate_normal(cov=conditional).entropy()
            first[k] += r[i, k] * full
            second[k] += r[i, k] * (np.outer(full, full) + residual)
    np.testing.assert_allclose(statistics["first"], first, rtol=1e-10)
    if structure in ("full", "tied"):
        np.testing.assert_allclose(unvech(statistics["second"], 3), second, rtol=1e-10)
    else:
        np.testing.assert_allclose(statistics["second"], np.diagonal(second, axis1=1, axis2=2), rtol=1e-10)
    assert statistics[MISSING_ENTROPY] == pytest.approx(entropy, rel=1e-10)


@EVERY_STRUCTURE
def test_without_a_missing_cell_it_is_the_complete_e_step(structure: CovarianceStructure) -> None:
    parameters, complete = two_components(structure), GaussianMixtureModel(2, 3, structure)
    rows = complete.sample(parameters, 500, np.random.default_rng(0))[0]
    expected = complete.e_step(parameters, rows)
    one_missing = np.concatenate((rows, [[np.nan] * 3]))
    for statistics, extra in (
        (incomplete(structure).e_step(parameters, rows), 0),
        (incomplete(structure).e_step(parameters, one_missing), 1),
    ):
        assert statistics[COUNT] == 500 + extra
        for name in ("log_likelihood", "first", "second", "responsibilities"):
            added = {"first": parameters["weights"][:, np.newaxis] * parameters["means"]}.get(name)
            if extra and name == "first":
                np.testing.assert_allclose(statistics[name], expected[name] + added, rtol=1e-10)
            elif not extra or name == "log_likelihood":
                np.testing.assert_allclose(statistics[name], expected[name], rtol=1e-10)


@EVERY_STRUCTURE
def test_a_row_without_a_value_has_the_mixtures_own_probabilities(structure: CovarianceStructure) -> None:
    parameters, rows = two_components(structure), np.full((3, 3), np.nan)
    model = GaussianMixtureModel(2, 3, structure)
    np.testing.assert_allclose(model.responsibilities(parameters, rows), np.tile(parameters["weights"], (3, 1)))
    np.testing.assert_allclose(model.log_prob(parameters, rows), 0.0, atol=1e-14)


class TestUnderMissingAtRandom:
    """Whether y is missing depends on x, so the mean of the observed y is biased and the likelihood's is not."""

    N = 4000

    def rows(self, seed: int) -> tuple[Vector, Vector]:
        generator = np.random.default_rng(seed)
        labels = generator.random(self.N) < 0.4
        centres = np.where(labels[:, np.newaxis], [2.5, 2.0], [-1.5, -1.0])
        rows = centres + generator.multivariate_normal([0, 0], [[1.0, 0.7], [0.7, 1.0]], self.N)
        hidden = generator.random(self.N) < 1 / (1 + np.exp(-1.5 * (rows[:, 0] - centres[:, 0])))
        rows[hidden, 1] = np.nan
        return rows, labels

    def test_means_are_not_biased_and_those_of_available_cases_are(self) -> None:
        ours, available = [], []
        for seed in range(10):
            rows, labels = self.rows(seed)
            model = GaussianMixture(2, tol=1e-7, max_iter=2000, random_state=0, reg_covar=0.0).fit(rows)
            ours.append(np.sort(model.means_[:, 1]) - [-1.0, 2.0])
            available.append([np.nanmean(rows[~labels, 1]) + 1.0, np.nanmean(rows[labels, 1]) - 2.0])
        bias, biased = np.abs(np.mean(ours, axis=0)).max(), np.abs(np.mean(available, axis=0)).min()
        assert biased > 0.2
        assert bias < biased / 5


class TestEdges:
    def test_missing_cells_are_declared(self) -> None:
        rows = np.array([[1.0, np.nan, 0.0]])
        with pytest.raises(CallerError, match="not finite") as caught:
            GaussianMixtureModel(2, 3).e_step(two_components("full"), rows)
        assert "admits missing" in caught.value.remedy
        assert "missing" not in GaussianMixtureModel(2, 3).describe()
        assert incomplete("full").describe()["missing"] is True

    @EVERY_STRUCTURE
    def test_infinity_is_an_error_that_names_the_column(self, structure: CovarianceStructure) -> None:
        rows = np.array([[np.nan, 0.0, 0.0], [0.0, 0.0, -np.inf]])
        model = incomplete(structure)
        for evaluate in (model.e_step, model.log_prob, model.responsibilities):
            with pytest.raises(CallerError, match="column 2"):
                evaluate(two_components(structure), rows)

    @EVERY_STRUCTURE
    def test_a_row_beyond_all_density_is_an_error(self, structure: CovarianceStructure) -> None:
        with pytest.raises(FedEmError, match="far from every component"):
            incomplete(structure).e_step(two_components(structure), np.array([[1e200, np.nan, 0.0]]))

    @EVERY_STRUCTURE
    def test_a_component_that_is_not_positive_definite_is_named(self, structure: CovarianceStructure) -> None:
        parameters = two_components(structure)
        wrong = Parameters({**parameters, "covariances": -parameters["covariances"]})
        with pytest.raises(FedEmError, match=r"component 0|tied"):
            incomplete(structure).e_step(wrong, np.array([[1.0, np.nan, 0.0]]))

    def test_bounds_leave_room_for_expected_values(self) -> None:
        bounds = np.array([0.5, 1.0, 3.0])
        layout = incomplete("full").layout(bounds)
        assert layout["first"].bound == 38.0
        assert layout["second"].bound == 38.0**2
        assert layout.blocks[:-1][3] == GaussianMixtureModel(2, 3).layout(bounds).blocks[3]
        assert layout.blocks[-1].name == MISSING_ENTROPY

    @EVERY_STRUCTURE
    def test_expected_values_of_a_fit_stay_far_within_them(self, structure: CovarianceStructure) -> None:
        model, truth = incomplete(structure), two_components(structure)
        rows = blanked(model.sample(truth, 400, np.random.default_rng(5))[0], share=0.5)
        bounds = np.nanmax(np.abs(rows), axis=0)
        run = fit(model, TotalOfRows(model, rows), truth, Stopping(1e-8, 300))
        layout = model.layout(bounds)
        statistics = model.e_step(run.parameters, rows, layout)
        for name in ("first", "second", MISSING_ENTROPY):
            assert np.abs(statistics[name]).max() < 0.5 * 400 * layout[name].bound, name

    def test_an_encoder_refuses_what_is_beyond_and_clips_nothing(self) -> None:
        """A regression of slope 100 puts the expected value far outside any range."""
        model = GaussianMixtureModel(1, 2, missing=True)
        parameters = Parameters({"weights": [1.0], "means": [[0.0, 0.0]], "covariances": [[[1.0, 100], [100, 1e5]]]})
        layout = model.layout(np.ones(2))
        encoding = Encoding.proved(layout, [10, 10])
        encoding.encode(model.e_step(parameters, np.array([[1.0, 1.0]]), layout), 0)
        with pytest.raises(CallerError, match=r"beyond its declared bound"):
            encoding.encode(model.e_step(parameters, np.array([[1.0, np.nan]]), layout), 0)


class TestComponents:
    def test_conditional_moments_and_draws_agree(self) -> None:
        parameters = two_components("full")
        gaussian = GaussianComponents("full", parameters["means"], parameters["covariances"])
        rows, normals = np.tile([0.4, np.nan, np.nan], (200_000, 1)), np.random.default_rng(0).normal(size=(200_000, 3))
        means, variances = gaussian.conditional(rows[:1])
        drawn = gaussian.draw(rows, np.ones(200_000, dtype=np.int64), normals)
        np.testing.assert_allclose(drawn.mean(axis=0), means[1, 0], atol=0.01)
        np.testing.assert_allclose(drawn.var(axis=0), variances[1, 0], atol=0.01)
        assert (drawn[:, 0] == 0.4).all()


class TestEstimator:
    ROWS = blanked(GaussianMixtureModel(2, 3).sample(two_components("full"), 800, np.random.default_rng(1))[0])

    @EVERY_STRUCTURE
    def test_it_fits_rows_with_missing_cells(self, structure: CovarianceStructure) -> None:
        model = GaussianMixture(2, covariance_type=structure, random_state=0, tol=1e-6, max_iter=500).fit(self.ROWS)
        assert model.converged_
        assert np.diff(model.lower_bounds_).min() > -1e-9
        expected = two_components(structure)["means"]
        np.testing.assert_allclose(model.means_[np.argsort(-model.means_[:, 0])], expected, atol=0.3)
        np.testing.assert_allclose(model.predict_proba(self.ROWS).sum(axis=1), 1.0)
        assert np.isfinite(model.score_samples(self.ROWS)).all()

    def test_rows_of_a_complete_fit_may_be_incomplete_later(self) -> None:
        complete = self.ROWS[~np.isnan(self.ROWS).any(axis=1)]
        model = GaussianMixture(2, random_state=0).fit(complete)
        assert np.isfinite(model.score_samples(self.ROWS)).all()

    def test_a_column_without_a_value_is_named(self) -> None:
        rows = self.ROWS.copy()
        rows[:, 1] = np.nan
        with pytest.raises(CallerError, match="column '1'"):
            GaussianMixture(2).fit(rows)


@pytest.mark.parametrize("structure", ["full", "tied"])
def test_patterns_of_few_rows_are_summed_as_those_of_many(structure: CovarianceStructure) -> None:
    """Each pattern of six columns is shown by about one row, and thirty times by as many: two ways to the same moments."""
    generator = np.random.default_rng(7)
    factors = generator.normal(size=(2, 6, 12))
    covariances = factors @ np.swapaxes(factors, 1, 2)
    model = GaussianMixtureModel(2, 6, structure, missing=True)
    parameters = Parameters(
        {
            "weights": np.array([0.3, 0.7]),
            "means": generator.normal(size=(2, 6)),
            "covariances": covariances[0] if structure == "tied" else covariances,
        }
    )
    rows = generator.normal(size=(60, 6))
    rows[generator.random(rows.shape) < 0.4] = np.nan
    few, many = model.e_step(parameters, rows), model.e_step(parameters, np.tile(rows, (30, 1)))
    np.testing.assert_allclose(30 * few.vector, many.vector, rtol=1e-11, atol=1e-11)


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no arithmetic longer than float64 here")
@pytest.mark.parametrize("structure", ["diag", "spherical"])
@pytest.mark.parametrize("case", CASES)
def test_components_without_covariances_keep_their_digits(case: str, structure: CovarianceStructure) -> None:
    """Narrow and far off, with missing cells, weights and labels: against the definition in a longer arithmetic."""
    widths, offset, _, _ = CASES[case]
    parameters, model = scaled(structure, widths, offset), GaussianMixtureModel(3, 2, structure, missing=True)
    complete = rows_near(structure, parameters)
    rows, generator = blanked(complete), np.random.default_rng(3)
    weights, admissible = generator.random(len(rows)), generator.random((len(rows), 3)) < 0.5
    admissible[~admissible.any(axis=1)] = True
    variances = np.broadcast_to(parameters["covariances"].reshape(3, -1), (3, 2)).astype(np.longdouble)
    deviations = rows[:, np.newaxis].astype(np.longdouble) - parameters["means"]
    terms = -0.5 * (deviations**2 / variances + np.log(2 * np.longdouble(np.pi) * variances))
    joint = np.log(parameters["weights"].astype(np.longdouble)) + np.nansum(terms, axis=2)
    expected = np.logaddexp.reduce(joint, axis=1)
    of_labels = np.logaddexp.reduce(np.where(admissible, joint, -np.inf), axis=1)
    np.testing.assert_allclose(model.log_prob(parameters, rows), expected.astype(np.float64), rtol=1e-10, atol=1e-10)
    posterior = np.exp(joint - expected[:, np.newaxis]).astype(np.float64)
    np.testing.assert_allclose(model.responsibilities(parameters, rows), posterior, rtol=1e-8, atol=1e-9)
    for records, densities in (
        (Records(rows, weights), weights * expected),
        (Records(rows, None, admissible), of_labels),
        # Complete rows are evaluated elsewhere, which `test_gaussian_densities` holds against the definition.
        (Records(complete, weights), weights * model.log_prob(parameters, complete)),
    ):
        found = model.e_step(parameters, records)[LOG_LIKELIHOOD]
        assert float(found) == pytest.approx(float(densities.sum()), rel=1e-10)


def test_a_narrow_diagonal_component_one_deviation_away() -> None:
    parameters = Parameters({"weights": [1.0], "means": [[1.0]], "covariances": [[1e-14]]})
    row = np.array([[1.0 + 1e-7]])
    found = GaussianMixtureModel(1, 1, "diag").e_step(parameters, Records(row, np.ones(1)))[LOG_LIKELIHOOD]
    distance = (row[0, 0] - 1.0) ** 2 / 1e-14
    assert float(found) == pytest.approx(-0.5 * (distance + math.log(2 * math.pi * 1e-14)), rel=1e-14)
