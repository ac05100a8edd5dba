"""The metrics of one process, as the catalogue lists them, and held to its labels whenever something is recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, disable_created_metrics
from prometheus_client.registry import Collector

from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.metric_catalogue import PREFIX, Bound, Kind, Label, Side, metrics_of
from fed_em_protocols.metric_catalogue import Metric as Entry

# When each series was made is a series more of each that nobody reads.
disable_created_metrics()  # type: ignore[no-untyped-call]

_Recorded = Counter | Gauge | Histogram


class MetricSet(Collector):
    """What one side records, by names without their prefix. Safe under threads.

    Counters and histograms are there from the start, at zero, for every value of their labels, so that the first increase is seen as
    one. A gauge appears when it is first set.

    Args:
        side: Whose endpoint it is for.
        bounds: What values labels with a bound may have; `bound` changes them later.
        refresh: Called before each scrape, for what is measured then.

    Attributes:
        registry: What an endpoint serves.
        scraped: Set whenever a scrape begins.
    """

    def __init__(
        self, side: Side, bounds: Mapping[Bound, Collection[str]], refresh: Callable[[], None] = lambda: None
    ) -> None:
        self.registry = CollectorRegistry()
        self.scraped = threading.Event()
        self._refresh = refresh
        self._bounds = {bound: tuple(values) for bound, values in bounds.items()}
        self._entries = {entry.name: entry for entry in metrics_of(side)}
        self._metrics = {name: _made(entry) for name, entry in self._entries.items()}
        self._shown = {name for name, entry in self._entries.items() if entry.kind is not Kind.GAUGE}
        for name in self._shown:
            self._fill(self._entries[name])
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """What a scrape shows."""
        self.scraped.set()
        self._refresh()
        for name, metric in self._metrics.items():
            if name in self._shown:
                yield from metric.collect()

    def describe(self) -> Iterable[Metric]:
        """Nothing: whoever registers this does not measure anything yet."""
        return ()

    def bound(self, bound: Bound, values: Iterable[str]) -> None:
        """From now on, labels with this bound have these values. Where that is a change, series that have such a label are gone."""
        new = tuple(values)
        if new == self.bounded(bound):
            return
        self._bounds[bound] = new
        for name, entry in self._entries.items():
            if any(label.bound is bound for label in entry.labels):
                self._metrics[name].clear()
                self._fill(entry)

    def forget(self, *names: str) -> None:
        """Show these gauges no more, until they are set again."""
        self._shown -= {PREFIX + name for name in names}

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Let a counter grow."""
        found = self._series(f"{name}_total", Kind.COUNTER, labels)
        assert isinstance(found, Counter)
        found.inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        found = self._series(name, Kind.GAUGE, labels)
        assert isinstance(found, Gauge)
        found.set(value)
        self._shown.add(PREFIX + name)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Count a value in a histogram."""
        found = self._series(name, Kind.HISTOGRAM, labels)
        assert isinstance(found, Histogram)
        found.observe(value)

    def bounded(self, bound: Bound) -> tuple[str, ...]:
        """The values that labels with a bound may have now."""
        return self._bounds.get(bound, ())

    def values_of(self, label: Label) -> tuple[str, ...]:
        """All values that a label may have now."""
        return label.values if label.bound is None else self.bounded(label.bound)

    def _series(self, name: str, kind: Kind, labels: Mapping[str, str]) -> _Recorded:
        whole = PREFIX + name
        entry = self._entries.get(whole)
        if entry is None or entry.kind is not kind:
            raise IllegalStep(f"no {kind.value} {whole} is in the catalogue for this side")
        if set(labels) != set(entry.label_names):
            raise IllegalStep(f"{whole} has labels {list(entry.label_names)}, not {sorted(labels)}")
        for label in entry.labels:
            if labels[label.name] not in self.values_of(label):
                raise IllegalStep(f"{whole}: label {label.name} has no value '{labels[label.name]}'")
        found = self._metrics[whole]
        return found.labels(**labels) if labels else found

    def _fill(self, entry: Entry) -> None:
        if entry.kind is Kind.GAUGE or not entry.labels:
            return
        for values in product(*(self.values_of(label) for label in entry.labels)):
            self._metrics[entry.name].labels(*values)


def _made(entry: Entry) -> _Recorded:
    if entry.kind is Kind.HISTOGRAM:
        return Histogram(entry.name, entry.help, entry.label_names, registry=None, buckets=entry.buckets)
    kind = Counter if entry.kind is Kind.COUNTER else Gauge
    return kind(entry.name, entry.help, entry.label_names, registry=None)
