"""What rows with missing cells add to the sums of Gaussian components."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import CovarianceStructure, n_second_moments
from fed_em.triangles import upper_triangle

Vector = NDArray[np.float64]

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class ExpectedMoments:
    """What missing or weighted records add to the statistics of Gaussian components.

    Attributes:
        first: `(K, D)`, Σ r x̂.
        second: `(K, n_second_moments)`, Σ r (x̂x̂ᵀ + C), upper triangle row by row, or its diagonal.
        missing_entropy: Σ r ½ log |2πe C_mm|, in nats.
    """

    first: Vector
    second: Vector
    missing_entropy: float

    @classmethod
    def of_full(cls, first: Vector, outer: Vector, missing_entropy: float) -> ExpectedMoments:
        """Of full covariances, from Σ r (x̂x̂ᵀ + C) as symmetric matrices `(K, D, D)`."""
        upper, right = upper_triangle(outer.shape[-1])
        return cls(first, outer[:, upper, right], missing_entropy)

    @classmethod
    def zero(cls, structure: CovarianceStructure, n_components: int, n_columns: int) -> ExpectedMoments:
        """The moments of no record."""
        n_second = n_second_moments(structure, n_columns)
        return cls(np.zeros((n_components, n_columns)), np.zeros((n_components, n_second)), 0.0)

    def __add__(self, other: ExpectedMoments) -> ExpectedMoments:
        return ExpectedMoments(
            self.first + other.first, self.second + other.second, self.missing_entropy + other.missing_entropy
        )
