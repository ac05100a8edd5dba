"""What all methods of a comparison have in common: rows in one coordinate system, a start, and who answers when.

All of it comes by sums of everybody, as in a session: the first standardises the columns (`fed_em.standardised_fit`), then many starts run
side by side and the best goes on (`fed_em.starts`), or it is the one start that a session of this seed draws. Every method begins there, so
what they differ by is not their luck with starts. The optimum that losses are told from is where pooled EM ends from the same start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fed_em.coordinates import Coordinates
from fed_em.em import Stopping, Total, fit
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.model import Model
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.standardised_fit import StandardisedFit, fit_standardised
from fed_em.starts import best_start
from fed_em.totals import TotalOfRows
from fed_em_simulations.attendance import Pattern
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
    """

    model: GaussianMixtureModel
    tenants: Tenants
    parts: Mapping[str, Records]
    pattern: Pattern
    coordinates: Coordinates
    start: Parameters
    optimum: Parameters
    optimum_rounds: int
    seed: int


def _ranges(tenants: Tenants) -> tuple[Vector, Vector]:
    """Ranges that a session over these rows may declare, `(D,)` each: an eighth wider at either end than they are."""
    rows = tenants.pooled.rows
    low, high = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
    margin = (high - low) / 8
    return low - margin, high + margin


def common_ground(
    model: GaussianMixtureModel, tenants: Tenants, pattern: Pattern, starts: int, seed: int
) -> CommonGround:
    """Standardise, find the best of so many starts, and the optimum from there.

    Args:
        model: What is to be fitted.
        tenants: Whose rows.
        pattern: Who will answer.
        starts: How many; 0 takes the one that a session of this seed draws.
        seed: Of the starts; at least 0.

    Raises:
        FedEmError: a column is constant, or a fit fails.
    """
    standardised = _standardised(model, tenants, seed)
    coordinates, start = standardised.coordinates, standardised.start
    parts = {name: replace(records, rows=coordinates.apply(records.rows)) for name, records in tenants.parts.items()}
    pooled = Records.concatenated(list(parts.values()))
    if starts:
        moments = moments_model(model.n_columns, model.missing)
        at = standard_gaussian(model.n_columns)
        gaussian = moments.m_step(moments.e_step(at, pooled.rows), at)
        start = best_start(model, lambda several: TotalOfRows(several, pooled), gaussian, seed, starts).parameters
    optimum = fit(model, TotalOfRows(model, pooled), start, _PRECISE)
    rounds = len(optimum.iterations)
    return CommonGround(model, tenants, parts, pattern, coordinates, start, optimum.parameters, rounds, seed)


def _standardised(model: GaussianMixtureModel, tenants: Tenants, seed: int) -> StandardisedFit:
    """Coordinates and start of a session of this seed over these rows; of its fit, one step."""
    pooled = tenants.pooled

    def total_for(summed: Model, coordinates: Coordinates) -> Total:
        return TotalOfRows(summed, coordinates.apply(pooled.rows))

    return fit_standardised(model, _ranges(tenants), total_for, Stopping(0.0, 1), seed)
