"""The one list of metrics keeps its own rules, and nothing is recorded beside it."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry, Counter

from fed_em_client.observability.metric_set import MetricSet
from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.metric_catalogue import (
    BY_NAME,
    METRICS,
    PARTS,
    PHASES,
    RETRAINS,
    TRUSTS,
    VERDICTS,
    Bound,
    Kind,
    Label,
    Metric,
    Side,
)
from fed_em_protocols.terms import Trust
from fed_em_server.live_picture import Stage
from fed_em_server.operate.operator import Retrained
from fed_em_server.record import Participation
from fed_em_server.registry.canary import Outcome
from tests.observability.scrapes import undeclared
from tests.observability.watched import scraped


def test_names_are_prometheus_names_each_once_and_say_their_unit() -> None:
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"fed_em_[a-z0-9_]+", metric.name), metric.name
        assert metric.name.endswith("_seconds") or "_seconds" not in metric.name or metric.kind is Kind.COUNTER
        assert metric.help.endswith(".") and metric.safe and metric.sides and metric.unit
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert len(set(metric.label_names)) == len(metric.label_names)
        assert not {"le", "job", "instance"} & set(metric.label_names)


def test_closed_label_values_are_those_of_the_code_that_they_come_from() -> None:
    assert {stage.name.lower() for stage in Stage} == set(PHASES)
    assert {part.value for part in Participation} == set(PARTS)
    assert {trust.label for trust in Trust} == set(TRUSTS)
    assert {outcome.value.replace(" ", "-") for outcome in Outcome} == set(VERDICTS)
    assert {outcome.value for outcome in Retrained} == set(RETRAINS)


def test_only_the_servers_metrics_name_tenants_or_components_and_only_attendance_names_tenants() -> None:
    for metric in METRICS:
        bounds = {label.bound for label in metric.labels}
        if bounds & {Bound.TENANTS, Bound.COMPONENTS, Bound.SESSION}:
            assert metric.sides == (Side.SERVER,)
    assert [metric.name for metric in METRICS for label in metric.labels if label.bound is Bound.TENANTS] == [
        "fed_em_tenant_parts_total"
    ]


def test_a_label_says_its_values_or_their_bound() -> None:
    for wrong in ({}, {"values": ("a",), "bound": Bound.TENANTS}):
        with pytest.raises(ValueError, match="one of them"):
            Label("label", **wrong)
    with pytest.raises(ValueError, match="buckets"):
        Metric("fed_em_x", Kind.GAUGE, "X.", "1", (Side.SERVER,), "safe", buckets=(1.0,))
    with pytest.raises(ValueError, match="_total"):
        Metric("fed_em_x", Kind.COUNTER, "X.", "1", (Side.SERVER,), "safe")


@pytest.fixture
def metrics() -> MetricSet:
    return MetricSet(Side.SERVER, {Bound.TENANTS: ("ash", "elm"), Bound.OWN_NAME: ("server",)})


def test_counters_begin_at_zero_for_all_values_and_gauges_when_they_are_set(metrics: MetricSet) -> None:
    found = scraped(metrics)
    assert found["fed_em_tenant_parts_total{part=late,tenant=elm}"] == 0
    assert found["fed_em_bytes_total{direction=up,party=server}"] == 0
    assert "fed_em_log_likelihood" not in found
    metrics.set("log_likelihood", -1.5)
    assert scraped(metrics)["fed_em_log_likelihood"] == -1.5
    metrics.forget("log_likelihood")
    assert "fed_em_log_likelihood" not in scraped(metrics)
    metrics.set("log_likelihood", -1.0)
    assert scraped(metrics)["fed_em_log_likelihood"] == -1.0


def test_nothing_beside_the_list_is_recorded(metrics: MetricSet) -> None:
    for record in (
        lambda: metrics.add("no_such"),
        lambda: metrics.set("faults", 1.0),  # a counter
        lambda: metrics.observe("serve_seconds", 1.0, method="predict"),  # another side's
        lambda: metrics.add("tenant_parts", part="late"),
        lambda: metrics.add("tenant_parts", part="late", tenant="elm", colour="red"),
        lambda: metrics.add("tenant_parts", part="late", tenant="oak"),
        lambda: metrics.add("tenant_parts", part="bored", tenant="elm"),
    ):
        with pytest.raises(IllegalStep):
            record()
    assert not undeclared(metrics.registry, metrics.values_of)


def test_a_roster_that_changed_leaves_no_series_of_the_old_one(metrics: MetricSet) -> None:
    metrics.add("tenant_parts", part="late", tenant="elm")
    metrics.bound(Bound.TENANTS, ("ash", "elm"))
    assert scraped(metrics)["fed_em_tenant_parts_total{part=late,tenant=elm}"] == 1
    metrics.bound(Bound.TENANTS, ("oak",))
    assert {name for name in scraped(metrics) if "tenant=" in name} == {
        f"fed_em_tenant_parts_total{{part={part},tenant=oak}}" for part in PARTS
    }


def test_the_check_of_scrapes_finds_what_is_undeclared() -> None:
    registry = CollectorRegistry()
    Counter("fed_em_faults", "Faults.", ["who"], registry=registry).labels("elm").inc()
    Counter("fed_em_stragglers", "Stragglers.", registry=registry).inc(float("inf"))
    Counter("other", "Other.", registry=registry)
    refusals = Counter("fed_em_refusals", "Refusals.", ["rule"], registry=registry)
    refusals.labels("hunger").inc()
    assert len(undeclared(registry, lambda label: label.values)) == 4
