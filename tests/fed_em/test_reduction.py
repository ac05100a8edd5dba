"""Gaussian mixtures reduced to fewer components, by parameters alone."""

from __future__ import annotations

import numpy as np
import pytest

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure, covariance_matrices, restrict
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.reduction import _Gaussians, reductions

CENTRES = np.array([[-6.0, 0.0], [0.0, 5.0], [6.0, -1.0]])

# Where the means of the halves are.
TOGETHER = CENTRES - np.array([[0.0, 0.0], [0.0, 0.0], [0.25, 0.0]])


def halves(structure: CovarianceStructure) -> tuple[GaussianMixtureModel, Parameters]:
    """Each of three far components as two that lie beside each other."""
    means = np.repeat(CENTRES, 2, axis=0) + np.tile([[-0.5, 0.0], [0.5, 0.0]], (3, 1))
    arrays = {"weights": [0.1, 0.1, 0.2, 0.2, 0.3, 0.1], "means": means}
    return GaussianMixtureModel(6, 2, structure), Parameters(
        {**arrays, "covariances": restrict(structure, 0.8 * np.eye(2), 6)}
    )


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_halves_of_components_come_together_with_the_moments_of_both(structure: CovarianceStructure) -> None:
    many, parameters = halves(structure)
    few = GaussianMixtureModel(3, 2, structure)
    best = reductions(many, [parameters], few, 4, np.random.default_rng(0))[0]
    few.validate(best)
    order = np.argsort(best["means"][:, 0])
    np.testing.assert_allclose(best["weights"][order], [0.2, 0.4, 0.4])
    np.testing.assert_allclose(best["means"][order], TOGETHER)
    # Of two means one apart with shares p and 1 - p the variance between is p (1 - p).
    between = np.array([0.25, 0.25, 0.1875])
    matrices = covariance_matrices(structure, best["covariances"], best["means"])[order]
    expected = 0.8 + (np.tile(np.average(between, weights=[0.2, 0.4, 0.4]), 3) if structure == "tied" else between)
    np.testing.assert_allclose(np.trace(matrices, axis1=1, axis2=2), 0.8 + expected)


def test_several_mixtures_count_alike_and_reductions_differ() -> None:
    many, parameters = halves("full")
    moved = Parameters({**parameters, "means": parameters["means"] + np.array([0.0, 1.0])})
    found = reductions(many, [parameters, moved], GaussianMixtureModel(3, 2), 3, np.random.default_rng(1))
    order = np.argsort(found[0]["means"][:, 0])
    np.testing.assert_allclose(found[0]["means"][order], TOGETHER + np.array([0.0, 0.5]))
    # Of three far components two come together, whichever, and the nearer the better.
    pair = reductions(many, [parameters, moved], GaussianMixtureModel(2, 2), 3, np.random.default_rng(1))
    assert len(pair) > 1 and pair[0].distance(pair[1]) > 1e-3
    again = reductions(many, [parameters, moved], GaussianMixtureModel(2, 2), 3, np.random.default_rng(1))
    assert all(one.distance(other) == 0.0 for one, other in zip(pair, again, strict=True))


def test_divergences_are_those_of_samples() -> None:
    generator = np.random.default_rng(2)
    roots = generator.standard_normal((2, 2, 2)) + 1.5 * np.eye(2)
    matrices, means = roots @ np.swapaxes(roots, 1, 2), generator.standard_normal((2, 2))
    model = GaussianMixtureModel(1, 2)
    one, other = (Parameters({"weights": [1.0], "means": means[[k]], "covariances": matrices[[k]]}) for k in range(2))
    rows = generator.multivariate_normal(means[0], matrices[0], 200_000)
    ratios = model.log_prob(one, rows) - model.log_prob(other, rows)
    found = _Gaussians.of(model, [one]).divergences(_Gaussians.of(model, [other]))
    assert found[0, 0] == pytest.approx(ratios.mean(), abs=4 * ratios.std() / np.sqrt(len(rows)))


def test_where_every_seed_leaves_a_group_empty_the_nearest_are_merged() -> None:
    """Of equal components no grouping tells any apart."""
    many = GaussianMixtureModel(4, 2)
    same = Parameters({"weights": [0.25] * 4, "means": np.zeros((4, 2)), "covariances": np.tile(np.eye(2), (4, 1, 1))})
    (found,) = reductions(many, [same], GaussianMixtureModel(2, 2), 3, np.random.default_rng(0))
    assert found["means"].shape == (2, 2) and found["weights"].sum() == pytest.approx(1.0)
