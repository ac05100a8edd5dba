"""A session's metrics: a watcher that records what the catalogue lists for the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType

from fed_em.errors import CollapsedComponent, NotEvaluated
from fed_em_client.observability.metric_set import MetricSet
from fed_em_client.observability.party_costs import PartyCosts
from fed_em_client.observability.settings import SessionMetricsTable
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.errors import SERVER
from fed_em_protocols.metric_catalogue import MOST_NAMED_TENANTS, Bound, Side
from fed_em_protocols.privacy.accounting import Spend, epsilon_of
from fed_em_protocols.privacy.promise import SAMPLING_SLACK, Privacy
from fed_em_server.checkpoints.resumable_sum import SessionPaused
from fed_em_server.live_picture import Picture, Stage
from fed_em_server.observability.refusals import code_of
from fed_em_server.record import Participation, RoundRecord, SessionRecord

# Gauges that a session has once its fit has begun, or if it is private.
_OF_ONE_FIT = (
    "log_likelihood",
    "objective",
    "objective_gain",
    "smallest_weight",
    "epsilon_promised",
    "epsilon_spent",
    "delta",
)

# A component with less than one record is nobody's cluster.
_LEAST_RECORDS = 1.0


class SessionMetrics(AbstractContextManager["SessionMetrics"]):
    """A `fed_em_server.session.Watcher` that keeps a server's metrics, over any number of sessions, one at a time.

    Use it as a context manager around each session: one that ends in an error, without `finished`, has failed.

    Args:
        settings: What the session's file says of them.
        certificates: When each party's expires, by name.
        clock: Seconds on a clock that never goes back.
        time_of_day: Seconds since 1970.

    Attributes:
        metrics: For an endpoint.
    """

    def __init__(
        self,
        settings: SessionMetricsTable,
        certificates: Mapping[str, datetime],
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._time_of_day = clock, time_of_day
        currency = () if settings.prices is None else (settings.prices.currency,)
        bounds = {Bound.OWN_NAME: (SERVER,), Bound.CURRENCY: currency, Bound.PARTIES: tuple(certificates)}
        self.metrics = MetricSet(Side.SERVER, bounds, self._refresh)
        self._costs = PartyCosts(self.metrics, SERVER, settings.prices)
        self._planned = settings.planned_retrain
        self.metrics.set("planned_retrain", 0.0)
        self.metrics.set("session_running", 0.0)
        for party, expires in certificates.items():
            self.metrics.set("certificate_expiry_timestamp_seconds", expires.timestamp(), party=party)
        self._begin()

    def _begin(self) -> None:
        """Forget what belongs to one session."""
        self._picture: Picture | None = None
        self._since = self._clock()
        self._rounds = 0
        self._started = 0
        self._spent_of = 0
        self._known_until = 0
        self._told = False
        self._iteration: int | None = None
        self._not_computed = 0
        self._lost: frozenset[int] = frozenset()
        self._objective: float | None = None
        self._weights: tuple[float, ...] = ()
        self._over = False

    def session_started(self, record: SessionRecord) -> None:
        """A session begins."""
        self._begin()
        self._picture = Picture.of(record)
        named = record.tenants if len(record.tenants) <= MOST_NAMED_TENANTS else ()
        metrics = self.metrics
        for bound, values in (
            (Bound.SESSION, (record.session,)),
            (Bound.FEDERATION, (record.federation,)),
            (Bound.TITLE, (record.title,)),
            (Bound.COMPONENTS, ()),
        ):
            metrics.bound(bound, values)
        metrics.bound(Bound.TENANTS, named)
        metrics.forget(*_OF_ONE_FIT)
        metrics.set(
            "session_info",
            1.0,
            session=record.session,
            federation=record.federation,
            title=record.title,
            trust=record.trust,
        )
        metrics.set("session_running", 1.0)
        metrics.set("last_round_timestamp_seconds", self._time_of_day())
        metrics.set("planned_retrain", float(self._planned))
        self._show_stage(Stage.GATHERING)
        if record.privacy is not None:
            metrics.set("epsilon_promised", record.privacy.epsilon)
            metrics.set("delta", record.privacy.delta)
            metrics.set("epsilon_spent", 0.0)

    def noticed(self, notice: Notice) -> None:
        """Count what happened."""
        if self._picture is None:
            return
        self._count_begun(notice)
        before, now = self._picture.stage, self._clock()
        self._picture = self._picture.after_notice(notice, now)
        if self._picture.stage is not before:
            self._end_phase(before, now)
            self._show_stage(self._picture.stage)
        count = _COUNTS.get(notice.kind)
        if count is not None:
            count(self.metrics, notice)
        if notice.kind is NoticeKind.ROUND_STARTED:
            self._started += 1
        if notice.kind is NoticeKind.NOT_COMPUTED:
            self._not_computed += 1  # counted with the sum that follows: where none does, the fit has ended
        if notice.kind is NoticeKind.SUMMED:
            self.metrics.set("last_round_timestamp_seconds", self._time_of_day())
        self.metrics.set("tenants_here", self._picture.standings.here)

    def round_opened(self, record: RoundRecord) -> None:
        """Record a round: its cohort, its traffic, and what the fit made of it."""
        self._rounds += 1
        if record.round > self._known_until:
            self._count_round(record)
        if record.start is None and record.iteration:
            self._iterated(record)

    def _count_begun(self, notice: Notice) -> None:
        """The first notice of a session tells whether another process began it. Rounds that this one counted are not counted again."""
        if self._told:
            return
        self._told = True
        if notice.kind is NoticeKind.RESTARTED:
            self._known_until = self._started = notice.round
        self.metrics.add("restarts", how="resumed" if notice.kind is NoticeKind.RESTARTED else "new")

    def _count_round(self, record: RoundRecord) -> None:
        metrics = self.metrics
        metrics.observe("round_seconds", record.seconds)
        self._costs.count_traffic(record.bytes_up, record.bytes_down)
        self._count_parts(record)
        metrics.add("projections", record.projected)
        if record.candidates:
            lost = frozenset(k for k, each in enumerate(record.candidates) if each is None)
            metrics.add("not_evaluated", len(lost - self._lost), where="start")
            self._lost = lost
        if record.start is not None:
            metrics.add("start_rounds")
        elif record.iteration:
            metrics.add("iterations")

    def finished(self, record: SessionRecord) -> None:
        """The session ended with a model."""
        self._end("converged" if record.converged else "ended")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, NotEvaluated):
            self.metrics.add("not_evaluated", where="fit")
        if isinstance(error, CollapsedComponent):
            self.metrics.add("collapses")
        if isinstance(error, SessionPaused):
            self._end(None)
        elif error is not None:
            self._end("failed")

    def _end(self, outcome: str | None) -> None:
        """The process is done with the session; None if another will go on with it."""
        if self._picture is None or self._over:
            return
        self._over = True
        self._end_phase(self._picture.stage, self._clock())
        self._show_stage(Stage.OVER)
        if outcome is not None:
            self.metrics.observe("session_rounds", self._rounds, outcome=outcome)
        self.metrics.set("session_running", 0.0)
        self.metrics.set("planned_retrain", 0.0)

    def _count_parts(self, record: RoundRecord) -> None:
        assert self._picture is not None
        names = self.metrics.bounded(Bound.TENANTS)
        for part in Participation:
            self.metrics.add("parts", record.participation.count(part), part=part.value)
            self.metrics.set("cohort", record.participation.count(part), part=part.value)
        for name, part in zip(names, record.participation, strict=False):
            self.metrics.add("tenant_parts", tenant=name, part=part.value)

    def _iterated(self, record: RoundRecord) -> None:
        metrics = self.metrics
        if self._iteration is not None and record.round > self._known_until:
            # A proposal that could not be evaluated leaves a gap between iterations, or was noticed as a tenant could not; or both.
            gap = record.iteration - self._iteration - 1
            metrics.add("not_evaluated", max(gap, self._not_computed), where="proposal")
        self._iteration, self._not_computed = record.iteration, 0
        if not record.step.is_gone_on_from:
            return
        if record.log_likelihood is not None:
            metrics.set("log_likelihood", record.log_likelihood)
        if record.objective is not None:
            if self._objective is not None:
                metrics.set("objective_gain", record.objective - self._objective)
            self._objective = record.objective
            metrics.set("objective", record.objective)
        if record.weights:
            self._weigh(record.weights, record.records, record.round > self._known_until)

    def _weigh(self, weights: tuple[float, ...], records: float | None, counts: bool) -> None:
        metrics = self.metrics
        if len(weights) != len(self._weights):
            metrics.bound(Bound.COMPONENTS, map(str, range(len(weights))))
            self._weights = weights
        for component, weight in enumerate(weights):
            metrics.set("component_weight", weight, component=str(component))
        metrics.set("smallest_weight", min(weights))
        if records and counts:
            least = _LEAST_RECORDS / records
            fallen = sum(now < least <= before for now, before in zip(weights, self._weights, strict=True))
            metrics.add("collapses", fallen)
        self._weights = weights

    def _end_phase(self, stage: Stage, now: float) -> None:
        self.metrics.observe("phase_seconds", now - self._since, phase=stage.name.lower())
        self._since = now

    def _show_stage(self, stage: Stage) -> None:
        for each in Stage:
            self.metrics.set("session_stage", float(each is stage), stage=each.name.lower())

    def _refresh(self) -> None:
        """Before a scrape: what takes a while to compute, or changes by itself."""
        self._costs.count_processor()
        picture, started = self._picture, self._started
        if picture is not None and picture.record.privacy is not None and started != self._spent_of:
            self.metrics.set("epsilon_spent", _epsilon_spent(picture.record.privacy, started))
            self._spent_of = started


def _epsilon_spent(privacy: Privacy, rounds: int) -> float:
    sums = min(rounds, privacy.sums)
    return epsilon_of([Spend(privacy.noise_multiplier, sums, SAMPLING_SLACK * sums)], privacy.delta)


def _count_linked(metrics: MetricSet, notice: Notice) -> None:
    metrics.add("links", change="again" if notice.text == "again" else "up")


def _count_started(metrics: MetricSet, notice: Notice) -> None:
    metrics.add("rounds", outcome="started")
    metrics.set("cohort_asked", len(notice.tenants))


_COUNTS: Mapping[NoticeKind, Callable[[MetricSet, Notice], None]] = {
    NoticeKind.LINKED: _count_linked,
    NoticeKind.LEFT: lambda metrics, _: metrics.add("links", change="down"),
    NoticeKind.REFUSED: lambda metrics, notice: metrics.add("refusals", rule=code_of(notice)),
    NoticeKind.WINDOW_OPENED: lambda metrics, _: metrics.add("windows", outcome="opened"),
    NoticeKind.WINDOW_ABANDONED: lambda metrics, _: metrics.add("windows", outcome="abandoned"),
    NoticeKind.ROUND_STARTED: _count_started,
    NoticeKind.LATE: lambda metrics, notice: metrics.add("stragglers", 0 if notice.text else len(notice.tenants)),
    NoticeKind.SUMMED: lambda metrics, _: metrics.add("rounds", outcome="opened"),
    NoticeKind.ROUND_FAILED: lambda metrics, _: metrics.add("rounds", outcome="failed"),
    NoticeKind.FAULT: lambda metrics, _: metrics.add("faults"),
}
