"""The three dashboards: what an executive, whoever is on call, and whoever looks for a cause needs to see."""

from __future__ import annotations

from fed_em_server.observability.alert_rules import bad_share
from fed_em_server.observability.grafana import GREEN, ORANGE, RED, Dashboard, Panel, Query, Row
from fed_em_server.observability.objectives import BUDGET_DAYS, MODEL_DAYS, OBJECTIVES, SECONDS_A_ROUND

_DAY = 86400
_RATE = "[$__rate_interval]"
# Instances whose session is the chosen one; a session's number is a label of one metric only.
_CHOSEN = 'and on (job, instance) fed_em_session_info{session=~"$session"}'


def _of_session(expression: str) -> str:
    return f"({expression}) {_CHOSEN}"


def _sum_by(label: str, expression: str) -> str:
    return f"sum by ({label}) ({_of_session(expression)})"


def _quantile(share: float, histogram: str, by: str = "", chosen: bool = True) -> str:
    rate = f"rate({histogram}_bucket{_RATE})"
    return f"histogram_quantile({share}, sum by ({', '.join(filter(None, ('le', by)))}) ({_of_session(rate) if chosen else rate}))"


_LOST_PARTS = 'increase(fed_em_tenant_parts_total{part=~"late|away"}[1h])'
_ALL_PARTS = "increase(fed_em_tenant_parts_total[1h])"

_BUDGETS = Panel(
    f"Error budgets left, of {BUDGET_DAYS} days",
    "What is left of what may go wrong; below zero a promise is broken. "
    + "; ".join(f"{each.name}: {each.says}" for each in OBJECTIVES)
    + ".",
    tuple(Query(f"1 - {bad_share(each, f'{BUDGET_DAYS}d')} / {each.budget:.6g}", each.name) for each in OBJECTIVES),
    "percentunit",
    "stat",
    16,
    6,
    ((None, RED), (0.0, ORANGE), (0.25, GREEN)),
    decimals=0,
)
_COHORT = Panel(
    "Who is in the sums",
    "Tenants by their part in the last opened round: in the sum at its own parameters (summed, recovered), standing with an earlier term "
    "(stale), or lost (late, away).",
    (Query(_of_session("fed_em_cohort"), "{{part}}"),),
    stacked=True,
)
_FIT = Panel(
    "Log-likelihood",
    "Nats a row, of the last iteration that the fit went on from. It rises and flattens; one that flattens low is a poor optimum.",
    (Query(_of_session("fed_em_log_likelihood"), "log-likelihood"),),
    decimals=4,
)

EXECUTIVE = Dashboard(
    "executive",
    "fed-em: executive",
    "Whether the federation keeps its promises, what its model is worth, and what it costs.",
    (
        Row(
            "Promises",
            (
                _BUDGETS,
                Panel(
                    "Sessions of 30 days",
                    "How sessions ended: converged, ended at their last iteration, or failed.",
                    (Query("sum by (outcome) (increase(fed_em_session_rounds_count[30d]))", "{{outcome}}"),),
                    kind="bargauge",
                    height=6,
                    decimals=0,
                ),
            ),
        ),
        Row(
            "Model",
            (
                Panel(
                    "Age of the model that is served",
                    f"Since the newest served model was fitted; promised is less than {MODEL_DAYS} days.",
                    (Query("min(fed_em_model_age_seconds)"),),
                    "s",
                    "stat",
                    4,
                    steps=((None, GREEN), (0.75 * MODEL_DAYS * _DAY, ORANGE), (MODEL_DAYS * _DAY, RED)),
                ),
                Panel(
                    "Drift",
                    "Of the last measurement, beyond what chance gives, as a multiple of its threshold: from 1 on it matters.",
                    (Query("max(fed_em_drift_score)"),),
                    kind="stat",
                    width=4,
                    steps=((None, GREEN), (0.5, ORANGE), (1.0, RED)),
                    decimals=2,
                ),
                _FIT,
                _COHORT,
            ),
        ),
        Row(
            "Privacy and cost",
            (
                Panel(
                    "Privacy of the session",
                    "ε spent so far and promised at most; empty for a session without noise.",
                    (
                        Query(_of_session("fed_em_epsilon_spent"), "spent"),
                        Query(_of_session("fed_em_epsilon_promised"), "promised"),
                    ),
                    kind="stat",
                    width=6,
                    decimals=2,
                ),
                Panel(
                    "Cost of a day",
                    "By each party's own price table; parties without one are not in it.",
                    (
                        Query(
                            "sum by (party, resource, currency) (increase(fed_em_cost_total[1d]))",
                            "{{party}} {{resource}} {{currency}}",
                        ),
                    ),
                    kind="bargauge",
                    width=9,
                    decimals=4,
                ),
                Panel(
                    "Bytes of a day",
                    "To (up) and from (down) the server, as each party counts its own.",
                    (Query("sum by (party, direction) (increase(fed_em_bytes_total[1d]))", "{{party}} {{direction}}"),),
                    "decbytes",
                    "bargauge",
                    9,
                ),
            ),
        ),
    ),
    "now-7d",
)

ON_CALL = Dashboard(
    "on-call",
    "fed-em: on call",
    "What is wrong now, for whom the session waits, and how long there is.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Alerts that fire",
                    "Each has a runbook in the documentation, under its name.",
                    (Query('ALERTS{alertstate="firing", alertname=~"FedEm.*"}'),),
                    kind="table",
                    width=12,
                ),
                Panel(
                    "What the session does",
                    "Its phase. Long paused, it waits for tenants without whom there is no sum, and ends in the end.",
                    (Query(_of_session("fed_em_session_stage == 1"), "{{stage}}"),),
                    kind="state-timeline",
                    width=12,
                ),
                Panel(
                    "Since the last sum",
                    "While a session runs.",
                    (
                        Query(
                            _of_session(
                                "(time() - fed_em_last_round_timestamp_seconds) and on (job, instance) (fed_em_session_running == 1)"
                            )
                        ),
                    ),
                    "s",
                    "stat",
                    6,
                    4,
                    ((None, GREEN), (300.0, ORANGE), (1800.0, RED)),
                ),
                Panel(
                    "Tenants here",
                    "Joined and not left, of those that the last round asked.",
                    (
                        Query(_of_session("fed_em_tenants_here"), "here"),
                        Query(_of_session("fed_em_cohort_asked"), "asked"),
                    ),
                    kind="stat",
                    width=6,
                    height=4,
                ),
                Panel(
                    "First certificate to expire",
                    "Of any party. With it that party's links end.",
                    (Query("min(fed_em_certificate_expiry_timestamp_seconds) - time()"),),
                    "s",
                    "stat",
                    6,
                    4,
                    ((None, RED), (3.0 * _DAY, ORANGE), (30.0 * _DAY, GREEN)),
                ),
            ),
        ),
        Row(
            "Budgets",
            (
                _BUDGETS,
                Panel(
                    "Burn rates",
                    "How many times too fast budgets are used up, in the long window of the first alert; at 1 they just last.",
                    tuple(
                        Query(
                            f"{bad_share(each, each.burns[0].long)} / {each.budget:.6g}",
                            f"{each.name}, {each.burns[0].long}",
                        )
                        for each in OBJECTIVES
                    ),
                    steps=((None, GREEN), (4.0, ORANGE), (14.4, RED)),
                    height=6,
                ),
            ),
        ),
        Row(
            "Rounds and tenants",
            (
                Panel(
                    "Time of a round",
                    f"Half of the rounds, and 95 % of them, take no longer; promised are {SECONDS_A_ROUND} s.",
                    (
                        Query(_quantile(0.5, "fed_em_round_seconds"), "half"),
                        Query(_quantile(0.95, "fed_em_round_seconds"), "95 %"),
                    ),
                    "s",
                    steps=((None, GREEN), (float(SECONDS_A_ROUND), RED)),
                ),
                Panel(
                    "Rounds by outcome",
                    "A minute. Failed ones are tried again, three times in a row at most.",
                    (Query(f"60 * {_sum_by('outcome', f'rate(fed_em_rounds_total{_RATE})')}", "{{outcome}}"),),
                ),
                _COHORT,
                Panel(
                    "Tenants that keep others waiting",
                    "Share of each tenant's parts in an hour's rounds that were late or away; none is shown of more than 64.",
                    (Query(f"{_sum_by('tenant', _LOST_PARTS)} / {_sum_by('tenant', _ALL_PARTS)}", "{{tenant}}"),),
                    "percentunit",
                    "bargauge",
                    steps=((None, GREEN), (0.05, ORANGE), (0.25, RED)),
                ),
                Panel(
                    "Refusals, faults and stragglers",
                    "In an hour. Refusals carry a code only: the tenant's own log says more.",
                    (
                        Query(_sum_by("rule", "increase(fed_em_refusals_total[1h])"), "refused: {{rule}}"),
                        Query(_of_session("increase(fed_em_faults_total[1h])"), "faults"),
                        Query(_of_session("increase(fed_em_stragglers_total[1h])"), "stragglers"),
                    ),
                ),
                Panel(
                    "Links",
                    "Links that came up, came back for the same process, or went down, in an hour.",
                    (Query(_sum_by("change", "increase(fed_em_links_total[1h])"), "{{change}}"),),
                ),
            ),
        ),
    ),
    "now-3h",
)

DEBUG = Dashboard(
    "debug",
    "fed-em: debug",
    "Where a fit goes wrong, and where its time goes: the server, and the tenants whose own metrics are scraped here.",
    (
        Row(
            "Fit",
            (
                _FIT,
                Panel(
                    "Gain of the objective",
                    "What the last iteration added, down to the tolerance. Below zero only in streams and under noise.",
                    (Query(_of_session("fed_em_objective_gain"), "gain"),),
                ),
                Panel(
                    "Weights of the components",
                    "A weight that goes to zero is a component that dies.",
                    (Query(_of_session("fed_em_component_weight"), "{{component}}"),),
                    "percentunit",
                    stacked=True,
                ),
                Panel(
                    "What could not be used",
                    "In an hour: parameters without a value, collapsed components, and components that noise put out of range.",
                    (
                        Query(_sum_by("where", "increase(fed_em_not_evaluated_total[1h])"), "not evaluated: {{where}}"),
                        Query(_of_session("increase(fed_em_collapses_total[1h])"), "collapsed"),
                        Query(_of_session("increase(fed_em_projections_total[1h])"), "moved"),
                    ),
                ),
                Panel(
                    "Iterations and start rounds",
                    "A minute.",
                    (
                        Query(_of_session(f"60 * rate(fed_em_iterations_total{_RATE})"), "iterations"),
                        Query(_of_session(f"60 * rate(fed_em_start_rounds_total{_RATE})"), "start"),
                    ),
                ),
                Panel(
                    "Smallest weight",
                    "On its way below one record it collapses.",
                    (Query(_of_session("fed_em_smallest_weight"), "smallest"),),
                    "percentunit",
                ),
            ),
        ),
        Row(
            "Time and bytes",
            (
                Panel(
                    "Where the time goes",
                    "Mean seconds in each phase of a round; `between` is the server's M-step.",
                    (
                        Query(
                            f"{_sum_by('phase', f'rate(fed_em_phase_seconds_sum{_RATE})')} / "
                            f"({_sum_by('phase', f'rate(fed_em_phase_seconds_count{_RATE})')} > 0)",
                            "{{phase}}",
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "Traffic",
                    "To and from the server, as each party counts its own.",
                    (Query(f"sum by (party, direction) (rate(fed_em_bytes_total{_RATE}))", "{{party}} {{direction}}"),),
                    "Bps",
                ),
                Panel(
                    "Processors",
                    "Busy processors of each party.",
                    (Query(f"sum by (party) (rate(fed_em_cpu_seconds_total{_RATE}))", "{{party}}"),),
                    decimals=2,
                ),
                Panel(
                    "Windows of keys, and beginnings",
                    "In an hour. Abandoned windows are set up anew; a resumed session goes on from its checkpoint.",
                    (
                        Query(_sum_by("outcome", "increase(fed_em_windows_total[1h])"), "window {{outcome}}"),
                        Query(_sum_by("how", "increase(fed_em_restarts_total[1h])"), "session {{how}}"),
                    ),
                ),
            ),
        ),
        Row(
            "Tenants, where their own endpoints are scraped",
            (
                Panel(
                    "E-step and masking",
                    "95 % take no longer.",
                    (
                        Query(
                            _quantile(0.95, "fed_em_tenant_e_step_seconds", "instance", False), "E-step {{instance}}"
                        ),
                        Query(_quantile(0.95, "fed_em_tenant_mask_seconds", "instance", False), "masking {{instance}}"),
                    ),
                    "s",
                ),
                Panel(
                    "Refusals by rule",
                    "Of the tenant's own policy, in a day.",
                    (
                        Query(
                            "sum by (instance, rule) (increase(fed_em_tenant_refusals_total[1d])) > 0",
                            "{{instance}} {{rule}}",
                        ),
                    ),
                    kind="table",
                ),
                Panel(
                    "Link, and last round",
                    "The link, and the last round that each tenant uploaded for.",
                    (
                        Query("fed_em_tenant_link_up", "link {{instance}}"),
                        Query("fed_em_tenant_last_round", "round {{instance}}"),
                    ),
                ),
                Panel(
                    "Privacy ledgers",
                    "Share of the budget that is charged, or reserved as well; tenants without a budget are not shown.",
                    (
                        Query("fed_em_tenant_epsilon_charged / fed_em_tenant_epsilon_budget", "charged {{instance}}"),
                        Query("fed_em_tenant_epsilon_reserved / fed_em_tenant_epsilon_budget", "reserved {{instance}}"),
                    ),
                    "percentunit",
                    steps=((None, GREEN), (0.9, RED)),
                ),
            ),
        ),
        Row(
            "Serving and drift",
            (
                Panel(
                    "Time to answer",
                    "99 % of the requests take no longer.",
                    (Query(_quantile(0.99, "fed_em_serve_seconds", "method", False), "{{method}}"),),
                    "s",
                ),
                Panel(
                    "Requests",
                    "A second, by what became of them.",
                    (
                        Query(
                            f"sum by (method, outcome) (rate(fed_em_serve_requests_total{_RATE}))",
                            "{{method}} {{outcome}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Drift by column",
                    "Population stability index, and Kolmogorov–Smirnov distance, from the reference.",
                    (Query("fed_em_drift_psi", "PSI {{column}}"), Query("fed_em_drift_ks", "KS {{column}}")),
                    steps=((None, GREEN), (0.25, RED)),
                ),
            ),
        ),
    ),
    "now-1h",
)

DASHBOARDS = (EXECUTIVE, ON_CALL, DEBUG)
