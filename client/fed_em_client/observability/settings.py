"""What a configuration file says of metrics, logs and traces, on either side."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, FiniteFloat

from fed_em_protocols.addresses import Address
from fed_em_protocols.configuration import Table

Price = Annotated[FiniteFloat, Field(ge=0)]
LogFormat = Literal["text", "json"]


class PriceTable(Table):
    """What a party pays for what it uses: [metrics.prices]."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    """ISO 4217, such as "EUR"."""
    cpu_hour: Price = 0.0
    """An hour of one processor."""
    gigabyte_out: Price = 0.0
    """10⁹ bytes that leave this party."""
    gigabyte_in: Price = 0.0


class MetricsTable(Table):
    """Metrics for Prometheus: [metrics]."""

    listen: Address | None = None
    """Where they are served; None: nowhere. No access control: a loopback address, or one that only the scraper reaches."""
    linger: Annotated[FiniteFloat, Field(ge=0, le=600)] = 30.0
    """Seconds, at most, that a process waits at its end for whoever scraped it before to scrape once more."""
    prices: PriceTable | None = None


class SessionMetricsTable(MetricsTable):
    """The same in a session's file."""

    planned_retrain: bool = False
    """Whether alert rules are to keep quiet about what a planned retrain brings with it."""


class LogTable(Table):
    """[log]."""

    format: LogFormat = "text"
    """`json`: one object a line, of closed fields (`fed_em_protocols.log_events`)."""


class TracesTable(Table):
    """[traces]."""

    export: bool = False
    """Whether spans go to an OTLP collector, as the environment's `OTEL_*` variables say; needs the extra `tracing`."""


Observed = TypeVar("Observed", bound=Table)


def told_otherwise(
    configuration: Observed, metrics: str | None, log: LogFormat | None = None, traces: bool = False
) -> Observed:
    """A session's, a tenant's or an operator's configuration with what the command line says instead of its file.

    Args:
        configuration: It has those of the tables `metrics`, `log` and `traces` that anything is said of.
        metrics: "host:port"; None: as in the file.
        log: None: as in the file.
        traces: Whether they are exported whatever the file says.
    """
    told: dict[str, Table] = {}
    if metrics is not None:
        told["metrics"] = _changed(configuration, "metrics", "listen", metrics)
    if log is not None:
        told["log"] = _changed(configuration, "log", "format", log)
    if traces:
        told["traces"] = _changed(configuration, "traces", "export", True)
    return configuration.model_copy(update=told)


def _changed(configuration: Table, table: str, key: str, value: object) -> Table:
    found: Table = getattr(configuration, table)
    return found.model_copy(update={key: value})
