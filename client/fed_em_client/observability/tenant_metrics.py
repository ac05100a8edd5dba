"""A tenant's own metrics: a watcher that records what the catalogue lists for the tenant. They are for its own operator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from fed_em_client.observability.metric_set import MetricSet
from fed_em_client.observability.party_costs import PartyCosts
from fed_em_client.observability.settings import MetricsTable
from fed_em_client.privacy_account import PrivacyAccount
from fed_em_client.privacy_spends import PrivacySpends
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.metric_catalogue import Bound, Side
from fed_em_protocols.policy_rules import PolicyRule
from fed_em_protocols.privacy.accounting import epsilon_of
from fed_em_protocols.privacy.demands import EpsilonBudget

# Charges leave the period by themselves, so ε falls with time; seconds after which it is computed anew.
_STALE = 60.0


class TenantMetrics:
    """A `fed_em_client.tenant_watcher.TenantWatcher` that keeps a tenant's metrics.

    Args:
        name: The tenant's.
        settings: What its file says of them.
        budget: What its policy allows to spend; None if it does not bound that.
        certificates: When its own and the server's expire, by party.
        clock: Seconds on a clock that never goes back.
        time_of_day: Now, with its zone.

    Attributes:
        metrics: For an endpoint.
    """

    def __init__(
        self,
        name: str,
        settings: MetricsTable,
        budget: EpsilonBudget | None,
        certificates: Mapping[str, datetime],
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        currency = () if settings.prices is None else (settings.prices.currency,)
        bounds = {Bound.OWN_NAME: (name,), Bound.CURRENCY: currency, Bound.PARTIES: tuple(certificates)}
        self.metrics = MetricSet(Side.TENANT, bounds, self._refresh)
        self._costs = PartyCosts(self.metrics, name, settings.prices)
        self._budget = budget
        self._account: PrivacyAccount | None = None
        self._clock, self._time_of_day = clock, time_of_day
        self._told: tuple[PrivacySpends, float] | None = None
        self._telling = threading.Lock()
        for party, expires in certificates.items():
            self.metrics.set("certificate_expiry_timestamp_seconds", expires.timestamp(), party=party)

    def ledger_opened(self, account: PrivacyAccount) -> None:
        """Show what it holds, if a budget says at which δ."""
        self._account = account

    def linked(self) -> None:
        """The link is up."""
        self.metrics.add("tenant_links")
        self.metrics.set("tenant_link_up", 1.0)

    def unlinked(self) -> None:
        """It is down."""
        self.metrics.set("tenant_link_up", 0.0)

    def carried(self, up: int, down: int) -> None:
        """Count bytes."""
        self._costs.count_traffic(up, down)

    def joined(self, session: bytes) -> None:
        """Nothing is counted."""

    def evaluated(self, round_number: int, seconds: float) -> None:
        """Count an E-step's time."""
        self.metrics.observe("tenant_e_step_seconds", seconds)

    def uploaded(self, round_number: int, seconds: float) -> None:
        """Count an upload."""
        self.metrics.observe("tenant_mask_seconds", seconds)
        self.metrics.add("tenant_uploads")
        self.metrics.set("tenant_last_round", round_number)
        self.metrics.set("tenant_last_upload_timestamp_seconds", self._time_of_day().timestamp())

    def refused(self, rule: PolicyRule) -> None:
        """Count a refusal by its rule."""
        self.metrics.add("tenant_refusals", rule=rule.value)

    def closed(self, session: bytes, reason: CloseReason) -> None:
        """Nothing is counted."""

    def _refresh(self) -> None:
        """Before a scrape."""
        self._costs.count_processor()
        with self._telling:
            self._tell_spends()

    def _tell_spends(self) -> None:
        budget = self._budget
        if budget is None or self._account is None:
            return
        spends, second = self._account.spends, self._clock()
        if self._told is not None and self._told[0] is spends and second - self._told[1] < _STALE:
            return
        now = self._time_of_day()
        charged, reserved = spends.charged(now, budget.period), spends.reserved(now, budget.period)
        self.metrics.set("tenant_epsilon_budget", budget.epsilon)
        self.metrics.set("tenant_epsilon_charged", epsilon_of(charged, budget.delta) if charged else 0.0)
        both = (*charged, *reserved)
        self.metrics.set("tenant_epsilon_reserved", epsilon_of(both, budget.delta) if both else 0.0)
        self._told = spends, second
