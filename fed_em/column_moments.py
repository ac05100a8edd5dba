"""Mean and variance of each column over its observed cells, part after part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ColumnMoments:
    """Moments of the observed cells of each column, by the records' weights; those of two parts add up to those of both.

    The sum is that of Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance": about the means, so
    that nothing cancels.

    Attributes:
        mass: `(D,)`, the weight of the observed cells.
        mean: `(D,)`; 0 where nothing is observed.
        scatter: `(D,)`, weighted squares about the mean.
    """

    mass: Vector
    mean: Vector
    scatter: Vector

    @classmethod
    def of(cls, rows: Vector, weights: Vector | None = None) -> ColumnMoments:
        """The moments of rows `(n, D)`, NaN where a cell is missing; weights `(n,)`, None for ones."""
        observed = ~np.isnan(rows) * (1.0 if weights is None else weights[:, np.newaxis])
        mass = observed.sum(axis=0)
        cells = np.nan_to_num(rows)
        mean = (observed * cells).sum(axis=0) / np.where(mass > 0, mass, 1.0)
        return cls(mass, mean, (observed * (cells - mean) ** 2).sum(axis=0))

    @classmethod
    def zero(cls, n_columns: int) -> ColumnMoments:
        """The moments of no row."""
        return cls(np.zeros(n_columns), np.zeros(n_columns), np.zeros(n_columns))

    def __add__(self, other: ColumnMoments) -> ColumnMoments:
        mass = self.mass + other.mass
        share = other.mass / np.where(mass > 0, mass, 1.0)
        apart = other.mean - self.mean
        scatter = self.scatter + other.scatter + apart**2 * self.mass * share
        return ColumnMoments(mass, self.mean + share * apart, scatter)

    @property
    def variance(self) -> Vector:
        """`(D,)`; 1 in place of 0."""
        variance = self.scatter / np.where(self.mass > 0, self.mass, 1.0)
        return np.where(variance > 0, variance, 1.0)

    def require_values(self, names: Sequence[str]) -> None:
        """Raise `CallerError`, naming the column, if one has no observed cell at all."""
        for d in np.flatnonzero(self.mass == 0).tolist():
            raise CallerError(f"column '{names[d]}' holds no value at all", remedy="leave the column out")
