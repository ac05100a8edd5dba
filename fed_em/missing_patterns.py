"""Rows with missing cells, together where they miss equally many columns, and in order of the pattern of these."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Places = NDArray[np.intp]

# Float64 entries that the arrays of one batch may fill (8 MiB).
BATCH_ENTRIES = 2**20


@dataclass(frozen=True, eq=False)
class PatternBatch:
    """Rows whose P patterns of missing columns show o columns each, so that arrays of them can be stacked.

    Attributes:
        places: `(n,)`, which rows; those of one pattern next to each other.
        patterns: `(n,)`, which of the P patterns each has.
        ends: `(P + 1,)`: the rows of pattern p are `places[ends[p]:ends[p + 1]]`.
        seen: `(P, o)`, the observed columns, ascending.
        unseen: `(P, D − o)`, the missing ones, ascending.
        rows: `(n, D)`, NaN where missing.
    """

    places: Places
    patterns: Places
    ends: Places
    seen: Places
    unseen: Places
    rows: Vector

    @cached_property
    def cells(self) -> Vector:
        """The observed cells, `(n, o)`."""
        return np.take_along_axis(self.rows, self.seen[self.patterns], axis=1)

    @cached_property
    def missing_cells(self) -> Places:
        """Where the missing cells stand among all cells of `rows`, `(D − o, n)`."""
        n, n_columns = self.rows.shape
        return np.asarray(np.arange(n) * n_columns + self.unseen.T[:, self.patterns])

    @property
    def slices(self) -> Iterator[tuple[int, slice]]:
        """Each pattern, and where its rows stand among `places`."""
        return ((p, slice(low, high)) for p, (low, high) in enumerate(pairwise(self.ends.tolist())))


def pattern_batches(rows: Vector, entries: int) -> Iterator[PatternBatch]:
    """The rows by the number of columns they show and by pattern, in an order that is that of the patterns alone.

    Args:
        rows: `(n, D)`, NaN where missing.
        entries: What the arrays of one pattern fill, in float64 entries; a batch fills `BATCH_ENTRIES` at most.
    """
    observed = ~np.isnan(rows)
    packed = np.packbits(observed, axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    counts = observed.sum(axis=1)
    order = np.lexsort((np.unique(keys, return_inverse=True)[1].ravel(), counts))
    if len(order) == 0:
        return
    changes = np.flatnonzero(keys[order[1:]] != keys[order[:-1]]) + 1
    starts = np.concatenate(([0], changes, [len(order)]))
    shown = counts[order[starts[:-1]]]
    most = max(BATCH_ENTRIES // max(entries, 1), 1)
    for n_seen in np.unique(shown):
        of_size = np.flatnonzero(shown == n_seen)
        for first in range(0, len(of_size), most):
            ends = starts[of_size[first] : of_size[min(first + most, len(of_size)) - 1] + 2]
            places = order[ends[0] : ends[-1]]
            patterns = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
            shows = observed[order[ends[:-1]]]
            # A stable sort of booleans puts the columns of each kind in ascending order.
            columns = np.argsort(~shows, axis=1, kind="stable")
            seen, unseen = columns[:, :n_seen], columns[:, n_seen:]
            yield PatternBatch(places, patterns, ends - ends[0], seen, unseen, rows[places])
