"""Where EM starts from: one Gaussian's moments, or given responsibilities.

Federated, the first secure sum fits one Gaussian to everything (`moments_model` at `standard_gaussian`); its mean and
covariance are all that a start needs. Where cells may be missing it is diagonal, as one round gives the moments of observed
cells and no covariance of all: starts then have the correlations zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import restrict
from fed_em.description import check_whole_number
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model import Model
from fed_em.observed_moments import ObservedMomentsModel
from fed_em.parameters import Parameters

Vector = NDArray[np.float64]


def moments_model(n_columns: int, missing: bool = False) -> Model:
    """One Gaussian without a floor: one E- and M-step give the sample mean and covariance, full.

    Args:
        n_columns: D.
        missing: Whether cells may be missing; then the moments are of each column's observed cells, the covariance diagonal.
    """
    return (
        ObservedMomentsModel(n_columns) if missing else GaussianMixtureModel(1, n_columns, "full", covariance_floor=0.0)
    )


def standard_gaussian(n_columns: int) -> Parameters:
    """Mean 0, covariance I: parameters at which to evaluate `moments_model`."""
    return Parameters(
        {
            "weights": np.ones(1),
            "means": np.zeros((1, n_columns)),
            "covariances": np.eye(n_columns)[np.newaxis],
        }
    )


def start_from_moments(model: GaussianMixtureModel, moments: Parameters, seed: int) -> Parameters:
    """Means drawn from the one Gaussian of all records, its covariance for every component, equal weights.

    The draw is `L z`, L the lower Cholesky factor and z standard normals of
    `numpy.random.Generator(PCG64(seed))`, so the same seed gives the same start on every machine, up to
    rounding, as long as numpy keeps that stream.

    Args:
        model: The mixture to start.
        moments: Parameters of `moments_model`, in the coordinates of the E-step.
        seed: At least 0.

    Raises:
        CallerError: the moments do not fit the model, their covariance is singular, or the seed is negative.
    """
    check_whole_number("seed", seed, 0)
    moments_model(model.n_columns).validate(moments)
    covariance = moments["covariances"][0]
    generator = np.random.Generator(np.random.PCG64(seed))
    normals = generator.standard_normal((model.n_components, model.n_columns))
    return Parameters(
        {
            "weights": np.full(model.n_components, 1.0 / model.n_components),
            "means": moments["means"][0] + normals @ np.linalg.cholesky(covariance).T,
            "covariances": restrict(model.covariance, covariance, model.n_components),
        }
    )
