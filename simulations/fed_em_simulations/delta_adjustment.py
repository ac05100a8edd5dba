"""Sensitivity of a fit to cells that are not missing at random, by delta adjustment.

A fit takes cells to be missing at random, and nothing in the rows can tell whether they are. So one asks how far its answers would move if
missing values were, by δ, other than the model expects: draw the missing cells at the fitted parameters, add δ to those of one column, fit
again to the completed rows, and average over draws (pattern-mixture models: Rubin 1987, "Multiple Imputation for Nonresponse in
Surveys", chapter 6; Carpenter and Kenward 2013, "Multiple Imputation and its Application", chapter 10).

In a federation each tenant draws its own cells at the common parameters, so nothing but sums leaves it; in memory the same is done
tenant by tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fed_em.alignment import align, reordered
from fed_em.em import Stopping, fit
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.missing_gaussian import GaussianComponents
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.totals import IncrementalTotal
from fed_em_simulations.random_streams import stream

Vector = NDArray[np.float64]


def completed(
    model: GaussianMixtureModel, parameters: Parameters, records: Records, delta: Vector, generator: np.random.Generator
) -> Records:
    """Records whose missing cells are drawn at the parameters, and then moved by δ.

    Args:
        model: The mixture.
        parameters: Its parameters, in the coordinates of the records.
        records: Rows `(n, D)` with NaN.
        delta: `(D,)`, in the same coordinates.
        generator: Where they are drawn from.
    """
    responsibilities = model.responsibilities(parameters, records)
    cumulative = np.cumsum(responsibilities, axis=1)[:, :-1]
    labels = (generator.random(len(records))[:, np.newaxis] >= cumulative).sum(axis=1)
    components = GaussianComponents(model.covariance, parameters["means"], parameters["covariances"])
    drawn = components.draw(records.rows, labels, generator.standard_normal(records.rows.shape))
    return replace(records, rows=np.where(np.isnan(records.rows), drawn + delta, records.rows))


def delta_adjusted(
    model: GaussianMixtureModel,
    parameters: Parameters,
    parts: Mapping[str, Records],
    delta: Vector,
    draws: int,
    stopping: Stopping,
    seed: int,
) -> Parameters:
    """The fit if missing cells were δ off, averaged over draws with components matched to the first fit's.

    Args:
        model: The mixture, of rows with missing cells.
        parameters: Fitted with cells taken to be missing at random.
        parts: What each tenant holds, in the coordinates of the parameters.
        delta: `(D,)`: what is added to missing cells of each column.
        draws: How often they are drawn, at least 1. The same seed draws the same cells whatever δ is.
        stopping: Of each fit to completed rows.
        seed: At least 0.
    """
    complete = replace(model, missing=False)
    fits = []
    for draw in range(draws):
        filled = {
            name: completed(model, parameters, records, delta, stream(seed, "delta", draw, name))
            for name, records in parts.items()
        }
        total = IncrementalTotal(complete, filled, lambda _: parts)
        found = fit(complete, total, parameters, stopping).parameters
        fits.append(reordered(model, found, align(model, parameters, model, found).order))
    return Parameters({name: np.mean([one[name] for one in fits], axis=0) for name in parameters})
