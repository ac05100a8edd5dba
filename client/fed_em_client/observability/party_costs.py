"""What a party uses, in processor seconds and bytes, and what that costs it by its own prices."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from fed_em_client.observability.metric_set import MetricSet
from fed_em_client.observability.settings import PriceTable
from fed_em_protocols.errors import SERVER

_HOUR, _GIGABYTE = 3600.0, 1e9


def processor_seconds() -> float:
    """Of this process, and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class PartyCosts:
    """Counts what one party uses.

    Args:
        metrics: Where to.
        party: Its name.
        prices: Its own; None: what it costs is not counted.
        processor: Seconds used so far.
    """

    def __init__(
        self,
        metrics: MetricSet,
        party: str,
        prices: PriceTable | None,
        processor: Callable[[], float] = processor_seconds,
    ) -> None:
        self._metrics = metrics
        self._party = party
        self._prices = prices
        self._processor = processor
        self._counted = processor()
        self._counting = threading.Lock()

    def count_processor(self) -> None:
        """Count what was used since the last call; scrapes may come together."""
        with self._counting:
            now = self._processor()
            used, self._counted = max(now - self._counted, 0.0), now
        self._metrics.add("cpu_seconds", used, party=self._party)
        if self._prices is not None:
            self._cost("cpu", used / _HOUR * self._prices.cpu_hour)

    def count_traffic(self, up: int, down: int) -> None:
        """Count bytes of messages to and from the server."""
        self._metrics.add("bytes", up, party=self._party, direction="up")
        self._metrics.add("bytes", down, party=self._party, direction="down")
        if self._prices is not None:
            out, into = (down, up) if self._party == SERVER else (up, down)
            self._cost("network", (out * self._prices.gigabyte_out + into * self._prices.gigabyte_in) / _GIGABYTE)

    def _cost(self, resource: str, amount: float) -> None:
        assert self._prices is not None
        self._metrics.add("cost", amount, party=self._party, resource=resource, currency=self._prices.currency)
