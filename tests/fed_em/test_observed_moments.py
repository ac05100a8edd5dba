"""Mean and variance of observed cells: by definition, and where they cannot be had."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from fed_em.coordinates import Coordinates
from fed_em.em import Stopping
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.observed_moments import ObservedMomentsModel
from fed_em.parameters import Parameters
from fed_em.standardised_fit import fit_standardised
from fed_em.totals import TotalOfRows
from tests.fed_em.conformance import ModelConformance
from tests.fed_em.test_missing_gaussian import blanked

Vector = NDArray[np.float64]


def diagonal(means: Vector, variances: Vector) -> Parameters:
    return Parameters(
        {"weights": np.ones(1), "means": means[np.newaxis], "covariances": np.diag(variances)[np.newaxis]}
    )


class TestObservedMoments(ModelConformance):
    def model(self) -> ObservedMomentsModel:
        return ObservedMomentsModel(3)

    def truth(self) -> Parameters:
        return diagonal(np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 1.0]))

    def start(self) -> Parameters:
        return standard_gaussian(3)

    def rows(self, n: int, seed: int = 7) -> Vector:
        return blanked(super().rows(n, seed))

    def log_density_by_definition(self, parameters: Parameters, row: Vector) -> float:
        spread = np.sqrt(np.diag(parameters["covariances"][0]))
        cells = zip(row, parameters["means"][0], spread, strict=True)
        return float(sum(norm(mean, sd).logpdf(x) for x, mean, sd in cells if not math.isnan(x)))

    def statistics_by_definition(self, parameters: Parameters, row: Vector, component: int) -> dict[str, Vector]:
        cells = np.nan_to_num(row)
        return {"observed": ~np.isnan(row), "first": cells, "second": cells**2}

    def nearby(self, parameters: Parameters, generator: np.random.Generator, size: float) -> Parameters:
        variances = np.diag(parameters["covariances"][0])
        moved = parameters["means"][0] + size * generator.standard_normal(3)
        return diagonal(moved, variances * np.exp(size * generator.standard_normal(3)))

    def test_one_step_gives_the_moments_of_observed_cells(self) -> None:
        model, rows = self.model(), self.rows(200)
        rows[3] = np.nan
        moments = model.m_step(model.e_step(self.start(), rows), self.start())
        np.testing.assert_allclose(moments["means"][0], np.nanmean(rows, axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments["covariances"][0], np.diag(np.nanvar(rows, axis=0)), rtol=1e-12)

    def test_of_complete_rows_they_are_those_of_the_full_gaussian(self) -> None:
        rows = super().rows(200)
        ours, theirs = (
            model.m_step(model.e_step(self.start(), rows), self.start())
            for model in (moments_model(3, missing=True), moments_model(3))
        )
        np.testing.assert_allclose(ours["means"], theirs["means"], rtol=1e-12)
        variances = [np.diag(moments["covariances"][0]) for moments in (ours, theirs)]
        np.testing.assert_allclose(variances[0], variances[1], rtol=1e-12)

    def test_the_free_energy_is_the_log_likelihood(self) -> None:
        model, rows = self.model(), self.rows(300)
        statistics = model.e_step(self.start(), rows)
        assert model.free_energy(statistics, self.truth()) == pytest.approx(model.log_prob(self.truth(), rows).sum())

    def test_a_column_that_nobody_observed_is_named(self) -> None:
        model, rows = self.model(), self.rows(20)
        rows[:, 1] = np.nan
        with pytest.raises(CallerError, match="column 1 is missing in all records") as caught:
            model.m_step(model.e_step(self.start(), rows), self.start())
        assert caught.value.remedy

    def test_a_constant_column_is_named_by_what_standardises(self) -> None:
        model, rows = self.model(), self.rows(20)
        rows[:, 2] = np.where(np.isnan(rows[:, 2]), np.nan, 4.0)
        moments = model.m_step(model.e_step(self.start(), rows), self.start())
        with pytest.raises(CallerError, match="column 2 is constant"):
            Coordinates.standardising(moments, Coordinates.identity(3))

    def test_infinite_values_are_refused(self) -> None:
        with pytest.raises(CallerError, match="not finite, in column 1"):
            self.model().e_step(self.start(), np.array([[0.0, -np.inf, np.nan]]))

    def test_rows_of_another_width_are_refused(self) -> None:
        with pytest.raises(CallerError, match="not of 3 columns"):
            self.model().e_step(self.start(), np.zeros((4, 2)))

    def test_correlated_parameters_are_refused(self) -> None:
        arrays = dict(self.truth())
        arrays["covariances"] = np.eye(3)[np.newaxis] + 0.1
        with pytest.raises(CallerError, match="'covariances' is not zero off the diagonal"):
            self.model().validate(Parameters(arrays))


def test_a_fit_by_sums_alone_takes_missing_cells_and_starts_uncorrelated() -> None:
    generator = np.random.default_rng(2)
    rows = blanked(generator.multivariate_normal([5.0, -3.0], [[4.0, 1.5], [1.5, 1.0]], size=400))
    model = GaussianMixtureModel(1, 2, covariance_floor=0.0, missing=True)
    found = fit_standardised(
        model,
        (np.full(2, -20.0), np.full(2, 20.0)),
        lambda model, coordinates: TotalOfRows(model, coordinates.apply(rows)),
        Stopping(1e-12, 2000),
        seed=0,
    )
    np.testing.assert_allclose(found.coordinates.location, np.nanmean(rows, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.coordinates.scale, np.nanstd(rows, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.start["covariances"][0], np.eye(2), atol=1e-12)
    assert found.fit.converged
    correlation = found.fit.parameters["covariances"][0, 0, 1]
    assert correlation == pytest.approx(0.75, abs=0.08)
