"""Features of the cells of mixed rows, in which log-densities and sums are linear: 1, those of discrete columns, those of Gaussian ones.

1 | `fed_em.discrete_columns` | `fed_em.uncorrelated`, where Gaussian columns have no covariances
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fed_em.discrete_columns import EVENTS, SUCCESSES, DiscreteColumns
from fed_em.uncorrelated import UncorrelatedComponents

Vector = NDArray[np.float64]

# Kinds of columns as compiled loops know them.
CATEGORICAL, BERNOULLI, POISSON, GAUSSIAN, CORRELATED = range(5)

_OF_GAUSSIAN = 4


@dataclass(frozen=True, eq=False)
class CellFeatures:
    """The features of one row of a schema.

    Attributes:
        discrete: The discrete columns, and the schema.
        uncorrelated: Whether the Gaussian columns have features.
    """

    discrete: DiscreteColumns
    uncorrelated: bool

    @cached_property
    def of_discrete(self) -> slice:
        """Which are of the discrete columns."""
        return slice(1, 1 + self.discrete.n_features)

    @cached_property
    def of_gaussian(self) -> slice:
        """Which are of Gaussian columns."""
        start = self.of_discrete.stop
        return slice(start, start + (_OF_GAUSSIAN * len(self.discrete.schema.gaussian) if self.uncorrelated else 0))

    @property
    def n_features(self) -> int:
        """P."""
        return int(self.of_gaussian.stop)

    @cached_property
    def columns(self) -> NDArray[np.int64]:
        """Of each column its kind, its first feature, how far the next one is from it, and how many levels it has, `(D, 4)`."""
        schema, slices = self.discrete.schema, self.discrete.statistic_slices
        out = np.zeros((len(schema.columns), 4), dtype=np.int64)
        for d, levels in zip(schema.categorical, schema.level_slices, strict=True):
            out[d] = CATEGORICAL, 1 + levels.start, 1, levels.stop - levels.start
        of_kinds = (
            (BERNOULLI, schema.bernoulli, 1 + slices[SUCCESSES].start if SUCCESSES in slices else 0),
            (POISSON, schema.poisson, 1 + slices[EVENTS].start if EVENTS in slices else 0),
            (GAUSSIAN if self.uncorrelated else CORRELATED, schema.gaussian, self.of_gaussian.start),
        )
        for kind, places, first in of_kinds:
            for j, d in enumerate(places):
                out[d] = kind, first + j, len(places), 0
        return out

    def write(self, rows: Vector, out: Vector) -> tuple[Vector, bool]:
        """Write the features of rows, in NumPy.

        Args:
            rows: `(n, D)`, NaN where missing.
            out: `(P, n)`; receives them, a cell that is no value of its column as a missing one.

        Returns:
            Σ log x! over the Poisson cells of each row, `(n,)`, and whether all cells are values of their columns, or missing.
        """
        columns = np.ascontiguousarray(rows.T)
        out[0] = 1.0
        of_discrete = out[self.of_discrete]
        self.discrete.write_features(columns, of_discrete)
        fit = self.discrete.all_fit(columns, of_discrete)
        if self.uncorrelated:
            UncorrelatedComponents.write_features(columns[self.discrete.schema.gaussian], out[self.of_gaussian])
        fit = fit and not np.isinf(columns).any()
        # Of what does not fit nobody asks.
        return self.discrete.log_factorials(columns) if fit else np.zeros(len(rows)), fit
