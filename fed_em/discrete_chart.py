"""Parameters of categorical, Bernoulli and Poisson columns as a vector, in coordinates that stabilise the variance.

    categorical   u_l = 2 √p_l                 on a sphere (`fed_em.sphere_chart`)
    Bernoulli     φ, q = sin²(φ / 2)           φ = 2 arcsin √q
    Poisson       v, λ = v² / 4                v = 2 √λ

The information of one observed cell is the identity in each (Anscombe 1948, "The transformation of Poisson, binomial and
negative-binomial data", for φ and v). All are multiplied by √w of a reference, as a component sees that share of the cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.discrete_columns import (
    EVENTS,
    EXPOSURE,
    FAILURES,
    LEVEL_COUNTS,
    LEVEL_PROBABILITIES,
    RATES,
    SUCCESS_PROBABILITIES,
    SUCCESSES,
    DiscreteColumns,
)
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.parameters import Parameters
from fed_em.sphere_chart import from_sphere, sphere_gradient, to_sphere
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]

# As in `fed_em.gaussian_chart`.
_LEAST_WEIGHT = 1e-3


@dataclass(frozen=True, eq=False)
class DiscreteChart:
    """The arrays of the discrete columns there are. Implements `fed_em.chart.PartialChart`.

    Attributes:
        columns: The columns.
        prior: Their prior, without effect where its pseudo-records are zero.
        scales: √w of the reference, `(K,)`.
    """

    columns: DiscreteColumns
    prior: MixedMixturePrior
    scales: Vector

    @classmethod
    def about(cls, columns: DiscreteColumns, prior: MixedMixturePrior, reference: Parameters) -> DiscreteChart:
        """The chart about some parameters, of which `weights` are read."""
        return cls(columns, prior, np.sqrt(np.maximum(reference["weights"], _LEAST_WEIGHT)))

    @property
    def size(self) -> int:
        """Length of the vector."""
        return len(self.scales) * sum(self.columns.parameter_shapes.values())

    def _split(self, vector: Vector) -> dict[str, Vector]:
        """The coordinates of each array, `(K, size)`, without their scale."""
        shapes, unscaled = (
            self.columns.parameter_shapes,
            vector.reshape(len(self.scales), -1) / self.scales[:, np.newaxis],
        )
        ends = np.cumsum(list(shapes.values()))
        return dict(zip(shapes, np.split(unscaled, ends[:-1], axis=1), strict=True))

    def vector(self, parameters: Parameters) -> Vector:
        """The coordinates."""
        parts = []
        for name in self.columns.parameter_shapes:
            array = parameters[name]
            parts.append(2.0 * np.arcsin(np.sqrt(array)) if name == SUCCESS_PROBABILITIES else to_sphere(array))
        return (np.concatenate(parts, axis=1) * self.scales[:, np.newaxis]).ravel()

    def arrays(self, vector: Vector) -> Mapping[str, Vector]:
        """Probabilities and rates."""
        arrays = self._split(vector)
        if LEVEL_PROBABILITIES in arrays:
            points = arrays[LEVEL_PROBABILITIES]
            levels = [from_sphere(points[:, part]) for part in self.columns.schema.level_slices]
            arrays[LEVEL_PROBABILITIES] = np.concatenate(levels, axis=1)
        if SUCCESS_PROBABILITIES in arrays:
            arrays[SUCCESS_PROBABILITIES] = np.sin(arrays[SUCCESS_PROBABILITIES] / 2.0) ** 2
        if RATES in arrays:
            arrays[RATES] = arrays[RATES] ** 2 / 4.0
        return arrays

    def gradient(self, statistics: Statistics, vector: Vector) -> Vector:
        """Of log-likelihood + log prior."""
        sums = self.columns.with_pseudo_records(self.columns.sums(statistics), self.prior)
        slices, points = self.columns.statistic_slices, self._split(vector)
        parts: list[Vector] = []
        if LEVEL_PROBABILITIES in points:
            counts, of_levels = sums[:, slices[LEVEL_COUNTS]], points[LEVEL_PROBABILITIES]
            parts += [sphere_gradient(of_levels[:, part], counts[:, part]) for part in self.columns.schema.level_slices]
        if SUCCESS_PROBABILITIES in points:
            half = points[SUCCESS_PROBABILITIES] / 2.0
            yes, no = sums[:, slices[SUCCESSES]], sums[:, slices[FAILURES]]
            parts.append(_ratio(yes * np.cos(half), np.sin(half)) - _ratio(no * np.sin(half), np.cos(half)))
        if RATES in points:
            roots = points[RATES]
            parts.append(_ratio(2.0 * sums[:, slices[EVENTS]], roots) - sums[:, slices[EXPOSURE]] * roots / 2.0)
        return (np.concatenate(parts, axis=1) / self.scales[:, np.newaxis]).ravel()


def _ratio(numerators: Vector, denominators: Vector) -> Vector:
    """The ratio; 0 at a probability or rate of 0, of which nothing is counted."""
    return np.divide(numerators, denominators, out=np.zeros(numerators.shape), where=denominators != 0)
