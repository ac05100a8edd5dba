"""Metrics over HTTP, at /metrics, for a Prometheus to scrape."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any

from prometheus_client import start_http_server

from fed_em.errors import EnvironmentFault
from fed_em_client.observability.metric_set import MetricSet
from fed_em_client.observability.settings import MetricsTable
from fed_em_protocols.addresses import split_address

# Who says nothing for so long is hung up on: each connection has a thread and a descriptor of the session's process.
_PATIENCE = 10.0
# A scrape that has begun is answered within this.
_ANSWERED = 0.5


class MetricsEndpoint(AbstractContextManager["MetricsEndpoint"]):
    """Serves metrics until it is closed. It has no access control: bind it to loopback, or to where only the scraper gets.

    Args:
        metrics: What is served.
        address: "host:port" to listen on; port 0 takes a free one.

    Raises:
        CallerError: the address is none.
        EnvironmentFault: it cannot be listened on.
    """

    def __init__(self, metrics: MetricSet, address: str) -> None:
        self._host, port = split_address(address)
        self._scraped = metrics.scraped
        try:
            self._server, self._thread = start_http_server(port, self._host, metrics.registry)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot serve metrics at {address}: {error.strerror or error}", remedy="name another address or port"
            ) from None
        handler: Any = self._server.RequestHandlerClass
        self._server.RequestHandlerClass = type(handler.__name__, (handler,), {"timeout": _PATIENCE})

    @property
    def url(self) -> str:
        """Where it listens."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.server_port}/metrics"

    def await_scrape(self, seconds: float) -> None:
        """Wait until a scrape that began after this call is answered, at most so long; not at all if nobody ever scraped.

        What a process counts last would be lost with it otherwise.
        """
        if self._scraped.is_set():
            self._scraped.clear()
            if self._scraped.wait(seconds):
                time.sleep(_ANSWERED)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving_metrics(metrics: MetricSet, settings: MetricsTable) -> Iterator[str]:
    """Serve metrics where the settings say, until the block ends and, unless somebody interrupted it, was scraped once more.

    Returns:
        A context manager for the address that was taken, as a URL.

    Raises:
        EnvironmentFault: it cannot be listened on.
    """
    assert settings.listen is not None
    with MetricsEndpoint(metrics, settings.listen) as endpoint:
        try:
            yield endpoint.url
        except Exception:
            endpoint.await_scrape(settings.linger)
            raise
        endpoint.await_scrape(settings.linger)
