"""What single records add is what the E-step of them together gives."""

from __future__ import annotations

import numpy as np
import pytest

from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.covariance import CovarianceStructure
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em_simulations.attacks.record_terms import terms_of_records

COVARIANCES = {
    "full": np.array([[[1.0, 0.2], [0.2, 2.0]], [[1.0, 0.0], [0.0, 1.0]]]),
    "tied": np.array([[1.0, 0.2], [0.2, 2.0]]),
    "diag": np.array([[1.0, 2.0], [0.5, 1.0]]),
    "spherical": np.array([1.0, 2.0]),
}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_they_add_up_and_are_those_of_single_records(covariance: CovarianceStructure, missing: bool) -> None:
    model = GaussianMixtureModel(2, 2, covariance, missing=missing)
    parameters = Parameters({
        "weights": np.array([0.3, 0.7]), "means": np.array([[0.0, 1.0], [2.0, -1.0]]), "covariances": COVARIANCES[covariance],
    })  # fmt: skip
    at = Broadcast(model, Coordinates(np.array([1.0, 2.0]), np.array([2.0, 0.5])), parameters)
    rows = np.random.default_rng(0).normal(1.0, 2.0, (7, 2))
    z, layout = at.coordinates.apply(rows), model.layout()
    terms = terms_of_records(at, z, layout)
    np.testing.assert_allclose(terms.sum(axis=0), model.e_step(parameters, z).vector, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(terms[3], model.e_step(parameters, z[3:4]).vector, rtol=1e-10, atol=1e-10)
    assert terms_of_records(at, z[:0], layout).shape == (0, layout.size)
