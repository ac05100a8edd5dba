"""What the cells of a column show, part after part, and the kind of column that follows from it.

    text, or anything else that is no number                                               categorical
    zeros and ones, no and yes                                                             Bernoulli
    whole numbers, none negative, some of them 0, the largest at most 100                  Poisson: counts begin at 0
    whole numbers from 1, the largest at most 20, at most 10 different ones                categorical: codes and ratings
    all other numbers                                                                      Gaussian

Counts, codes and measurements cannot always be told apart by their values (ages of children are whole numbers from 0), so what
is inferred is shown and corrected (`fed-em schema`), and between parties declared: a range or a set of levels that one of them
has seen says something of its rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fed_em.column_cells import Cells, CodedCells, coded, label_of

LARGEST_COUNT = 100
LARGEST_CODE, MOST_CODES = 20, 10

# A column of text with more levels than this is an identifier, or prose.
MOST_LEVELS = 1000


@dataclass(frozen=True)
class ColumnEvidence:
    """What some cells show; evidence of two parts of a column adds up to that of both.

    Attributes:
        observed, missing: How many cells there are of each.
        numeric: Whether all observed ones are numbers.
        whole: Whether all are whole numbers.
        low, high: The least and the largest number; ∞ and −∞ if there is none.
        labels: The distinct labels; None if they are more than `MOST_LEVELS`.
    """

    observed: int = 0
    missing: int = 0
    numeric: bool = True
    whole: bool = True
    low: float = math.inf
    high: float = -math.inf
    labels: frozenset[str] | None = frozenset()

    @classmethod
    def of(cls, cells: Cells) -> ColumnEvidence:
        """The evidence of some cells."""
        if isinstance(cells, CodedCells):
            observed = int(np.sum(cells.places >= 0))
            labels = frozenset(label_of(value) for value in cells.values)
            few = labels if len(labels) <= MOST_LEVELS else None
            return cls(observed, len(cells) - observed, not observed, not observed, labels=few)
        numbers = cells[~np.isnan(cells)]
        missing = len(cells) - len(numbers)
        if not len(numbers):
            return cls(missing=missing)
        whole = bool((np.isfinite(numbers) & (numbers == np.floor(numbers))).all())
        distinct = coded(numbers).values
        few = frozenset(map(label_of, distinct)) if len(distinct) <= MOST_LEVELS else None
        return cls(len(numbers), missing, True, whole, float(numbers.min()), float(numbers.max()), few)

    def __add__(self, other: ColumnEvidence) -> ColumnEvidence:
        labels = None if self.labels is None or other.labels is None else self.labels | other.labels
        return ColumnEvidence(
            self.observed + other.observed,
            self.missing + other.missing,
            self.numeric and other.numeric,
            self.whole and other.whole,
            min(self.low, other.low),
            max(self.high, other.high),
            labels if labels is not None and len(labels) <= MOST_LEVELS else None,
        )

    @property
    def kind(self) -> str:
        """The kind of column, by the rule at the head of this module."""
        if not self.numeric:
            return "categorical"
        if not self.whole or self.low < 0:
            return "gaussian"
        if self.high <= 1:
            return "bernoulli"
        if self.low == 0:
            return "poisson" if self.high <= LARGEST_COUNT else "gaussian"
        few = self.high <= LARGEST_CODE and self.labels is not None and len(self.labels) <= MOST_CODES
        return "categorical" if few else "gaussian"

    @property
    def levels(self) -> tuple[str, ...]:
        """The labels in order: whole numbers by size, then others by spelling; none if they are too many."""
        return tuple(sorted(self.labels or (), key=_in_order))


def _in_order(label: str) -> tuple[bool, int, str]:
    return not label.isdecimal(), int(label) if label.isdecimal() else 0, label
