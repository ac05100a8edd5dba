"""Gaussian mixtures whose truth is known, with components that overlap as much as one asks.

The overlap of two components is their Bhattacharyya coefficient ∫ √(p q) (`fed_em.divergence`): 1 for equal ones, 0 for those that exclude
each other. Means are drawn from a Gaussian and then moved apart, or together, by one factor, until the *largest* overlap of any two
components is the one wanted; the covariances stay. Maitra and Melnykov (2010), "Simulating data to study performance of finite
mixture modeling and clustering algorithms", do so with misclassification in place of the coefficient, which bounds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat
from scipy.optimize import brentq

from fed_em.covariance import CovarianceStructure, covariance_matrices
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.divergence import Mixture, component_distances
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em_protocols.configuration import Table
from fed_em_simulations.random_streams import stream

Vector = NDArray[np.float64]

# Standard deviation of the logarithms of the axes of components.
_AXES = 0.25

# Means are moved by factors in this range.
_NEAREST, _FARTHEST = 1e-6, 1e6


@dataclass(frozen=True, eq=False)
class Truth:
    """What rows are drawn from.

    Attributes:
        model: A mixture.
        parameters: Its parameters, in original units.
    """

    model: Mixture
    parameters: Parameters

    @property
    def mean(self) -> Vector:
        """Of all rows, `(D,)`; levels count as their numbers."""
        return np.asarray(self.parameters["weights"] @ self._moments[0])

    @property
    def deviation(self) -> Vector:
        """Standard deviation of each column, over all components, `(D,)`; likewise."""
        weights, (means, within) = self.parameters["weights"], self._moments
        return np.asarray(np.sqrt(weights @ within + weights @ (means - self.mean) ** 2))

    @property
    def _moments(self) -> tuple[Vector, Vector]:
        """Mean and variance of each column in each component, `(K, D)`."""
        if isinstance(self.model, GaussianMixtureModel):
            return self._gaussian_moments
        schema, parameters = self.model.schema, self.parameters
        means, variances = np.zeros((2, self.model.n_components, self.model.n_columns))
        if len(schema.gaussian):
            means[:, schema.gaussian], variances[:, schema.gaussian] = self._gaussian_moments
        for place, levels in zip(schema.categorical, schema.level_slices, strict=True):
            probabilities = parameters[LEVEL_PROBABILITIES][:, levels]
            numbers = np.arange(probabilities.shape[1])
            means[:, place] = probabilities @ numbers
            variances[:, place] = probabilities @ numbers**2 - means[:, place] ** 2
        if len(schema.bernoulli):
            yes = parameters[SUCCESS_PROBABILITIES]
            means[:, schema.bernoulli], variances[:, schema.bernoulli] = yes, yes * (1 - yes)
        if len(schema.poisson):
            means[:, schema.poisson] = variances[:, schema.poisson] = parameters[RATES]
        return means, variances

    @property
    def _gaussian_moments(self) -> tuple[Vector, Vector]:
        means = self.parameters["means"]
        matrices = covariance_matrices(self.model.covariance, self.parameters["covariances"], means)
        return means, np.diagonal(matrices, axis1=1, axis2=2)

    @property
    def overlap(self) -> float:
        """The largest Bhattacharyya coefficient of two components; 0 of a single one."""
        return _overlap(self.model, self.parameters)

    def with_weights(self, weights: Vector) -> Truth:
        """The same components in other shares `(K,)`."""
        return Truth(self.model, Parameters({**self.parameters, "weights": weights}))


class KnownMixture(Table):
    """A Gaussian mixture to be drawn, with equal weights and components of volume 1."""

    components: Annotated[int, Field(ge=1)] = 4
    """K."""
    columns: Annotated[int, Field(ge=1)] = 3
    """D."""
    overlap: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.1
    """The largest Bhattacharyya coefficient of any two components; of one component nothing."""
    covariance: CovarianceStructure = "full"
    """Of the components."""

    def truth(self, seed: int) -> Truth:
        """The mixture of this seed.

        Raises:
            CallerError: its covariances alone keep components further apart than that, or the seed is negative.
        """
        generator = stream(seed, "truth")
        model = GaussianMixtureModel(self.components, self.columns, self.covariance)
        directions = generator.standard_normal((self.components, self.columns))
        arrays = {
            "weights": np.full(self.components, 1.0 / self.components),
            "covariances": drawn_covariances(self.covariance, self.components, self.columns, generator),
        }

        def moved(factor: float) -> Parameters:
            return Parameters({**arrays, "means": factor * directions})

        if self.components == 1:
            return Truth(model, moved(1.0))

        def excess(log_factor: float) -> float:
            # Distances and not coefficients: those are 0 in float64 where means are far apart.
            return least_distance(model, moved(float(np.exp(log_factor)))) + float(np.log(self.overlap))

        if excess(np.log(_NEAREST)) > 0:
            most = float(np.exp(-least_distance(model, moved(0.0))))
            raise CallerError(
                f"no two components with these covariances overlap by {self.overlap}",
                remedy=f"give an overlap below {most:.3f}, another seed, or covariance = 'tied'",
            )
        return Truth(model, moved(float(np.exp(brentq(excess, np.log(_NEAREST), np.log(_FARTHEST), xtol=1e-13)))))


def drawn_covariances(
    covariance: CovarianceStructure, n_components: int, n_columns: int, generator: np.random.Generator
) -> Vector:
    """Covariances of volume 1, as parameters have them in that structure."""
    shape = {"tied": 1, "spherical": 0}.get(covariance, n_components)
    if not shape:
        return np.ones(n_components)
    logs = _AXES * generator.standard_normal((shape, n_columns))
    axes = np.exp(2 * (logs - logs.mean(axis=1, keepdims=True)))
    if covariance == "diag":
        return np.asarray(axes)
    turns = np.linalg.qr(generator.standard_normal((shape, n_columns, n_columns)))[0]
    matrices = np.einsum("kij,kj,klj->kil", turns, axes, turns)
    matrices = (matrices + np.swapaxes(matrices, 1, 2)) / 2
    return np.asarray(matrices[0] if covariance == "tied" else matrices)


def least_distance(model: Mixture, parameters: Parameters) -> float:
    """The Bhattacharyya distance of the two nearest components, of two or more."""
    distances = component_distances(model, parameters, model, parameters)
    return float(distances[~np.eye(model.n_components, dtype=bool)].min())


def _overlap(model: Mixture, parameters: Parameters) -> float:
    return float(np.exp(-least_distance(model, parameters))) if model.n_components > 1 else 0.0
