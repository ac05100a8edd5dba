"""The round after a fit: one sum of statistic products, and the standard errors that follow from it."""

from __future__ import annotations

from fed_em.broadcast import Broadcast
from fed_em.errors import CallerError
from fed_em.standard_errors import StandardErrors, standard_errors
from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.description import SessionDescription, encoding_of
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms
from fed_em_server.federated_sum import FederatedSum
from fed_em_server.federated_total import FederatedTotal
from fed_em_server.hub import Hub
from fed_em_server.record import ErrorRound


def sum_standard_errors(
    sums: FederatedSum, hub: Hub, terms: SessionTerms, roster: Roster, description: SessionDescription, final: Broadcast
) -> tuple[StandardErrors | None, ErrorRound | None]:
    """Standard errors at the final parameters, over whoever answers; None for both if the session is to have none.

    The sum is of the whole vectors of one set of tenants, so n, the information and how far the parameters are from a maximum are all
    of the same records. If it cannot be taken, the model is there all the same, and the round says why it has no errors.
    """
    products = description.statistic_products
    if products is None:
        return None, None
    began, up, down = hub.now(), *hub.traffic()
    opened: list[SumOpened] = []
    point = Broadcast(products, final.coordinates, final.parameters)
    errors, failure = None, ""
    try:
        total = FederatedTotal(sums, terms, roster, description, products, final.coordinates, opened.append)
        summed = total(final.parameters)
        rounding = encoding_of(description, point, roster.row_caps).rounding(len(opened[0].survivors))
        errors = standard_errors(products, final.parameters, summed.statistics, rounding)
    except (SumFailed, CallerError) as error:
        failure = str(error)
    now_up, now_down = hub.traffic()
    done = ErrorRound(seconds=hub.now() - began, bytes_up=now_up - up, bytes_down=now_down - down, failure=failure)
    if errors is None:
        return None, done
    of_sum = {
        "round": opened[0].round,
        "tenants": roster.names(opened[0].survivors),
        "records": errors.records,
        "shift": errors.shift,
    }
    return errors, done.model_copy(update=of_sum)
