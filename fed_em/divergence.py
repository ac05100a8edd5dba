"""How far apart the components of mixtures are: Bhattacharyya distances.

    B(p, q) = −log ∫ √(p q)

is 0 for equal densities, symmetric, finite unless they exclude each other, and adds up over independent columns:

    Gaussian      ⅛ δᵀ S⁻¹ δ + ½ log ( |S| / √(|Σ_p| |Σ_q|) ),   S = (Σ_p + Σ_q) / 2,   δ = μ_p − μ_q
    categorical   −log Σ_l √(p_l q_l)
    Bernoulli     the same over yes and no
    Poisson       ½ (√λ_p − √λ_q)²

√(w_p w_q) e^(−B) bounds the error of telling the two components apart (Kailath 1967, "The divergence and Bhattacharyya distance
measures in signal selection", IEEE Transactions on Communication Technology 15).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fed_em.columns import ColumnSchema
from fed_em.covariance import covariance_matrices
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.parameters import Parameters

Vector = NDArray[np.float64]

# The mixtures whose components have a distance in closed form.
Mixture = GaussianMixtureModel | MixedMixtureModel


def component_distances(model: Mixture, parameters: Parameters, other_model: Mixture, other: Parameters) -> Vector:
    """Bhattacharyya distances of all pairs of components, `(K, K_other)`; infinite for those that exclude each other.

    Args:
        model: A mixture.
        parameters: Its parameters.
        other_model: A mixture over the same columns, whatever its number of components and structure.
        other: Its parameters, in the same coordinates.

    Raises:
        CallerError: the mixtures are over different columns.
    """
    schema = _schema(model)
    if schema != _schema(other_model) or model.n_columns != other_model.n_columns:
        raise CallerError("components of mixtures over different columns cannot be compared")
    total = np.zeros((model.n_components, other_model.n_components))
    if "means" in parameters:
        total += _gaussian(model, parameters, other_model, other)
    if schema is not None:
        total += _discrete(schema, parameters, other)
    return total


def hausdorff_distance(model: Mixture, parameters: Parameters, other: Parameters) -> float:
    """The distance of the component of either of two fits that is farthest from all of the other: 0 where both have the same ones."""
    distances = component_distances(model, parameters, model, other)
    return float(max(distances.min(axis=1).max(), distances.min(axis=0).max()))


def _schema(model: Mixture) -> ColumnSchema | None:
    return model.schema if isinstance(model, MixedMixtureModel) else None


def _gaussian(model: Mixture, parameters: Parameters, other_model: Mixture, other: Parameters) -> Vector:
    means, others = parameters["means"], other["means"]
    matrices = covariance_matrices(model.covariance, parameters["covariances"], means)[:, np.newaxis]
    other_matrices = covariance_matrices(other_model.covariance, other["covariances"], others)[np.newaxis]
    between = (matrices + other_matrices) / 2
    deviations = means[:, np.newaxis] - others
    distances = (deviations * np.linalg.solve(between, deviations[..., np.newaxis])[..., 0]).sum(axis=-1)
    logs = np.linalg.slogdet(between)[1] - (np.linalg.slogdet(matrices)[1] + np.linalg.slogdet(other_matrices)[1]) / 2
    return np.asarray(distances / 8 + logs / 2)


def _discrete(schema: ColumnSchema, parameters: Parameters, other: Parameters) -> Vector:
    total = np.zeros((len(parameters["weights"]), len(other["weights"])))
    with np.errstate(divide="ignore"):
        for levels in schema.level_slices:
            total -= np.log(
                _affinity(parameters[LEVEL_PROBABILITIES][:, levels], other[LEVEL_PROBABILITIES][:, levels])
            )
        for j in range(len(schema.bernoulli)):
            yes, others = parameters[SUCCESS_PROBABILITIES][:, j], other[SUCCESS_PROBABILITIES][:, j]
            total -= np.log(_affinity(np.stack((yes, 1 - yes), axis=1), np.stack((others, 1 - others), axis=1)))
        for j in range(len(schema.poisson)):
            roots, others = np.sqrt(parameters[RATES][:, j]), np.sqrt(other[RATES][:, j])
            total += (roots[:, np.newaxis] - others) ** 2 / 2
    return total


def _affinity(probabilities: Vector, others: Vector) -> Vector:
    return np.asarray(np.minimum(np.sqrt(probabilities) @ np.sqrt(others).T, 1.0))
