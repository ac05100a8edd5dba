"""The start that sessions take (`fed_em.starts`), of rows in memory: responsibilities, from which an M-step makes a start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fed_em.coordinates import Coordinates
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import standard_gaussian
from fed_em.records import Records
from fed_em.starts import best_starts
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]

# Of all records; with a floor, as columns may say the same.
_ONE = GaussianMixtureModel(1, 1, "full", covariance_floor=1e-6)


def responsibilities_by_sums(model: GaussianMixtureModel, records: Records, seed: int) -> Vector:
    """Those of the best start, `(n, K)`, without weights.

    Args:
        model: The mixture; its prior is not read, which is in other units.
        records: Complete ones, in any units.
        seed: At least 0.
    """
    spread = np.sqrt(
        np.cov(records.rows.T, bias=True, aweights=records.weights).reshape(model.n_columns, -1).diagonal()
    )
    location = np.average(records.rows, axis=0, weights=records.weights)
    there = replace(records, rows=Coordinates(location, np.where(spread > 0, spread, 1.0)).apply(records.rows))
    one, standard = replace(_ONE, n_columns=model.n_columns), standard_gaussian(model.n_columns)
    moments = one.m_step(one.e_step(standard, replace(there, admissible=None)), standard)
    plain = replace(model, prior=None, missing=False)
    start = best_starts([plain], lambda candidates: TotalOfRows(candidates, there), moments, seed)[0]
    return plain.responsibilities(start.parameters, there)
