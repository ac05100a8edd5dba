"""Tenants that measure otherwise: an offset and a scale of each column at each site.

    x ← m + s ∘ (o_c + exp(g_c) ∘ (x − m) / s),    o_cd ~ N(0, offset²),  g_cd ~ N(0, scale²)

m and s are mean and standard deviation of a column over all rows, so both are in units of the column.

Labels, yes and no, and counts have no such scale. What a site shifts there is what they are drawn by, in every component alike: the logits
of levels and of yes, and the logarithms of rates, by o ~ N(0, offset²) for each level, for each column of yes and no, and for each of
counts. So a site has e^o times the odds, or e^o times as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat
from scipy.special import expit, logit, softmax

from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.parameters import Parameters
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

    def of_columns(self, places: NDArray[np.intp]) -> SiteShift:
        """The same of the columns at these places, and nothing of others."""
        here = np.isin(np.arange(len(self.factor)), places)
        return SiteShift(np.where(here, self.location, 0.0), np.where(here, self.factor, 1.0))


class FeatureShift(Table):
    """Offsets and scales of sites."""

    offset: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """Standard deviation over sites of a column's offset, in standard deviations of the column; of logits and log-rates as they are."""
    scale: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """Standard deviation over sites of the logarithm of a column's scale; of numbers alone."""

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

    def of_discrete_columns(
        self, parameters: Parameters, level_slices: Sequence[slice], generator: np.random.Generator
    ) -> Parameters:
        """What labels, yes and no, and counts are drawn by at one more site.

        Args:
            parameters: Of a mixture (`fed_em.discrete_columns`), in the same order of components.
            level_slices: Where each categorical column's levels are.
            generator: Where offsets are drawn from.
        """
        arrays = dict(parameters)

        def offsets(name: str) -> Vector:
            return np.asarray(self.offset * generator.standard_normal(arrays[name].shape[1]))

        if LEVEL_PROBABILITIES in arrays:
            logits = np.log(arrays[LEVEL_PROBABILITIES]) + offsets(LEVEL_PROBABILITIES)
            parts = [softmax(logits[:, levels], axis=1) for levels in level_slices]
            arrays[LEVEL_PROBABILITIES] = np.concatenate(parts, axis=1)
        if SUCCESS_PROBABILITIES in arrays:
            arrays[SUCCESS_PROBABILITIES] = expit(logit(arrays[SUCCESS_PROBABILITIES]) + offsets(SUCCESS_PROBABILITIES))
        if RATES in arrays:
            arrays[RATES] = arrays[RATES] * np.exp(offsets(RATES))
        return Parameters(arrays)
