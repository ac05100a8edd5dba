"""Probabilities as points of a sphere: u_l = 2 √p_l, p_l = u_l² / Σ_j u_j².

The information of one draw from p is the identity in these coordinates, whatever p (the Fisher-Rao metric of the simplex;
Amari and Nagaoka 2000, "Methods of Information Geometry", section 2.5; for two levels it is the arcsine transformation).
Unlike log p they need no reference, and a probability of 0 has a finite coordinate. The sign and the length of u are
redundant: the gradient has no component along u.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.parameters import Parameters
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]


def to_sphere(probabilities: Vector) -> Vector:
    """u of probabilities `(…, L)`."""
    return 2.0 * np.sqrt(probabilities)


def from_sphere(points: Vector) -> Vector:
    """Probabilities of points `(…, L)` other than 0."""
    squares = points**2
    return np.asarray(squares / squares.sum(axis=-1, keepdims=True))


def sphere_gradient(points: Vector, counts: Vector) -> Vector:
    """The gradient of Σ_l N_l log p_l in u, `(…, L)`.

    Args:
        points: `(…, L)`.
        counts: N_l, `(…, L)`; 0 where p_l = 0, and such a coordinate stands still.
    """
    total = counts.sum(axis=-1, keepdims=True)
    length = np.square(points).sum(axis=-1, keepdims=True)
    along = np.divide(counts, points, out=np.zeros(points.shape), where=points != 0)
    return np.asarray(2.0 * (along - points * (total / length)))


@dataclass(frozen=True, eq=False)
class WeightsChart:
    """Mixing weights. Implements `fed_em.chart.PartialChart`.

    Attributes:
        size: K.
        concentration: α ≥ 1 of their Dirichlet prior; 1 is none.
    """

    size: int
    concentration: float = 1.0

    def vector(self, parameters: Parameters) -> Vector:
        """u, `(K,)`."""
        return to_sphere(parameters["weights"])

    def arrays(self, vector: Vector) -> Mapping[str, Vector]:
        """The weights."""
        return {"weights": from_sphere(vector)}

    def gradient(self, statistics: Statistics, vector: Vector) -> Vector:
        """Of log-likelihood + log prior in u, `(K,)`."""
        counts = np.maximum(statistics["responsibilities"], 0.0) + (self.concentration - 1.0)
        return sphere_gradient(vector, counts)
