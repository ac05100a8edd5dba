"""Writes what follows from the metrics and the objectives: rules and configuration of Prometheus, dashboards, tables of the documentation.

python -m fed_em_server.observability.generate [REPOSITORY]
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fed_em_protocols.metric_catalogue import METRICS, Label
from fed_em_server.observability.alert_rules import DOCUMENTATION, all_alerts, rule_file
from fed_em_server.observability.dashboards import DASHBOARDS
from fed_em_server.observability.grafana import dashboard_json
from fed_em_server.observability.objectives import BUDGET_DAYS, OBJECTIVES

FOLDER = "deploy/observability"
RULES, CONFIGURATION = f"{FOLDER}/rules.yml", f"{FOLDER}/prometheus.yml"

# Where each side's endpoint is in the examples of the documentation.
PORTS = {"fed-em-server": 9464, "fed-em-tenant": 9465, "fed-em-serve": 9466, "fed-em-operate": 9467}

_HEAD = "# Made by `make observability`; changes here are lost.\n# yamllint disable rule:line-length\n---\n"
_WIDE = 10_000


def generated(documentation: str) -> Mapping[str, str]:
    """All files by their paths in the repository; the documentation with its tables made anew."""
    dashboards = {
        f"{FOLDER}/dashboards/{each.name}.json": json.dumps(dashboard_json(each), indent=2, ensure_ascii=False) + "\n"
        for each in DASHBOARDS
    }
    tables = {"metrics": _metrics_table(), "objectives": _objectives_table(), "alerts": _alerts_list()}
    return {
        RULES: _HEAD + _yaml(rule_file()),
        CONFIGURATION: _HEAD + _yaml(prometheus_configuration()),
        **dashboards,
        DOCUMENTATION: _with_tables(documentation, tables),
    }


def prometheus_configuration() -> dict[str, Any]:
    """Of a Prometheus on the machine of all parties: in earnest, each party has its own, and scrapes its own."""
    jobs = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in PORTS.items()]
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": jobs,
    }


def _yaml(document: Mapping[str, Any]) -> str:
    return str(yaml.dump(document, Dumper=_Indented, sort_keys=False, width=_WIDE, allow_unicode=True))


class _Indented(yaml.SafeDumper):  # type: ignore[misc]
    """Lists stand further in than the keys that they belong to."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _with_tables(page: str, tables: Mapping[str, str]) -> str:
    for name, table in tables.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, opened, rest = page.partition(start)
        _, closed, after = rest.partition(end)
        if not (opened and closed):
            raise SystemExit(f"{DOCUMENTATION} has no place for the {name}: {start} … {end}")
        page = f"{before}{start}\n\n{table}\n\n{end}{after}"
    return page


def _table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _metrics_table() -> str:
    lines = [
        (
            f"`{metric.name}`",
            f"{metric.kind.value}, {', '.join(side.value for side in metric.sides)}",
            "; ".join(map(_label, metric.labels)),
            f"{metric.help} Unit: {metric.unit}." if metric.unit != "1" else metric.help,
            metric.safe,
        )
        for metric in METRICS
    ]
    return _table(("metric", "kind, on whose endpoint", "labels", "what it is", "why it may be seen"), lines)


def _label(label: Label) -> str:
    said = ", ".join(f"`{value}`" for value in label.values) if label.bound is None else label.bound.value
    return f"`{label.name}`: {said}"


def _objectives_table() -> str:
    lines = [
        (
            each.name,
            each.says,
            f"{each.budget:.0%} of {BUDGET_DAYS} days",
            "; ".join(
                f"{burn.severity.value} at {burn.rate:g}× over {burn.long} and {burn.short}" for burn in each.burns
            ),
            "keeps quiet" if each.quiet else "goes on",
        )
        for each in OBJECTIVES
    ]
    return _table(("objective", "promise", "error budget", "alerts", "while a retrain is planned"), lines)


def _alerts_list() -> str:
    said = [
        f"### {alert.name}\n\n{alert.severity.value.capitalize()}. {_in_words(alert.summary)} {alert.do}\n\n"
        f"```promql\n{alert.whole_expression}\n```"
        for alert in all_alerts()
    ]
    return "\n\n".join(said)


def _in_words(summary: str) -> str:
    return re.sub(r"\{\{ \$(?:labels\.)?(\w+) \}\}", lambda found: f"*{found[1]}*", summary)


def write(repository: Path) -> None:
    """Write all of it into a repository."""
    documentation = (repository / DOCUMENTATION).read_text(encoding="utf-8")
    for name, text in generated(documentation).items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
