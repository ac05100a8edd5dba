"""What all methods of a comparison have in common: rows in one coordinate system, a start, and who answers when.

All of it comes by sums of everybody, as in a session (`fed_em.standardised_fit`): the first standardises the columns, then many starts run
side by side and the best goes on, or there is one draw. Every method begins there, so what they differ by is not their luck with starts.
The optimum that losses are told from is where pooled EM ends from the same start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fed_em.beginnings import BestOf, OneDraw
from fed_em.coordinates import Coordinates
from fed_em.divergence import Mixture
from fed_em.em import Stopping, Total
from fed_em.model import Summand
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.standardised_fit import fit_standardised
from fed_em.totals import TotalOfRows
from fed_em_simulations.attendance import Pattern
from fed_em_simulations.costs import TYPICAL, CostModel
from fed_em_simulations.population import Tenants

Vector = NDArray[np.float64]

# Far closer to the optimum than any loss that is told from it.
_PRECISE = Stopping(1e-10, 5000)


@dataclass(frozen=True, eq=False)
class CommonGround:
    """Where every method begins.

    Attributes:
        model: What is fitted.
        tenants: Whose rows, in original units.
        parts: What each tenant trains on, in the coordinates below.
        pattern: Who answers in each round; its length is the number of rounds.
        coordinates: Standardised ones.
        start: In these coordinates.
        optimum: Where pooled EM ends from there.
        optimum_rounds: How many sums that took.
        seed: Of the start, and of what a method draws itself.
        costs: What messages and work cost in virtual time.
    """

    model: Mixture
    tenants: Tenants
    parts: Mapping[str, Records]
    pattern: Pattern
    coordinates: Coordinates
    start: Parameters
    optimum: Parameters
    optimum_rounds: int
    seed: int
    costs: CostModel = TYPICAL


def _ranges(tenants: Tenants) -> tuple[Vector, Vector]:
    """Ranges that a session over these rows may declare, `(D,)` each: an eighth wider at either end than they are."""
    rows = tenants.pooled.rows
    low, high = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
    margin = (high - low) / 8
    return low - margin, high + margin


def common_ground(
    model: Mixture, tenants: Tenants, pattern: Pattern, starts: int, seed: int, costs: CostModel = TYPICAL
) -> CommonGround:
    """Standardise, find the best of so many starts, and the optimum from there.

    Args:
        model: What is to be fitted.
        tenants: Whose rows.
        pattern: Who will answer.
        starts: How many; 0: one draw, that of a session of this seed without `starts`.
        seed: Of the starts; at least 0.
        costs: What messages and work cost.

    Raises:
        FedEmError: a column is constant, or a fit fails.
    """
    records = tenants.pooled

    def total_for(summed: Summand, coordinates: Coordinates) -> Total:
        there = replace(records, rows=coordinates.apply(records.rows))
        # Labels are of components: moments have none, and starts are of the rows alone.
        return TotalOfRows(summed, there if summed is model else replace(there, admissible=None))

    beginning = BestOf(starts) if starts else OneDraw()
    pooled = fit_standardised(model, _ranges(tenants), total_for, _PRECISE, seed, beginning=beginning)
    coordinates, optimum = pooled.coordinates, pooled.fit
    parts = {name: replace(one, rows=coordinates.apply(one.rows)) for name, one in tenants.parts.items()}
    rounds = len(optimum.iterations)
    return CommonGround(
        model, tenants, parts, pattern, coordinates, pooled.start, optimum.parameters, rounds, seed, costs
    )
