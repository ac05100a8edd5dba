"""The coordinates an E-step works in: every column shifted and scaled, z = (x − location) / scale.

They are fixed for a whole session, so that the statistics of different parties and rounds add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em.parameters import Parameters

Vector = NDArray[np.float64]

# Below this share of the squared mean a variance from raw second moments is mostly rounding error.
_CONSTANT_COLUMN = 1e-12


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Column-wise affine coordinates; equal by value.

    Attributes:
        location: `(D,)`, finite, in original units.
        scale: `(D,)`, positive and finite, in original units.

    Raises:
        CallerError: shapes differ or a value is out of range, naming the column by its index.
    """

    location: Vector
    scale: Vector

    def __post_init__(self) -> None:
        for name in ("location", "scale"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.location.ndim != 1 or self.location.shape != self.scale.shape:
            raise CallerError(
                f"coordinates need a location and a scale for each column, "
                f"not shapes {self.location.shape} and {self.scale.shape}"
            )
        _check_columns("location", self.location, np.isfinite(self.location))
        _check_columns("scale", self.scale, np.isfinite(self.scale) & (self.scale > 0))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Coordinates):
            return NotImplemented
        return np.array_equal(self.location, other.location) and np.array_equal(self.scale, other.scale)

    def __hash__(self) -> int:
        return hash((tuple(self.location.tolist()), tuple(self.scale.tolist())))

    @classmethod
    def identity(cls, n_columns: int) -> Coordinates:
        """Original units."""
        return cls(np.zeros(n_columns), np.ones(n_columns))

    @classmethod
    def of_ranges(cls, low: Vector, high: Vector) -> Coordinates:
        """Coordinates in which the declared range of every column becomes [-1, 1].

        Args:
            low: `(D,)`, the smallest value a column can hold, in original units.
            high: `(D,)`, the largest.

        Raises:
            CallerError: a range is empty, not finite, or too wide for float64, naming the column by its
                index.
        """
        low, high = _ranges(low, high)
        _check_columns("range", high - low, high > low)
        return cls(low + (high - low) / 2, (high - low) / 2)

    @classmethod
    def standardising(
        cls, moments: Parameters, previous: Coordinates, names: Sequence[str] | None = None
    ) -> Coordinates:
        """Coordinates in which every column has mean 0 and variance 1.

        Args:
            moments: Parameters of one full Gaussian fitted, without a covariance floor, to the rows in
                `previous`; its means and variances are read.
            previous: The coordinates of that fit.
            names: Of the columns, for messages; None for their indices.

        Raises:
            CallerError: a column is constant, naming it.
        """
        mean = moments["means"][0]
        variance = np.diagonal(moments["covariances"][0])
        for d in np.flatnonzero(~(variance > _CONSTANT_COLUMN * mean**2)):
            raise CallerError(
                f"column {d if names is None else repr(names[int(d)])} is constant over all records",
                remedy="leave the column out, it tells nothing apart",
            )
        return cls(previous.location + previous.scale * mean, previous.scale * np.sqrt(variance))

    @property
    def n_columns(self) -> int:
        """D."""
        return len(self.location)

    @property
    def log_jacobian(self) -> float:
        """log |dz/dx| = −Σ log scale: log p(x) = log p(z) + `log_jacobian`, in nats."""
        return -float(np.log(self.scale).sum())

    def log_jacobians(self, rows: Vector) -> Vector:
        """As `log_jacobian` for each row `(n, D)`, `(n,)`: Σ over its observed cells, those that are not NaN."""
        self._check_width(rows)
        missing = np.isnan(rows)
        if not missing.any():
            return np.full(len(rows), self.log_jacobian)
        return np.asarray(-(~missing @ np.log(self.scale)))

    def apply(self, rows: Vector) -> Vector:
        """Rows `(n, D)` in original units, in these coordinates."""
        self._check_width(rows)
        return (rows - self.location) / self.scale

    def restore(self, rows: Vector) -> Vector:
        """Rows `(n, D)` in these coordinates, in original units."""
        self._check_width(rows)
        return rows * self.scale + self.location

    def bounds(self, low: Vector, high: Vector) -> Vector:
        """The largest |z_d| that a row within the declared ranges can reach, `(D,)`: the `column_bounds` of a
        layout.

        Args:
            low: `(D,)`, in original units.
            high: `(D,)`, in original units, at least `low`.
        """
        low, high = _ranges(low, high)
        _check_columns("range", high - low, high >= low)
        ends = self.apply(np.stack((low, high)))
        return np.asarray(np.abs(ends).max(axis=0))

    def _check_width(self, rows: Vector) -> None:
        if rows.ndim != 2 or rows.shape[1] != self.n_columns:
            raise CallerError(f"rows of shape {rows.shape} do not have the {self.n_columns} columns of the coordinates")


def _ranges(low: Vector, high: Vector) -> tuple[Vector, Vector]:
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if low.ndim != 1 or low.shape != high.shape:
        raise CallerError(f"ranges need one low and one high for each column, not shapes {low.shape} and {high.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        _check_columns("range", high - low, np.isfinite(high - low))
    return low, high


def _check_columns(name: str, values: Vector, good: NDArray[np.bool_]) -> None:
    for d in np.flatnonzero(~good):
        raise CallerError(
            f"the {name} of column {d} is {values[d]}",
            remedy="declare a finite location and a positive, finite scale or range for each column",
        )
