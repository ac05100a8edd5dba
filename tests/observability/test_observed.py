"""What looks on at a session and at a tenant is what their files, or the command line instead, say."""

from __future__ import annotations

from pathlib import Path

import pytest

from fed_em.errors import CallerError
from fed_em_client.configuration import read_tenant_configuration
from fed_em_client.observability.observed_tenant import observing_tenant
from fed_em_client.observability.settings import told_otherwise
from fed_em_client.observability.tenant_json_log import TenantJsonLog
from fed_em_client.observability.tenant_metrics import TenantMetrics
from fed_em_client.observability.tracing import TenantSpans
from fed_em_client.tenant_watcher import TenantWatchers
from fed_em_server.configuration import read_server_configuration
from fed_em_server.observability.json_log import JsonLog
from fed_em_server.observability.observed_session import observing_session
from fed_em_server.observability.session_metrics import SessionMetrics
from fed_em_server.observability.session_spans import SessionSpans
from tests.observability.scrapes import undeclared
from tests.observability.watched import scraped, small

TABLES = """
[metrics]
listen = "127.0.0.1:0"
linger = 3
[metrics.prices]
currency = "EUR"
cpu_hour = 0.04
[log]
format = "json"
[traces]
export = true
"""


@pytest.fixture
def _no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra `tracing` is not installed")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")


@pytest.mark.slow
@pytest.mark.usefixtures("_no_collector")
def test_files_say_who_looks_on_and_by_default_nobody_does(tmp_path: Path) -> None:
    federation = small(tmp_path)
    said: list[str] = []
    with observing_session(federation.server, said.append) as observers:
        assert observers.watchers == []
    with observing_tenant(federation.tenant("t0"), said.append) as watcher:
        assert watcher == TenantWatchers([])
    assert said == []
    for file in (federation.session_file, federation.tenant_files["t0"]):
        file.write_text(file.read_text() + TABLES)
    with observing_session(federation.server, said.append) as observers:
        assert [type(each) for each in observers.watchers] == [JsonLog, SessionSpans, SessionMetrics]
    with observing_tenant(federation.tenant("t0"), said.append) as watcher:
        assert isinstance(watcher, TenantWatchers)
        assert [type(each) for each in watcher.watchers] == [TenantJsonLog, TenantSpans, TenantMetrics]
        kept = watcher.watchers[-1]
        assert isinstance(kept, TenantMetrics)
        certificates = [name for name in scraped(kept.metrics) if "certificate" in name]
        assert len(certificates) == 2 and not undeclared(kept.metrics.registry, kept.metrics.values_of)
    assert [line.split(" http://")[0] for line in said] == ["metrics are at", "t0: metrics are at"]


def test_the_command_line_stands_before_the_file(tmp_path: Path) -> None:
    federation = small(tmp_path)
    file = federation.tenant_files["t0"]
    file.write_text(file.read_text() + TABLES)
    plain = read_tenant_configuration(file)
    assert told_otherwise(plain, None, None, False) == plain
    told = told_otherwise(plain, "127.0.0.1:9465", "text", True)
    assert (told.metrics.listen, told.log.format, told.traces.export) == ("127.0.0.1:9465", "text", True)
    assert told.metrics.prices == plain.metrics.prices and told.metrics.linger == 3
    # The policy of a running tenant is looked up in its file again.
    assert told.policy_now() == plain.policy
    server = told_otherwise(read_server_configuration(federation.session_file), "127.0.0.1:9464", "json", False)
    assert (server.metrics.listen, server.log.format, server.traces.export) == ("127.0.0.1:9464", "json", False)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("listen = 'here'", "no host:port"),
        ("linger = -1", "linger"),
        ("prices = { currency = 'euros' }", "currency"),
        ("prices = { currency = 'EUR', cpu_hours = 1 }", "did you mean 'cpu_hour'"),
        ("planned_retrain = true", "planned_retrain"),
    ],
)
def test_wrong_tables_are_refused_by_their_key(tmp_path: Path, wrong: str, message: str) -> None:
    federation = small(tmp_path)
    file = federation.tenant_files["t0"]
    file.write_text(f"{file.read_text()}\n[metrics]\n{wrong}\n")
    with pytest.raises(CallerError, match=message):
        read_tenant_configuration(file)
