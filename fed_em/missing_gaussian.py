"""Gaussian components of records that show some of their columns only, exact under values missing at random (MAR).

With o the observed and m the missing columns of a record, a component N(μ, Σ) gives the observed part the density
N(x_o; μ_o, Σ_oo) and the missing part, given the observed, the moments

    x̂_m = μ_m + B (x_o − μ_o),   B = Σ_mo Σ_oo⁻¹,   C = Σ_mm − B Σ_om,

so that its expected sufficient statistics are S1 = Σ r x̂ and S2 = Σ r (x̂x̂ᵀ + C), x̂_o = x_o, C zero outside m. They are
as long as without missing values. Little and Rubin (2019), "Statistical Analysis with Missing Data", 3rd edition, section
11.2.1, for one Gaussian; Ghahramani and Jordan (1994), "Supervised learning from incomplete data via an EM approach", for
mixtures. A record of which nothing is observed has density 1 under every component.

Rows are grouped by their pattern of missing columns: B, C and the Cholesky factor of Σ_oo are computed once a pattern, for
all patterns that show equally many columns at once, and since x̂ = a + G x_o is affine, the sums follow from those of [1, x_o]
without any x̂ being formed. Where no
covariance is modelled (diag, spherical) x̂_m = μ_m and patterns need not be told apart.

The free energy needs one more number: the entropy of the missing cells given the component, Σ r ½ log |2πe C_mm|.

Bounds. However narrow the ranges, neither x̂ nor C is bounded by them: |x̂_d − μ_d| ≤ σ_d · (Mahalanobis distance of x_o) and
C_dd ≤ σ_d², and both depend on parameters. A layout declares how far they may reach (`reach_of`), and a party checks each of its
records against that before it sends their sum (`fed_em.imputed_reach`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import CovarianceStructure, Whitening, covariance_matrices, n_second_moments
from fed_em.errors import CallerError, CollapsedComponent
from fed_em.model import COUNT, LOG_LIKELIHOOD, MISSING_ENTROPY
from fed_em.posterior import normalise_in_place
from fed_em.records import Records

Vector = NDArray[np.float64]
Places = NDArray[np.intp]

# How far an expected value may lie from 0 in any record: twice as far as its column's range, and so many units further. Sums are
# encoded in standardised coordinates, whose unit is a standard deviation. Starts, which are drawn from a standard normal, are within 15 of
# them however narrow the range, and what EM estimates is nearer: Σ_k w_k (μ_k² + σ_k²) is a mean of squares of observed values
# and of expected ones, which follow them. The rest is room for rows that contradict a strong correlation. For ranges of 10 standard
# deviations it takes three bits of S1 and five of S2.
_RANGES, _UNITS = 2.0, 32.0

# The declared bound of the entropy of a record's missing cells, in nats on average. A differential entropy has no bound:
# this one admits 1000 missing cells of standard deviation e^64.
MISSING_ENTROPY_BOUND = 2.0**16

# Float64 entries that the arrays of one block of rows may fill (8 MiB), and the fewest rows that are worth a block.
_BLOCK_ENTRIES = 2**20
_FEWEST_ROWS = 256

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class ExpectedMoments:
    """What missing or weighted records add to the statistics of Gaussian components.

    Attributes:
        first: `(K, D)`, Σ r x̂.
        second: `(K, n_second_moments)`, Σ r (x̂x̂ᵀ + C), upper triangle row by row, or its diagonal.
        missing_entropy: Σ r ½ log |2πe C_mm|, in nats.
    """

    first: Vector
    second: Vector
    missing_entropy: float

    @classmethod
    def zero(cls, structure: CovarianceStructure, n_components: int, n_columns: int) -> ExpectedMoments:
        """The moments of no record."""
        n_second = n_second_moments(structure, n_columns)
        return cls(np.zeros((n_components, n_columns)), np.zeros((n_components, n_second)), 0.0)

    def __add__(self, other: ExpectedMoments) -> ExpectedMoments:
        return ExpectedMoments(
            self.first + other.first, self.second + other.second, self.missing_entropy + other.missing_entropy
        )


def reach_of(bound: float) -> float:
    """The declared bound of |x̂_d| and of √(x̂_d² + C_dd) in every record.

    Args:
        bound: The largest |x_d| of an observed cell, of the widest column.
    """
    return _RANGES * bound + _UNITS


class _Group(Protocol):
    """Rows that are treated together."""

    def log_densities(self) -> Vector:
        """Log densities of the observed cells under each component, `(K, n)`."""
        ...

    def moments(self, responsibilities: Vector) -> ExpectedMoments:
        """The sums for responsibilities `(K, n)`, weights included."""
        ...


@dataclass(frozen=True, eq=False)
class GaussianComponents:
    """K Gaussian components over D columns, to be evaluated where rows hold NaN.

    Attributes:
        structure: The covariance structure.
        means: `(K, D)`.
        covariances: In the shape of the structure; positive definite.
    """

    structure: CovarianceStructure
    means: Vector
    covariances: Vector

    @cached_property
    def _whitening(self) -> Whitening:
        # Factorised as a whole first: its faults name the component.
        return Whitening.of(self.structure, self.covariances, len(self.means), self.means.shape[1])

    @property
    def log_factors(self) -> Vector:
        """−½ log |Σ| of each component, `(K,)`, or `(1,)` where all share one.

        Raises:
            CollapsedComponent: a covariance is not positive definite, naming the component.
        """
        logs = self._whitening.log_determinants
        return logs[:1] if self.structure == "tied" else logs

    @cached_property
    def matrices(self) -> Vector:
        """Σ of each component, `(K, D, D)`, or `(1, D, D)` where all share one; raises as `log_factors`."""
        _ = self._whitening
        if self.structure == "tied":
            return self.covariances[np.newaxis]
        return covariance_matrices(self.structure, self.covariances, self.means)

    @property
    def block_rows(self) -> int:
        """Rows to be treated at one time."""
        return max(int(_BLOCK_ENTRIES // (self.means.size + 3 * len(self.means))), _FEWEST_ROWS)

    def posterior(self, joint: Vector, rows: Vector, weights: Vector | None) -> tuple[Vector, Vector, ExpectedMoments]:
        """Posterior of the components and expected moments of some rows.

        Args:
            joint: `(K, n)`, log density of everything but these columns, in nats; overwritten with the
                responsibilities times the weights.
            rows: `(n, D)`, NaN where missing; no infinity.
            weights: `(n,)`, or None for ones.

        Returns:
            Log-densities `(n,)` and entropies of the responsibilities `(n,)`, both in nats and unweighted, and the
            expected moments.

        Raises:
            CollapsedComponent: a covariance is not positive definite, naming the component.
        """
        log_densities, entropies = np.empty(len(rows)), np.empty(len(rows))
        total = ExpectedMoments.zero(self.structure, *self.means.shape)
        for places, group in self._groups(rows):
            part = joint[:, places] + group.log_densities()
            log_densities[places], entropies[places] = normalise_in_place(part)
            if weights is not None:
                part *= weights[places]
            joint[:, places] = part
            total = total + group.moments(part)
        return log_densities, entropies, total

    def conditional(self, rows: Vector) -> tuple[Vector, Vector]:
        """Mean and variance of every cell given the row's observed cells, for each component.

        Args:
            rows: `(n, D)`, NaN where missing.

        Returns:
            x̂ `(K, n, D)` and the diagonal of C `(K, n, D)`, which is 0 for observed cells.
        """
        shape = (len(self.means), *rows.shape)
        means, variances = np.empty(shape), np.zeros(shape)
        for batch in _batches(rows, self.means.size * rows.shape[1]):
            given = _Conditionals.of(self, batch)
            means[:, batch.places] = given.expected()
            residuals = np.diagonal(given.residuals, axis1=2, axis2=3)[batch.patterns]
            # Rounding may take a variance that is next to nothing below it.
            variances[:, batch.places] = np.maximum(np.swapaxes(residuals, 0, 1), 0.0)
        return means, variances

    def draw(self, rows: Vector, labels: NDArray[np.int64], normals: Vector) -> Vector:
        """The rows with their missing cells drawn given the observed ones and the component.

        Args:
            rows: `(n, D)`, NaN where missing.
            labels: `(n,)`, the component of each row.
            normals: `(n, D)`, standard normals; those of observed cells are not used.
        """
        drawn = rows.copy()
        for batch in _batches(rows, self.means.size * rows.shape[1]):
            given, n = _Conditionals.of(self, batch), len(batch.places)
            unseen = batch.unseen[:, np.newaxis]
            matrices = np.take_along_axis(
                np.take_along_axis(given.residuals, unseen[..., np.newaxis], 2), unseen[..., np.newaxis, :], 3
            )
            lower = _cholesky(matrices)
            of_component = labels[batch.places]
            factors = lower[batch.patterns, of_component if lower.shape[1] > 1 else 0]
            cells = batch.unseen[batch.patterns]
            here = batch.places[:, np.newaxis]
            noise = np.einsum("nij,nj->ni", factors, normals[here, cells])
            expected = given.expected()[of_component, np.arange(n)]
            drawn[here, cells] = np.take_along_axis(expected, cells, axis=1) + noise
        return drawn

    def _groups(self, rows: Vector) -> Iterator[tuple[Places | slice, _Group]]:
        if self.structure in ("diag", "spherical"):
            yield slice(None), _Uncorrelated.of(self, rows)
            return
        for batch in _batches(rows, self.means.size * rows.shape[1]):
            yield batch.places, _Conditionals.of(self, batch)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Rows whose P patterns of missing columns show o columns each, so that arrays of them can be stacked.

    Attributes:
        places: `(n,)`, which rows; those of one pattern next to each other.
        patterns: `(n,)`, which of the P patterns each has.
        ends: `(P + 1,)`: the rows of pattern p are `places[ends[p]:ends[p + 1]]`.
        seen: `(P, o)`, the observed columns, ascending.
        unseen: `(P, D − o)`, the missing ones, ascending.
        cells: `(n, o)`, the observed cells.
    """

    places: Places
    patterns: Places
    ends: Places
    seen: Places
    unseen: Places
    cells: Vector

    @property
    def slices(self) -> Iterator[tuple[int, slice]]:
        """Each pattern, and where its rows stand among `places`."""
        return ((p, slice(low, high)) for p, (low, high) in enumerate(pairwise(self.ends.tolist())))


def _batches(rows: Vector, entries: int) -> Iterator[_Batch]:
    """The rows by the number of columns they show and by pattern, in an order that is that of the patterns alone.

    Args:
        rows: `(n, D)`, NaN where missing.
        entries: What the arrays of one pattern fill, in float64 entries; a batch fills `_BLOCK_ENTRIES` at most.
    """
    observed = ~np.isnan(rows)
    packed = np.packbits(observed, axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    counts = observed.sum(axis=1)
    order = np.lexsort((np.unique(keys, return_inverse=True)[1].ravel(), counts))
    if len(order) == 0:
        return
    changes = np.flatnonzero(keys[order[1:]] != keys[order[:-1]]) + 1
    starts = np.concatenate(([0], changes, [len(order)]))
    shown = counts[order[starts[:-1]]]
    most = max(_BLOCK_ENTRIES // max(entries, 1), 1)
    for n_seen in np.unique(shown):
        of_size = np.flatnonzero(shown == n_seen)
        for first in range(0, len(of_size), most):
            ends = starts[of_size[first] : of_size[min(first + most, len(of_size)) - 1] + 2]
            places = order[ends[0] : ends[-1]]
            patterns = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
            shows = observed[order[ends[:-1]]]
            # A stable sort of booleans puts the columns of each kind in ascending order.
            columns = np.argsort(~shows, axis=1, kind="stable")
            seen, unseen = columns[:, :n_seen], columns[:, n_seen:]
            cells = rows[places[:, np.newaxis], seen[patterns]]
            yield _Batch(places, patterns, ends - ends[0], seen, unseen, cells)


@dataclass(frozen=True, eq=False)
class _Conditionals:
    """The components given what each pattern of a batch shows. Axis K is 1 where they share a covariance (tied). Implements `_Group`.

    Attributes:
        batch: The rows and their P patterns.
        means: `(P, K, o)`, μ_o.
        factors: W `(P, K, o, o)` with WᵀW = Σ_oo⁻¹.
        log_factors: `(P, K)`, log |W| = −½ log |Σ_oo|.
        offsets: a `(P, K, D)`.
        regressions: G `(P, K, D, o)`: the identity for observed columns, B for missing ones.
        residuals: C `(P, K, D, D)`, zero outside the missing columns.
        entropies: `(P, K)`, ½ log |2πe C_mm|, in nats.
    """

    batch: _Batch
    means: Vector
    factors: Vector
    log_factors: Vector
    offsets: Vector
    regressions: Vector
    residuals: Vector
    entropies: Vector

    @classmethod
    def of(cls, components: GaussianComponents, batch: _Batch) -> _Conditionals:
        """Condition the components on the columns that each pattern shows."""
        matrices = components.matrices
        seen, unseen = batch.seen, batch.unseen
        # Σ_oo and Σ_mo of every pattern and component.
        observed = np.swapaxes(matrices[:, seen[:, :, np.newaxis], seen[:, np.newaxis]], 0, 1)
        across = np.swapaxes(matrices[:, unseen[:, :, np.newaxis], seen[:, np.newaxis]], 0, 1)
        within = np.swapaxes(matrices[:, unseen[:, :, np.newaxis], unseen[:, np.newaxis]], 0, 1)
        factors: Vector = np.linalg.inv(_cholesky(observed)).astype(np.float64, copy=False)
        log_factors = np.log(np.diagonal(factors, axis1=2, axis2=3)).sum(axis=2)
        # With A = Σ_mo Wᵀ: B = A W and C = Σ_mm − A Aᵀ.
        half = across @ np.swapaxes(factors, 2, 3)
        n_patterns, n_shared, n_columns = len(seen), len(matrices), matrices.shape[-1]
        regressions = np.zeros((n_patterns, n_shared, n_columns, seen.shape[1]))
        p, k = np.arange(n_patterns)[:, np.newaxis, np.newaxis], np.arange(n_shared)[:, np.newaxis]
        regressions[p, k, seen[:, np.newaxis]] = np.eye(seen.shape[1])
        regressions[p, k, unseen[:, np.newaxis]] = half @ factors
        residuals = np.zeros((n_patterns, n_shared, n_columns, n_columns))
        rows, columns = unseen[:, np.newaxis, :, np.newaxis], unseen[:, np.newaxis, np.newaxis]
        residuals[p[..., np.newaxis], k[..., np.newaxis], rows, columns] = within - half @ np.swapaxes(half, 2, 3)
        means = np.swapaxes(components.means[:, seen], 0, 1)
        offsets = components.means - (regressions @ means[..., np.newaxis])[..., 0]
        # log |C_mm| = log |Σ| − log |Σ_oo|.
        n_missing = unseen.shape[1]
        log_residuals = 2 * (log_factors - components.log_factors) if n_missing else np.zeros(log_factors.shape)
        entropies = 0.5 * (n_missing * (1 + _LOG_2PI) + log_residuals)
        return cls(batch, means, factors, log_factors, offsets, regressions, residuals, entropies)

    def log_densities(self) -> Vector:
        """log N(x_o; μ_o, Σ_oo) `(K, n)`."""
        batch, n_seen = self.batch, self.batch.seen.shape[1]
        deviations = batch.cells - np.swapaxes(self.means[batch.patterns], 0, 1)
        whitened = np.empty(deviations.shape)
        for p, rows in batch.slices:
            np.matmul(deviations[:, rows], np.swapaxes(self.factors[p], 1, 2), out=whitened[:, rows])
        distances = np.einsum("kno,kno->kn", whitened, whitened)
        constants = self.log_factors[batch.patterns].T - 0.5 * n_seen * _LOG_2PI
        return np.asarray(constants - 0.5 * distances)

    def moments(self, responsibilities: Vector) -> ExpectedMoments:
        """The sums for responsibilities `(K, n)`: from those of [1, x_o] of each pattern, where it has more rows than columns."""
        batch, n_components = self.batch, len(responsibilities)
        if len(batch.places) < batch.seen.size:
            return self._moments_of_rows(responsibilities)
        features = np.concatenate((np.ones((len(batch.cells), 1)), batch.cells), axis=1)
        weighted = responsibilities[:, :, np.newaxis] * features
        sums = np.empty((len(batch.seen), n_components, features.shape[1], features.shape[1]))
        for p, rows in batch.slices:
            np.matmul(np.swapaxes(weighted[:, rows], 1, 2), features[rows], out=sums[p])
        shape = (*self.offsets.shape, self.regressions.shape[-1])
        affine = np.concatenate((self.offsets[..., np.newaxis], np.broadcast_to(self.regressions, shape)), axis=-1)
        moved = affine @ sums
        counts = sums[:, :, 0, 0]
        outer = (moved @ np.swapaxes(affine, 2, 3) + counts[:, :, np.newaxis, np.newaxis] * self.residuals).sum(axis=0)
        upper, right = np.triu_indices(outer.shape[-1])
        entropy = float((counts * self.entropies).sum())
        return ExpectedMoments(moved[..., 0].sum(axis=0), outer[:, upper, right], entropy)

    def _moments_of_rows(self, responsibilities: Vector) -> ExpectedMoments:
        """As `moments`, from x̂ of each row."""
        expected = self.expected()
        outer = np.swapaxes(responsibilities[:, :, np.newaxis] * expected, 1, 2) @ expected
        counts = np.add.reduceat(responsibilities, self.batch.ends[:-1], axis=1).T
        residuals = np.broadcast_to(self.residuals, (*counts.shape, *outer.shape[1:]))
        outer += np.einsum("pk,pkij->kij", counts, residuals)
        upper, right = np.triu_indices(outer.shape[-1])
        first = np.einsum("kn,knd->kd", responsibilities, expected)
        return ExpectedMoments(first, outer[:, upper, right], float((counts * self.entropies).sum()))

    def expected(self) -> Vector:
        """x̂ of every row, `(K, n, D)`."""
        batch = self.batch
        out = np.empty((self.offsets.shape[1], len(batch.cells), self.offsets.shape[2]))
        for p, rows in batch.slices:
            out[:, rows] = self.offsets[p][:, np.newaxis] + batch.cells[rows] @ np.swapaxes(self.regressions[p], 1, 2)
        return out


def _cholesky(matrices: Vector) -> Vector:
    """L of each positive definite matrix LLᵀ."""
    try:
        return np.asarray(np.linalg.cholesky(matrices))
    except np.linalg.LinAlgError:
        raise CollapsedComponent(
            "the covariance of some columns of a component is not positive definite",
            remedy="raise the covariance floor, use a prior, fit fewer components, or scale the columns",
        ) from None


@dataclass(frozen=True, eq=False)
class _Uncorrelated:
    """Rows of any patterns under components without covariances. Implements `_Group`.

    Attributes:
        means, variances: `(K, D)`.
        cells: `(n, D)`, 0 where missing.
        missing: `(n, D)`, 1 where missing, else 0.
    """

    means: Vector
    variances: Vector
    cells: Vector
    missing: Vector

    @classmethod
    def of(cls, components: GaussianComponents, rows: Vector) -> _Uncorrelated:
        """The variances of either structure, with the rows `(n, D)`."""
        n_components = len(components.means)
        _ = components.log_factors  # checks them
        variances = np.broadcast_to(components.covariances.reshape(n_components, -1), components.means.shape)
        missing = np.isnan(rows)
        return cls(components.means, variances, np.where(missing, 0.0, rows), missing.astype(np.float64))

    def log_densities(self) -> Vector:
        observed = 1.0 - self.missing
        out = np.empty((len(self.means), len(self.cells)))
        for k, (mean, variance) in enumerate(zip(self.means, self.variances, strict=True)):
            deviations = (self.cells - mean) * observed
            out[k] = -0.5 * (deviations**2 @ (1.0 / variance) + observed @ (np.log(variance) + _LOG_2PI))
        return out

    def moments(self, responsibilities: Vector) -> ExpectedMoments:
        unseen = responsibilities @ self.missing
        first = responsibilities @ self.cells + unseen * self.means
        second = responsibilities @ self.cells**2 + unseen * (self.means**2 + self.variances)
        entropy = 0.5 * unseen * (1 + _LOG_2PI + np.log(self.variances))
        return ExpectedMoments(first, second, float(entropy.sum()))


def expected_sums(
    components: GaussianComponents, mixture_weights: Vector, records: Records
) -> dict[str, Vector | float]:
    """The E-step of a Gaussian mixture over records with missing values, weights or labels.

    Args:
        components: The components.
        mixture_weights: `(K,)`.
        records: n may be 0; no infinity among the rows.

    Returns:
        The sums, named as the statistics of a Gaussian mixture are; the log-likelihood is not finite if a record is beyond every component.

    Raises:
        CollapsedComponent: a covariance is not positive definite, naming the component.
    """
    records = records.of_positive_weight()
    counts = np.zeros(len(mixture_weights))
    total = ExpectedMoments.zero(components.structure, *components.means.shape)
    log_likelihood = entropy = 0.0
    for _, block in records.blocks(components.block_rows):
        joint = block.log_prior_joint(mixture_weights)
        log_densities, entropies, moments = components.posterior(joint, block.rows, block.weights)
        log_likelihood += weighted_sum(log_densities, block.weights)
        entropy += weighted_sum(entropies, block.weights)
        counts += joint.sum(axis=1)
        total = total + moments
    return {
        COUNT: records.total_weight,
        LOG_LIKELIHOOD: log_likelihood,
        "entropy": entropy,
        "responsibilities": counts,
        "first": total.first,
        "second": total.second,
        MISSING_ENTROPY: total.missing_entropy,
    }


def posterior_of_records(
    components: GaussianComponents, mixture_weights: Vector, records: Records
) -> tuple[Vector, Vector]:
    """Log-densities `(n,)` of rows and labels, and responsibilities `(n, K)`, unweighted; raises as `expected_sums`."""
    log_densities = np.empty(len(records))
    responsibilities = np.empty((len(records), len(mixture_weights)))
    for part, block in records.blocks(components.block_rows):
        joint = block.log_prior_joint(mixture_weights)
        log_densities[part], _, _ = components.posterior(joint, block.rows, None)
        responsibilities[part] = joint.T
    return log_densities, responsibilities


def weighted_sum(values: Vector, weights: Vector | None) -> float:
    """Σ_i w_i v_i; None for weights of one."""
    return float(values.sum() if weights is None else values @ weights)


def check_no_infinity(rows: Vector) -> None:
    """Raise `CallerError`, naming the column by its index, if a cell is infinite; NaN is a missing value."""
    for d in np.flatnonzero(np.isinf(rows).any(axis=0)):
        raise CallerError(
            f"the rows hold values that are not finite, in column {d}", remedy="write NaN where a value is missing"
        )
