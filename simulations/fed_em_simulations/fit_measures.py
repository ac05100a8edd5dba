"""What a fit was worth: on rows that nobody trained on, against the optimum, against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from fed_em.alignment import align, reordered
from fed_em.coordinates import Coordinates
from fed_em.covariance import covariance_matrices
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.divergence import Mixture
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.parameters import Parameters
from fed_em_simulations.common_ground import CommonGround
from fed_em_simulations.known_mixture import Truth
from fed_em_simulations.methods import Fitted
from fed_em_simulations.session_settings import in_other_coordinates

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
    """How far parameters are from the truth, components matched (`fed_em.alignment`); NaN of what the model has not.

    Attributes:
        weights: Total variation distance of the mixing weights, 0 to 1.
        means: Root of the mean square difference of means, over components and columns, in standard deviations of the columns.
        covariances: Largest over components of ‖Σ − Σ̂‖_F / ‖Σ‖_F.
        probabilities: Total variation distance of the levels of a categorical column, or of yes and no, 0 to 1: mean over components and
            columns.
        rates: Root of the mean square relative difference of rates, over components and columns.
    """

    weights: float
    means: float
    covariances: float
    probabilities: float
    rates: float


def parameter_error(
    truth: Truth, model: Mixture, parameters: Parameters, coordinates: Coordinates
) -> ParameterError | None:
    """The error of a fit in some coordinates; None if it has another number of components than the truth."""
    if model.n_components != truth.model.n_components:
        return None
    true_model, true = in_coordinates(truth, coordinates)
    order = align(true_model, true, model, parameters).order
    found = reordered(model, parameters, order)
    means, covariances = np.nan, np.nan
    if "means" in true:
        matrices = covariance_matrices(model.covariance, found["covariances"], found["means"])
        differences = np.linalg.norm(matrices - true["covariances"], axis=(1, 2))
        means = float(np.sqrt(np.mean((found["means"] - true["means"]) ** 2)))
        covariances = float((differences / np.linalg.norm(true["covariances"], axis=(1, 2))).max())
    rates = float(np.sqrt(np.mean((found[RATES] / true[RATES] - 1) ** 2))) if RATES in true else np.nan
    weights = float(np.abs(found["weights"] - true["weights"]).sum() / 2)
    return ParameterError(weights, means, covariances, _of_probabilities(true_model, true, found), rates)


def _of_probabilities(model: Mixture, true: Parameters, found: Parameters) -> float:
    distances: list[Vector] = []
    if LEVEL_PROBABILITIES in true and isinstance(model, MixedMixtureModel):
        apart = np.abs(true[LEVEL_PROBABILITIES] - found[LEVEL_PROBABILITIES])
        distances += [apart[:, levels].sum(axis=1) / 2 for levels in model.schema.level_slices]
    if SUCCESS_PROBABILITIES in true:
        distances += list(np.abs(true[SUCCESS_PROBABILITIES] - found[SUCCESS_PROBABILITIES]).T)
    return float(np.mean(distances)) if distances else np.nan


def in_coordinates(truth: Truth, coordinates: Coordinates) -> tuple[Mixture, Parameters]:
    """A truth in other coordinates, with full covariances."""
    model = truth.model
    full: Mixture = GaussianMixtureModel(model.n_components, model.n_columns)
    if isinstance(model, MixedMixtureModel):
        full = MixedMixtureModel(model.n_components, model.schema)
    if "means" not in truth.parameters:
        return full, truth.parameters
    means = truth.parameters["means"]
    matrices = covariance_matrices(model.covariance, truth.parameters["covariances"], means)
    unchanged = Coordinates.identity(model.n_columns)
    return full, in_other_coordinates(
        full, Parameters({**truth.parameters, "covariances": matrices}), unchanged, coordinates
    )
