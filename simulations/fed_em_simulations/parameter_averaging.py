"""Federated averaging of parameters: a baseline.

In every round each tenant that answers takes some EM steps from the common parameters on its own rows, and the server averages what comes
back, weighted by rows (McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data"). Components
are matched to the common ones first (`fed_em.alignment`). A component of which a tenant holds too few rows to say anything is kept
as it was, so that no made-up component enters the average. Where tenants differ, the average of maximisers is not the maximiser of the sum.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from fed_em.alignment import align, reordered
from fed_em.divergence import Mixture
from fed_em.errors import CollapsedComponent
from fed_em.parameters import Parameters
from fed_em.records import Records


def average_parameters(
    model: Mixture,
    parts: Mapping[str, Records],
    pattern: Sequence[Collection[str]],
    start: Parameters,
    local_steps: int,
) -> Parameters:
    """The parameters after one round for each entry of the pattern.

    Args:
        model: The model.
        parts: What each tenant holds.
        pattern: Who answers in each round. Tenants without rows, and those in which a component collapses, add nothing.
        start: Where all begin.
        local_steps: EM steps of a tenant in a round, at least 1.
    """
    parameters = start
    for names in pattern:
        answers = [
            (float(parts[name].total_weight), local)
            for name in parts
            if name in names and (local := _local(model, parts[name], parameters, local_steps)) is not None
        ]
        if answers:
            parameters = _averaged(model, parameters, answers)
    return parameters


def _local(model: Mixture, records: Records, parameters: Parameters, local_steps: int) -> Parameters | None:
    if not records.total_weight > 0:
        return None
    try:
        for _ in range(local_steps):
            statistics = model.e_step(parameters, records)
            scarce = np.flatnonzero(statistics["responsibilities"] <= model.n_columns)
            parameters = model.m_step(statistics, parameters, tuple(scarce.tolist()))
    except CollapsedComponent:
        return None
    return parameters


def _averaged(model: Mixture, before: Parameters, answers: Sequence[tuple[float, Parameters]]) -> Parameters:
    weights = np.array([weight for weight, _ in answers])
    aligned = [reordered(model, local, align(model, before, model, local).order) for _, local in answers]
    return Parameters(
        {name: np.average([local[name] for local in aligned], axis=0, weights=weights) for name in before}
    )
