"""Tenants of unlike sizes: the rank-th largest has a share of the rows that falls as rank^−exponent (a power law; Zipf at 1)."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from fed_em.errors import CallerError
from fed_em_protocols.configuration import Table

Counts = NDArray[np.int64]


class SizeSkew(Table):
    """How unlike the sizes of tenants are."""

    exponent: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """0: all have equally many rows."""
    least: Annotated[int, Field(ge=0)] = 1
    """Rows that every tenant has at least."""

    def sizes(self, n_rows: int, n_tenants: int, generator: np.random.Generator) -> Counts:
        """Rows of each tenant, `(C,)`, which sum to `n_rows`; who is large is drawn.

        Raises:
            CallerError: there are too few rows for that.
        """
        free = n_rows - self.least * n_tenants
        if free < 0:
            raise CallerError(
                f"{n_rows} rows are too few for {n_tenants} tenants of at least {self.least}",
                remedy="give more rows, or a smaller 'least'",
            )
        shares = np.arange(1, n_tenants + 1, dtype=np.float64) ** -self.exponent
        wanted = free * shares / shares.sum()
        sizes = np.floor(wanted).astype(np.int64)
        # The largest remainders get the rows that are left over.
        left_over = np.argsort(sizes - wanted, kind="stable")[: free - int(sizes.sum())]
        sizes[left_over] += 1
        return np.asarray(generator.permutation(sizes + self.least))
