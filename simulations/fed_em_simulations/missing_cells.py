"""Cells that are missing, at rates that differ by tenant, for reasons of three kinds (Rubin 1976, "Inference and missing data").

    mcar   completely at random: a coin
    mar    at random given what is seen: logit P = a + strength · z_0; the first column is never missing
    mnar   not at random: logit P = a + strength · z_d, of the very value that is missing

z is a value in standard deviations from the mean of its column over all tenants. The intercept a of each tenant and column is such that the
tenant's rate is what was drawn for it. A fit that takes cells to be missing at random is exact for the first two alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat
from scipy.optimize import brentq
from scipy.special import expit

from fed_em.errors import CallerError
from fed_em_protocols.configuration import Table

Vector = NDArray[np.float64]

_WIDEST_LOGIT = 500.0


class MissingCells(Table):
    """Which cells are missing."""

    rate: Annotated[FiniteFloat, Field(ge=0, lt=1)]
    """Share of the cells of a column that are missing, over all tenants."""
    mechanism: Literal["mcar", "mar", "mnar"] = "mcar"
    """Completely at random; at random given the first column; or by the very value that is missing."""
    strength: Annotated[FiniteFloat, Field()] = 1.0
    """Log-odds of being missing for one standard deviation more; nothing to `mcar`."""
    concentration: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """Of the Beta distribution of tenants' rates about `rate`: the smaller, the less alike; None if all have the same."""

    def rate_of_tenant(self, generator: np.random.Generator) -> float:
        """The rate of one more tenant."""
        if self.concentration is None or self.rate == 0.0:
            return self.rate
        return float(generator.beta(self.rate * self.concentration, (1 - self.rate) * self.concentration))

    def apply(self, rows: Vector, z: Vector, rate: float, generator: np.random.Generator) -> Vector:
        """The rows of one tenant with NaN in place of missing cells.

        Args:
            rows: `(n, D)`, complete.
            z: `(n, D)`, the same in standard deviations from the columns' means.
            rate: The tenant's.
            generator: Where coins are tossed.

        Raises:
            CallerError: cells of a single column are to be missing given another.
        """
        if self.mechanism == "mar" and rows.shape[1] < 2:
            raise CallerError(
                "cells missing at random depend on the first column, and there is no other",
                remedy="give two columns or more, or mechanism = 'mcar'",
            )
        coins = generator.random(rows.shape)
        missing = coins < self._probabilities(z, rate)
        if self.mechanism == "mar":
            missing[:, 0] = False
        return np.where(missing, np.nan, rows)

    def _probabilities(self, z: Vector, rate: float) -> Vector:
        if self.mechanism == "mcar" or not len(z) or rate in (0.0, 1.0):
            return np.full(z.shape, rate)
        causes = np.repeat(z[:, :1], z.shape[1], axis=1) if self.mechanism == "mar" else z
        return np.stack([_of_mean(self.strength * cause, rate) for cause in causes.T], axis=1)


def _of_mean(slopes: Vector, rate: float) -> Vector:
    """expit(a + slopes), with a such that their mean is the rate."""
    reach = _WIDEST_LOGIT + float(np.abs(slopes).max())
    intercept = brentq(lambda a: float(expit(a + slopes).mean()) - rate, -reach, reach)
    return np.asarray(expit(intercept + slopes))
