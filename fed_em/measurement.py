"""What a measurement of fitted models over fresh rows came to, read off one sum (`fed_em.measured_models`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fed_em.description import check_real, read_mapping
from fed_em.errors import CallerError
from fed_em.measured_models import (
    CLIPPED,
    DENSITY,
    DENSITY_SQUARED,
    DIFFERENCE,
    DIFFERENCE_SQUARED,
    HISTOGRAM,
    MISSING,
    MeasuredModels,
)
from fed_em.model import COUNT
from fed_em.statistics import Statistics


@dataclass(frozen=True)
class Histogram:
    """Counts between edges.

    Attributes:
        edges: Inner ones, rising; a value on an edge is in the bin above it.
        counts: One more; of records of weight one they are whole numbers.
    """

    edges: tuple[float, ...]
    counts: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1:
            raise CallerError(f"a histogram of {len(self.edges)} edges has not {len(self.counts)} bins")

    @property
    def total(self) -> float:
        """Of all bins."""
        return math.fsum(self.counts)

    def describe(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"edges": list(self.edges), "counts": list(self.counts)}

    @classmethod
    def from_description(cls, description: object) -> Histogram:
        """What `describe` described. Raises `CallerError` as that, and as the class."""
        fields = read_mapping("a histogram", description, ("edges", "counts"))
        return cls(_numbers("edges", fields["edges"]), _numbers("counts", fields["counts"]))


@dataclass(frozen=True)
class ModelMeasured:
    """How likely one model finds the records.

    Attributes:
        log_likelihood: Mean log-density, nats a record, of log-densities that were clipped to the reference's range.
        variance: Of these over records, in nats².
        histogram: Of them.
        clipped: How many records were outside of the range.
    """

    log_likelihood: float
    variance: float
    histogram: Histogram
    clipped: float = 0.0

    def describe(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "log_likelihood": self.log_likelihood,
            "variance": self.variance,
            "histogram": self.histogram.describe(),
            "clipped": self.clipped,
        }

    @classmethod
    def from_description(cls, description: object) -> ModelMeasured:
        """What `describe` described. Raises `CallerError` as that."""
        names = ("log_likelihood", "variance", "clipped")
        fields = read_mapping("a measured model", description, (*names, "histogram"))
        log_likelihood, variance, clipped = _numbers("a measured model", [fields[name] for name in names])
        return cls(log_likelihood, variance, Histogram.from_description(fields["histogram"]), clipped)


@dataclass(frozen=True)
class PairedDifference:
    """By how much the second model finds the same records more likely than the first.

    Attributes:
        mean: Nats a record.
        variance: Over records, in nats².
    """

    mean: float
    variance: float


@dataclass(frozen=True)
class Measurement:
    """One or two models over fresh rows of all tenants that answered.

    Attributes:
        records: How many, or of how much weight.
        models: In the order in which they were named.
        columns: Histogram of the observed cells of each column, by name.
        missing: Names of the tenants that are not in the sum.
        missing_cells: How many cells of each column are missing, by name.
        difference: Of two models; None of one.
    """

    records: float
    models: tuple[ModelMeasured, ...]
    columns: Mapping[str, Histogram]
    missing: tuple[str, ...] = ()
    missing_cells: Mapping[str, float] | None = None
    difference: PairedDifference | None = None

    def describe(self) -> dict[str, Any]:
        """As JSON-able values."""
        difference = self.difference
        return {
            "records": self.records,
            "models": [model.describe() for model in self.models],
            "columns": {name: histogram.describe() for name, histogram in self.columns.items()},
            "missing": list(self.missing),
            "missing_cells": None if self.missing_cells is None else dict(self.missing_cells),
            "difference": None if difference is None else {"mean": difference.mean, "variance": difference.variance},
        }

    @classmethod
    def from_description(cls, description: object) -> Measurement:
        """What `describe` described.

        Raises:
            CallerError: a key is unknown or missing, or a value is not what it should be.
        """
        names = ("records", "models", "columns", "missing", "missing_cells", "difference")
        fields = read_mapping("a measurement", description, names)
        for name, kind in (("models", list), ("columns", dict), ("missing", list)):
            if not isinstance(fields[name], kind):
                raise CallerError(f"'{name}' of a measurement must be a {kind.__name__}")
        (records,) = _numbers("records", [fields["records"]])
        pair, cells = fields["difference"], fields["missing_cells"]
        if pair is not None:
            read_mapping("the difference of a measurement", pair, ("mean", "variance"))
        if cells is not None:
            cells = dict(zip(cells, _numbers("missing_cells", list(cells.values())), strict=True))
        return cls(
            records,
            tuple(map(ModelMeasured.from_description, fields["models"])),
            {str(name): Histogram.from_description(each) for name, each in fields["columns"].items()},
            tuple(map(str, fields["missing"])),
            cells,
            None if pair is None else PairedDifference(*_numbers("difference", [pair["mean"], pair["variance"]])),
        )


def measurement_of(
    measured: MeasuredModels, columns: Sequence[str], statistics: Statistics, missing: tuple[str, ...] = ()
) -> Measurement:
    """What a sum says.

    Args:
        measured: What was summed.
        columns: Names of the D columns.
        statistics: The sum.
        missing: Names of tenants that are not in it.

    Raises:
        CallerError: it is of no records.
    """
    n, edges = float(statistics[COUNT]), measured.edges
    if not n > 0:
        raise CallerError("there are no records to measure", remedy="ask the tenants for fresh rows")
    models = []
    for r in range(len(measured.models)):
        mean, variance = _moments(n, statistics, f"{r}.{DENSITY}", f"{r}.{DENSITY_SQUARED}")
        models.append(
            ModelMeasured(
                edges.centre + edges.half_width * mean,
                edges.half_width**2 * variance,
                Histogram(edges.densities, tuple(statistics[f"{r}.{HISTOGRAM}"].tolist())),
                float(statistics[f"{r}.{CLIPPED}"]),
            )
        )
    difference = None
    if len(models) == 2:
        mean, variance = _moments(n, statistics, DIFFERENCE, DIFFERENCE_SQUARED)
        difference = PairedDifference(2 * edges.half_width * mean, (2 * edges.half_width) ** 2 * variance)
    return Measurement(
        n,
        tuple(models),
        {
            name: Histogram(edges.columns[d], tuple(statistics[f"column.{d}"].tolist()))
            for d, name in enumerate(columns)
        },
        missing,
        dict(zip(columns, statistics[MISSING].tolist(), strict=True)),
        difference,
    )


def _moments(n: float, statistics: Statistics, first: str, second: str) -> tuple[float, float]:
    """Mean, and variance without bias."""
    mean = float(statistics[first]) / n
    variance = max(float(statistics[second]) / n - mean**2, 0.0)
    return mean, variance * n / (n - 1) if n > 1 else variance


def _numbers(what: str, values: object) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise CallerError(f"{what} must be a list of numbers")
    for value in values:
        check_real(what, value, -math.inf)
    return tuple(map(float, values))
