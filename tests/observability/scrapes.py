"""Holds a scrape against the catalogue."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from prometheus_client import CollectorRegistry

from fed_em_protocols.metric_catalogue import BY_NAME, Kind, Label
from fed_em_protocols.metric_catalogue import Metric as Entry


def undeclared(registry: CollectorRegistry, values_of: Callable[[Label], Collection[str]]) -> list[str]:
    """What a scrape shows that the catalogue does not declare: samples, labels, values and numbers that are none."""
    wrong = []
    for family in registry.collect():
        for sample in family.samples:
            entry = _entry_of(sample.name)
            if entry is None:
                wrong.append(f"{sample.name} is not in the catalogue")
                continue
            labels = dict(sample.labels)
            upper = labels.pop("le", None)
            if (upper is not None) != sample.name.endswith("_bucket"):
                wrong.append(f"{sample.name} has a bucket of no histogram")
            if set(labels) != set(entry.label_names):
                wrong.append(f"{sample.name} has labels {sorted(labels)}")
                continue
            wrong += [
                f"{sample.name}: {label.name} = {labels[label.name]}"
                for label in entry.labels
                if labels[label.name] not in values_of(label)
            ]
            if not math.isfinite(sample.value):
                wrong.append(f"{sample.name} is {sample.value}")
    return wrong


def _entry_of(sample: str) -> Entry | None:
    found = BY_NAME.get(sample)
    if found is not None:
        return found
    family = next((sample.removesuffix(end) for end in ("_bucket", "_count", "_sum") if sample.endswith(end)), "")
    histogram = BY_NAME.get(family)
    return histogram if histogram is not None and histogram.kind is Kind.HISTOGRAM else None
