"""The rounds after a fit that give standard errors: one sum of statistic products, or those of a bootstrap."""

from __future__ import annotations

from fed_em.bootstrap import bootstrap
from fed_em.broadcast import Broadcast
from fed_em.errors import CallerError
from fed_em.model import Summand
from fed_em.standard_errors import StandardErrors, standard_errors
from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.description import SessionDescription, encoding_of
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms
from fed_em_server.federated_total import FederatedTotal
from fed_em_server.hub import Clock
from fed_em_server.record import ErrorRound
from fed_em_server.repeated_sums import RepeatedSums


def sum_standard_errors(
    sums: RepeatedSums,
    clock: Clock,
    terms: SessionTerms,
    roster: Roster,
    description: SessionDescription,
    final: Broadcast,
    records: float,
) -> tuple[StandardErrors | None, ErrorRound | None]:
    """Standard errors at the final parameters, over whoever answers; None for both if the session is to have none.

    The sum of products is of the whole vectors of one set of tenants, so n, the information and how far the parameters are from a
    maximum are all of the same records. Replicates are fitted as the model was, also with terms of earlier rounds. If a sum cannot be
    taken, the model is there all the same, and the round says why it has no errors.

    Args:
        sums, clock, terms, roster, description: The session.
        final: What it fitted.
        records: How many records that was of.
    """
    products, replicates = description.products_of(final.model), description.replicates_of(final.model)
    if products is None and replicates is None:
        return None, None
    sums.essential = False
    began, up, down = clock.now(), *clock.traffic()
    opened: list[SumOpened] = []

    def total_for(summand: Summand) -> FederatedTotal:
        return FederatedTotal(sums, terms, roster, description, summand, final.coordinates, opened.append)

    errors, failure = None, ""
    try:
        if products is not None:
            point = Broadcast(products, final.coordinates, final.parameters)
            summed = total_for(products)(final.parameters)
            rounding = encoding_of(description, point, roster.row_caps).rounding(len(opened[0].survivors))
            errors = standard_errors(products, final.parameters, summed.statistics, rounding)
        if replicates is not None:
            spread = bootstrap(replicates, total_for(replicates), final.parameters, records)
            errors = spread.standard_errors(final.parameters)
    except (SumFailed, CallerError) as error:
        failure = str(error)
    now_up, now_down = clock.traffic()
    done = ErrorRound(seconds=clock.now() - began, bytes_up=now_up - up, bytes_down=now_down - down, failure=failure)
    if errors is None:
        return None, done
    of_sum = {
        "round": opened[-1].round,
        "sums": len(opened),
        "replicates": 0 if replicates is None else len(replicates.models),
        "tenants": roster.names((*opened[-1].survivors, *opened[-1].stale)),
        "records": errors.records,
        "shift": errors.shift,
    }
    return errors, done.model_copy(update=of_sum)
