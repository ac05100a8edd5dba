"""Imputed cells against brute force, and draws against the moments that they should have."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

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
    for d in (COLOUR, SMOKER):
        assert (done.probabilities[seen[:, d], d] == 1).all()
        assert (done.probabilities[~seen[:, d], d] >= 1 / 3).all() and np.isnan(done.deviations[:, d]).all()


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
