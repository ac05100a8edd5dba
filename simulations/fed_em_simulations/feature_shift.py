"""Tenants that measure otherwise: an offset and a scale of each column at each site.

    x ← m + s ∘ (o_c + exp(g_c) ∘ (x − m) / s),    o_cd ~ N(0, offset²),  g_cd ~ N(0, scale²)

m and s are mean and standard deviation of a column over all rows, so both are in units of the column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from fed_em_protocols.configuration import Table

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SiteShift:
    """The shift of one site: x ← location + factor ∘ x, both `(D,)`."""

    location: Vector
    factor: Vector

    def apply(self, rows: Vector) -> Vector:
        """Rows `(n, D)` as this site measures them."""
        return np.asarray(self.location + self.factor * rows)


class FeatureShift(Table):
    """Offsets and scales of sites."""

    offset: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """Standard deviation over sites of a column's offset, in standard deviations of the column."""
    scale: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """Standard deviation over sites of the logarithm of a column's scale."""

    def draw(self, mean: Vector, deviation: Vector, generator: np.random.Generator) -> SiteShift:
        """The shift of one more site.

        Args:
            mean: m, `(D,)`.
            deviation: s, `(D,)`, positive.
            generator: Where it is drawn from.
        """
        offset = self.offset * generator.standard_normal(len(mean))
        factor = np.exp(self.scale * generator.standard_normal(len(mean)))
        return SiteShift(mean + deviation * offset - factor * mean, factor)
