"""Moments of mixed columns in one sum, and the starts that are drawn from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em.broadcast import Broadcast
from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, PoissonColumn
from fed_em.coordinates import Coordinates
from fed_em.em import Stopping
from fed_em.errors import CallerError
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import MixedMomentsModel, possible, standard_columns, start_from_mixed_moments
from fed_em.model import Model
from fed_em.parameters import Parameters
from fed_em.standardised_fit import StandardisedFit, first_round, fit_standardised
from fed_em.statistics import Statistics
from fed_em.totals import TotalOfRows
from tests.fed_em.conformance import INHERITED, ModelConformance
from tests.fed_em.row_statistics import discrete_statistics
from tests.fed_em.test_mixed_mixture import (
    ITEMS,
    SCHEMA,
    blanked,
    cells_at_the_ends,
    density_by_definition,
    mixed,
    parameters_of,
)

Vector = NDArray[np.float64]


def one_component(schema: ColumnSchema = SCHEMA) -> Parameters:
    truth = {name: array[:1] for name, array in parameters_of("full").items()}
    truth |= {"weights": np.ones(1), "covariances": np.diag([1.2, 0.6])[np.newaxis]}
    return Parameters(truth)


class TestMixedMoments(ModelConformance):
    def model(self) -> MixedMomentsModel:
        return MixedMomentsModel(SCHEMA)

    def truth(self) -> Parameters:
        return one_component()

    def start(self) -> Parameters:
        return standard_columns(SCHEMA)

    def rows(self, n: int, seed: int = 7) -> Vector:
        return blanked(super().rows(n, seed))

    def log_density_by_definition(self, parameters: Parameters, row: Vector) -> float:
        return math.log(density_by_definition(MixedMixtureModel(1, SCHEMA), parameters, row, 0))

    def nearby(self, parameters: Parameters, generator: np.random.Generator, size: float) -> Parameters:
        arrays = {name: array + size * generator.standard_normal(array.shape) for name, array in parameters.items()}
        arrays["weights"] = np.ones(1)
        arrays["covariances"] = parameters["covariances"] * np.diag(np.exp(size * generator.standard_normal(2)))
        for levels in SCHEMA.level_slices:
            part = np.abs(arrays["level_probabilities"][:, levels])
            arrays["level_probabilities"][:, levels] = part / part.sum(axis=1, keepdims=True)
        return Parameters(arrays)

    def statistics_by_definition(self, parameters: Parameters, row: Vector, component: int) -> dict[str, Vector]:
        sums, cells = discrete_statistics(SCHEMA, row, component, 1), row[SCHEMA.gaussian]
        del sums["responsibilities"]
        values = {"observed": ~np.isnan(cells), "first": np.nan_to_num(cells), "second": np.nan_to_num(cells) ** 2}
        return sums | values

    def rows_at_the_ends(self, column_bounds: Vector, n: int, generator: np.random.Generator) -> Vector:
        return blanked(cells_at_the_ends(SCHEMA, column_bounds, n, generator), 0.3)

    def test_one_step_gives_frequencies_and_moments_of_observed_cells(self) -> None:
        model, rows = self.model(), self.rows(300)
        rows[3] = np.nan
        moments = model.m_step(model.e_step(self.start(), rows), self.start())
        np.testing.assert_allclose(moments["means"][0], np.nanmean(rows[:, [1, 4]], axis=0), rtol=1e-12)
        np.testing.assert_allclose(np.diag(moments["covariances"][0]), np.nanvar(rows[:, [1, 4]], axis=0), rtol=1e-12)
        colour = rows[~np.isnan(rows[:, 0]), 0]
        shares = [np.mean(colour == level) for level in range(3)]
        np.testing.assert_allclose(moments["level_probabilities"][0, :3], shares, rtol=1e-12)
        np.testing.assert_allclose(moments["success_probabilities"][0], np.nanmean(rows[:, [3, 6]], axis=0), rtol=1e-12)
        assert moments["rates"][0, 0] == pytest.approx(np.nanmean(rows[:, 2]), rel=1e-12)

    def test_the_free_energy_is_the_log_likelihood(self) -> None:
        model, rows = self.model(), self.rows(300)
        statistics = model.e_step(self.start(), rows)
        assert model.free_energy(statistics, self.truth()) == pytest.approx(model.log_prob(self.truth(), rows).sum())

    @pytest.mark.parametrize("name", ["colour", "height", "visits", "insured"])
    def test_a_column_that_nobody_observed_is_named(self, name: str) -> None:
        model, rows = self.model(), self.rows(20)
        rows[:, SCHEMA.names.index(name)] = np.nan
        with pytest.raises(CallerError, match=f"column '{name}' is missing in all records"):
            model.m_step(model.e_step(self.start(), rows), self.start())

    def test_correlated_parameters_are_refused(self) -> None:
        arrays = dict(self.truth())
        arrays["covariances"] = arrays["covariances"] + 0.1
        with pytest.raises(CallerError, match="'covariances' is not zero off the diagonal"):
            self.model().validate(Parameters(arrays))


class TestOfLatentClasses:
    def test_levels_alone_have_frequencies(self) -> None:
        model, start = MixedMomentsModel(ITEMS), standard_columns(ITEMS)
        rows = blanked(model.sample(start, 200, np.random.default_rng(0))[0])
        statistics = model.e_step(start, rows)
        moments = model.m_step(statistics, start)
        assert set(moments) == {"weights", "level_probabilities"}
        assert moments["level_probabilities"][0, 1] == pytest.approx(np.nanmean(rows[:, 0]))
        assert model.free_energy(statistics, moments) == pytest.approx(model.log_prob(moments, rows).sum())


class TestStarts:
    MODEL = mixed("full")

    def start(self, seed: int) -> Parameters:
        return start_from_mixed_moments(self.MODEL, one_component(), seed)

    @given(st.integers(0, 2**32 - 1))
    @INHERITED
    def test_every_start_is_admissible_and_leaves_everything_open(self, seed: int) -> None:
        start = self.start(seed)
        self.MODEL.validate(start)
        assert start["level_probabilities"].min() > 0
        assert start["success_probabilities"].min() > 0 and start["success_probabilities"].max() < 1
        assert start["rates"].min() > 0

    def test_a_seed_decides(self) -> None:
        assert self.start(3).distance(self.start(3)) == 0 < self.start(3).distance(self.start(4))
        assert np.ptp(self.start(3)["level_probabilities"], axis=0).min() > 0

    def test_draws_are_about_the_moments(self) -> None:
        """Of 4000 components; a mean is off by more than 5 of its standard errors with a probability below 10^-6 each."""
        many = start_from_mixed_moments(MixedMixtureModel(4000, SCHEMA), one_component(), 1)
        rates = many["rates"][:, 0]
        assert abs(rates.mean() - 6.0) < 5 * 3.0 / math.sqrt(4000)
        expected = (one_component()["level_probabilities"][0, :3] + 1 / 3) / 2
        errors = many["level_probabilities"][:, :3].mean(axis=0) - expected
        assert np.abs(errors).max() < 5 * 0.12 / math.sqrt(4000)


class TestFits:
    ROWS = blanked(mixed("full").sample(parameters_of("full"), 600, np.random.default_rng(2))[0], 0.15)
    RANGES = (np.full(7, -20.0), np.full(7, 20.0))

    def found(self, model: MixedMixtureModel, rows: Vector) -> StandardisedFit:
        def total_for(model: Model, coordinates: Coordinates) -> TotalOfRows:
            return TotalOfRows(model, coordinates.apply(rows))

        ranges = (self.RANGES[0][: rows.shape[1]], self.RANGES[1][: rows.shape[1]])
        return fit_standardised(model, ranges, total_for, Stopping(1e-9, 500), seed=0)

    def test_gaussian_columns_are_standardised_and_all_others_are_as_they_are(self) -> None:
        found = self.found(mixed("diag"), self.ROWS)
        places, others = [1, 4], [0, 2, 3, 5, 6]
        np.testing.assert_allclose(found.coordinates.location[places], np.nanmean(self.ROWS[:, places], axis=0))
        np.testing.assert_allclose(found.coordinates.scale[places], np.nanstd(self.ROWS[:, places], axis=0))
        assert (found.coordinates.location[others] == 0).all() and (found.coordinates.scale[others] == 1).all()
        assert found.fit.converged
        assert np.diff([iteration.objective for iteration in found.fit.iterations]).min() > -1e-9

    def test_without_gaussian_columns_nothing_is_moved(self) -> None:
        rows = MixedMomentsModel(ITEMS).sample(standard_columns(ITEMS), 100, np.random.default_rng(0))[0]
        assert self.found(MixedMixtureModel(2, ITEMS), rows).coordinates == Coordinates.identity(5)

    def test_a_constant_column_is_named(self) -> None:
        rows = self.ROWS.copy()
        rows[:, 4] = 3.0
        with pytest.raises(CallerError, match="column 'weight' is constant"):
            self.found(mixed("diag"), rows)

    def test_moments_are_no_mixture_to_fit(self) -> None:
        with pytest.raises(CallerError, match="no mixture to fit"):
            first_round(MixedMomentsModel(SCHEMA), *self.RANGES)

    def test_coordinates_that_move_a_level_are_refused(self) -> None:
        with pytest.raises(CallerError, match="column 'colour' is categorical, and the coordinates move"):
            Broadcast(mixed(), Coordinates(np.full(7, 0.5), np.ones(7)), parameters_of())


def test_sums_over_parties_are_those_of_all() -> None:
    model, start = MixedMomentsModel(SCHEMA), standard_columns(SCHEMA)
    rows = TestFits.ROWS
    parts = [model.e_step(start, part) for part in np.array_split(rows, 3)]
    total = sum(parts, start=Statistics.zero(model.layout()))
    assert model.m_step(total, start).distance(model.m_step(model.e_step(start, rows), start)) < 1e-12


def test_what_noise_made_impossible_is_rare_instead_and_the_rest_stays() -> None:
    schema = ColumnSchema((CategoricalColumn("a", ("x", "y", "z")), CategoricalColumn("b", ("x", "y")), BernoulliColumn("c"),
                           BernoulliColumn("d"), PoissonColumn("e", 9)))  # fmt: skip
    noised = Parameters(
        {
            "weights": [1.0],
            "level_probabilities": [[0.0, 0.25, 0.75, 0.4, 0.6]],
            "success_probabilities": [[1.0, 0.3]],
            "rates": [[0.0]],
        }
    )
    found = possible(schema, noised)
    levels = found["level_probabilities"][0]
    assert 0 < levels[0] < 2e-3 and levels[:3].sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(levels[3:], [0.4, 0.6])
    assert 0.99 < found["success_probabilities"][0, 0] < 1 and found["success_probabilities"][0, 1] == 0.3
    assert 0 < found["rates"][0, 0] < 0.01
    assert possible(schema, found).distance(found) == 0
