"""One-shot federations: every tenant fits alone and sends its mixture once; the server makes one of all. Baselines.

The union of the tenants' mixtures, Σ_c n_c/n p_c, has C·K components. It comes down to K in one of two ways:

* by moments: the two nearest components are merged into one of their joint moments, again and again (`fed_em.pruning`; Runnalls 2007,
  "Kullback-Leibler approach to Gaussian mixture reduction", with the Bhattacharyya distance);
* by samples: rows are drawn from the union, and the model is fitted to these by EM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fed_em.divergence import Mixture
from fed_em.em import Fit, Stopping, fit
from fed_em.errors import CollapsedComponent
from fed_em.parameters import Parameters
from fed_em.pruning import merge_to, prune
from fed_em.records import Records
from fed_em.totals import TotalOfRows


def fit_alone(model: Mixture, parts: Mapping[str, Records], start: Parameters, stopping: Stopping) -> dict[str, Fit]:
    """Each tenant's own fit, by name. One without rows, or in whose fit a component collapses, is left out."""
    fitted: dict[str, Fit] = {}
    for name, records in parts.items():
        if not records.total_weight > 0:
            continue
        try:
            fitted[name] = fit(model, TotalOfRows(model, records), start, stopping)
        except CollapsedComponent:
            continue
    return fitted


def union(model: Mixture, fitted: Mapping[str, Parameters], sizes: Mapping[str, float]) -> tuple[Mixture, Parameters]:
    """The mixture of all tenants' mixtures, weighted by their rows; `model` has no tied covariance.

    Components of which a tenant holds too few rows to say anything stay out: such ones are narrow and far from all others.
    """
    total, least = sum(sizes[name] for name in fitted), model.n_columns + 1
    said = {name: prune(model, one, least / sizes[name])[1] for name, one in fitted.items()}
    names = [name for name in next(iter(said.values())) if name != "weights"]
    arrays = {name: np.concatenate([one[name] for one in said.values()]) for name in names}
    weights = np.concatenate([sizes[name] / total * one["weights"] for name, one in said.items()])
    joined = replace(model, n_components=len(weights), prior=None)
    return joined, Parameters({**arrays, "weights": weights})


def reduced_by_moments(model: Mixture, fitted: Mapping[str, Parameters], sizes: Mapping[str, float]) -> Parameters:
    """The union, its nearest components merged until K are left."""
    return merge_to(*union(model, fitted, sizes), model.n_components)[1]


def refitted_to_samples(
    model: Mixture,
    fitted: Mapping[str, Parameters],
    sizes: Mapping[str, float],
    start: Parameters,
    stopping: Stopping,
    generator: np.random.Generator,
) -> Fit:
    """The model fitted, from `start`, to as many rows drawn from the union as there are true ones."""
    joined, parameters = union(model, fitted, sizes)
    rows, _ = joined.sample(parameters, round(sum(sizes[name] for name in fitted)), generator)
    return fit(model, TotalOfRows(model, rows), start, stopping)
