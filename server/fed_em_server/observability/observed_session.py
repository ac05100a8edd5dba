"""What looks on at a session, as its file says: metrics, log, traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from fed_em_client.observability.endpoint import serving_metrics
from fed_em_client.observability.tracing import Tracing
from fed_em_protocols.errors import SERVER
from fed_em_protocols.metric_catalogue import MOST_NAMED_TENANTS
from fed_em_protocols.party import certificate_expiries
from fed_em_protocols.roster import Roster, load_roster
from fed_em_server.configuration import ServerConfiguration
from fed_em_server.observability.json_log import JsonLog
from fed_em_server.observability.session_metrics import SessionMetrics
from fed_em_server.observability.session_spans import SessionSpans
from fed_em_server.record import SessionRecord
from fed_em_server.session import Watcher
from fed_em_server.watchers import Watchers


class Observer(Watcher, Protocol):
    """A watcher that is told of a session's good end too; a bad one it sees as a context manager."""

    def finished(self, record: SessionRecord) -> None:
        """The session ended with a model."""
        ...


@dataclass(frozen=True)
class Observers(Watchers):
    """Several observers as one."""

    watchers: Sequence[Observer] = ()

    def finished(self, record: SessionRecord) -> None:
        """Tell all."""
        for observer in self.watchers:
            observer.finished(record)


@contextmanager
def observing_session(configuration: ServerConfiguration, report: Callable[[str], None]) -> Iterator[Observers]:
    """All that the session's file asks for, until the block ends; an error that ends it is the session's.

    Args:
        configuration: The session's.
        report: Told where metrics are served.

    Raises:
        CallerError: the roster is wrong, or an extra is not installed.
        EnvironmentFault: metrics cannot be served there.
    """
    found: list[Observer] = []
    with ExitStack() as stack:
        if configuration.log.format == "json":
            found.append(stack.enter_context(JsonLog()))
        if configuration.traces.export:
            tracer = stack.enter_context(Tracing("fed-em-server")).tracer
            found.append(stack.enter_context(SessionSpans(tracer)))
        if configuration.metrics.listen is not None:
            metrics = SessionMetrics(configuration.metrics, _expiries(load_roster(configuration.roster)))
            url = stack.enter_context(serving_metrics(metrics.metrics, configuration.metrics))
            report(f"metrics are at {url}")
            found.append(stack.enter_context(metrics))
        yield Observers(found)


def _expiries(roster: Roster) -> dict[str, datetime]:
    tenants = tuple(tenant.name for tenant in roster.tenants) if roster.n <= MOST_NAMED_TENANTS else ()
    return certificate_expiries(roster, (SERVER, *tenants))
