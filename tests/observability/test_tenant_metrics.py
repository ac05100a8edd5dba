"""What a tenant's own endpoint says of it, in a real session and of its privacy ledger."""

from __future__ import annotations

import socket
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_federation import Recorder

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client.observability import endpoint as endpoint_module
from fed_em_client.observability.endpoint import MetricsEndpoint, serving_metrics
from fed_em_client.observability.metric_set import MetricSet
from fed_em_client.observability.settings import MetricsTable
from fed_em_client.observability.tenant_metrics import TenantMetrics
from fed_em_client.privacy_account import PrivacyAccount
from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_session import TenantSession
from fed_em_client.tenant_watcher import TenantWatcher, TenantWatchers
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.metric_catalogue import Side
from fed_em_protocols.metric_catalogue import metrics_of as listed
from fed_em_protocols.policy_rules import PolicyRule
from fed_em_protocols.privacy.accounting import Spend, epsilon_of
from fed_em_protocols.privacy.demands import EpsilonBudget, PrivacyDemands
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_simulations.memory_hub import MemoryHub
from fed_em_simulations.volatile_marks import VolatileMarks
from tests.observability.scrapes import undeclared
from tests.observability.watched import PRICES, scraped, small

EXPIRES = datetime(2027, 1, 1, tzinfo=UTC)


def metrics_of(name: str = "t0", budget: EpsilonBudget | None = None, **clocks: object) -> TenantMetrics:
    settings = MetricsTable.model_validate({"prices": PRICES})
    return TenantMetrics(name, settings, budget, {name: EXPIRES, "server": EXPIRES}, **clocks)  # type: ignore[arg-type]


class Heard:
    """A watcher that remembers what it was told, but for bytes."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.bytes = [0, 0]

    def __getattr__(self, name: str) -> object:
        return lambda *told: self.told.append((name, *told))

    def carried(self, up: int, down: int) -> None:
        self.bytes = [self.bytes[0] + up, self.bytes[1] + down]


def test_a_tenant_counts_its_uploads_its_bytes_and_its_time_in_a_session(tmp_path: Path) -> None:
    federation = small(tmp_path, fit="tolerance = 1e-7\nmax_iterations = 3")
    metrics, heard = metrics_of(), Heard()
    watchers: dict[str, TenantWatcher] = {"t0": TenantWatchers((metrics, heard))}  # type: ignore[arg-type]

    def start(name: str) -> TenantSession:
        tenant, marks = open_tenant(federation.tenant(name), watchers.get(name, TenantWatchers())), VolatileMarks()
        return tenant.session(marks, tenant.work(marks))

    hub = MemoryHub([lambda name=name: start(name) for name in federation.tenant_files], 0.001)  # type: ignore[misc]
    outcome = run_session(open_server(federation.server).plan("memory"), hub, Recorder())
    found, rounds = scraped(metrics.metrics), outcome.record.rounds
    assert found["fed_em_tenant_uploads_total"] == len(rounds) == found["fed_em_tenant_mask_seconds_count"]
    assert found["fed_em_tenant_e_step_seconds_count"] == len(rounds)
    assert found["fed_em_tenant_last_round"] == rounds[-1].round
    assert found["fed_em_bytes_total{direction=up,party=t0}"] == heard.bytes[0] > 0
    assert found["fed_em_bytes_total{direction=down,party=t0}"] == heard.bytes[1] > 0
    assert found["fed_em_cost_total{currency=EUR,party=t0,resource=network}"] == pytest.approx(
        (1e3 * heard.bytes[0] + 1e2 * heard.bytes[1]) / 1e9
    )
    kinds = [name for name, *_ in heard.told]
    assert kinds == ["joined", *["evaluated", "uploaded"] * len(rounds), "closed"]
    assert heard.told[0] == ("joined", bytes.fromhex(outcome.record.session))
    assert heard.told[-1] == ("closed", bytes.fromhex(outcome.record.session), CloseReason.FINISHED)
    assert not undeclared(metrics.metrics.registry, metrics.metrics.values_of)


def test_a_refusal_is_counted_by_the_rule_that_it_is_of(tmp_path: Path) -> None:
    federation = small(tmp_path)
    metrics = metrics_of()
    policy = federation.tenant("t0").policy.model_copy(update={"components": 1})
    tenant = open_tenant(federation.tenant("t0").model_copy(update={"policy": policy}), metrics)

    def start(name: str) -> TenantSession:
        if name == "t0":
            return tenant.session(VolatileMarks(), tenant.work())
        other = open_tenant(federation.tenant(name))
        return other.session(VolatileMarks(), other.work())

    # The policy of the file is another one than the process has: that is a rule of its own, and the first to be looked at.
    hub = MemoryHub([lambda name=name: start(name) for name in federation.tenant_files], 0.001)  # type: ignore[misc]
    with pytest.raises(Exception, match="refuse"):
        run_session(open_server(federation.server).plan("memory"), hub, Recorder())
    counted = {name: value for name, value in scraped(metrics.metrics).items() if "refusals" in name and value}
    assert counted == {"fed_em_tenant_refusals_total{rule=changed}": 1}
    assert len([name for name in scraped(metrics.metrics) if "refusals" in name]) == len(PolicyRule)


@pytest.mark.parametrize("spent", [0, 3])
def test_it_shows_its_own_ledger_against_its_budget(spent: int) -> None:
    budget, now, second = EpsilonBudget(4.0, 1e-6, 30), [datetime(2026, 5, 1, tzinfo=UTC)], [0.0]
    account = PrivacyAccount(PrivacyDemands(False, budget), lambda: now[0])
    metrics = metrics_of(budget=budget, clock=lambda: second[0], time_of_day=lambda: now[0])
    assert "fed_em_tenant_epsilon_budget" not in scraped(metrics.metrics)
    metrics.ledger_opened(account)
    session, plan = bytes(16), Spend(8.0, 5)
    account.reserve(session, plan)
    for number in range(spent):
        account.charge(session, number + 1)
    found = scraped(metrics.metrics)
    assert found["fed_em_tenant_epsilon_budget"] == 4.0
    charged = epsilon_of([Spend(8.0, spent)], 1e-6) if spent else 0.0
    assert found["fed_em_tenant_epsilon_charged"] == pytest.approx(charged)
    assert found["fed_em_tenant_epsilon_reserved"] == pytest.approx(epsilon_of([plan], 1e-6))
    # Charges leave the period without an entry in the ledger.
    now[0] += timedelta(days=31)
    second[0] += 61.0
    assert scraped(metrics.metrics)["fed_em_tenant_epsilon_charged"] == 0.0


def test_all_that_is_listed_for_tenants_is_recorded() -> None:
    metrics = metrics_of(budget=EpsilonBudget(4.0, 1e-6, 30))
    metrics.ledger_opened(PrivacyAccount())
    metrics.linked()
    metrics.uploaded(3, 0.25)
    metrics.unlinked()
    seen = {name.split("{")[0] for name in scraped(metrics.metrics)}
    assert {e.name for e in listed(Side.TENANT) if not {e.name, f"{e.name}_count"} & seen} == set()
    assert scraped(metrics.metrics)["fed_em_tenant_link_up"] == 0
    assert not undeclared(metrics.metrics.registry, metrics.metrics.values_of)


def test_every_refusal_has_a_rule_and_those_of_privacy_are_of_privacy() -> None:
    assert TermsRefused("no").rule is PolicyRule.PRIVACY
    with pytest.raises(TermsRefused) as refused:
        PrivacyAccount(PrivacyDemands(True)).reserve(bytes(16), None)
    assert refused.value.rule is PolicyRule.PRIVACY


def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "_PATIENCE", 0.2)
    with MetricsEndpoint(metrics_of().metrics, "127.0.0.1:0") as endpoint:
        host, port = endpoint.url.removeprefix("http://").removesuffix("/metrics").split(":")
        with socket.create_connection((host, int(port)), timeout=3.0) as silent:
            assert silent.recv(1) == b""


def test_an_endpoint_serves_what_is_recorded_at_a_free_port() -> None:
    metrics = metrics_of()
    with MetricsEndpoint(metrics.metrics, "127.0.0.1:0") as endpoint:
        metrics.linked()
        with urllib.request.urlopen(endpoint.url) as answer:
            text = answer.read().decode()
        assert "fed_em_tenant_links_total 1.0" in text and "_created" not in text
        with pytest.raises(EnvironmentFault, match="cannot serve metrics"):
            MetricsEndpoint(metrics.metrics, endpoint.url.removeprefix("http://").removesuffix("/metrics"))
    with pytest.raises(CallerError, match="no host:port"):
        MetricsEndpoint(metrics.metrics, "nowhere")


def test_a_process_waits_for_one_more_scrape_if_it_was_ever_scraped(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    metrics = MetricSet(Side.TENANT, {})

    def never(seconds: float) -> bool:
        waited.append(seconds)
        return False

    monkeypatch.setattr(metrics.scraped, "wait", never)
    settings = MetricsTable(listen="127.0.0.1:0", linger=7.0)
    with serving_metrics(metrics, settings):
        pass
    assert waited == []
    with serving_metrics(metrics, settings) as url, urllib.request.urlopen(url):
        pass
    assert waited == [7.0]
    with suppress(KeyboardInterrupt), serving_metrics(metrics, settings) as url:
        urllib.request.urlopen(url).close()
        raise KeyboardInterrupt
    assert waited == [7.0]
    with pytest.raises(CallerError), serving_metrics(metrics, settings):
        raise CallerError("it failed")
    assert waited == [7.0, 7.0]
