"""The best mixing weights: against a grid, against a general solver, and by what makes them the best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from fed_em.mixing_weights import TOLERANCE, best_mixing_weights

Vector = NDArray[np.float64]


def value(weights: Vector, densities: Vector, counts: Vector, pseudo_records: float) -> float:
    """L(π), straight from its formula."""
    with np.errstate(divide="ignore"):
        prior = pseudo_records / len(weights) * np.log(weights).sum() if pseudo_records else 0.0
        return float(counts @ np.log(densities @ weights) + prior)


def problem(n: int, n_components: int, seed: int, sharpness: float = 1.0) -> tuple[Vector, Vector]:
    """Densities, from nearly equal to all but certain, and counts."""
    generator = np.random.default_rng(seed)
    logs = sharpness * generator.standard_normal((n, n_components))
    densities = np.exp(logs - logs.max(axis=1, keepdims=True))
    return densities / densities.sum(axis=1, keepdims=True), generator.choice([0.25, 1.0, 3.0], n)


@pytest.mark.parametrize("pseudo_records", [0.0, 1.0, 7.5])
@pytest.mark.parametrize("seed", range(2))
def test_no_point_of_a_fine_grid_is_better(seed: int, pseudo_records: float) -> None:
    densities, counts = problem(25, 3, seed)
    found = best_mixing_weights(densities, counts, pseudo_records)
    steps = np.linspace(0.0, 1.0, 201)
    grid = [np.array([a, b, max(1.0 - a - b, 0.0)]) for a in steps for b in steps if a + b <= 1.0 + 1e-12]
    best = max(value(point, densities, counts, pseudo_records) for point in grid)
    assert best - 1e-9 <= value(found, densities, counts, pseudo_records) <= best + 0.02


@pytest.mark.parametrize("seed", range(4))
def test_a_general_solver_finds_the_same(seed: int) -> None:
    densities, counts = problem(200, 5, seed, sharpness=2.0)
    found = best_mixing_weights(densities, counts, 2.0)
    theirs = minimize(
        lambda weights: -value(np.maximum(weights, 1e-15), densities, counts, 2.0),
        np.full(5, 0.2),
        method="SLSQP",
        bounds=[(1e-12, 1.0)] * 5,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1.0},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(found, theirs.x, atol=2e-5)
    assert value(found, densities, counts, 2.0) >= -float(theirs.fun) - 1e-8


@given(
    n=st.integers(0, 40),
    n_components=st.integers(1, 7),
    seed=st.integers(0, 10**6),
    sharpness=st.sampled_from([0.0, 0.01, 1.0, 10.0, 300.0]),
    pseudo_records=st.sampled_from([0.0, 1e-3, 1.0, 50.0]),
)
@settings(max_examples=100, deadline=None)
def test_by_the_gradient_none_are_better(
    n: int, n_components: int, seed: int, sharpness: float, pseudo_records: float
) -> None:
    densities, counts = problem(n, n_components, seed, sharpness)
    found = best_mixing_weights(densities, counts, pseudo_records)
    assert found.shape == (n_components,) and (found >= 0).all() and abs(found.sum() - 1) < 1e-12
    if n == 0:
        np.testing.assert_allclose(found, 1.0 / n_components, rtol=1e-9)
        return
    gradient = (counts / (densities @ found)) @ densities
    if pseudo_records:
        gradient = gradient + pseudo_records / n_components / found
    records = counts.sum() + pseudo_records
    assert gradient.max() - records <= 2 * TOLERANCE * records
    again = best_mixing_weights(densities, counts, pseudo_records)
    assert again.tobytes() == found.tobytes()


def test_rows_that_are_told_apart_are_counted() -> None:
    densities = np.eye(4)[[0, 0, 0, 1, 1, 3]]
    np.testing.assert_allclose(best_mixing_weights(densities, np.ones(6), 0.0), [1 / 2, 1 / 3, 0, 1 / 6], atol=1e-9)
    np.testing.assert_allclose(
        best_mixing_weights(densities, np.ones(6), 2.0), [3.5 / 8, 2.5 / 8, 0.5 / 8, 1.5 / 8], atol=1e-9
    )


def test_components_that_are_alike_share_what_is_theirs() -> None:
    densities = np.tile([0.4, 0.4, 0.2], (50, 1))
    found = best_mixing_weights(densities, np.ones(50), 0.0)
    assert found[2] < 1e-9 and found[0] + found[1] > 1 - 1e-9


def test_hard_problems_take_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Components that overlap much: EM alone would take thousands of iterations."""
    monkeypatch.setattr("fed_em.mixing_weights._MOST_STEPS", 20)
    generator = np.random.default_rng(0)
    rows = generator.normal(0.3, 1.0, 5000)
    densities = np.exp(-0.5 * (rows[:, np.newaxis] - np.linspace(-1, 1, 10)) ** 2)
    found = best_mixing_weights(densities, np.ones(5000), 0.0)
    gradient = (1 / (densities @ found)) @ densities
    assert gradient.max() <= 5000 * (1 + 2 * TOLERANCE)
    em = np.full(10, 0.1)
    for _ in range(500):
        em *= ((1 / (densities @ em)) @ densities) / 5000
    assert ((1 / (densities @ em)) @ densities).max() > 5000 * (1 + 1e-6)
