"""Mixtures over columns of mixed kinds whose truth is known, with components that overlap as much as one asks.

As `fed_em_simulations.known_mixture`: components are moved apart by one factor f, until the *largest* overlap of any two is the one wanted.
With standard normal directions z of each component and column, means are f z, logits of levels and of yes f z, and rates 3 e^(f z / 2).
Latent classes are the case of categorical columns alone.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, model_validator
from scipy.optimize import brentq
from scipy.special import expit, softmax

from fed_em.columns import BernoulliColumn, CategoricalColumn, Column, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.covariance import CovarianceStructure
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.errors import CallerError
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.parameters import Parameters
from fed_em_protocols.configuration import Table
from fed_em_simulations.known_mixture import Truth, drawn_covariances, least_distance
from fed_em_simulations.random_streams import stream

Vector = NDArray[np.float64]

# Factors by which components are moved apart, and the rate in their middle.
_FACTORS = np.geomspace(0.02, 4.0, 60)
_MIDDLE_RATE = 3.0

# A count beyond the declared largest one is drawn less than once in 10^12 times.
_SPREADS_OF_COUNTS = 12.0


class KnownMixedMixture(Table):
    """A mixture over columns of mixed kinds to be drawn, with equal weights: Gaussian columns first, then the others in this order."""

    kind: Literal["mixed"]
    """Columns of mixed kinds."""
    components: Annotated[int, Field(ge=2)] = 3
    """K."""
    gaussian: Annotated[int, Field(ge=0)] = 2
    """How many Gaussian columns."""
    categorical: tuple[Annotated[int, Field(ge=2)], ...] = (3, 4)
    """How many levels each categorical column has."""
    bernoulli: Annotated[int, Field(ge=0)] = 0
    """How many columns of yes and no."""
    poisson: Annotated[int, Field(ge=0)] = 0
    """How many columns of counts."""
    overlap: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.1
    """The largest Bhattacharyya coefficient of any two components."""
    covariance: CovarianceStructure = "full"
    """Of the Gaussian columns, within a component."""

    @model_validator(mode="after")
    def _has_columns(self) -> Self:
        if not self.columns:
            raise ValueError("a truth without columns: give some of gaussian, categorical, bernoulli and poisson")
        return self

    @property
    def columns(self) -> int:
        """D."""
        return self.gaussian + len(self.categorical) + self.bernoulli + self.poisson

    def truth(self, seed: int) -> Truth:
        """The mixture of this seed.

        Raises:
            CallerError: these columns do not tell so many components apart, or not so little; or the seed is negative.
        """
        generator, k = stream(seed, "truth"), self.components
        directions = {
            "means": generator.standard_normal((k, self.gaussian)),
            LEVEL_PROBABILITIES: generator.standard_normal((k, sum(self.categorical))),
            SUCCESS_PROBABILITIES: generator.standard_normal((k, self.bernoulli)),
            RATES: generator.standard_normal((k, self.poisson)),
        }
        covariances = drawn_covariances(self.covariance, k, self.gaussian, generator) if self.gaussian else np.zeros(0)

        def moved(factor: float) -> Parameters:
            return self._parameters(directions, covariances, factor)

        def excess(log_factor: float) -> float:
            parameters = moved(float(np.exp(log_factor)))
            return least_distance(self._model(parameters), parameters) + float(np.log(self.overlap))

        logs = np.log(_FACTORS)
        found = [excess(float(log)) for log in logs]
        # The first crossing: levels that are all but certain in two components make these alike again.
        crossing = next((j for j in range(1, len(found)) if found[j - 1] < 0 <= found[j]), None)
        if crossing is None:
            raise CallerError(
                f"no two components over these columns overlap by {self.overlap} at most, and some by that",
                remedy="give another overlap or seed, fewer components, or more columns",
            )
        parameters = moved(float(np.exp(brentq(excess, logs[crossing - 1], logs[crossing], xtol=1e-13))))
        return Truth(self._model(parameters), parameters)

    def _parameters(self, directions: dict[str, Vector], covariances: Vector, factor: float) -> Parameters:
        arrays: dict[str, Vector] = {"weights": np.full(self.components, 1.0 / self.components)}
        if self.gaussian:
            arrays |= {"means": factor * directions["means"], "covariances": covariances}
        if self.categorical:
            ends = np.cumsum(self.categorical)[:-1]
            parts = np.split(directions[LEVEL_PROBABILITIES], ends, axis=1)
            arrays[LEVEL_PROBABILITIES] = np.concatenate([softmax(factor * part, axis=1) for part in parts], axis=1)
        if self.bernoulli:
            arrays[SUCCESS_PROBABILITIES] = expit(factor * directions[SUCCESS_PROBABILITIES])
        if self.poisson:
            arrays[RATES] = _MIDDLE_RATE * np.exp(factor * directions[RATES] / 2)
        return Parameters(arrays)

    def _model(self, parameters: Parameters) -> MixedMixtureModel:
        most = float(parameters[RATES].max()) if self.poisson else 0.0
        upper = float(np.ceil(most + _SPREADS_OF_COUNTS * np.sqrt(most) + 2 * _SPREADS_OF_COUNTS))
        columns: tuple[Column, ...] = (
            *(GaussianColumn(f"x{j}") for j in range(self.gaussian)),
            *(
                CategoricalColumn(f"c{j}", tuple(f"l{level}" for level in range(n)))
                for j, n in enumerate(self.categorical)
            ),
            *(BernoulliColumn(f"b{j}") for j in range(self.bernoulli)),
            *(PoissonColumn(f"n{j}", upper) for j in range(self.poisson)),
        )
        return MixedMixtureModel(self.components, ColumnSchema(columns), self.covariance)
