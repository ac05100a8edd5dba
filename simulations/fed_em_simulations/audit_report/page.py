"""The page of an audit's report, drawn from the report and nothing else. Needs the extra `plots`: import it where that may be missing."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from markupsafe import Markup, escape

from fed_em_server.audit.verify import LOG
from fed_em_server.report_words import bytes_in_words, names_in_words
from fed_em_simulations.audit_report import charts
from fed_em_simulations.audit_report.contents import Attacks, AuditReport, Grade, Shown
from fed_em_simulations.audit_report.words import counted
from fed_em_simulations.simulation_report import page_environment

_TEMPLATE = "audit.html.j2"

# From more tenants on their table is folded away.
_MOST_LISTED = 25

GRADES: dict[Grade, str] = {
    "none": "nothing beyond what the sums are for",
    "bounded": "something about groups, or by chance; no single table and no single record",
    "exposed": "a tenant's statistics, a record, or who is in the data",
}


def audit_page(report: AuditReport) -> str:
    """The HTML: one file that asks for nothing else. Equal reports give equal bytes."""
    shown = report.shown
    return (
        page_environment()
        .get_template(_TEMPLATE)
        .render(
            report=report,
            shown=shown,
            failed=[check for check in report.checks if check.verdict == "failed"],
            passed=sum(check.verdict == "passed" for check in report.checks),
            figures=[] if shown is None else _figures(report, shown),
            charts={} if shown is None else {name: Markup(svg) for name, svg in _charts(shown).items()},
            grades=GRADES,
            bytes_in_words=bytes_in_words,
            counted=counted,
            marked=marked,
            most_listed=_MOST_LISTED,
            names_in_words=names_in_words,
            time_in_words=time_in_words,
            with_logs=any(check.check.startswith("log ") and check.check != LOG for check in report.checks),
        )
    )


def _charts(shown: Shown) -> dict[str, str]:
    drawn = {}
    attacks, promise = shown.attacks, shown.guarantees.privacy
    if shown.points:
        drawn["differencing"] = charts.cohorts_chart(shown)
        drawn["membership"] = charts.membership_chart(attacks.advantage)
    if any(point.masses for point in shown.points):
        drawn["single-records"] = charts.masses_chart(shown.points)
    if promise is not None and promise.epsilon_spent is not None:
        drawn["spending"] = charts.spending_chart(promise)
    return drawn


def _figures(report: AuditReport, shown: Shown) -> list[dict[str, str]]:
    """Figures at the head of the page."""
    n, promise = len(shown.tenants), shown.guarantees.privacy
    vectors = sum(house.masked_vectors for house in shown.houses)
    size = sum(house.content_bytes for house in shown.houses)
    fewest = min((point.tenants for point in shown.points), default=0)
    checks = [check for check in report.checks if check.verdict in ("passed", "failed")]
    wrong = sum(check.verdict == "failed" for check in checks)
    private = (
        ("none", "no noise: the sums are exact")
        if promise is None
        else (f"ε = {promise.epsilon:g}", f"for each {promise.unit}, at δ = {promise.delta:g}")
    )
    return [
        _figure(
            "Checks of the record",
            f"{len(checks) - wrong} of {len(checks)}",
            "held" if not wrong else f"{wrong} failed: see below",
        ),
        _figure("Masked vectors sent", f"{vectors:,}", f"{bytes_in_words(size)}; no message carries a row"),
        _figure("Sums opened", f"{len(shown.points):,}", f"in {counted(shown.rounds, 'round')}"),
        _figure("Fewest tenants in a sum", f"{fewest} of {n}", _least(shown)),
        _figure("Differential privacy", *private),
        _figure("What an attacker gets", shown.attacks.severity, _by_which(shown.attacks)),
    ]


def _by_which(attacks: Attacks) -> str:
    worst = [line.attack.replace("-", " ") for line in attacks.findings if line.severity == attacks.severity]
    return GRADES["none"] if attacks.severity == "none" else f"by {names_in_words(worst)}"


def marked(text: str) -> Markup:
    """Plain text with what stands in `backticks` as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def time_in_words(iso: str) -> str:
    """`28 November 2026, 20:22 UTC`; what is no time stays as it is."""
    try:
        at = datetime.fromisoformat(iso).astimezone(UTC)
    except ValueError:
        return iso
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _least(shown: Shown) -> str:
    least = shown.attacks.least_support
    return f"{least} by adding and subtracting sums" if least else "no sum was opened"


def _figure(name: str, value: str, note: str) -> dict[str, str]:
    return {"name": name, "value": value, "note": note}
