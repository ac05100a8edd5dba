"""The same fit on rows in one place: what a federation is compared with, from the same configuration."""

from __future__ import annotations

from typing import cast

from fed_em.coordinates import Coordinates
from fed_em.em import Stopping, Total
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model import Model, Rows
from fed_em.model_file import FittedModel
from fed_em.optimiser import EM
from fed_em.standardised_fit import StandardisedFit, fit_standardised
from fed_em.totals import TotalOfRows
from fed_em_protocols.description import SessionDescription


def fit_pooled(
    description: SessionDescription, rows: Rows, stopping: Stopping, seed: int, optimiser: str = EM
) -> tuple[FittedModel, StandardisedFit]:
    """Fit a session's model to rows `(n, D)` in memory, through the very steps of a federated session.

    Raises:
        CallerError: a column is constant, or the rows do not fit.
    """

    def total_for(model: Model, coordinates: Coordinates) -> Total:
        return TotalOfRows(model, coordinates.apply(rows))

    model = cast(GaussianMixtureModel, description.fitted_model)
    result = fit_standardised(
        model, (description.low, description.high), total_for, stopping, seed, optimiser=optimiser
    )
    provenance = {"rows": len(rows), "converged": result.fit.converged}
    return FittedModel(model, result.coordinates, description.names, result.fit.parameters, provenance), result
