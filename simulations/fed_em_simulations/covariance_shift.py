"""Tenants whose components have other shapes: the same centres and volumes, other correlations and spreads.

    x ← μ_k + exp(A_c) (x − μ_k),    A_c symmetric with trace 0,  entries of standard deviation `strength`

so that a component of covariance Σ has exp(A_c) Σ exp(A_c) at tenant c, of the same determinant.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat
from scipy.linalg import expm

from fed_em_protocols.configuration import Table

Vector = NDArray[np.float64]


class CovarianceShift(Table):
    """Shapes of components that differ by tenant."""

    strength: Annotated[FiniteFloat, Field(ge=0)]
    """Standard deviation of the entries of A_c; 0.1: variances differ by a fifth or so."""

    def draw(self, n_columns: int, generator: np.random.Generator) -> Vector:
        """exp(A) of one more tenant, `(D, D)`, symmetric, of determinant 1."""
        normals = generator.standard_normal((n_columns, n_columns))
        upper = np.triu(normals) + np.triu(normals, 1).T
        flat = upper - np.eye(n_columns) * np.trace(upper) / n_columns
        return np.asarray(expm(self.strength * flat))
