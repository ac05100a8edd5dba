"""Φ(y) = [1, y, second moments of y]: what the statistics of a Gaussian mixture are sums of, and its log-densities linear in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import CovarianceStructure, n_second_moments
from fed_em.kernels import NUMPY, Kernels

Vector = NDArray[np.float64]


def n_features(structure: CovarianceStructure, n_columns: int) -> int:
    """F, the length of Φ."""
    return 1 + n_columns + n_second_moments(structure, n_columns)


def write_features(
    structure: CovarianceStructure, rows: Vector, shift: Vector | None, out: Vector, kernels: Kernels
) -> None:
    """Write Φ(x − c) of a block of rows.

    Args:
        structure: Which second moments: vech(yyᵀ), the upper triangle row by row, for full and tied, else the squares.
        rows: `(n, D)`.
        shift: c, `(D,)`; None is the origin.
        out: `(F, n)`, contiguous; receives the features.
        kernels: To do it with.
    """
    n_columns = rows.shape[1]
    columns, second = out[1 : 1 + n_columns], out[1 + n_columns :]
    out[0] = 1.0
    if shift is None:
        columns[...] = rows.T
    else:
        np.subtract(rows.T, shift[:, np.newaxis], out=columns)
    if structure in ("full", "tied"):
        kernels.write_products(columns, second)
    else:
        np.square(columns, out=second)


def features_of(structure: CovarianceStructure, rows: Vector) -> Vector:
    """Φ of a few rows `(n, D)` about the origin, `(F, n)`."""
    features = np.empty((n_features(structure, rows.shape[1]), len(rows)))
    write_features(structure, rows, None, features, NUMPY)
    return features
