"""All metrics of the project: the one list that registration, dashboards, alert rules and the table in the documentation follow from.

Pure data. Every label has a closed set of values, or a bound that is known while the process runs; a value outside of it is refused when
it is recorded, so no metric ever has more series than its row here says. No entry holds a secret, a row or a statistic of one tenant:
each says why it is safe to show to whoever may read the endpoint that it is on. The server's endpoint shows nothing that the protocol
does not show the server. A tenant's endpoint is the tenant's own: nobody else has any business there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from fed_em_protocols.messages import RefusalCode
from fed_em_protocols.policy_rules import PolicyRule

PREFIX = "fed_em_"


class Kind(StrEnum):
    """As Prometheus has them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Side(StrEnum):
    """Whose endpoint a metric is on."""

    SERVER = "server"
    TENANT = "tenant"
    SERVING = "serving"
    OPERATE = "operate"


class Bound(Enum):
    """What bounds the values of a label that the list cannot name; the text says how many there are at most."""

    TENANTS = "tenants of the roster, if it has 64 or fewer; none of a larger one"
    COMPONENTS = "0 … K − 1 of the model"
    COLUMNS = "columns of the session"
    PARTIES = "the server and the tenants of the roster, if it has 64 or fewer; the server alone of a larger one"
    OWN_NAME = "`server`, or the tenant's own name: one"
    SESSION = "the session that runs: one at a time"
    FEDERATION = "the roster's: one"
    TITLE = "of the session that runs: one at a time"
    CURRENCY = "that of the price table: one"
    VERSION = "the model that is served: one at a time"


# A larger roster has no series by tenant: its cohorts are counted as a whole.
MOST_NAMED_TENANTS = 64


@dataclass(frozen=True)
class Label:
    """One label: its values, or what bounds them.

    Attributes:
        name: Of the label.
        values: All that there are; empty if `bound` says.
        bound: What bounds them; None if `values` names them.
    """

    name: str
    values: tuple[str, ...] = ()
    bound: Bound | None = None

    def __post_init__(self) -> None:
        if bool(self.values) == (self.bound is not None):
            raise ValueError(f"label {self.name} has values or a bound: one of them")


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: Whole, with the suffix of its unit; a counter's ends in `_total`.
        kind: Counter, gauge or histogram.
        help: What it measures, as its endpoint says.
        unit: As people read it.
        sides: On whose endpoints it is.
        safe: Why it may be seen by whoever may read the endpoint.
        labels: In order.
        buckets: Upper bounds of a histogram's, ascending, +Inf left out; else empty.
    """

    name: str
    kind: Kind
    help: str
    unit: str
    sides: tuple[Side, ...]
    safe: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.buckets) != (self.kind is Kind.HISTOGRAM):
            raise ValueError(f"{self.name}: buckets are a histogram's")
        if self.name.endswith("_total") != (self.kind is Kind.COUNTER):
            raise ValueError(f"{self.name}: a counter's name, and no other, ends in _total")

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of its labels."""
        return tuple(label.name for label in self.labels)


# What a session does at a moment: `fed_em_server.live_picture.Stage`.
PHASES = ("gathering", "paused", "setting_up", "computing", "certifying", "opening", "recovering", "between", "over")
# What a tenant had to do with a round: `fed_em_server.record.Participation`.
PARTS = ("summed", "recovered", "stale", "late", "away")
OUTCOMES = ("converged", "ended", "failed")
WHERE_NOT_EVALUATED = ("start", "proposal", "fit")
TRUSTS = ("malicious-server", "semi-honest")
# What a served model is asked for, and what became of it: `fed_em_server.serving.watcher`.
METHODS = ("predict", "score", "impute", "sample")
ANSWERS = ("ok", "refused", "failed")
# What a canary's rule comes to (`fed_em_server.registry.canary`), and what becomes of a retrain (`fed_em_server.operate.operator`).
VERDICTS = ("promote", "keep", "roll-back")
RETRAINS = ("promoted", "kept-out", "failed")

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
_SERVE_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
_ROUNDS = (10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)

_SERVER, _TENANT = (Side.SERVER,), (Side.TENANT,)
_BOTH = (Side.SERVER, Side.TENANT)
_SERVING, _OPERATE = (Side.SERVING,), (Side.OPERATE,)

_PARTY = Label("party", bound=Bound.OWN_NAME)
_PART = Label("part", PARTS)
_METHOD = Label("method", METHODS)
_RULES = tuple(rule.value for rule in PolicyRule)

_ATTENDANCE = "who took part is what the protocol shows the server: its transcript has it"
_CLOCK = "the server's own clock over messages that it receives anyway; all tenants together"
_OPENED = "of an opened sum over many tenants, which the server and every tenant learn"
_PUBLIC = "public in the roster, or in the session's terms"
_COUNTED = "a count of what the server itself did or saw"
_OWN = "the tenant's own, on the tenant's own endpoint"
_SUMS = "of securely summed measurements over all tenants"


def _counter(
    name: str, text: str, sides: tuple[Side, ...], safe: str, labels: tuple[Label, ...] = (), unit: str = "1"
) -> Metric:
    return Metric(f"{PREFIX}{name}_total", Kind.COUNTER, text, unit, sides, safe, labels)


def _gauge(
    name: str, text: str, sides: tuple[Side, ...], safe: str, labels: tuple[Label, ...] = (), unit: str = "1"
) -> Metric:
    return Metric(f"{PREFIX}{name}", Kind.GAUGE, text, unit, sides, safe, labels)


def _histogram(
    name: str,
    text: str,
    sides: tuple[Side, ...],
    safe: str,
    labels: tuple[Label, ...] = (),
    buckets: tuple[float, ...] = _SECONDS,
    unit: str = "seconds",
) -> Metric:
    return Metric(f"{PREFIX}{name}", Kind.HISTOGRAM, text, unit, sides, safe, labels, buckets)


METRICS: tuple[Metric, ...] = (
    # The session.
    _gauge(
        "session_info",
        "1 for the session that runs, or ran last; join others with it by instance.",
        _SERVER,
        _PUBLIC,
        (
            Label("session", bound=Bound.SESSION),
            Label("federation", bound=Bound.FEDERATION),
            Label("title", bound=Bound.TITLE),
            Label("trust", TRUSTS),
        ),
    ),
    _gauge("session_running", "1 while a session runs.", _SERVER, _COUNTED),
    _gauge(
        "session_stage",
        "1 for what the session does now, 0 for the rest.",
        _SERVER,
        _COUNTED,
        (Label("stage", PHASES),),
    ),
    _histogram(
        "session_rounds",
        "Opened rounds of sessions that are over, by how they ended: converged, ended at their last iteration, failed.",
        _SERVER,
        _COUNTED,
        (Label("outcome", OUTCOMES),),
        _ROUNDS,
        "rounds",
    ),
    _counter(
        "restarts",
        "Sessions that this process began, or took up again from a checkpoint.",
        _SERVER,
        _COUNTED,
        (Label("how", ("new", "resumed")),),
    ),
    # Rounds.
    _counter(
        "rounds",
        "Rounds by what became of them, also of counts and of errors: started; opened, with a sum; failed, or void, without.",
        _SERVER,
        _COUNTED,
        (Label("outcome", ("started", "opened", "failed")),),
    ),
    _histogram(
        "round_seconds",
        "From one opened sum of the fit to the next, failed attempts and windows included.",
        _SERVER,
        _CLOCK,
    ),
    _histogram(
        "phase_seconds",
        "Time in each phase of rounds; `between` is the server's own M-step.",
        _SERVER,
        _CLOCK,
        (Label("phase", PHASES[:-1]),),
    ),
    _gauge(
        "last_round_timestamp_seconds",
        "When the last sum was opened, or the session began.",
        _SERVER,
        _CLOCK,
        unit="unix time",
    ),
    _counter(
        "windows",
        "Windows of keys by what became of their set-up.",
        _SERVER,
        _COUNTED,
        (Label("outcome", ("opened", "abandoned")),),
    ),
    # Who takes part.
    _gauge("cohort_asked", "Tenants that the last round asked.", _SERVER, _ATTENDANCE, unit="tenants"),
    _gauge("cohort", "Tenants by their part in the last opened round.", _SERVER, _ATTENDANCE, (_PART,), "tenants"),
    _gauge("tenants_here", "Tenants that have joined and not left.", _SERVER, _ATTENDANCE, unit="tenants"),
    _counter("parts", "Tenants' parts in opened rounds, all tenants together.", _SERVER, _ATTENDANCE, (_PART,)),
    _counter(
        "tenant_parts",
        "Each tenant's parts in opened rounds.",
        _SERVER,
        _ATTENDANCE,
        (Label("tenant", bound=Bound.TENANTS), _PART),
    ),
    _counter("stragglers", "Tenants that missed a cut-off, once for each.", _SERVER, _ATTENDANCE),
    _counter(
        "links",
        "Links that came up, came up again for the same process, or went down.",
        _SERVER,
        _ATTENDANCE,
        (Label("change", ("up", "again", "down")),),
    ),
    _counter(
        "refusals",
        "Tenants' refusals by the code that they send, which says no more.",
        _SERVER,
        "the code is all that a refusal carries",
        (Label("rule", (*(code.name.lower().replace("_", "-") for code in RefusalCode), "unknown")),),
    ),
    _counter("faults", "Faults of peers: messages that break the protocol, and proved lies.", _SERVER, _COUNTED),
    # The fit.
    _counter("iterations", "EM iterations that were done.", _SERVER, _OPENED),
    _counter("start_rounds", "Rounds that the start took.", _SERVER, _OPENED),
    _gauge(
        "log_likelihood",
        "Log-likelihood of the last iteration that was gone on from.",
        _SERVER,
        _OPENED,
        unit="nats a row",
    ),
    _gauge(
        "objective",
        "What EM climbs, of the same iteration: with the log prior, and the free energy where terms are stale.",
        _SERVER,
        _OPENED,
        unit="nats a row",
    ),
    _gauge(
        "objective_gain", "By how much the objective rose since the one before.", _SERVER, _OPENED, unit="nats a row"
    ),
    _gauge(
        "component_weight",
        "Mixing weight of each component after the last M-step.",
        _SERVER,
        _OPENED,
        (Label("component", bound=Bound.COMPONENTS),),
    ),
    _gauge("smallest_weight", "The least of the mixing weights.", _SERVER, _OPENED),
    _counter(
        "collapses",
        "Components that fell below one record: weight × records < 1 where it was 1 or more before, or a covariance that became singular.",
        _SERVER,
        _OPENED,
    ),
    _counter(
        "not_evaluated",
        "Parameters at which statistics or objective are no numbers: of a candidate start, or of one left out as nobody knows which "
        "it is; of an optimiser's proposal (refused, the fit goes on); or of the fit itself, which then ends.",
        _SERVER,
        _OPENED,
        (Label("where", WHERE_NOT_EVALUATED),),
    ),
    _counter(
        "projections",
        "Components that noise made inadmissible, and that were moved to where an M-step can use them.",
        _SERVER,
        _OPENED,
    ),
    # Privacy of the session.
    _gauge("epsilon_promised", "ε that all sums of the session may spend together.", _SERVER, _PUBLIC, unit="ε"),
    _gauge(
        "epsilon_spent",
        "ε of the rounds that were started so far, at the session's δ: what tenants charge.",
        _SERVER,
        "it follows from the number of rounds and the public noise",
        unit="ε",
    ),
    _gauge("delta", "δ of the session.", _SERVER, _PUBLIC, unit="δ"),
    # What it costs.
    _counter(
        "bytes",
        "Bytes of messages to (up) and from (down) the server: of all tenants at the server, of one's own at a tenant.",
        _BOTH,
        "all tenants together at the server; its own traffic at a tenant",
        (_PARTY, Label("direction", ("up", "down"))),
        "bytes",
    ),
    _counter(
        "cpu_seconds",
        "Processor time of this party's process, and of its children that have ended.",
        _BOTH,
        "the process's own; a tenant's is on its own endpoint",
        (_PARTY,),
        "seconds",
    ),
    _counter(
        "cost",
        "What processor time and bytes cost by the party's own price table; absent without one.",
        _BOTH,
        "follows from the two above and the party's own prices",
        (_PARTY, Label("resource", ("cpu", "network")), Label("currency", bound=Bound.CURRENCY)),
        "currency",
    ),
    _gauge(
        "certificate_expiry_timestamp_seconds",
        "When a party's certificate expires; a tenant knows its own and the server's.",
        _BOTH,
        _PUBLIC,
        (Label("party", bound=Bound.PARTIES),),
        "unix time",
    ),
    # The tenant's own.
    _histogram(
        "tenant_e_step_seconds",
        "One E-step over this tenant's rows, encoding and noise included.",
        _TENANT,
        f"{_OWN}: it says about how many rows there are",
    ),
    _histogram("tenant_mask_seconds", "Masking and sealing one upload.", _TENANT, _OWN),
    _counter("tenant_uploads", "Uploads that left this tenant's process.", _TENANT, _OWN),
    _counter(
        "tenant_refusals",
        "Refusals by the rule of this tenant's own policy; `rows` where its table does not fit the session.",
        _TENANT,
        f"{_OWN}: the server is told a code only",
        (Label("rule", _RULES),),
    ),
    _gauge(
        "tenant_epsilon_charged",
        "ε that this tenant's ledger has charged within its period, at its δ; absent without a budget.",
        _TENANT,
        f"{_OWN}; all sessions together, of rounds that the server knows too",
        unit="ε",
    ),
    _gauge(
        "tenant_epsilon_reserved",
        "ε that would be spent with all that is reserved as well.",
        _TENANT,
        f"{_OWN}, as above",
        unit="ε",
    ),
    _gauge("tenant_epsilon_budget", "ε that this tenant's policy allows in its period.", _TENANT, _OWN, unit="ε"),
    _gauge(
        "tenant_link_up",
        "1 while the stream to the server is up, 0 since it broke; absent without one, as where Flower relays.",
        _TENANT,
        _OWN,
    ),
    _counter("tenant_links", "Links that came about; the first, and all that replaced a broken one.", _TENANT, _OWN),
    _gauge("tenant_last_round", "Number of the last round that this tenant uploaded for.", _TENANT, _OWN, unit="round"),
    _gauge("tenant_last_upload_timestamp_seconds", "When it did.", _TENANT, _OWN, unit="unix time"),
    # Drift and operation.
    _gauge(
        "drift_psi",
        "Population stability index of a column against the reference.",
        _OPERATE,
        _SUMS,
        (Label("column", bound=Bound.COLUMNS),),
    ),
    _gauge(
        "drift_ks",
        "Kolmogorov–Smirnov distance of a column from the reference.",
        _OPERATE,
        _SUMS,
        (Label("column", bound=Bound.COLUMNS),),
    ),
    _gauge(
        "likelihood_drop",
        "By how much the log-likelihood of fresh rows is below the reference's.",
        _OPERATE,
        _SUMS,
        unit="nats a row",
    ),
    _gauge(
        "drift_score",
        "Largest of these beyond what chance alone gives it, as a multiple of its threshold: from 1 on it matters.",
        _OPERATE,
        _SUMS,
    ),
    _gauge("last_measurement_timestamp_seconds", "When drift was measured last.", _OPERATE, _COUNTED, unit="unix time"),
    _gauge(
        "planned_retrain",
        "1 while a planned retrain runs: alert rules keep quiet about what it brings with it.",
        (Side.SERVER, Side.OPERATE),
        "the operator's own plan",
    ),
    _counter(
        "retrains",
        "Retrains by what became of them: promoted, kept out, or an attempt that failed and is made again.",
        _OPERATE,
        _COUNTED,
        (Label("outcome", RETRAINS),),
    ),
    _counter(
        "canary_verdicts",
        "Verdicts of canaries on retrained models.",
        _OPERATE,
        _SUMS,
        (Label("verdict", VERDICTS),),
    ),
    # Serving.
    _histogram(
        "serve_seconds",
        "From a request to its answer, queueing for a batch included.",
        _SERVING,
        "the server's own clock; no row, no answer",
        (_METHOD,),
        _SERVE_SECONDS,
    ),
    _counter(
        "serve_requests",
        "Requests by what became of them.",
        _SERVING,
        _COUNTED,
        (_METHOD, Label("outcome", ANSWERS)),
    ),
    _counter("serve_rows", "Rows answered.", _SERVING, _COUNTED, (_METHOD,)),
    _gauge(
        "model_age_seconds",
        "Since the fit of the model that is served began, or, of a folder without a registry, since it was written.",
        _SERVING,
        "the model's own date",
        unit="seconds",
    ),
    _gauge(
        "model_info", "1 for the version that is served.", _SERVING, "a hash", (Label("version", bound=Bound.VERSION),)
    ),
    _counter("model_swaps", "Times that another version took over from one before.", _SERVING, _COUNTED),
)

BY_NAME = {metric.name: metric for metric in METRICS}


def metrics_of(side: Side) -> tuple[Metric, ...]:
    """Those on the endpoint of a side."""
    return tuple(metric for metric in METRICS if side in metric.sides)
