"""The bounds of every statistic hold for every admissible record of any columns, or the record is found before it is summed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure, restrict
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.imputed_reach import records_beyond_reach
from fed_em.initialisation import start_from_moments
from fed_em.missing_gaussian import reach_of
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import start_from_mixed_moments
from fed_em.model import LOG_LIKELIHOOD, MISSING_ENTROPY, Model
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.standardised_fit import first_round
from tests.fed_em.test_mixed_mixture import ITEMS, SCHEMA, cells_at_the_ends
from tests.fed_em.test_mixed_moments import one_component

Vector = NDArray[np.float64]

# Bounded for a tenant and not for a record: see docs/adr/0020.
ON_AVERAGE = {LOG_LIKELIHOOD, MISSING_ENTROPY}

EVERY_STRUCTURE = pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)


def wild(model: MixedMixtureModel, wildness: float, generator: np.random.Generator) -> Parameters:
    """Parameters of a start, with strong correlations, narrow and wide columns and means far out."""
    moments = one_component() if model.schema is SCHEMA else first_round(model, np.zeros(5), np.ones(5)).parameters
    arrays = dict(start_from_mixed_moments(model, moments, int(generator.integers(1000))))
    if model.gaussian is not None:
        spread = np.exp(wildness * generator.standard_normal(2))
        correlation = math.tanh(wildness * generator.standard_normal())
        matrix = np.array([[1.0, correlation], [correlation, 1.0]]) * np.outer(spread, spread)
        arrays["means"] = arrays["means"] * (1 + 2 * wildness)
        arrays["covariances"] = restrict(model.covariance, matrix, model.n_components)
    return Parameters(arrays)


def single_records(
    model: MixedMixtureModel, weight_bound: float, n: int, generator: np.random.Generator
) -> tuple[Records, Vector]:
    """Records at the ends of what is declared, with holes, weights and labels, and the columns' bounds."""
    column_bounds = np.ones(model.n_columns)
    column_bounds[model.schema.gaussian] = np.exp(generator.standard_normal(len(model.schema.gaussian)))
    rows = cells_at_the_ends(model.schema, column_bounds, n, generator)
    rows[generator.random(rows.shape) < 0.4] = np.nan
    admissible = generator.random((n, model.n_components)) < 0.7
    admissible[~admissible.any(axis=1)] = True
    weights = generator.choice([0.0, 0.3 * weight_bound, weight_bound], n)
    return Records(rows, weights, admissible, weight_bound), column_bounds


@EVERY_STRUCTURE
@given(seed=st.integers(0, 2**32 - 1), wildness=st.floats(0.0, 3.0), weight_bound=st.sampled_from([0.25, 1.0, 40.0]))
@settings(max_examples=40, deadline=None)
def test_every_bound_holds_for_every_record_that_is_not_found(
    structure: CovarianceStructure, seed: int, wildness: float, weight_bound: float
) -> None:
    generator = np.random.default_rng(seed)
    model = MixedMixtureModel(3, SCHEMA, structure)
    parameters = wild(model, wildness, generator)
    records, column_bounds = single_records(model, weight_bound, 8, generator)
    layout = model.layout(column_bounds).of_weights_up_to(weight_bound)
    found = 0
    for i in range(len(records)):
        record = records[i : i + 1]
        beyond = records_beyond_reach(model, parameters, record, column_bounds, layout)
        assert set(beyond) <= {0, 1} and not beyond[~np.isnan(record.rows[0])].any()
        statistics = model.e_step(parameters, record, layout)
        within = {
            block.name: np.abs(statistics[block.name]).max() <= block.bound * (1 + 1e-9)
            for block in layout
            if block.name not in ON_AVERAGE
        }
        if not beyond.any():
            assert all(within.values()), within
        else:
            assert not within["second"], "only what is beyond is found"
        found += int(beyond.any())
    assert records_beyond_reach(model, parameters, records, column_bounds, layout).max() <= found


@given(seed=st.integers(0, 2**32 - 1), weight_bound=st.sampled_from([1.0, 40.0]))
@settings(max_examples=20, deadline=None)
def test_latent_classes_keep_every_bound(seed: int, weight_bound: float) -> None:
    generator = np.random.default_rng(seed)
    model = MixedMixtureModel(3, ITEMS)
    parameters = wild(model, 1.0, generator)
    records, column_bounds = single_records(model, weight_bound, 8, generator)
    layout = model.layout(column_bounds).of_weights_up_to(weight_bound)
    assert not records_beyond_reach(model, parameters, records, column_bounds, layout).any()
    for i in range(len(records)):
        statistics = model.e_step(parameters, records[i : i + 1], layout)
        for block in layout:
            assert np.abs(statistics[block.name]).max() <= block.bound * (1 + 1e-12), block.name


@EVERY_STRUCTURE
@given(seed=st.integers(0, 2**20))
@settings(max_examples=15, deadline=None)
def test_a_party_that_misses_a_narrow_column_starts_within_reach(structure: CovarianceStructure, seed: int) -> None:
    """The narrowest range that standardised coordinates admit: a bound of 1 in every column."""
    model = GaussianMixtureModel(4, 3, structure, missing=True)
    moments = first_round(model, np.full(3, -1.0), np.ones(3)).parameters
    start = start_from_moments(model, moments, seed)
    generator = np.random.default_rng(seed)
    rows = generator.choice([-1.0, 1.0], (30, 3))
    rows[:, 1] = np.nan
    layout = model.layout(np.ones(3))
    assert layout["second"].bound == reach_of(1.0) ** 2
    assert not records_beyond_reach(model, start, Records(rows), np.ones(3), layout).any()


def found_in(model: Model, parameters: Parameters, rows: Vector) -> list[int]:
    bounds = np.ones(model.n_columns)
    return records_beyond_reach(model, parameters, Records(rows), bounds, model.layout(bounds)).tolist()


def test_a_steep_regression_is_found_in_the_column_that_is_missing() -> None:
    steep = Parameters({"weights": [1.0], "means": [[0.0, 0.0]], "covariances": [[[1.0, 100], [100, 1e5]]]})
    model = GaussianMixtureModel(1, 2, missing=True)
    rows = np.array([[1.0, np.nan], [0.01, 1.0], [-1.0, np.nan], [np.nan, 0.5]])
    assert found_in(model, steep, rows) == [0, 2]


def test_complete_rows_and_complete_models_expect_nothing() -> None:
    steep = Parameters({"weights": [1.0], "means": [[0.0, 0.0]], "covariances": [[[1.0, 100], [100, 1e5]]]})
    assert found_in(GaussianMixtureModel(1, 2, missing=True), steep, np.ones((3, 2))) == [0, 0]
    assert found_in(GaussianMixtureModel(1, 2), steep, np.ones((3, 2))) == [0, 0]


def test_a_mean_far_out_is_found_where_its_component_holds_the_record() -> None:
    far = Parameters(
        {"weights": [0.5, 0.5], "means": [[0.0, 100.0], [5.0, 0.0]], "covariances": [[1.0, 1.0], [0.01, 1.0]]}
    )
    rows = np.array([[0.0, np.nan], [5.0, np.nan]])
    assert found_in(GaussianMixtureModel(2, 2, "diag", missing=True), far, rows) == [0, 1]
