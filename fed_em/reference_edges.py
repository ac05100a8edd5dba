"""The edges that records are counted between when a model is measured, and the range that log-densities are clipped to.

Everybody has to cut at the same places for counts to add up: they are fixed with the model (`fed_em.reference`), not with anybody's rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fed_em.description import read_mapping
from fed_em.errors import CallerError

# Of one histogram: levels of a categorical column are the most there can be.
MOST_BINS = 4096

# Of numbers: many narrow bins would be the sorted values of all records. Drift is seen in ten.
MOST_BINS_OF_NUMBERS = 64


@dataclass(frozen=True)
class ReferenceEdges:
    """Where histograms of log-densities and of columns are cut, and the range that log-densities are clipped to.

    Attributes:
        low, high: In nats a record, finite, low below high.
        densities: Inner edges of the log-densities' histogram, rising; it has a bin more than edges.
        columns: Likewise by column, in its own units. A value on an edge is in the bin above it.

    Raises:
        CallerError: a number is not finite, the range is too wide or too narrow for float64, edges do not rise, or there are too many.
    """

    low: float
    high: float
    densities: tuple[float, ...]
    columns: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        object.__setattr__(self, "densities", _rising("log-densities", self.densities, MOST_BINS_OF_NUMBERS))
        columns = tuple(_rising(f"column {d}", edges, MOST_BINS) for d, edges in enumerate(self.columns))
        object.__setattr__(self, "columns", columns)
        if not (math.isfinite(self.low) and math.isfinite(self.high) and 0 < self.half_width < math.inf):
            raise CallerError(f"log-densities cannot be clipped to the range from {self.low} to {self.high}")

    @property
    def centre(self) -> float:
        """The middle of the range, in nats."""
        return self.low + self.half_width

    @property
    def half_width(self) -> float:
        """Half of the range's width, in nats."""
        return (self.high - self.low) / 2

    def describe(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "low": self.low,
            "high": self.high,
            "densities": list(self.densities),
            "columns": [list(edges) for edges in self.columns],
        }

    @classmethod
    def from_description(cls, description: object) -> ReferenceEdges:
        """What `describe` described. Raises `CallerError` as that, and as the class."""
        fields = read_mapping("reference edges", description, ("low", "high", "densities", "columns"))
        for name in ("low", "high"):
            if isinstance(fields[name], bool) or not isinstance(fields[name], int | float):
                raise CallerError(f"'{name}' of reference edges must be a number")
        for name in ("densities", "columns"):
            _require_list(name, fields[name])
        for edges in fields["columns"]:
            _require_list("columns", edges)
        return cls(
            fields["low"], fields["high"], tuple(fields["densities"]), tuple(tuple(each) for each in fields["columns"])
        )


def _rising(what: str, edges: Sequence[float], most_bins: int) -> tuple[float, ...]:
    if len(edges) >= most_bins:
        raise CallerError(f"{what}: {len(edges)} edges make more than {most_bins} bins")
    for edge in edges:
        if isinstance(edge, bool) or not isinstance(edge, int | float) or not math.isfinite(edge):
            raise CallerError(f"{what}: an edge is no finite number")
    if any(low >= high for low, high in pairwise(edges)):
        raise CallerError(f"{what}: edges do not rise")
    return tuple(map(float, edges))


def _require_list(name: str, value: object) -> None:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise CallerError(f"'{name}' of reference edges must be a list")
