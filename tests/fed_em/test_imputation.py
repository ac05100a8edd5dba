"""Imputed cells against brute force, and draws against the moments that they should have."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.stats import norm

from fed_em import GaussianMixture, imputation
from fed_em.coordinates import Coordinates
from fed_em.imputation import impute
from fed_em.parameters import Parameters
from tests.fed_em.test_mixed_mixture import blanked, mixed, parameters_of

COLOUR, HEIGHT, VISITS, SMOKER, WEIGHT = range(5)


def rows_of(n: int) -> np.ndarray:
    return mixed().sample(parameters_of(), n, np.random.default_rng(3))[0]


def test_observed_cells_stay_and_are_certain() -> None:
    rows = blanked(rows_of(60), 0.4)
    done = impute(mixed(), parameters_of(), rows, 2, np.random.default_rng(0))
    seen = ~np.isnan(rows)
    np.testing.assert_array_equal(done.rows[seen], rows[seen])
    np.testing.assert_array_equal(done.draws[:, seen], np.stack([rows[seen]] * 2))
    assert not np.isnan(done.rows).any() and not np.isnan(done.draws).any()
    mixed().schema.check_rows(done.rows)
    mixed().schema.check_rows(done.draws[0])
    for d in (HEIGHT, WEIGHT, VISITS):
        assert (done.deviations[seen[:, d], d] == 0).all() and (done.deviations[~seen[:, d], d] > 0).all()
        assert np.isnan(done.probabilities[:, d]).all()
        np.testing.assert_array_equal(done.means[seen[:, d], d], rows[seen[:, d], d])
        of_means = np.rint(done.means[:, d]) if d == VISITS else done.means[:, d]
        np.testing.assert_array_equal(done.rows[:, d], of_means)
    for d in (COLOUR, SMOKER):
        assert (done.probabilities[seen[:, d], d] == 1).all()
        assert (done.probabilities[~seen[:, d], d] >= 1 / 3).all() and np.isnan(done.deviations[:, d]).all()
        assert np.isnan(done.means[:, d]).all()


def test_a_gaussian_cell_has_its_conditional_mean_and_deviation_by_integration() -> None:
    row = rows_of(1)
    row[0, HEIGHT] = np.nan
    done = impute(mixed(), parameters_of(), row, 0, np.random.default_rng(0))
    grid = np.linspace(-12, 12, 4001)
    completed = np.repeat(row, len(grid), axis=0)
    completed[:, HEIGHT] = grid
    density = np.exp(mixed().log_prob(parameters_of(), completed))
    density /= density.sum()
    mean = density @ grid
    assert abs(done.rows[0, HEIGHT] - mean) < 1e-8
    assert abs(done.deviations[0, HEIGHT] - np.sqrt(density @ (grid - mean) ** 2)) < 1e-8


def test_discrete_cells_by_enumeration() -> None:
    for d, values in ((COLOUR, range(3)), (SMOKER, range(2)), (VISITS, range(61))):
        row = rows_of(1)
        row[0, d] = np.nan
        done = impute(mixed(), parameters_of(), row, 0, np.random.default_rng(0))
        completed = np.repeat(row, len(values), axis=0)
        completed[:, d] = values
        density = np.exp(mixed().log_prob(parameters_of(), completed))
        density /= density.sum()
        if d == VISITS:
            mean = density @ np.array(values)
            assert done.rows[0, d] == np.rint(mean)
            assert abs(done.deviations[0, d] - np.sqrt(density @ (np.array(values) - mean) ** 2)) < 1e-8
        else:
            assert done.rows[0, d] == density.argmax()
            assert abs(done.probabilities[0, d] - density.max()) < 1e-12


def test_draws_have_the_conditional_distribution() -> None:
    row = rows_of(1)
    row[0, [HEIGHT, COLOUR, SMOKER]] = np.nan
    done = impute(mixed(), parameters_of(), np.repeat(row, 10_000, axis=0), 2, np.random.default_rng(1))
    draws = done.draws.reshape(20_000, 7)
    assert abs(draws[:, HEIGHT].mean() - done.rows[0, HEIGHT]) < 4 * done.deviations[0, HEIGHT] / np.sqrt(20_000)
    assert abs(draws[:, HEIGHT].std() - done.deviations[0, HEIGHT]) < 0.03
    for d in (COLOUR, SMOKER):
        assert abs((draws[:, d] == done.rows[0, d]).mean() - done.probabilities[0, d]) < 0.02


def test_cells_of_one_draw_belong_to_one_component() -> None:
    """A row of which nothing is known: drawn cells are as dependent as the mixture's."""
    row = np.full((30_000, 7), np.nan)
    draws = impute(mixed(), parameters_of(), row, 1, np.random.default_rng(1)).draws[0]
    sample = rows_of(30_000)
    np.testing.assert_allclose(np.corrcoef(draws.T), np.corrcoef(sample.T), atol=0.03)


def test_intervals_of_one_gaussian_cover_as_they_should() -> None:
    parameters = Parameters({**parameters_of(), "weights": [1.0, 0.0]})
    rows = mixed().sample(parameters, 4000, np.random.default_rng(2))[0]
    hidden = rows.copy()
    hidden[:, WEIGHT] = np.nan
    done = impute(mixed(), parameters, hidden, 0, np.random.default_rng(0))
    inside = np.abs(rows[:, WEIGHT] - done.rows[:, WEIGHT]) < norm.ppf(0.95) * done.deviations[:, WEIGHT]
    assert abs(inside.mean() - 0.9) < 0.015


def test_memory_is_that_of_the_filled_rows_and_of_one_block() -> None:
    """Temporaries of every row, component and column take more than 60 times as much as the rows."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60_000, 10)) * np.arange(1.0, 11.0)
    rows[generator.random(len(rows)) < 0.5, 3] = np.nan
    fitted = GaussianMixture(16, max_iter=2, init_params="random_from_data", random_state=0, reg_covar=0.1, tol=1e6)
    fitted.fit(rows[:500])
    tracemalloc.start()
    try:
        done = fitted.impute(rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * rows.nbytes
    assert not np.isnan(done.rows).any()


def test_blocks_fill_as_all_rows_at_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = blanked(rows_of(100), 0.4)
    whole = impute(mixed(), parameters_of(), rows, 0, np.random.default_rng(0))
    monkeypatch.setattr(imputation, "rows_in_block", lambda *_: 7)
    still = Coordinates(np.zeros(rows.shape[1]), np.ones(rows.shape[1]))
    done = imputation.impute_in(still, mixed(), parameters_of(), rows, 3, np.random.default_rng(0))
    for name in ("rows", "means", "deviations", "probabilities"):
        np.testing.assert_allclose(getattr(done, name), getattr(whole, name), rtol=1e-12)
    assert done.draws.shape == (3, *rows.shape) and not np.isnan(done.draws).any()
    assert not (done.draws[0] == done.draws[1]).all()
