"""What a fit was worth: on rows that nobody trained on, against the optimum, against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from fed_em.alignment import align
from fed_em.coordinates import Coordinates
from fed_em.covariance import covariance_matrices
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em_simulations.common_ground import CommonGround
from fed_em_simulations.known_mixture import Truth
from fed_em_simulations.methods import Fitted

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Mean log-density of held-out rows, in nats a row and original units.

    Attributes:
        mean: Over tenants, each counting alike.
        worst: Of the tenant for whom it is lowest.
        lacking: Tenants for whom the method has nothing, or who have no such rows; they are in neither of the two.
        ari: Adjusted Rand index of most probable components and true ones, over all held-out rows (Hubert and Arabie 1985); NaN
            without a truth, or where tenants have models of their own.
    """

    mean: float
    worst: float
    lacking: int
    ari: float


def held_out(ground: CommonGround, fitted: Fitted) -> HeldOut:
    """How well a method does on the rows that nobody trained on; NaN where it has nothing for anybody."""
    each, found, true = [], [], []
    for member in ground.tenants.members:
        parameters = fitted.of(member.name)
        if parameters is None or not len(member.held_out):
            continue
        rows = ground.coordinates.apply(member.held_out)
        each.append(float(ground.model.log_prob(parameters, rows).mean()) + ground.coordinates.log_jacobian)
        if member.components is not None:
            found.append(ground.model.responsibilities(parameters, rows).argmax(axis=1))
            true.append(member.components)
    lacking = len(ground.tenants.members) - len(each)
    if not each:
        return HeldOut(np.nan, np.nan, lacking, np.nan)
    comparable = bool(found) and fitted.parameters is not None
    ari = float(adjusted_rand_score(np.concatenate(true), np.concatenate(found))) if comparable else np.nan
    return HeldOut(float(np.mean(each)), min(each), lacking, ari)


def loss(ground: CommonGround, fitted: Fitted) -> float:
    """Log-likelihood of the rows trained on below that at the pooled optimum, nats a row; each tenant's rows at what it uses.

    Tenants for whom the method has nothing do not count. Negative where tenants have something of their own.
    """
    lost, rows = 0.0, 0.0
    for name, records in ground.parts.items():
        parameters = fitted.of(name)
        if parameters is not None and records.total_weight > 0:
            best, ours = (ground.model.log_prob(at, records) for at in (ground.optimum, parameters))
            lost, rows = lost + float((best - ours).sum()), rows + records.total_weight
    return lost / rows if rows else np.nan


@dataclass(frozen=True)
class ParameterError:
    """How far parameters are from the truth, components matched (`fed_em.alignment`).

    Attributes:
        weights: Total variation distance of the mixing weights, 0 to 1.
        means: Root of the mean square difference of means, over components and columns, in standard deviations of the columns.
        covariances: Largest over components of ‖Σ − Σ̂‖_F / ‖Σ‖_F.
    """

    weights: float
    means: float
    covariances: float


def parameter_error(
    truth: Truth, model: GaussianMixtureModel, parameters: Parameters, coordinates: Coordinates
) -> ParameterError | None:
    """The error of a fit in some coordinates; None if it has another number of components than the truth."""
    if model.n_components != truth.model.n_components:
        return None
    true_model, true = in_coordinates(truth, coordinates)
    order = align(true_model, true, model, parameters).order
    matrices = covariance_matrices(model.covariance, parameters["covariances"], parameters["means"])[order]
    differences = np.linalg.norm(matrices - true["covariances"], axis=(1, 2))
    return ParameterError(
        float(np.abs(parameters["weights"][order] - true["weights"]).sum() / 2),
        float(np.sqrt(np.mean((parameters["means"][order] - true["means"]) ** 2))),
        float((differences / np.linalg.norm(true["covariances"], axis=(1, 2))).max()),
    )


def in_coordinates(truth: Truth, coordinates: Coordinates) -> tuple[GaussianMixtureModel, Parameters]:
    """A truth in other coordinates, with full covariances."""
    means = truth.parameters["means"]
    matrices = covariance_matrices(truth.model.covariance, truth.parameters["covariances"], means)
    there = {
        "weights": truth.parameters["weights"],
        "means": coordinates.apply(means),
        "covariances": matrices / np.outer(coordinates.scale, coordinates.scale),
    }
    return GaussianMixtureModel(truth.model.n_components, truth.model.n_columns), Parameters(there)
