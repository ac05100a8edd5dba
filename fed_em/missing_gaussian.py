"""Gaussian components of records that show some of their columns only, exact under values missing at random (MAR).

With o the observed and m the missing columns of a record, a component N(μ, Σ) gives the observed part the density
N(x_o; μ_o, Σ_oo) and the missing part, given the observed, the moments

    x̂_m = μ_m + B (x_o − μ_o),   B = Σ_mo Σ_oo⁻¹,   C = Σ_mm − B Σ_om,

so that its expected sufficient statistics are S1 = Σ r x̂ and S2 = Σ r (x̂x̂ᵀ + C), x̂_o = x_o, C zero outside m. They are
as long as without missing values. Little and Rubin (2019), "Statistical Analysis with Missing Data", 3rd edition, section
11.2.1, for one Gaussian; Ghahramani and Jordan (1994), "Supervised learning from incomplete data via an EM approach", for
mixtures. A record of which nothing is observed has density 1 under every component.

Rows are grouped by their pattern of missing columns, and what depends on the pattern alone is computed once for it: from Σ_oo
(`fed_em.observed_blocks`), or where that is accurate and patterns have few rows each from the block of Σ⁻¹ that belongs to m
(`fed_em.missing_blocks`). Where no covariance is modelled (diag, spherical) x̂_m = μ_m and patterns need not be told apart.

The free energy needs one more number: the entropy of the missing cells given the component, Σ r ½ log |2πe C_mm|.

Bounds. However narrow the ranges, neither x̂ nor C is bounded by them: |x̂_d − μ_d| ≤ σ_d · (Mahalanobis distance of x_o) and
C_dd ≤ σ_d², and both depend on parameters. A layout declares how far they may reach (`reach_of`), and a party checks each of its
records against that before it sends their sum (`fed_em.imputed_reach`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import CovarianceStructure, Whitening, covariance_matrices, n_second_moments
from fed_em.errors import CallerError
from fed_em.expected_moments import ExpectedMoments
from fed_em.gaussian_densities import LARGEST_CONDITION, conditions
from fed_em.missing_blocks import MissingBlocks
from fed_em.missing_patterns import PatternBatch, pattern_batches
from fed_em.model import ENTROPY, LOG_LIKELIHOOD, MISSING_ENTROPY
from fed_em.observed_blocks import ObservedBlocks, cholesky
from fed_em.posterior import normalise_in_place
from fed_em.records import Records, weighted_sum
from fed_em.row_blocks import over_segments, rows_in_block
from fed_em.triangles import upper_triangle
from fed_em.uncorrelated import UncorrelatedComponents

Vector = NDArray[np.float64]
Places = NDArray[np.intp]
Which = slice | NDArray[np.bool_]

# How far an expected value may lie from 0 in any record: twice as far as its column's range, and so many units further. Sums are
# encoded in standardised coordinates, whose unit is a standard deviation. Starts, which are drawn from a standard normal, are within 15 of
# them however narrow the range, and what EM estimates is nearer: Σ_k w_k (μ_k² + σ_k²) is a mean of squares of observed values
# and of expected ones, which follow them. The rest is room for rows that contradict a strong correlation. For ranges of 10 standard
# deviations it takes three bits of S1 and five of S2.
_RANGES, _UNITS = 2.0, 32.0

# The declared bound of the entropy of a record's missing cells, in nats on average. A differential entropy has no bound:
# this one admits 1000 missing cells of standard deviation e^64.
MISSING_ENTROPY_BOUND = 2.0**16

# What `MissingBlocks` forms of each row, products over all columns and over the missing ones, costs more than the Cholesky factor
# that it spares each pattern from so many rows times 1 + m missing columns a pattern on (measured at D = 10 and 20).
_MANY_CELLS = 300


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
        return self._as_matrices(self.covariances)

    @cached_property
    def uncorrelated(self) -> UncorrelatedComponents:
        """The components, of diag or spherical structure; raises as `log_factors`."""
        _ = self._whitening
        variances = np.broadcast_to(self.covariances.reshape(len(self.means), -1), self.means.shape)
        return UncorrelatedComponents(self.means, variances, self._accurate_about_origin)

    @property
    def block_rows(self) -> int:
        """Rows to be treated at one time: twice a block, as each number of missing columns costs some steps whatever rows it has."""
        return 2 * rows_in_block(self.means.size + 3 * len(self.means))

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
        n_components, n_columns = self.means.shape
        first = np.zeros(self.means.shape)
        second = np.zeros((n_components, n_second_moments(self.structure, n_columns)))
        missing_entropy = 0.0
        for places, groups in self._groups(rows):
            part = joint[:, places]
            for which, group in groups:
                part[which] += group.log_densities()
            log_densities[places], entropies[places] = normalise_in_place(part)
            if weights is not None:
                part *= weights[places]
            joint[:, places] = part
            for which, group in groups:
                moments = group.moments(part[which])
                first[which] += moments.first
                second[which] += moments.second
                missing_entropy += moments.missing_entropy
        return log_densities, entropies, ExpectedMoments(first, second, missing_entropy)

    def conditional(self, rows: Vector) -> tuple[Vector, Vector]:
        """Mean and variance of every cell given the row's observed cells, for each component.

        Args:
            rows: `(n, D)`, NaN where missing.

        Returns:
            x̂ `(K, n, D)` and the diagonal of C `(K, n, D)`, which is 0 for observed cells.
        """
        shape = (len(self.means), *rows.shape)
        means, variances = np.empty(shape), np.zeros(shape)
        for batch in pattern_batches(rows, self.means.size * rows.shape[1]):
            for which, given in self._of_batch(batch):
                here = np.ix_(which, batch.places)
                means[here], variances[here] = given.expected, given.variances()
        return means, variances

    def expectations(self, rows: Vector) -> tuple[Vector, Vector]:
        """What each row adds to the moments of a component that holds it: x̂, and x̂x̂ᵀ + C.

        Args:
            rows: `(n, D)`, NaN where missing.

        Returns:
            `(K, n, D)`, and `(K, n, n_second_moments)` as in `ExpectedMoments.second`.

        Raises:
            CollapsedComponent: a covariance is not positive definite, naming the component.
        """
        if self.structure in ("diag", "spherical"):
            expected, variances = _Uncorrelated.of(self.uncorrelated, rows).conditional()
            return expected, expected**2 + variances
        n_components, n_columns = self.means.shape
        upper, right = upper_triangle(n_columns)
        if not np.isnan(rows).any():
            # The same for all components.
            second = rows[:, upper] * rows[:, right]
            return np.broadcast_to(rows, (n_components, *rows.shape)), np.broadcast_to(
                second, (n_components, *second.shape)
            )
        first = np.empty((n_components, *rows.shape))
        second = np.empty((n_components, len(rows), len(upper)))
        for batch in pattern_batches(rows, self.means.size * n_columns):
            given = self._observed_blocks(batch)
            expected, residuals = given.expected, np.swapaxes(given.residuals[:, :, upper, right], 0, 1)
            first[:, batch.places] = expected
            second[:, batch.places] = expected[..., upper] * expected[..., right] + residuals[:, batch.patterns]
        return first, second

    def draw(self, rows: Vector, labels: NDArray[np.int64], normals: Vector) -> Vector:
        """The rows with their missing cells drawn given the observed ones and the component.

        Args:
            rows: `(n, D)`, NaN where missing.
            labels: `(n,)`, the component of each row.
            normals: `(n, D)`, standard normals; those of observed cells are not used.
        """
        drawn = rows.copy()
        for batch in pattern_batches(rows, self.means.size * rows.shape[1]):
            given, n = self._observed_blocks(batch), len(batch.places)
            unseen = batch.unseen[:, np.newaxis]
            matrices = np.take_along_axis(
                np.take_along_axis(given.residuals, unseen[..., np.newaxis], 2), unseen[..., np.newaxis, :], 3
            )
            lower = cholesky(matrices)
            of_component = labels[batch.places]
            factors = lower[batch.patterns, of_component if lower.shape[1] > 1 else 0]
            cells = batch.unseen[batch.patterns]
            here = batch.places[:, np.newaxis]
            noise = np.einsum("nij,nj->ni", factors, normals[here, cells])
            expected = given.expected[of_component, np.arange(n)]
            drawn[here, cells] = np.take_along_axis(expected, cells, axis=1) + noise
        return drawn

    @cached_property
    def _well_conditioned(self) -> NDArray[np.bool_]:
        """Of which components the blocks of missing columns are accurate, `(K,)`."""
        return self._accurate_at(np.zeros_like(self.means))

    @cached_property
    def _accurate_about_origin(self) -> NDArray[np.bool_]:
        """Of which components log-densities are accurate as products of cells with parameters, `(K,)`."""
        return self._accurate_at(self.means)

    def _accurate_at(self, centred: Vector) -> NDArray[np.bool_]:
        with np.errstate(all="ignore"):
            return np.asarray(conditions(self._whitening, centred, self.covariances) <= LARGEST_CONDITION)

    @cached_property
    def _precisions(self) -> Vector:
        """Σ⁻¹, in the shape of `matrices`."""
        return self._as_matrices(self._whitening.inverse())

    def _as_matrices(self, covariances: Vector) -> Vector:
        if self.structure == "tied":
            return covariances[np.newaxis]
        return covariance_matrices(self.structure, covariances, self.means)

    def _groups(self, rows: Vector) -> Iterator[tuple[Places | slice, Sequence[tuple[Which, _Group]]]]:
        """Places of rows, with what treats them for each set of components."""
        if self.structure in ("diag", "spherical"):
            yield slice(None), [(slice(None), _Uncorrelated.of(self.uncorrelated, rows))]
            return
        for batch in pattern_batches(rows, self.means.size * rows.shape[1]):
            yield batch.places, self._of_batch(batch)

    def _of_batch(self, batch: PatternBatch) -> list[tuple[NDArray[np.bool_], MissingBlocks | ObservedBlocks]]:
        """The components given what a batch shows, each in the way that is accurate for it, and if both are the cheaper one."""
        n_patterns, n_missing = batch.unseen.shape
        rare = len(batch.rows) * (1 + n_missing) < _MANY_CELLS * n_patterns
        small = self._well_conditioned & rare
        groups: list[tuple[NDArray[np.bool_], MissingBlocks | ObservedBlocks]] = []
        if small.any():
            means, (precisions, log_factors) = self.means[small], self._of(small, self._precisions)
            groups.append((small, MissingBlocks.of(means, precisions, log_factors, batch)))
        if not small.all():
            groups.append((~small, self._observed_blocks(batch, ~small)))
        return groups

    def _observed_blocks(self, batch: PatternBatch, which: Which = slice(None)) -> ObservedBlocks:
        return ObservedBlocks.of(self.means[which], *self._of(which, self.matrices), batch)

    def _of(self, which: Which, matrices: Vector) -> tuple[Vector, Vector]:
        """The matrices of some components, and their log factors."""
        if self.structure == "tied":
            return matrices, self.log_factors
        return matrices[which], self.log_factors[which]


@dataclass(frozen=True, eq=False)
class _Uncorrelated:
    """Rows of any patterns under components without covariances. Implements `_Group`.

    Attributes:
        components: The components.
        features: Of the rows, `(4 D, n)`.
    """

    components: UncorrelatedComponents
    features: Vector

    @classmethod
    def of(cls, components: UncorrelatedComponents, rows: Vector) -> _Uncorrelated:
        """The features of rows `(n, D)`."""
        features = np.empty((components.n_features, len(rows)))
        components.write_features(rows.T, features)
        return cls(components, features)

    def log_densities(self) -> Vector:
        return self.components.log_densities(self.features)

    def conditional(self) -> tuple[Vector, Vector]:
        """Mean and variance of every cell given the observed ones, `(K, n, D)` each."""
        cells, _, observed, _ = (part.T for part in np.split(self.features, 4))
        expected = np.where(observed > 0, cells, self.components.means[:, np.newaxis])
        return expected, np.where(observed > 0, 0.0, self.components.variances[:, np.newaxis])

    def moments(self, responsibilities: Vector) -> ExpectedMoments:
        return self.components.moments(responsibilities @ self.features.T)


def expected_sums(
    components: GaussianComponents, mixture_weights: Vector, records: Records
) -> dict[str, Vector | float]:
    """The E-step of a Gaussian mixture over records with missing values.

    Args:
        components: The components.
        mixture_weights: `(K,)`.
        records: Of positive weights; n may be 0.

    Returns:
        The sums, named as the statistics of a Gaussian mixture are, without the count. The log-likelihood is not finite if a record
        is beyond every component, or holds an infinity.

    Raises:
        CollapsedComponent: a covariance is not positive definite, naming the component.
    """

    def of_block(block: Records) -> tuple[float, float, Vector, ExpectedMoments]:
        joint = block.log_prior_joint(mixture_weights)
        with np.errstate(all="ignore"):
            log_densities, entropies, moments = components.posterior(joint, block.rows, block.weights)
        of_weights = (weighted_sum(values, block.weights) for values in (log_densities, entropies))
        return *of_weights, joint.sum(axis=1), moments

    counts = np.zeros(len(mixture_weights))
    total = ExpectedMoments.zero(components.structure, *components.means.shape)
    log_likelihood = entropy = 0.0
    blocks = [block for _, block in records.blocks(components.block_rows)]
    for of_log_densities, of_entropies, of_counts, moments in over_segments(of_block, blocks):
        log_likelihood += of_log_densities
        entropy += of_entropies
        counts += of_counts
        total = total + moments
    return {
        LOG_LIKELIHOOD: log_likelihood,
        ENTROPY: entropy,
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

    def of_block(block: tuple[slice, Records]) -> None:
        part, shown = block
        joint = shown.log_prior_joint(mixture_weights)
        with np.errstate(all="ignore"):
            log_densities[part], _, _ = components.posterior(joint, shown.rows, None)
        responsibilities[part] = joint.T

    for _ in over_segments(of_block, list(records.blocks(components.block_rows))):
        pass
    return log_densities, responsibilities


def check_no_infinity(rows: Vector) -> None:
    """Raise `CallerError`, naming the column by its index, if a cell is infinite; NaN is a missing value."""
    for d in np.flatnonzero(np.isinf(rows).any(axis=0)):
        raise CallerError(
            f"the rows hold values that are not finite, in column {d}", remedy="write NaN where a value is missing"
        )
