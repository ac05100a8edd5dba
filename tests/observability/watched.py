"""Sessions in memory that the tests of metrics, logs and traces look on at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from small_federation import clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em_client.observability.metric_set import MetricSet
from fed_em_client.observability.settings import SessionMetricsTable
from fed_em_protocols.errors import SERVER
from fed_em_protocols.party import certificate_expiries
from fed_em_server.observability.session_metrics import SessionMetrics
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, Watcher, run_session
from fed_em_simulations.federation_folder import FederationFolder, Matrix

PRICES = {"currency": "EUR", "cpu_hour": 36.0, "gigabyte_out": 1e3, "gigabyte_in": 1e2}
SIZES = (60, 50, 40)


def small(folder: Path, tenants: dict[str, Matrix] | None = None, **said: str) -> FederationFolder:
    return write_small_federation(folder / "f", tenants or clustered_rows(SIZES), session_toml(**said))


def metrics_of(federation: FederationFolder, **settings: object) -> SessionMetrics:
    names = (SERVER, *federation.tenant_files)
    table = SessionMetricsTable.model_validate({"prices": PRICES, **settings})
    return SessionMetrics(table, certificate_expiries(federation.roster, names))


def run(federation: FederationFolder, watcher: Watcher) -> SessionOutcome:
    return run_session(open_server(federation.server).plan("memory"), memory_hub(federation), watcher)


def scraped(metrics: MetricSet) -> Mapping[str, float]:
    """All samples of a scrape, as `name{label=value,…}` with labels in alphabetical order."""
    return {
        _called(sample.name, sample.labels): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def _called(name: str, labels: Mapping[str, str]) -> str:
    said = ",".join(f"{label}={value}" for label, value in sorted(labels.items()))
    return f"{name}{{{said}}}" if said else name
