"""Rules and dashboards speak of metrics that there are, are what their lists give, and promtool accepts and fires them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fed_em_client.observability.metric_set import MetricSet
from fed_em_protocols.metric_catalogue import BY_NAME, Kind, Label, Side
from fed_em_server.observability.alert_rules import DOCUMENTATION, all_alerts, rule_file
from fed_em_server.observability.dashboards import DASHBOARDS
from fed_em_server.observability.generate import CONFIGURATION, RULES, generated, write
from fed_em_server.observability.grafana import dashboard_json
from fed_em_server.observability.objectives import OBJECTIVES, ROUNDS_TO_CONVERGE, SECONDS_A_ROUND, Severity
from tests.conftest import REPOSITORY

SELECTOR = re.compile(r"(fed_em_[a-z0-9_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
ALERT_TESTS = "tests/observability/alert_tests.yml"


def expressions() -> Iterator[str]:
    for dashboard in DASHBOARDS:
        yield from (query.expression for query in dashboard.queries)
    for group in rule_file()["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def series_in(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    for name, matchers in SELECTOR.findall(expression):
        yield name, MATCHER.findall(matchers)


def test_every_expression_is_of_metrics_labels_and_values_that_are_declared() -> None:
    checked = 0
    for expression in expressions():
        for name, matchers in series_in(expression):
            family = name if name in BY_NAME else re.sub("_(bucket|count|sum)$", "", name)
            entry = BY_NAME[family]
            assert (name == family) != (entry.kind is Kind.HISTOGRAM), name
            labels = {label.name: label for label in entry.labels}
            for label, operator, value in matchers:
                checked += 1
                if label == "le":
                    assert float(value) in entry.buckets and value == str(float(value))
                elif operator == "=" and labels[label].bound is None:
                    assert value in labels[label].values
                else:
                    assert label in labels
                    if labels[label].bound is None:
                        assert any(re.fullmatch(value, known) for known in labels[label].values)
    assert checked > 30
    with pytest.raises(KeyError):
        BY_NAME["fed_em_no_such_total"]


def test_counters_are_looked_at_as_rates_only() -> None:
    for expression in expressions():
        for name, _ in series_in(expression):
            if name.endswith(("_total", "_bucket", "_count", "_sum")):
                assert re.search(rf"(rate|increase)\({name}", expression), expression


def test_limits_of_objectives_are_bounds_of_buckets() -> None:
    assert SECONDS_A_ROUND in BY_NAME["fed_em_round_seconds"].buckets
    assert ROUNDS_TO_CONVERGE in BY_NAME["fed_em_session_rounds"].buckets
    for objective in OBJECTIVES:
        assert 0 < objective.budget < 1
        for burn in objective.burns:
            assert burn.rate * objective.budget < 1, "no share of events could set it off"
        assert [burn.severity for burn in objective.burns] == sorted(
            (burn.severity for burn in objective.burns), key=list(Severity).index
        )


def test_quiet_alerts_look_at_the_planned_retrain_and_the_others_do_not() -> None:
    loud = {alert.name for alert in all_alerts() if "fed_em_planned_retrain" not in alert.whole_expression}
    assert {"FedEmNotEvaluated", "FedEmCertificateExpires", "FedEmRefusalsBudgetPage", "FedEmFaults"} <= loud
    assert not {"FedEmLatencyBudgetPage", "FedEmConvergenceBudgetTicket", "FedEmDrift", "FedEmSessionPaused"} & loud
    assert len({alert.name for alert in all_alerts()}) == len(list(all_alerts()))


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)
def test_dashboards_are_readable(dashboard: Any) -> None:
    made = dashboard_json(dashboard)
    assert json.loads((REPOSITORY / f"deploy/observability/dashboards/{dashboard.name}.json").read_text()) == made
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith(".") and panel["targets"] and panel["fieldConfig"]["defaults"]["unit"]
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"]) <= 25
    assert [variable["name"] for variable in made["templating"]["list"]] == ["source", "session"]


def test_what_is_checked_in_is_what_the_lists_give_and_a_page_without_a_place_is_refused(tmp_path: Path) -> None:
    page = (REPOSITORY / DOCUMENTATION).read_text()
    files = generated(page)
    assert {name for name in files if (REPOSITORY / name).read_text() != files[name]} == set()
    assert set(files) >= {RULES, CONFIGURATION, DOCUMENTATION}
    assert yaml.safe_load(files[RULES]) == rule_file()
    (tmp_path / "docs").mkdir()
    (tmp_path / DOCUMENTATION).write_text(
        re.sub("<!-- metrics -->.*<!-- end of metrics -->", "", page, flags=re.DOTALL)
    )
    with pytest.raises(SystemExit, match="no place for the metrics"):
        write(tmp_path)


def test_every_alert_has_its_paragraph_in_the_documentation() -> None:
    headings = re.findall("^### (.*)$", (REPOSITORY / DOCUMENTATION).read_text(), flags=re.MULTILINE)
    assert headings == [alert.name for alert in all_alerts()]
    for alert in all_alerts():
        assert alert.rule()["annotations"]["runbook"] == f"{DOCUMENTATION}#{alert.name.lower()}"


def test_each_alert_is_fired_by_a_test() -> None:
    tested = yaml.safe_load((REPOSITORY / ALERT_TESTS).read_text())["tests"]
    expected = [each for test in tested for each in test.get("alert_rule_test", ())]
    fired = {each["alertname"] for each in expected if each["exp_alerts"]}
    kept_quiet = {each["alertname"] for each in expected if not each["exp_alerts"]}
    # The budget of refusals has the rules of latency's, with other numbers.
    assert fired == {alert.name for alert in all_alerts()} - {"FedEmRefusalsBudgetPage"}
    # Beside the certificates that expire there are ones that do not.
    certificates = {"FedEmCertificateExpires", "FedEmCertificateExpiresSoon"}
    assert fired - kept_quiet == {"FedEmRefusalsBudgetTicket", *certificates}


def run(program: Path, *arguments: str, told: str = "") -> str:
    done = subprocess.run(
        [program, *arguments], cwd=REPOSITORY, input=told, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_promtool_accepts_and_fires_the_rules(program: Callable[[str], Path]) -> None:
    promtool = program("promtool")
    assert "SUCCESS" in run(promtool, "check", "rules", RULES)
    assert "SUCCESS" in run(promtool, "check", "config", CONFIGURATION)
    assert "SUCCESS" in run(promtool, "test", "rules", ALERT_TESTS)


@pytest.mark.slow
@pytest.mark.parametrize("side", list(Side), ids=lambda side: side.value)
def test_promtool_accepts_the_metrics(program: Callable[[str], Path], side: Side) -> None:
    from prometheus_client import generate_latest

    bounds = {label.bound: ("a", "b") for metric in BY_NAME.values() for label in metric.labels if label.bound}
    metrics = MetricSet(side, bounds)
    for entry in BY_NAME.values():
        if side in entry.sides and entry.kind is Kind.GAUGE:
            labels = {label.name: first_of(label) for label in entry.labels}
            metrics.set(entry.name.removeprefix("fed_em_"), 1.0, **labels)
    run(program("promtool"), "check", "metrics", told=generate_latest(metrics.registry).decode())


def first_of(label: Label) -> str:
    return label.values[0] if label.values else "a"
