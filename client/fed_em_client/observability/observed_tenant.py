"""What looks on at a tenant, as its file says: metrics, log, traces."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from fed_em_client.configuration import TenantConfiguration
from fed_em_client.observability.endpoint import serving_metrics
from fed_em_client.observability.tenant_json_log import TenantJsonLog
from fed_em_client.observability.tenant_metrics import TenantMetrics
from fed_em_client.observability.tracing import TenantSpans, Tracing
from fed_em_client.tenant_watcher import TenantWatcher, TenantWatchers
from fed_em_protocols.errors import SERVER
from fed_em_protocols.log_events import EventLog
from fed_em_protocols.party import certificate_expiries
from fed_em_protocols.roster import load_pinned_roster


@contextmanager
def observing_tenant(configuration: TenantConfiguration, report: Callable[[str], None]) -> Iterator[TenantWatcher]:
    """All that the tenant's file asks for, until the block ends.

    Args:
        configuration: The tenant's.
        report: Told where metrics are served.

    Raises:
        CallerError: the roster is not the pinned one, or an extra is not installed.
        EnvironmentFault: metrics cannot be served there.
    """
    watchers: list[TenantWatcher] = []
    with ExitStack() as stack:
        if configuration.log.format == "json":
            watchers.append(TenantJsonLog(EventLog(sys.stdout)))
        if configuration.traces.export:
            tracer = stack.enter_context(Tracing("fed-em-tenant")).tracer
            watchers.append(stack.enter_context(TenantSpans(tracer)))
        if configuration.metrics.listen is not None:
            kept = _metrics_of(configuration)
            url = stack.enter_context(serving_metrics(kept.metrics, configuration.metrics))
            report(f"{configuration.name}: metrics are at {url}")
            watchers.append(kept)
        yield TenantWatchers(watchers)


def _metrics_of(configuration: TenantConfiguration) -> TenantMetrics:
    roster = load_pinned_roster(configuration.roster, configuration.roster_hash)
    expiries = certificate_expiries(roster, (configuration.name, SERVER))
    budget = configuration.policy.privacy.demands().budget
    return TenantMetrics(configuration.name, configuration.metrics, budget, expiries)
