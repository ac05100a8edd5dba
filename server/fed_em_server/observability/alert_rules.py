"""Recording and alerting rules for Prometheus, from the objectives and the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fed_em_server.observability.objectives import (
    BUDGET_DAYS,
    MODEL_DAYS,
    MODEL_IS_STALE,
    OBJECTIVES,
    Burn,
    Objective,
    Severity,
)

DOCUMENTATION = "docs/observability.md"

_DAY = 86400
_BAD_SHARE = "fed_em:slo_bad:ratio_rate"
_RUNNING = "and on (job, instance) (fed_em_session_running == 1)"


def bad_share(objective: Objective, window: str) -> str:
    """The recorded share of bad events of an objective, as a selector."""
    return f'{_BAD_SHARE}{window}{{slo="{objective.name}"}}'


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        name: In words run together.
        expression: PromQL.
        lasts: How long it must hold, as PromQL writes it.
        severity: What it asks of people.
        summary: What is wrong, in a sentence; `{{ $labels.… }}` and `{{ $value }}` as Prometheus fills them.
        do: What to do first.
        quiet: The window in which a planned retrain keeps it quiet; empty if none does.
    """

    name: str
    expression: str
    lasts: str
    severity: Severity
    summary: str
    do: str
    quiet: str = ""

    @property
    def whole_expression(self) -> str:
        """With what keeps it quiet."""
        if not self.quiet:
            return self.expression
        return f"({self.expression}) unless on () (max_over_time(max(fed_em_planned_retrain)[{self.quiet}:]) == 1)"

    def rule(self) -> dict[str, Any]:
        """As a rule file has it."""
        return {
            "alert": self.name,
            "expr": self.whole_expression,
            "for": self.lasts,
            "labels": {"severity": self.severity.value},
            "annotations": {
                "summary": self.summary,
                "description": self.do,
                "runbook": f"{DOCUMENTATION}#{self.name.lower()}",
            },
        }


def burn_alert(objective: Objective, burn: Burn) -> Alert:
    """The alert that an objective's budget burns too fast."""
    limit = f"{burn.rate * objective.budget:.6g}"
    long, short = bad_share(objective, burn.long), bad_share(objective, burn.short)
    return Alert(
        f"FedEm{objective.name.capitalize()}Budget{burn.severity.value.capitalize()}",
        f"{long} > {limit} and on () {short} > {limit}",
        "0m",
        burn.severity,
        f"The error budget of {objective.name} burns more than {burn.rate:g} times too fast: in {BUDGET_DAYS / burn.rate:.3g} "
        f"days or less it is gone.",
        f"Promised: {objective.says}. The on-call dashboard shows which rounds, sessions or tenants it is.",
        burn.short if objective.quiet else "",
    )


# What needs no budget: each is a state, or an event that is never normal.
ALERTS = (
    Alert(
        "FedEmNotEvaluated",
        'increase(fed_em_not_evaluated_total{where="fit"}[15m]) > 0',
        "0m",
        Severity.PAGE,
        "A fit ended because its statistics or its objective were no numbers.",
        "The session is over without a model. Raise covariance_floor in [model], give a prior, or start elsewhere; then start it again.",
    ),
    Alert(
        "FedEmComponentCollapsed",
        "increase(fed_em_collapses_total[30m]) > 0",
        "0m",
        Severity.TICKET,
        "A component of the model holds less than one record.",
        "The fit goes on, with a component that is nobody's cluster: use a prior, fewer components, or a [selection].",
    ),
    Alert(
        "FedEmSessionPaused",
        'fed_em_session_stage{stage="paused"} == 1',
        "2m",
        Severity.PAGE,
        "The session waits for tenants without whom there is no sum.",
        "The server's log names them. Its process ends after [times] pause (ten minutes by default); started again, it goes on.",
        "5m",
    ),
    Alert(
        "FedEmNoProgress",
        f"(time() - fed_em_last_round_timestamp_seconds > 1800) {_RUNNING}",
        "0m",
        Severity.PAGE,
        "No sum was opened for half an hour, and the session runs.",
        "The debug dashboard shows the phase that it is in, and the log what it waits for.",
    ),
    Alert(
        "FedEmCertificateExpiresSoon",
        f"fed_em_certificate_expiry_timestamp_seconds - time() < {3 * _DAY}",
        "0m",
        Severity.PAGE,
        "The certificate of {{ $labels.party }} expires in less than three days: it will not be able to link.",
        "That party makes new keys (`fed-em keygen`); a new version of the roster lists its card.",
    ),
    Alert(
        "FedEmCertificateExpires",
        f"(fed_em_certificate_expiry_timestamp_seconds - time() < {30 * _DAY}) "
        f"unless (fed_em_certificate_expiry_timestamp_seconds - time() < {3 * _DAY})",
        "1h",
        Severity.TICKET,
        "The certificate of {{ $labels.party }} expires in less than thirty days.",
        "That party makes new keys (`fed-em keygen`); a new version of the roster lists its card, and all tenants sign it.",
    ),
    Alert(
        "FedEmPrivacyNearlySpent",
        "fed_em_tenant_epsilon_reserved / (fed_em_tenant_epsilon_budget > 0) > 0.9",
        "0m",
        Severity.TICKET,
        "More than nine tenths of this tenant's privacy budget are charged or reserved.",
        "`fed-em privacy ledger` shows in which sessions, and when they leave the period. The next session may be refused.",
    ),
    Alert(
        "FedEmTenantLinkDown",
        "fed_em_tenant_link_up == 0",
        "10m",
        Severity.TICKET,
        "This tenant's process has had no link to the server for ten minutes.",
        "`fed-em doctor` with the tenant's file tests name, connection and TLS, each apart.",
    ),
    Alert(
        "FedEmFaults",
        "increase(fed_em_faults_total[1h]) > 0",
        "0m",
        Severity.TICKET,
        "A peer broke the protocol.",
        "The server's log names it and says what the fault proves; versions that differ are the usual reason.",
    ),
    Alert(
        "FedEmDrift",
        "fed_em_drift_score >= 1",
        "10m",
        Severity.TICKET,
        "Fresh rows have drifted from the reference: beyond what chance gives, by {{ $value }} times the threshold.",
        "fed_em_drift_psi and fed_em_drift_ks tell which column; look at it at the tenants. If the change is real, retrain: "
        "`fed-em operate` does, once k of its last m scores say so.",
        "10m",
    ),
)


def all_alerts() -> Iterator[Alert]:
    """Those of the objectives, and the plain ones."""
    for objective in OBJECTIVES:
        for burn in objective.burns:
            yield burn_alert(objective, burn)
    yield from ALERTS


def rule_file() -> dict[str, Any]:
    """All rules, as Prometheus reads them."""
    stale = {"record": MODEL_IS_STALE, "expr": f"min(fed_em_model_age_seconds) > bool {MODEL_DAYS * _DAY}"}
    recorded = [
        {
            "record": f"{_BAD_SHARE}{window}",
            "expr": objective.bad.replace("$window", window),
            "labels": {"slo": objective.name},
        }
        for objective in OBJECTIVES
        for window in objective.windows
    ]
    return {
        "groups": [
            {"name": "fed-em-objectives", "rules": [stale, *recorded]},
            {"name": "fed-em-alerts", "rules": [alert.rule() for alert in all_alerts()]},
        ]
    }
