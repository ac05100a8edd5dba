"""How far fresh rows are from those that a model was measured over first, and how far chance alone would take them.

    PSI     Σ_b (p_b − q_b) log(p_b / q_b)        of the shares of two histograms in B bins: the population stability index, which is
                                                   Jeffreys' divergence (1946)
    KS      max_b |P_b − Q_b|                      of their cumulative shares (Kolmogorov, Smirnov)
    drop    mean log-density then less now         nats a record

Of n and m records of one distribution, PSI / (1/n + 1/m) is about χ² of B − 1 degrees of freedom (Yurdakul 2018, "Statistical properties
of population stability index"), √(nm/(n+m)) KS exceeds √(log(2/α)/2) with a probability of α at most, less if there are few bins, and the
drop is about normal. So each has a *critical value* at which chance gets it once in 1/α measurements, and its *excess* is what is beyond
that. All tests of a measurement share the significance equally (Bonferroni): where nothing has drifted, any of them has an excess in a
share of `significance` of all measurements at most, of however few fresh records these are. The reference should have many: of a hundred
records, whose log-densities are skewed, the drop exceeds its critical value several times too often.

Counts of a private session have Gaussian noise, of σ_n and σ_m in each bin of the two. Where nothing has drifted, the shares then differ by
about N(0, V),

    V = (1/n + 1/m) (diag p − p pᵀ) + (σ_n²/n² + σ_m²/m²) C Cᵀ,    C = I − p 1ᵀ,

as the noise of all bins together moves what a share is of. PSI is a sum of χ² of one degree each, weighted by the eigenvalues of
diag(p)^−½ V diag(p)^−½, whose quantile is that of the shifted gamma distribution with the same three cumulants (Hall 1983, Buckley and
Eagleson 1988); without noise all weights are equal, and it is the χ² above. KS exceeds z √(¼ (1/n + 1/m) + largest cumulative variance of
noise), z = Φ⁻¹(1 − α / 2(B − 1)), with a probability of α at most. The drop's error has the noise of both means in it.

χ² needs expected counts that are not small: bins are first merged, neighbours or rare levels, until each is expected to hold five records
on either side (Cochran 1954), and six standard deviations of the group's noise; and one record is added to each: with half a one, bins
that happen to be nearly empty take PSI beyond its critical value three times too often where the significance is divided among many tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtri

from fed_em.columns import CategoricalColumn, ColumnSchema
from fed_em.description import check_real
from fed_em.errors import CallerError
from fed_em.measurement import Histogram, Measurement

Vector = NDArray[np.float64]

_LEAST_EXPECTED = 5.0
_LEAST_OF_NOISE = 6.0
_PSEUDO_COUNT = 1.0

# What stands for the log-densities among the columns' names.
LOG_DENSITY = "log-density"


@dataclass(frozen=True)
class Found:
    """One statistic of drift.

    Attributes:
        value: Of the two measurements.
        critical: What chance alone exceeds as seldom as the test admits; infinite where there are too few records to say anything.
    """

    value: float
    critical: float

    @property
    def excess(self) -> float:
        """By how much the value is beyond chance; negative if it is not."""
        return self.value - self.critical


@dataclass(frozen=True)
class ColumnDrift:
    """Of one column, or of the log-densities.

    Attributes:
        psi: Population stability index.
        ks: Of what has an order; None of a categorical column.
    """

    psi: Found
    ks: Found | None


@dataclass(frozen=True)
class Drift:
    """A measurement against the reference.

    Attributes:
        records: Of the measurement, and of the reference.
        columns: By name.
        densities: Of log-densities.
        drop: In nats a record; negative if the fresh rows fit better.
        drop_error: Its standard error.
    """

    records: tuple[float, float]
    columns: Mapping[str, ColumnDrift]
    densities: ColumnDrift
    drop: Found
    drop_error: float


@dataclass(frozen=True)
class Thresholds:
    """From which excess on drift matters; more than significance, as of many records the smallest drift is significant.

    Attributes:
        psi, ks: Positive. A PSI of 0.1 is usually called a small shift, 0.25 a large one.
        drop: In nats a record, positive.
        significance: Of all tests of a measurement together, in (0, 1).
    """

    psi: float = 0.1
    ks: float = 0.1
    drop: float = 0.1
    significance: float = 0.01

    def __post_init__(self) -> None:
        for name in ("psi", "ks", "drop", "significance"):
            check_real(name, getattr(self, name), 0.0, strict=True)
        if self.significance >= 1:
            raise CallerError(f"significance must be below 1, not {self.significance}")

    def score(self, drift: Drift) -> float:
        """The largest excess, as a multiple of its threshold: 1 and more is drift that matters."""
        return max(score for _, score in self.scores(drift))

    def scores(self, drift: Drift) -> Iterator[tuple[str, float]]:
        """Each excess as a multiple of its threshold, with what it is of."""
        yield "likelihood drop", drift.drop.excess / self.drop
        for name, column in ((LOG_DENSITY, drift.densities), *drift.columns.items()):
            yield f"PSI of {name}", column.psi.excess / self.psi
            if column.ks is not None:
                yield f"KS of {name}", column.ks.excess / self.ks

    def worst(self, drift: Drift) -> str:
        """What the score is of."""
        return max(self.scores(drift), key=lambda each: each[1])[0]


def drift_between(reference: Measurement, fresh: Measurement, schema: ColumnSchema, significance: float) -> Drift:
    """The drift of the first model that was measured.

    Args:
        reference, fresh: By the same edges.
        schema: The columns.
        significance: Of all tests together.

    Raises:
        CallerError: histograms have other edges, or other columns.
    """
    if set(reference.columns) != set(fresh.columns) or set(schema.names) != set(fresh.columns):
        raise CallerError("the reference and the measurement are of other columns")
    ordered = {column.name: not isinstance(column, CategoricalColumn) for column in schema.columns}
    tests = 3 + len(ordered) + sum(ordered.values())
    alone = significance / tests
    then, now = reference.models[0], fresh.models[0]
    error = math.hypot(then.error(reference.records), now.error(fresh.records))
    drop = Found(then.log_likelihood - now.log_likelihood, -float(ndtri(alone)) * error)
    return Drift(
        (fresh.records, reference.records),
        {
            name: _column(reference.columns[name], fresh.columns[name], ordered[name], alone, name)
            for name in schema.names
        },
        _column(then.histogram, now.histogram, True, alone, LOG_DENSITY),
        drop,
        error,
    )


def _column(then: Histogram, now: Histogram, ordered: bool, significance: float, name: str) -> ColumnDrift:
    if then.edges != now.edges:
        raise CallerError(
            f"the histograms of '{name}' are cut at other edges than the reference's",
            remedy="measure by the edges of the reference",
        )
    sides = (Counts.of(then), Counts.of(now))
    return ColumnDrift(
        stability_index(*sides, ordered, significance), kolmogorov_smirnov(*sides, significance) if ordered else None
    )


@dataclass(frozen=True)
class Counts:
    """Counts of one histogram, `(B,)`, and the standard deviation of the noise in each."""

    counts: Vector
    noise: float = 0.0

    @classmethod
    def of(cls, histogram: Histogram) -> Counts:
        return cls(np.asarray(histogram.counts), histogram.noise)

    @property
    def total(self) -> float:
        return float(self.counts.sum())

    @property
    def is_hidden(self) -> bool:
        """Whether noise leaves nothing to say of them."""
        return not self.total > _LEAST_OF_NOISE * self.noise * math.sqrt(len(self.counts))

    @property
    def of_shares(self) -> float:
        """Variance of the noise of a share whose denominator is known."""
        return (self.noise / self.total) ** 2


def stability_index(reference: Counts, fresh: Counts, ordered: bool, significance: float) -> Found:
    """PSI of two vectors of counts, and its critical value.

    Args:
        reference, fresh: The counts.
        ordered: Whether bins have neighbours; of levels, the rarest are merged with each other.
        significance: Of this test, in (0, 1).
    """
    if reference.is_hidden or fresh.is_hidden:
        return Found(0.0, math.inf)
    m, n = reference.total, fresh.total
    pooled = (reference.counts + fresh.counts) / (m + n)
    noise = max(reference.noise / m, fresh.noise / n) * min(m, n)
    groups = merged_bins(pooled * min(m, n), ordered, noise)
    counts, sizes = np.zeros((2, groups.max() + 1)), np.bincount(groups)
    np.add.at(counts[0], groups, reference.counts)
    np.add.at(counts[1], groups, fresh.counts)
    if len(sizes) == 1:
        return Found(0.0, math.inf)
    # Noise may have taken a count below zero, seldom, as groups are large beside it.
    smoothed = np.maximum(counts, 0.0) + _PSEUDO_COUNT
    q, p = smoothed / smoothed.sum(axis=1, keepdims=True)
    value = float(((p - q) * np.log(p / q)).sum())
    shares = smoothed.sum(axis=0) / smoothed.sum()
    of_noise = np.multiply(reference.of_shares + fresh.of_shares, sizes, dtype=np.float64)
    return Found(value, _critical_index(shares, 1 / n + 1 / m, of_noise, significance))


def _critical_index(shares: Vector, of_sampling: float, of_noise: Vector, significance: float) -> float:
    """What PSI exceeds by chance with this probability.

    Args:
        shares: p, `(B,)`.
        of_sampling: 1/n + 1/m.
        of_noise: Variance of the noise of each group's share, `(B,)`.
        significance: In (0, 1).
    """
    if not of_noise.any():
        return float(chdtri(len(shares) - 1, significance)) * of_sampling
    centred = np.eye(len(shares)) - shares[:, np.newaxis]
    spread = of_sampling * (np.diag(shares) - np.outer(shares, shares)) + (centred * of_noise) @ centred.T
    weights = np.linalg.eigvalsh(spread / np.sqrt(np.outer(shares, shares)))
    mean, variance, third = (factor * float((weights**power).sum()) for factor, power in ((1, 1), (2, 2), (8, 3)))
    degrees = 8 * variance**3 / third**2
    return mean + math.sqrt(variance) * (float(chdtri(degrees, significance)) - degrees) / math.sqrt(2 * degrees)


def merged_bins(expected: Vector, ordered: bool, noise: float = 0.0) -> NDArray[np.intp]:
    """Which group each bin belongs to, numbered from 0, so that each group expects at least five records, or there is one group.

    Args:
        expected: `(B,)`, what each bin expects on the smaller side.
        ordered: Whether groups are of neighbours.
        noise: Standard deviation of that in a bin, which a group is to be large beside as well.
    """
    order = np.arange(len(expected)) if ordered else np.argsort(expected, kind="stable")
    groups = np.empty(len(expected), dtype=np.intp)
    group, held, size = 0, 0.0, 0
    for place in order:
        groups[place] = group
        held, size = held + expected[place], size + 1
        if held >= max(_LEAST_EXPECTED, _LEAST_OF_NOISE * noise * math.sqrt(size)):
            group, held, size = group + 1, 0.0, 0
    # What is left at the end goes to the group before it.
    groups[groups == group] = max(group - 1, 0)
    return groups


def kolmogorov_smirnov(reference: Counts, fresh: Counts, significance: float) -> Found:
    """KS of two vectors of counts in order, and its critical value; conservative, as values within a bin cannot be told apart."""
    if reference.is_hidden or fresh.is_hidden:
        return Found(0.0, math.inf)
    m, n, bins = reference.total, fresh.total, len(fresh.counts)
    if bins == 1:
        return Found(0.0, math.inf)
    below = np.cumsum(reference.counts)[:-1] / m, np.cumsum(fresh.counts)[:-1] / n
    value, of_sampling = float(np.abs(below[0] - below[1]).max()), 1 / n + 1 / m
    of_bin = reference.of_shares + fresh.of_shares
    if not of_bin:
        return Found(value, math.sqrt(-math.log(significance / 2) / 2 * of_sampling))
    # Of the first c of B bins, with the share P of all: c have noise of weight 1 − P, the others of weight P.
    first, share = np.arange(1, bins), np.clip((m * below[0] + n * below[1]) / (m + n), 0.0, 1.0)
    of_noise = of_bin * float((first * (1 - share) ** 2 + (bins - first) * share**2).max())
    return Found(value, -float(ndtri(significance / (2 * (bins - 1)))) * math.sqrt(of_sampling / 4 + of_noise))
