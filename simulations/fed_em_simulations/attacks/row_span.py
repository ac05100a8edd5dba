"""What the rows of a matrix of whole numbers span over the rationals, exactly.

Elimination is in whole numbers: a row times a pivot, less another times an entry, divided by what all its entries have in common. So
nothing is rounded, and whoever is said to be exposed is. Modulo a prime it is far quicker, and a rank modulo a prime never exceeds the
rational one: rows that are independent there are so, and only where they are not are rationals asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Whole numbers of any size, and such as fit a word.
Wholes = NDArray[Any]
Words = NDArray[np.int64]

# Products of two residues fit an int64.
_PRIME = 2**31 - 1


@dataclass(frozen=True, eq=False)
class RowSpan:
    """The span of some rows.

    Attributes:
        rows: Independent ones of them, by which all are spanned, `(rank, C)`.
        places: Which ones, ascending.
        height: How many there were.
    """

    rows: Words
    places: tuple[int, ...]
    height: int

    @classmethod
    def of(cls, matrix: NDArray[np.integer[Any]]) -> RowSpan:
        """The span of the rows of `matrix`, `(R, C)`, of small whole numbers; both may be 0."""
        _, _, pivots = _reduced(matrix.T)
        return cls(matrix[list(pivots)].astype(np.int64), pivots, len(matrix))

    @property
    def rank(self) -> int:
        """Its dimension."""
        return len(self.rows)

    def combination_within(self, columns: Sequence[int]) -> tuple[int, ...] | None:
        """Weights of the rows, `(R,)`, by which they add up to something that is zero outside `columns`, and not zero.

        Returns:
            Whole numbers without a common factor; None if there are none.
        """
        outside = np.ones(self.rows.shape[1], dtype=bool)
        outside[list(columns)] = False
        needed = _unforced(self.rows[:, outside])
        kept = self.rows[needed][:, outside]
        if not len(kept) or _modular_rank(kept) == len(kept):
            return None
        _, relations, pivots = _reduced(kept)
        if len(pivots) == len(kept):
            return None
        weights = [0] * self.height
        for place, weight in zip(np.flatnonzero(needed).tolist(), relations[len(pivots)], strict=True):
            weights[self.places[place]] = int(weight)
        return tuple(weights)


def _unforced(matrix: Words) -> NDArray[np.bool_]:
    """Rows that may have a weight in a combination that comes to zero: a row that alone has an entry in some column has none."""
    left = np.ones(len(matrix), dtype=bool)
    entries = matrix != 0
    while True:
        alone = left & entries[:, entries[left].sum(axis=0) == 1].any(axis=1)
        if not alone.any():
            return left
        left &= ~alone


def _modular_rank(matrix: Words) -> int:
    work, rank = matrix % _PRIME, 0
    for column in range(work.shape[1]):
        found = np.flatnonzero(work[rank:, column])
        if not len(found):
            continue
        pivot = rank + int(found[0])
        work[[rank, pivot]] = work[[pivot, rank]]
        scaled = work[rank] * pow(int(work[rank, column]), -1, _PRIME) % _PRIME
        work[rank + 1 :] = (work[rank + 1 :] - work[rank + 1 :, column, np.newaxis] * scaled) % _PRIME
        rank += 1
        if rank == len(work):
            break
    return rank


def _primitive(row: Wholes) -> Wholes:
    """A row divided by what its entries have in common."""
    common = math.gcd(*map(int, row))
    return row // common if common > 1 else row


def _reduced(matrix: NDArray[np.integer[Any]]) -> tuple[Wholes, Wholes, tuple[int, ...]]:
    """Gauss–Jordan elimination: rows with pivots first, then zero rows; the combination that each is; and the pivots' columns."""
    height, width = matrix.shape
    work = np.concatenate([matrix.astype(object), np.eye(height, dtype=np.int64).astype(object)], axis=1)
    pivots: list[int] = []
    for column in range(width):
        done = len(pivots)
        if done == height:
            break
        found = next((r for r in range(done, height) if work[r, column]), None)
        if found is None:
            continue
        work[[done, found]] = work[[found, done]]
        for r in range(height):
            if r != done and work[r, column]:
                work[r] = _primitive(work[r] * work[done, column] - work[done] * work[r, column])
        pivots.append(column)
    return work[:, :width], work[:, width:], tuple(pivots)
