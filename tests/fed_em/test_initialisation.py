"""Starts from one Gaussian's moments."""

from __future__ import annotations

import numpy as np
import pytest

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import start_from_moments
from fed_em.parameters import Parameters

COVARIANCE = np.array([[2.0, 0.5], [0.5, 1.0]])
MOMENTS = Parameters({"weights": [1.0], "means": [[3.0, -1.0]], "covariances": [COVARIANCE]})


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        ("full", np.stack([COVARIANCE] * 3)),
        ("tied", COVARIANCE),
        ("diag", np.array([[2.0, 1.0]] * 3)),
        ("spherical", np.full(3, 1.5)),
    ],
)
def test_every_component_has_the_covariance_of_all(structure: CovarianceStructure, expected: object) -> None:
    model = GaussianMixtureModel(3, 2, structure)
    start = start_from_moments(model, MOMENTS, seed=0)
    model.validate(start)
    np.testing.assert_array_equal(start["covariances"], expected)
    np.testing.assert_allclose(start["weights"], 1 / 3)


def test_means_are_drawn_from_the_one_gaussian() -> None:
    means = start_from_moments(GaussianMixtureModel(20_000, 2), MOMENTS, seed=1)["means"]
    np.testing.assert_allclose(means.mean(axis=0), [3.0, -1.0], atol=0.05)
    np.testing.assert_allclose(np.cov(means.T), COVARIANCE, atol=0.08)


def test_the_seed_decides() -> None:
    for structure in COVARIANCE_STRUCTURES:
        model = GaussianMixtureModel(3, 2, structure)
        first, again, other = (start_from_moments(model, MOMENTS, seed)["means"] for seed in (5, 5, 6))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_the_stream_of_random_numbers_is_pinned() -> None:
    """Should a later numpy draw other normals, sessions recorded before could not be replayed."""
    unit = Parameters({"weights": [1.0], "means": [[0.0, 0.0]], "covariances": [np.eye(2)]})
    means = start_from_moments(GaussianMixtureModel(2, 2), unit, seed=2024)["means"]
    pinned = [[1.0288568739519013, 1.6419200406711503], [1.1467195295966137, -0.9731795154745656]]
    np.testing.assert_allclose(means, pinned, rtol=1e-14)


@pytest.mark.parametrize(
    ("moments", "seed", "named"),
    [
        (MOMENTS, -1, "seed"),
        (MOMENTS, 1.5, "seed"),
        (Parameters({**MOMENTS, "covariances": [np.ones((2, 2))]}), 0, "covariances"),
        (Parameters({**MOMENTS, "means": [[1.0, 2.0, 3.0]]}), 0, "means"),
        (Parameters({**MOMENTS, "means": [[np.nan, 2.0]]}), 0, "means"),
    ],
)
def test_unfit_moments_are_refused(moments: Parameters, seed: int, named: str) -> None:
    with pytest.raises(CallerError, match=named):
        start_from_moments(GaussianMixtureModel(2, 2), moments, seed)
