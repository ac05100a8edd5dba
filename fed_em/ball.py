"""Rows in a ball ‖z‖₂ ≤ R: how they get there, and how much the moments of one of them can be.

What one record adds to a mixture's moments is r_k z and r_k vech(z zᵀ) for each component k, or r_k z², with r on the simplex. As
‖r‖₂ ≤ 1, and = 1 where one component has all of a record, the blocks of all K components are no longer than that of one:

    ‖z‖² = Σ_d u_d,    ‖z²‖² = Σ_d u_d²,    ‖vech(z zᵀ)‖² = Σ_d u_d² + Σ_{d<e} u_d u_e = ½ ((Σ_d u_d)² + Σ_d u_d²),    u_d = z_d².

All three are convex and symmetric in u, and do not fall in any u_d. Of rows that are also within bounds |z_d| ≤ b_d, u is in a polymatroid,
in which u* that fills the widest columns first, until R² is spent, majorises every other point. So u* is the maximum of all three at once
(Marshall, Olkin and Arnold 2011, "Inequalities: Theory of Majorization", 3.C.1), and a row attains it. In a ball alone u* = (R², 0, …):
the norms are R, R² and R², at the poles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.columns import ColumnSchema
from fed_em.covariance import CovarianceStructure
from fed_em.description import check_real
from fed_em.errors import CallerError

Vector = NDArray[np.float64]

# Relative error of a norm that is computed in float64, of each term.
_ROUNDING = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Reach:
    """How far a row can go within the bounds of its columns, and within a ball.

    Attributes:
        entry: The largest |z_d|.
        squares: u*, `(D,)`, descending.
    """

    entry: float
    squares: Vector

    @classmethod
    def of(cls, bounds: Vector, radius: float | None = None) -> Reach:
        """Of rows within |z_d| ≤ `bounds` `(D,)`, positive, and within the ball of a radius, if there is one.

        Raises:
            CallerError: the radius is not positive and finite.
        """
        widest = np.sort(bounds)[::-1]
        with np.errstate(over="ignore"):
            if radius is None:
                return cls(float(widest[0]), widest**2)
            check_real("radius", radius, 0.0, strict=True)
            squares = np.minimum(widest, radius) ** 2
            spent = np.minimum(np.cumsum(squares), radius**2)
        return cls(min(float(widest[0]), radius), np.diff(spent, prepend=0.0))

    @property
    def first(self) -> float:
        """The largest ‖z‖₂."""
        return math.sqrt(self.squares.sum())

    def second(self, structure: CovarianceStructure) -> float:
        """The largest norm of the second moments that a covariance structure needs: ‖vech(z zᵀ)‖₂ or ‖z²‖₂."""
        with np.errstate(over="ignore"):
            of_squares = float((self.squares**2).sum())
            if structure in ("diag", "spherical"):
                return math.sqrt(of_squares)
            return math.sqrt((float(self.squares.sum() ** 2) + of_squares) / 2)


def into_ball(rows: Vector, radius: float, schema: ColumnSchema | None = None) -> Vector:
    """Rows with their Gaussian columns scaled into the ball ‖z‖₂ ≤ radius.

    Args:
        rows: `(n, D)`, in the coordinates of the E-step; not changed.
        radius: R, positive and finite.
        schema: Which columns are Gaussian; None if all are. The others stay as they are.

    Returns:
        `(n, D)`. Rows inside the ball are the same, bit for bit; the norm of no row, as numpy computes it, is greater than R.

    Raises:
        CallerError: a Gaussian cell is missing or infinite, naming the column; or the radius is out of its range.
    """
    check_real("radius", radius, 0.0, strict=True)
    places = np.arange(rows.shape[1]) if schema is None else schema.gaussian
    cells = rows[:, places]
    for d in np.flatnonzero(~np.isfinite(cells).all(axis=0)):
        name = f"column {d}" if schema is None else f"column '{schema.names[int(places[d])]}'"
        raise CallerError(
            f"the rows hold values of {name} that are missing or not finite: such a row is in no ball",
            remedy="leave these rows or the column out, or fit without differential privacy",
        )
    out = rows.copy()
    if not len(places):
        return out
    # The largest cell first: squares of finite cells may overflow.
    peaks = np.abs(cells).max(axis=1)
    directions = cells / np.where(peaks > 0, peaks, 1.0)[:, np.newaxis]
    lengths = np.linalg.norm(directions, axis=1)
    with np.errstate(over="ignore"):
        outside = np.flatnonzero(peaks * lengths > radius)
    inwards = radius * (1.0 - _ROUNDING * (len(places) + 4))
    out[np.ix_(outside, places)] = directions[outside] * (inwards / lengths[outside])[:, np.newaxis]
    return out
