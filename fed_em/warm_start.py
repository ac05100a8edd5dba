"""A start from a model that was fitted before, over the same columns: its parameters in other coordinates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fed_em.coordinates import Coordinates
from fed_em.covariance import CovarianceStructure, covariance_matrices
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.divergence import Mixture
from fed_em.errors import CallerError
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters

Vector = NDArray[np.float64]

# Of each probability, so that a level which the fitted model had never seen is not impossible now.
_OPENED = 1e-6


def warm_start(model: Mixture, columns: tuple[str, ...], coordinates: Coordinates, fitted: FittedModel) -> Parameters:
    """The fitted parameters as a start of a model.

    Its covariances may have another structure: tied ones are then the mean of all by weight, spherical ones the mean of the variances.

    Args:
        model: What is to be fitted.
        columns: The names of its columns, in order.
        coordinates: Those of its E-step.
        fitted: A mixture of the same family, columns and number of components.

    Raises:
        CallerError: it is another one; says in what they differ.
    """
    _require_alike(model, columns, fitted)
    before = fitted.parameters
    arrays: dict[str, Vector] = {"weights": before["weights"]}
    gaussian = model.gaussian
    if gaussian is not None:
        arrays["means"], matrices = gaussians_in(coordinates, fitted)
        arrays["covariances"] = _structured(gaussian.covariance, matrices, before["weights"])
    if LEVEL_PROBABILITIES in before:
        assert isinstance(model, MixedMixtureModel)
        arrays[LEVEL_PROBABILITIES] = before[LEVEL_PROBABILITIES].copy()
        for levels in model.schema.level_slices:
            arrays[LEVEL_PROBABILITIES][:, levels] += _OPENED
            arrays[LEVEL_PROBABILITIES][:, levels] /= 1.0 + _OPENED * (levels.stop - levels.start)
    if SUCCESS_PROBABILITIES in before:
        arrays[SUCCESS_PROBABILITIES] = np.clip(before[SUCCESS_PROBABILITIES], _OPENED, 1.0 - _OPENED)
    if RATES in before:
        arrays[RATES] = np.maximum(before[RATES], _OPENED)
    start = Parameters(arrays)
    model.validate(start)
    return start


def gaussians_in(coordinates: Coordinates, fitted: FittedModel) -> tuple[Vector, Vector]:
    """Means `(K, D)` and covariance matrices `(K, D, D)` of the D Gaussian columns, one at least, of a mixture, in other coordinates."""
    model, parameters = fitted.model, fitted.parameters
    assert isinstance(model, Mixture)
    own = model.gaussian
    assert own is not None
    places = model.gaussian_places
    scale = (fitted.coordinates.scale / coordinates.scale)[places]
    shift = ((fitted.coordinates.location - coordinates.location) / coordinates.scale)[places]
    matrices = covariance_matrices(own.covariance, parameters["covariances"], parameters["means"])
    return parameters["means"] * scale + shift, matrices * np.outer(scale, scale)


def _require_alike(model: Mixture, columns: tuple[str, ...], fitted: FittedModel) -> None:
    other, remedy = fitted.model, "start from a model of the same kind, or leave the start out"
    if not isinstance(other, Mixture) or other.family != model.family:
        raise CallerError(
            f"the model to start from is of the family '{other.family}', not '{model.family}'", remedy=remedy
        )
    if other.n_components != model.n_components:
        raise CallerError(
            f"the model to start from has {other.n_components} components, this one has {model.n_components}",
            remedy=remedy,
        )
    if fitted.columns != columns:
        theirs, ours = ", ".join(fitted.columns), ", ".join(columns)
        raise CallerError(f"the model to start from has the columns {theirs}; this one has {ours}", remedy=remedy)
    if isinstance(model, MixedMixtureModel) and isinstance(other, MixedMixtureModel):
        for mine, found in zip(model.schema.columns, other.schema.columns, strict=True):
            if mine != found:
                raise CallerError(
                    f"column '{mine.name}' is another one in the model to start from: of another kind, or with other levels or counts",
                    remedy=remedy,
                )


def _structured(structure: CovarianceStructure, matrices: Vector, weights: Vector) -> Vector:
    """Covariance matrices `(K, D, D)` in another structure."""
    match structure:
        case "full":
            return matrices
        case "tied":
            return np.asarray(np.tensordot(weights / weights.sum(), matrices, axes=1))
        case "diag":
            return np.asarray(np.diagonal(matrices, axis1=1, axis2=2).copy())
        case "spherical":
            return np.asarray(np.diagonal(matrices, axis1=1, axis2=2).mean(axis=1))
