"""A session that measures: the same terms, windows, policies and transcript as of any other, and one sum at one point."""

from __future__ import annotations

from collections.abc import Sequence

from fed_em.arithmetic import computed_on
from fed_em.broadcast import Broadcast
from fed_em.em import Stopping
from fed_em.errors import CallerError
from fed_em.measured_models import MeasuredModels
from fed_em.measurement import Measurement, measurement_of
from fed_em.model_file import FittedModel
from fed_em.reference import broadcast_of
from fed_em.reference_edges import ReferenceEdges
from fed_em.tenant_mixing import has_own_weights
from fed_em_protocols.clock import time_in_words
from fed_em_protocols.coordinator import coordinator_start
from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.description import encoding_of, measuring, require_gateable
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.privacy.noise import noise_of
from fed_em_protocols.roster import Roster
from fed_em_protocols.transcript.fit_plan import FitPlan, planned
from fed_em_protocols.transcript.recorder import TranscriptRecorder, TranscriptStore
from fed_em_server.configuration import ServerConfiguration
from fed_em_server.federated_sum import FederatedSum
from fed_em_server.federated_total import FederatedTotal
from fed_em_server.hub import Hub
from fed_em_server.repeated_sums import RepeatedSums
from fed_em_server.session import SessionPlan, Summing, Watcher, first_record
from fed_em_server.session_terms import planned_rounds, session_terms

# Nothing is iterated.
_ONE_SUM = Stopping(tolerance=0.0, max_iterations=1)


def require_measurable(configuration: ServerConfiguration) -> None:
    """Raise `CallerError` if models of such a session are never measured: mixing weights are each tenant's own, or it is private and does
    not say what a measurement may cost.
    """
    configuration.promise_of_a_measurement()
    if has_own_weights(configuration.description.fitted_model):
        raise CallerError(
            "models with mixing weights of each tenant's own have no one density to measure",
            remedy='set mixing = "shared" in [model]',
        )


def measuring_plan(
    configuration: ServerConfiguration,
    models: Sequence[FittedModel],
    edges: ReferenceEdges,
    roster: Roster,
    identity: SigningKey,
    transport: str,
) -> tuple[SessionPlan, Broadcast]:
    """The plan of a session that measures, with a fresh session number, and what it asks for.

    Args:
        configuration: Of the session that fits such models: its columns, weights, trust and times hold here too.
        models: One, or two to be compared.
        edges: Of the reference.
        roster, identity, transport: As `plan_session` takes them.

    Raises:
        CallerError: as `require_measurable`, models and session are over different columns, or no sparse graph will do.
    """
    require_measurable(configuration)
    for each in models:
        if each.columns != configuration.description.names:
            raise CallerError(
                f"the model is over the columns {', '.join(each.columns)}, the session over "
                f"{', '.join(configuration.description.names)}",
                remedy="measure models of this session",
            )
    asked = broadcast_of(models, edges)
    promise = configuration.promise_of_a_measurement()
    description = measuring(configuration.title, configuration.columns, configuration.weights, asked, promise)
    require_gateable(description, configuration.trust.mass_floor)
    spare = 0 if promise is None else promise.sums
    terms = session_terms(configuration.trust, roster, description, spare)
    timetable = configuration.times.timetable()
    rounds = planned_rounds(configuration.trust, description, spare)
    plan = SessionPlan(roster, identity, description, terms, timetable, _ONE_SUM, 0, transport, planned_rounds=rounds)
    return plan, asked


def run_measuring(
    plan: SessionPlan,
    asked: Broadcast,
    hub: Hub,
    watcher: Watcher,
    summing: Summing = FederatedSum,
    store: TranscriptStore | None = None,
) -> Measurement:
    """Run a session that measures to its end. Tenants are told of the end whatever happens.

    Args:
        plan, asked: As `measuring_plan` gives them.
        hub, watcher, summing, store: As `run_session` takes them; no round has an M-step, so the watcher is told of none.

    Raises:
        SumFailed: the sum could not be opened, again and again, or a tenant could not compute its statistics.
        CallerError: there are no records, or too few for the mass gate.
        EnvironmentFault: the store does not take the transcript.
    """
    recorder = None if store is None else TranscriptRecorder(store, plan.identity, time_in_words)
    try:
        description = plan.description.to_json()
        state = coordinator_start(
            plan.roster, plan.identity, plan.terms, description, plan.timetable, hub.now(), plan.planned_rounds
        )
        if recorder is not None:
            recorder.opened(plan.roster, state.terms, planned(plan), computed_on())
        watcher.session_started(first_record(plan))
    except BaseException:
        hub.close()
        raise
    sums = summing(state, hub, watcher.noticed, recorder)
    try:
        measurement = sum_measurement(plan, asked, sums)
    except BaseException:
        sums.close(CloseReason.FAILED)
        raise
    sums.close(CloseReason.FINISHED)
    return measurement


def sum_measurement(plan: FitPlan, asked: Broadcast, sums: RepeatedSums) -> Measurement:
    """The one sum, whether it is taken of tenants or comes out of a transcript. Raises as `run_measuring`."""

    def opened(_: SumOpened) -> None:
        pass

    assert isinstance(asked.model, MeasuredModels)
    total = FederatedTotal(sums, plan.terms, plan.roster, plan.description, asked.model, asked.coordinates, opened)
    summed = total(asked.parameters)
    noise = _noise_of(plan, asked, plan.roster.n - len(summed.missing))
    return measurement_of(asked.model, plan.description.names, summed.statistics, summed.missing, noise)


def _noise_of(plan: FitPlan, asked: Broadcast, tenants: int) -> dict[str, float] | None:
    """Standard deviation of the noise in a sum over so many tenants, by statistic; None without privacy."""
    privacy = plan.description.privacy
    if privacy is None:
        return None
    encoding = encoding_of(plan.description, asked, plan.roster.row_caps)
    return noise_of(encoding, privacy, plan.terms.minimum_survivors - plan.terms.colluders).of_statistics(tenants)
