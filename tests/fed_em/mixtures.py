"""Small Gaussian mixtures and what is true of them by definition, for tests of partial sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from fed_em.covariance import CovarianceStructure, covariance_matrices
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior

Vector = NDArray[np.float64]

PRIOR = GaussianMixturePrior(
    (0.5, -0.2), (0.6, 1.1), mean_precision=0.7, degrees_of_freedom=5.0, weight_concentration=2.5
)
MEANS = np.array([[-2.0, 0.0], [1.5, 1.0], [0.5, -2.5]])
COVARIANCES: dict[CovarianceStructure, Vector] = {
    "full": np.array([[[1.0, 0.3], [0.3, 0.7]], [[0.8, -0.2], [-0.2, 1.1]], [[0.6, 0.1], [0.1, 0.9]]]),
    "tied": np.array([[1.0, 0.3], [0.3, 0.7]]),
    "diag": np.array([[1.0, 0.7], [0.8, 1.1], [0.6, 0.9]]),
    "spherical": np.array([0.9, 1.1, 0.7]),
}


def mixture(
    structure: CovarianceStructure, prior: GaussianMixturePrior | None = None, n_components: int = 3
) -> GaussianMixtureModel:
    """A model whose M-step is an exact maximiser."""
    return GaussianMixtureModel(n_components, 2, structure, covariance_floor=0.0, prior=prior)


def parameters_of(structure: CovarianceStructure, n_components: int = 3, spread: float = 1.0) -> Parameters:
    covariances = COVARIANCES[structure]
    return Parameters(
        {
            "weights": np.arange(2.0, 2.0 + n_components) / np.arange(2.0, 2.0 + n_components).sum(),
            "means": spread * MEANS[:n_components],
            "covariances": covariances if structure == "tied" else covariances[:n_components],
        }
    )


def log_joint(model: GaussianMixtureModel, parameters: Parameters, rows: Vector) -> Vector:
    """log w_k N(x; μ_k, Σ_k), `(n, K)`, by scipy."""
    matrices = covariance_matrices(model.covariance, parameters["covariances"], parameters["means"])
    columns = [
        np.log(weight) + np.atleast_1d(multivariate_normal(mean, matrix).logpdf(rows))
        for weight, mean, matrix in zip(parameters["weights"], parameters["means"], matrices, strict=True)
    ]
    return np.stack(columns, axis=1)


def expected_log_joint(
    model: GaussianMixtureModel, parameters: Parameters, responsibilities: Vector, rows: Vector, over: Sequence[int]
) -> float:
    """Σ_i Σ_k r_ik log w_k N(x_i; μ_k, Σ_k), k in `over`."""
    return float((responsibilities * log_joint(model, parameters, rows))[:, list(over)].sum())


def negative_free_energy(
    model: GaussianMixtureModel, parameters: Parameters, parties: Iterable[tuple[Vector, Vector]]
) -> float:
    """F of Neal and Hinton (1998) plus the log prior, for (rows, responsibilities) of each party."""
    total = model.log_prior(parameters)
    for rows, r in parties:
        entropy = -float(np.where(r > 0, r * np.log(np.where(r > 0, r, 1.0)), 0.0).sum())
        total += expected_log_joint(model, parameters, r, rows, range(model.n_components)) + entropy
    return total
