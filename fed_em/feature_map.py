"""Φ(y) = [1, y, second moments of y]: what the statistics of a Gaussian mixture are sums of, and its log-densities linear in."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import CovarianceStructure, n_second_moments

Vector = NDArray[np.float64]

# What a product of features is of: those of a covariance structure, or "linear": [1, y] alone, for features that come ready made.
FeatureMap = CovarianceStructure | Literal["linear"]


def n_features(structure: CovarianceStructure, n_columns: int) -> int:
    """F, the length of Φ."""
    return 1 + n_columns + n_second_moments(structure, n_columns)


@functools.lru_cache(maxsize=16)
def feature_factors(structure: FeatureMap, n_columns: int) -> NDArray[np.int64]:
    """How Φ is made of products, `(F, 2)`: with ỹ = [1, y], a feature is the product of the two entries of ỹ given here."""
    columns = np.arange(1 + n_columns)
    match structure:
        case "full" | "tied":
            left, right = np.triu_indices(1 + n_columns)
        case "linear":
            left, right = 0 * columns, columns
        case _:
            left, right = np.concatenate((0 * columns, columns[1:])), np.concatenate((columns, columns[1:]))
    factors = np.stack((left, right), axis=1)
    factors.flags.writeable = False  # it is kept for the next call
    return factors


def write_points(rows: Vector, shift: Vector | None, out: Vector) -> None:
    """Write ỹ = [1, x − c] of a block of rows.

    Args:
        rows: `(n, D)`.
        shift: c, `(D,)`; None is the origin.
        out: `(1 + D, n)`; receives it.
    """
    out[0] = 1.0
    if shift is None:
        out[1:] = rows.T
    else:
        np.subtract(rows.T, shift[:, np.newaxis], out=out[1:])


def write_features(structure: CovarianceStructure, rows: Vector, shift: Vector | None, out: Vector) -> None:
    """Write Φ(x − c) of a block of rows.

    Args:
        structure: Which second moments: vech(yyᵀ), the upper triangle row by row, for full and tied, else the squares.
        rows: `(n, D)`.
        shift: c, `(D,)`; None is the origin.
        out: `(F, n)`; receives the features.
    """
    n_columns = rows.shape[1]
    columns, second = out[1 : 1 + n_columns], out[1 + n_columns :]
    write_points(rows, shift, out[: 1 + n_columns])
    if structure not in ("full", "tied"):
        np.square(columns, out=second)
        return
    start = 0
    for d in range(n_columns):
        width = n_columns - d
        np.multiply(columns[d], columns[d:], out=second[start : start + width])
        start += width


def features_of(structure: CovarianceStructure, rows: Vector) -> Vector:
    """Φ of a few rows `(n, D)` about the origin, `(F, n)`."""
    features = np.empty((n_features(structure, rows.shape[1]), len(rows)))
    write_features(structure, rows, None, features)
    return features
