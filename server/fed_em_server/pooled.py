"""The same fit on records in one place: what a federation is compared with, from the same configuration."""

from __future__ import annotations

from dataclasses import replace

from fed_em.coordinates import Coordinates
from fed_em.em import Stopping, Total
from fed_em.minibatches import MinibatchTotal
from fed_em.model import Model, Rows
from fed_em.model_file import FittedModel
from fed_em.records import Records
from fed_em.standardised_fit import StandardisedFit, fit_standardised
from fed_em.totals import TotalOfRows
from fed_em_protocols.description import SessionDescription


def fit_pooled(
    description: SessionDescription, rows: Rows | Records, stopping: Stopping, seed: int
) -> tuple[FittedModel, StandardisedFit]:
    """Fit a session's model to rows `(n, D)`, or records, in memory, through the very steps of a federated session.

    Raises:
        CallerError: a column is constant, or the rows do not fit.
    """
    records = Records.of(rows)

    def total_for(model: Model, coordinates: Coordinates) -> Total:
        there = replace(records, rows=coordinates.apply(records.rows))
        # Labels are of components, and the moments of all records have none.
        if model is not description.fitted_model:
            return TotalOfRows(model, replace(there, admissible=None))
        if description.stream is None:
            return TotalOfRows(model, there)
        minibatches = description.stream.minibatches(b"pooled" + seed.to_bytes(8, "little"))
        return description.total_of(model, MinibatchTotal(model, there, minibatches))

    model = description.fitted_model
    result = fit_standardised(model, (description.low, description.high), total_for, stopping, seed)
    provenance = {"rows": len(records), "converged": result.fit.converged}
    return FittedModel(model, result.coordinates, description.names, result.fit.parameters, provenance), result
