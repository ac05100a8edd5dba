"""What a measurement of fitted models over fresh rows came to, read off one sum (`fed_em.measured_models`).

The sum of a private session has Gaussian noise of known variance in every entry. Each number that is read off it then says how much of it
is noise: of a mean S/n with noise σ_S in the sum and σ_n in the number of records, by the delta method,

    σ_mean² = (σ_S² + (S/n)² σ_n²) / n²

and of a variance S₂/n − (S/n)² likewise. Without noise these are 0, and are written nowhere.
"""

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

# Standard deviations that noise exceeds once in 700 times to one side.
_LEAST_CERTAIN = 3.0


@dataclass(frozen=True)
class Histogram:
    """Counts between edges.

    Attributes:
        edges: Inner ones, rising; a value on an edge is in the bin above it.
        counts: One more; of records of weight one they are whole numbers, where there is no noise in them.
        noise: Standard deviation of the noise in each count.
    """

    edges: tuple[float, ...]
    counts: tuple[float, ...]
    noise: float = 0.0

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1:
            raise CallerError(f"a histogram of {len(self.edges)} edges has not {len(self.counts)} bins")

    @property
    def total(self) -> float:
        """Of all bins."""
        return math.fsum(self.counts)

    def describe(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"edges": list(self.edges), "counts": list(self.counts), **_noted(noise=self.noise)}

    @classmethod
    def from_description(cls, description: object) -> Histogram:
        """What `describe` described. Raises `CallerError` as that, and as the class."""
        fields = read_mapping("a histogram", description, ("edges", "counts"), ("noise",))
        (noise,) = _noises(fields, "noise")
        return cls(_numbers("edges", fields["edges"]), _numbers("counts", fields["counts"]), noise)


@dataclass(frozen=True)
class ModelMeasured:
    """How likely one model finds the records.

    Attributes:
        log_likelihood: Mean log-density, nats a record, of log-densities that were clipped to the reference's range.
        variance: Of these over records, in nats².
        histogram: Of them.
        clipped: How many records were outside of the range.
        noise: Standard deviation of the noise in the mean, in nats.
        variance_noise: And in the variance, in nats².
    """

    log_likelihood: float
    variance: float
    histogram: Histogram
    clipped: float = 0.0
    noise: float = 0.0
    variance_noise: float = 0.0

    def error(self, records: float) -> float:
        """Standard error of the mean over so many records, in nats."""
        return _standard_error(self.variance, self.variance_noise, self.noise, records)

    def describe(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "log_likelihood": self.log_likelihood,
            "variance": self.variance,
            "histogram": self.histogram.describe(),
            "clipped": self.clipped,
            **_noted(noise=self.noise, variance_noise=self.variance_noise),
        }

    @classmethod
    def from_description(cls, description: object) -> ModelMeasured:
        """What `describe` described. Raises `CallerError` as that."""
        names = ("log_likelihood", "variance", "clipped")
        fields = read_mapping("a measured model", description, (*names, "histogram"), ("noise", "variance_noise"))
        log_likelihood, variance, clipped = _numbers("a measured model", [fields[name] for name in names])
        noises = _noises(fields, "noise", "variance_noise")
        return cls(log_likelihood, variance, Histogram.from_description(fields["histogram"]), clipped, *noises)


@dataclass(frozen=True)
class PairedDifference:
    """By how much the second model finds the same records more likely than the first.

    Attributes:
        mean: Nats a record.
        variance: Over records, in nats².
        noise: Standard deviation of the noise in the mean, in nats.
        variance_noise: And in the variance, in nats².
    """

    mean: float
    variance: float
    noise: float = 0.0
    variance_noise: float = 0.0

    def error(self, records: float) -> float:
        """Standard error of the mean over so many records, in nats."""
        return _standard_error(self.variance, self.variance_noise, self.noise, records)

    def describe(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "mean": self.mean,
            "variance": self.variance,
            **_noted(noise=self.noise, variance_noise=self.variance_noise),
        }

    @classmethod
    def from_description(cls, description: object) -> PairedDifference:
        """What `describe` described. Raises `CallerError` as that."""
        fields = read_mapping(
            "the difference of a measurement", description, ("mean", "variance"), ("noise", "variance_noise")
        )
        given = _numbers("difference", [fields["mean"], fields["variance"]])
        return cls(*given, *_noises(fields, "noise", "variance_noise"))


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
        noise: Standard deviation of the noise in the number of records; 0 where the session was not private.
    """

    records: float
    models: tuple[ModelMeasured, ...]
    columns: Mapping[str, Histogram]
    missing: tuple[str, ...] = ()
    missing_cells: Mapping[str, float] | None = None
    difference: PairedDifference | None = None
    noise: float = 0.0

    def describe(self) -> dict[str, Any]:
        """As JSON-able values."""
        difference = self.difference
        return {
            "records": self.records,
            "models": [model.describe() for model in self.models],
            "columns": {name: histogram.describe() for name, histogram in self.columns.items()},
            "missing": list(self.missing),
            "missing_cells": None if self.missing_cells is None else dict(self.missing_cells),
            "difference": None if difference is None else difference.describe(),
            **_noted(noise=self.noise),
        }

    @classmethod
    def from_description(cls, description: object) -> Measurement:
        """What `describe` described.

        Raises:
            CallerError: a key is unknown or missing, or a value is not what it should be.
        """
        names = ("records", "models", "columns", "missing", "missing_cells", "difference")
        fields = read_mapping("a measurement", description, names, ("noise",))
        for name, kind in (("models", list), ("columns", dict), ("missing", list)):
            if not isinstance(fields[name], kind):
                raise CallerError(f"'{name}' of a measurement must be a {kind.__name__}")
        (records,) = _numbers("records", [fields["records"]])
        pair, cells = fields["difference"], fields["missing_cells"]
        if cells is not None:
            cells = dict(zip(cells, _numbers("missing_cells", list(cells.values())), strict=True))
        return cls(
            records,
            tuple(map(ModelMeasured.from_description, fields["models"])),
            {str(name): Histogram.from_description(each) for name, each in fields["columns"].items()},
            tuple(map(str, fields["missing"])),
            cells,
            None if pair is None else PairedDifference.from_description(pair),
            *_noises(fields, "noise"),
        )


def measurement_of(
    measured: MeasuredModels,
    columns: Sequence[str],
    statistics: Statistics,
    missing: tuple[str, ...] = (),
    noise: Mapping[str, float] | None = None,
) -> Measurement:
    """What a sum says.

    Args:
        measured: What was summed.
        columns: Names of the D columns.
        statistics: The sum.
        missing: Names of tenants that are not in it.
        noise: Standard deviation of the noise in each entry of a statistic, by its name; None where there is none.

    Raises:
        CallerError: it is of no records, or of so few that noise hides how many.
    """
    edges = measured.edges
    sums = _Sums(statistics, noise or {})
    if not sums.records > _LEAST_CERTAIN * sums.noise_of(COUNT):
        raise CallerError(
            "there are no records to measure"
            if noise is None
            else f"noise of ± {sums.noise_of(COUNT):.3g} hides whether there are any records to measure",
            remedy="ask the tenants for fresh rows"
            + ("" if noise is None else ", or spend a larger measurement_epsilon"),
        )
    models = []
    for r in range(len(measured.models)):
        mean, variance, *noises = sums.moments(f"{r}.{DENSITY}", f"{r}.{DENSITY_SQUARED}", edges.half_width)
        histogram = sums.histogram(f"{r}.{HISTOGRAM}", edges.densities)
        clipped = float(statistics[f"{r}.{CLIPPED}"])
        models.append(ModelMeasured(edges.centre + mean, variance, histogram, clipped, *noises))
    pair = sums.moments(DIFFERENCE, DIFFERENCE_SQUARED, 2 * edges.half_width) if len(models) == 2 else None
    return Measurement(
        sums.records,
        tuple(models),
        {name: sums.histogram(f"column.{d}", edges.columns[d]) for d, name in enumerate(columns)},
        missing,
        dict(zip(columns, statistics[MISSING].tolist(), strict=True)),
        None if pair is None else PairedDifference(*pair),
        sums.noise_of(COUNT),
    )


@dataclass(frozen=True)
class _Sums:
    """A sum and the noise in it."""

    statistics: Statistics
    noise: Mapping[str, float]

    @property
    def records(self) -> float:
        return float(self.statistics[COUNT])

    def noise_of(self, name: str) -> float:
        return self.noise.get(name, 0.0)

    def histogram(self, name: str, edges: tuple[float, ...]) -> Histogram:
        return Histogram(edges, tuple(self.statistics[name].tolist()), self.noise_of(name))

    def moments(self, first: str, second: str, unit: float) -> tuple[float, float, float, float]:
        """Mean, variance without bias, and the noise in each, of what was summed in a unit of so many nats: numbers from −1 to 1."""
        n = self.records
        mean = min(max(float(self.statistics[first]) / n, -1.0), 1.0)
        square = min(max(float(self.statistics[second]) / n, 0.0), 1.0)
        of_n = self.noise_of(COUNT)
        of_mean = math.hypot(self.noise_of(first), mean * of_n) / n
        of_square = math.hypot(self.noise_of(second), square * of_n) / n
        unbiased = n / (n - 1) if n > 1 else 1.0
        variance = max(square - mean**2, 0.0) * unbiased
        of_variance = math.hypot(of_square, 2 * mean * of_mean) * unbiased
        return unit * mean, unit**2 * variance, unit * of_mean, unit**2 * of_variance


def _standard_error(variance: float, variance_noise: float, noise: float, records: float) -> float:
    """Of a mean; a variance that may have lost something to noise counts as larger."""
    return math.hypot(math.sqrt((variance + _LEAST_CERTAIN * variance_noise) / records), noise)


def _noted(**noises: float) -> dict[str, float]:
    """Those that there are."""
    return {name: noise for name, noise in noises.items() if noise}


def _noises(fields: Mapping[str, Any], *names: str) -> tuple[float, ...]:
    found = _numbers("noise", [fields.get(name, 0.0) for name in names])
    if any(noise < 0 for noise in found):
        raise CallerError("noise must be at least 0")
    return found


def _numbers(what: str, values: object) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise CallerError(f"{what} must be a list of numbers")
    for value in values:
        check_real(what, value, -math.inf)
    return tuple(map(float, values))
