"""A real Prometheus scrapes a real federation, and answers all that the dashboards and the alerts ask of it."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_federation import Recorder, clustered_rows, session_toml, write_small_federation

from fed_em_client.observability.endpoint import serving_metrics
from fed_em_client.observability.settings import SessionMetricsTable
from fed_em_protocols.errors import SERVER
from fed_em_protocols.metric_catalogue import BY_NAME, Side
from fed_em_protocols.party import certificate_expiries
from fed_em_server.observability.alert_rules import all_alerts
from fed_em_server.observability.dashboards import DASHBOARDS
from fed_em_server.observability.generate import CONFIGURATION, RULES
from fed_em_server.observability.session_metrics import SessionMetrics
from fed_em_server.record import RoundRecord
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_server.watchers import Watchers
from fed_em_simulations.pace import Pace
from fed_em_simulations.tenant_fleet import tenant_processes
from tests.conftest import REPOSITORY
from tests.observability.watched import PRICES

PATIENCE = 60.0

# What this session has no use for: noise, budgets, checkpoints, refusals.
WITHOUT_DATA = re.compile(r"epsilon|checkpoint|tenant_refusals")


class Prometheus:
    """A server's HTTP interface."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **arguments: str) -> Any:
        """What it answers with. Raises `AssertionError` with its own words if it does not."""
        query = urllib.parse.urlencode(arguments)
        try:
            with urllib.request.urlopen(f"{self.address}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{arguments}: {error.read().decode()}") from None

    def series(self, expression: str, moment: float | None = None) -> list[Any]:
        """The series that an expression has now, or had at a moment, in seconds since 1970."""
        at = {} if moment is None else {"time": f"{moment:.3f}"}
        return list(self.get("query", query=expression, **at)["result"])


class LastRound(Recorder):
    """Remembers when the last round was opened: tenants' endpoints, and what is said of a running session, end with it."""

    moment = 0.0

    def round_opened(self, record: RoundRecord) -> None:
        self.moment = time.time()


def wait_until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@contextmanager
def prometheus(program: Path, folder: Path, targets: dict[str, Sequence[str]]) -> Iterator[Prometheus]:
    """A Prometheus with the generated rules, that scrapes these targets by job, every fifth of a second."""
    folder.mkdir()
    (folder / "rules.yml").write_text((REPOSITORY / RULES).read_text())
    configuration = yaml.safe_load((REPOSITORY / CONFIGURATION).read_text())
    configuration["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "500ms"}
    for job in configuration["scrape_configs"]:
        job["static_configs"] = [{"targets": list(targets.get(job["job_name"], ()))}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--log.format=json",
    ]
    log = folder / "log"
    with log.open("w") as stream, subprocess.Popen(command, stderr=stream, stdout=stream) as process:
        try:
            wait_until(lambda: "is ready" in log.read_text() or process.poll() is not None, "it does not start")
            said = [json.loads(line) for line in log.read_text().splitlines()]
            addresses = [line["address"] for line in said if line.get("msg") == "Listening on"]
            assert addresses, said
            yield Prometheus(f"http://{addresses[0]}")
        finally:
            process.terminate()


def filled_in(query: str) -> str:
    return query.replace("$session", ".*").replace("$__rate_interval", "30s")


def expects_data(query: str) -> bool:
    """Whether all metrics of a query are ones that a server and tenants record in this session."""
    names = set(re.findall(r"fed_em_[a-z0-9_]+", query))
    entries = [BY_NAME.get(name) or BY_NAME.get(re.sub("_(bucket|count|sum)$", "", name)) for name in names]
    here = all(entry is not None and {Side.SERVER, Side.TENANT} & set(entry.sides) for entry in entries)
    return here and "freshness" not in query and not WITHOUT_DATA.search(query)


@pytest.mark.slow
def test_every_query_of_dashboards_and_alerts_is_answered(program: Callable[[str], Path], tmp_path: Path) -> None:
    binary = program("prometheus")
    prices = "\n".join(f"{key} = {value!r}" for key, value in PRICES.items()).replace("'", '"')
    session = session_toml(fit="tolerance = 1e-9\nmax_iterations = 14")
    federation = write_small_federation(tmp_path / "f", clustered_rows((60, 50, 40)), session)
    for file in federation.tenant_files.values():
        file.write_text(f'{file.read_text()}\n[metrics]\nlisten = "127.0.0.1:0"\n[metrics.prices]\n{prices}\n')
    server = open_server(federation.server)
    expiries = certificate_expiries(federation.roster, (SERVER, *federation.tenant_files))
    settings = SessionMetricsTable.model_validate({"listen": "127.0.0.1:0", "linger": 0, "prices": PRICES})
    metrics = SessionMetrics(settings, expiries)
    hub, last = server.hub(), LastRound()

    def tenants_targets() -> list[str]:
        logs = [(file.parent / "log.txt").read_text() for file in federation.tenant_files.values()]
        return [found[1] for log in logs if (found := re.search(r"metrics are at http://(.*)/metrics", log))]

    with serving_metrics(metrics.metrics, settings) as url, metrics:
        arguments = ["--server", f"127.0.0.1:{hub.port}"]
        with tenant_processes(federation, lambda _: arguments):
            wait_until(lambda: len(tenants_targets()) == 3, "tenants do not say where their metrics are")
            targets = {
                "fed-em-server": [url.removeprefix("http://").removesuffix("/metrics")],
                "fed-em-tenant": tenants_targets(),
            }
            with prometheus(binary, tmp_path / "prometheus", targets) as found:
                wait_until(lambda: len(found.series("up == 1")) == 4, "not all endpoints are scraped")
                outcome = run_session(server.plan("grpc"), hub, Watchers((metrics, last, Pace(0.3))))
                metrics.finished(outcome.record)
                check_values(found, outcome.record.rounds[-1].log_likelihood, len(outcome.record.rounds))
                # It ended at its last iteration, which was promised of one session in twenty at most.
                ticket = 'ALERTS{alertstate="firing", alertname="FedEmConvergenceBudgetTicket"}'
                wait_until(lambda: bool(found.series(ticket)), "a broken promise is no alert")
                check_answers(found, last.moment)


def check_values(found: Prometheus, log_likelihood: float | None, rounds: int) -> None:
    wait_until(lambda: len(found.series("fed_em_session_running == 0")) == 1, "the end is not seen")
    [fit] = found.series("fed_em_log_likelihood")
    assert log_likelihood is not None and float(fit["value"][1]) == pytest.approx(log_likelihood)
    [opened] = found.series('fed_em_rounds_total{outcome="opened"}')
    assert float(opened["value"][1]) == rounds
    uploads = {
        series["metric"]["instance"]: float(series["value"][1])
        for series in found.series("fed_em_tenant_uploads_total")
    }
    assert list(uploads.values()) == [rounds] * 3
    rules = found.get("rules")["groups"]
    assert [rule["name"] for group in rules for rule in group["rules"] if rule["health"] == "err"] == []
    assert {rule["name"] for group in rules for rule in group["rules"] if rule["type"] == "alerting"} == {
        alert.name for alert in all_alerts()
    }
    assert found.series('ALERTS{alertstate="firing", severity="page"}') == []


def check_answers(found: Prometheus, last_round: float) -> None:
    queries = [query.expression for dashboard in DASHBOARDS for query in dashboard.queries]
    assert len(queries) > 50
    answered = {
        query: found.series(filled_in(query)) or found.series(filled_in(query), last_round) for query in queries
    }
    empty = [query for query, series in answered.items() if not series and expects_data(query)]
    assert empty == []
    for alert in all_alerts():
        found.series(alert.whole_expression)
    with pytest.raises(AssertionError, match="parse error"):
        found.series("sum(")
