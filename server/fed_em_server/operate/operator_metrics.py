"""An operator's metrics: a watcher that records what the catalogue lists for it, for an endpoint or for the file of a node's exporter."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import write_to_textfile

from fed_em_client.durable_files import disk_trouble
from fed_em_client.observability.metric_set import MetricSet
from fed_em_protocols.metric_catalogue import Bound, Side
from fed_em_server.operate.drift import Drift
from fed_em_server.operate.operator import PLANNED_RETRAIN_FILE, Retrained
from fed_em_server.registry.history import Decision


class OperatorMetrics:
    """A `fed_em_server.operate.operator.OperatorWatcher` that keeps metrics.

    Args:
        folder: The operator's, where the file is that stands while a retrain is under way, whichever process began it.
        textfile: Written anew with all metrics whenever one of them changes; None for no file.
        time_of_day: Seconds since 1970.

    Attributes:
        metrics: For an endpoint.
    """

    def __init__(
        self, folder: Path, textfile: Path | None = None, time_of_day: Callable[[], float] = time.time
    ) -> None:
        self.metrics = MetricSet(Side.OPERATE, {}, self._refresh)
        self._planned = folder / PLANNED_RETRAIN_FILE
        self._textfile, self._time_of_day = textfile, time_of_day

    def said(self, line: str) -> None:
        """Nothing is counted."""

    def measured(self, drift: Drift, score: float) -> None:
        """Show each column's drift, and the drop."""
        metrics = self.metrics
        metrics.bound(Bound.COLUMNS, drift.columns)
        for name, column in drift.columns.items():
            metrics.set("drift_psi", column.psi.value, column=name)
            if column.ks is not None:
                metrics.set("drift_ks", column.ks.value, column=name)
        metrics.set("likelihood_drop", drift.drop.value)
        metrics.set("drift_score", score)
        metrics.set("last_measurement_timestamp_seconds", self._time_of_day())
        self._write()

    def retraining(self, planned: bool) -> None:  # noqa: ARG002  the file says so too
        """Nothing but the file: it is looked at whenever somebody reads."""
        self._write()

    def compared(self, decision: Decision) -> None:
        """Count a verdict."""
        self.metrics.add("canary_verdicts", verdict=decision.outcome.replace(" ", "-"))
        self._write()

    def retrained(self, outcome: Retrained) -> None:
        """Count what became of a retrain."""
        self.metrics.add("retrains", outcome=outcome.value)
        self._write()

    def _refresh(self) -> None:
        """Before a scrape: a process that goes on with a retrain is not told that it began."""
        self.metrics.set("planned_retrain", float(self._planned.exists()))

    def _write(self) -> None:
        path = self._textfile
        if path is not None:
            with disk_trouble(path):
                write_to_textfile(str(path), self.metrics.registry)
