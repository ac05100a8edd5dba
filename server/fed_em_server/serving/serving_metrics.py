"""Metrics of a server of models: a watcher that records what the catalogue lists for serving. No row and no answer is among them."""

from __future__ import annotations

import time
from collections.abc import Callable

from fed_em_client.observability.metric_set import MetricSet
from fed_em_protocols.metric_catalogue import Bound, Side
from fed_em_server.serving.served_model import ServedModel


class ServingMetrics:
    """A `fed_em_server.serving.watcher.ServingWatcher` that keeps metrics.

    Args:
        made_at: When a version was made, as `ModelSource.made_at` tells.
        time_of_day: Seconds since 1970.

    Attributes:
        metrics: For an endpoint.
    """

    def __init__(self, made_at: Callable[[str], float | None], time_of_day: Callable[[], float] = time.time) -> None:
        self.metrics = MetricSet(Side.SERVING, {}, self._refresh)
        self._dated, self._time_of_day = made_at, time_of_day
        self._made_at: float | None = None

    def took_over(self, served: ServedModel) -> None:
        """Show which version answers, and how old it is."""
        metrics = self.metrics
        if metrics.bounded(Bound.VERSION):
            metrics.add("model_swaps")
        metrics.bound(Bound.VERSION, (served.version,))
        metrics.set("model_info", 1.0, version=served.version)
        self._made_at = self._dated(served.version)
        if self._made_at is None:
            metrics.forget("model_age_seconds")

    def kept_the_old(self, version: str, reason: str) -> None:
        """Nothing is counted: the age of the model that stays goes on."""

    def answered(self, method: str, outcome: str, seconds: float, rows: int) -> None:
        """Count a request, its time and its rows."""
        metrics = self.metrics
        metrics.add("serve_requests", method=method, outcome=outcome)
        metrics.observe("serve_seconds", seconds, method=method)
        metrics.add("serve_rows", rows, method=method)

    def broke(self, method: str, error: str) -> None:
        """Nothing more: it is counted as a request that failed."""

    def _refresh(self) -> None:
        """Before a scrape."""
        made_at = self._made_at
        if made_at is not None:
            self.metrics.set("model_age_seconds", max(self._time_of_day() - made_at, 0.0))
