"""The fit of a session over its sums, whether these are taken of tenants or come out of a transcript.

It is a function of the plan and the sums: no time, no chance, and no order in which threads of a BLAS add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fed_em.blas import single_threaded_blas
from fed_em.broadcast import Broadcast
from fed_em.centres import Centres
from fed_em.coordinates import Coordinates
from fed_em.em import Total
from fed_em.model import Summand
from fed_em.noised_total import AVERAGING, NoisedTotal
from fed_em.standard_errors import StandardErrors
from fed_em.standardised_fit import Onlooker, StandardisedFit, fit_standardised
from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.description import encoding_for
from fed_em_protocols.privacy.noise import noise_of
from fed_em_protocols.transcript.fit_plan import FitPlan
from fed_em_server.federated_total import FederatedTotal
from fed_em_server.hub import Clock
from fed_em_server.record import ErrorRound
from fed_em_server.repeated_sums import RepeatedSums
from fed_em_server.standard_error_round import sum_standard_errors


@dataclass(frozen=True, eq=False)
class SessionFit:
    """What a session's sums came to.

    Attributes:
        result: The fit.
        final: Its model and parameters, as tenants are told them.
        errors: Standard errors; None if there are none.
        error_round: How they came about; None if there were to be none.
    """

    result: StandardisedFit
    final: Broadcast
    errors: StandardErrors | None
    error_round: ErrorRound | None


def fit_session(
    plan: FitPlan,
    sums: RepeatedSums,
    clock: Clock,
    onlooker: Onlooker,
    opened: Callable[[SumOpened], None],
    projected: Callable[[int], None],
) -> SessionFit:
    """Fit a session's model, and sum its standard errors if it is to have them.

    Args:
        plan: What it follows from.
        sums: The sums.
        clock: For the record of the standard errors.
        onlooker: Told of every round but the first.
        opened: Told of every opened sum of the fit.
        projected: Told, of each sum with noise, of how many components it made it inadmissible.

    Raises:
        SumFailed: a sum could not be opened, again and again, or a tenant could not compute its statistics.
        CallerError: the encoding's range cannot be proved, a column is constant, or too few cells of it pass the mass gate.
    """
    description = plan.description

    def total_for(model: Summand, coordinates: Coordinates) -> Total:
        total = FederatedTotal(sums, plan.terms, plan.roster, description, model, coordinates, opened)
        radius = description.radius_of(model, coordinates)
        if radius is None or isinstance(model, Centres):
            return description.total_of(model, total)
        # Gates of different rounds let other components through, and have no common average.
        averaging = AVERAGING if model == description.fitted_model and not plan.terms.mass_floor else None
        return NoisedTotal(total, model, radius, projected, averaging, _noise_of(plan, model, coordinates))

    with single_threaded_blas():
        result = fit_standardised(
            description.fitted_model,
            (description.low, description.high),
            total_for,
            plan.stopping,
            plan.seed,
            onlooker,
            plan.optimiser,
            plan.beginning,
            description.choice(),
            description.tracks or 1,
            description.final,
        )
        final = Broadcast(result.model, result.coordinates, result.fit.parameters)
        errors, error_round = sum_standard_errors(
            sums, clock, plan.terms, plan.roster, description, final, result.fit.iterations[-1].records
        )
    return SessionFit(result, final, errors, error_round)


def _noise_of(plan: FitPlan, model: Summand, coordinates: Coordinates) -> dict[str, float]:
    """Standard deviation of the noise of a sum over all tenants, by block."""
    privacy = plan.description.privacy
    assert privacy is not None
    encoding = encoding_for(plan.description, model, coordinates, plan.roster.row_caps)
    return noise_of(encoding, privacy, plan.terms.minimum_survivors - plan.terms.colluders).of_statistics(plan.roster.n)
