"""Gaussian components of records that show some of their columns only, exact under values missing at random (MAR).

With o the observed and m the missing columns of a record, a component N(μ, Σ) gives the observed part the density
N(x_o; μ_o, Σ_oo) and the missing part, given the observed, the moments

    x̂_m = μ_m + B (x_o − μ_o),   B = Σ_mo Σ_oo⁻¹,   C = Σ_mm − B Σ_om,

so that its expected sufficient statistics are S1 = Σ r x̂ and S2 = Σ r (x̂x̂ᵀ + C), x̂_o = x_o, C zero outside m. They are
as long as without missing values. Little and Rubin (2019), "Statistical Analysis with Missing Data", 3rd edition, section
11.2.1, for one Gaussian; Ghahramani and Jordan (1994), "Supervised learning from incomplete data via an EM approach", for
mixtures. A record of which nothing is observed has density 1 under every component.

Rows are grouped by their pattern of missing columns: B, C and the Cholesky factor of Σ_oo are computed once a pattern,
and since x̂ = a + G x_o is affine, the sums follow from those of [1, x_o] without any x̂ being formed. Where no
covariance is modelled (diag, spherical) x̂_m = μ_m and patterns need not be told apart.

The free energy needs one more number: the entropy of the missing cells given the component, Σ r ½ log |2πe C_mm|.

Bounds. However narrow the ranges, neither x̂ nor C is bounded by them: |x̂_d − μ_d| ≤ σ_d · (Mahalanobis distance of x_o) and
C_dd ≤ σ_d², and both depend on parameters. A layout declares `IMPUTED_REACH` times the bound of the widest column, which
holds for the mean over the records of a party, not for each: an encoder that meets a greater sum refuses it, it never clips.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import CovarianceStructure, Whitening, n_second_moments
from fed_em.errors import CallerError, CollapsedComponent
from fed_em.posterior import normalise_in_place
from fed_em.records import Records

Vector = NDArray[np.float64]
Places = NDArray[np.intp]

# How far beyond its column's range an expected value may lie, in multiples of the range's bound, on average over the records
# of a party. Within a fit Σ_k w_k (μ_k² + σ_k²) is a mean of squares of observed values, at most the bound squared, and of
# expected ones, which follow it; a factor of two leaves room for parties that are not like the whole, for one bit of S1
# and two of S2.
IMPUTED_REACH = 2.0

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


class _Group(Protocol):
    """Rows whose observed columns are treated together."""

    def log_densities(self) -> Vector:
        """log N(x_o; μ_o, Σ_oo) under each component, `(K, n)`."""
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
        n_components, n_columns = self.means.shape
        log_densities, entropies = np.empty(len(rows)), np.empty(len(rows))
        first = np.zeros((n_components, n_columns))
        second = np.zeros((n_components, n_second_moments(self.structure, n_columns)))
        missing_entropy = 0.0
        for places, group in self._groups(rows):
            part = joint[:, places] + group.log_densities()
            log_densities[places], entropies[places] = normalise_in_place(part)
            if weights is not None:
                part *= weights[places]
            joint[:, places] = part
            moments = group.moments(part)
            first += moments.first
            second += moments.second
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
        for places, observed in _patterns(rows):
            pattern = _Pattern.of(self, observed)
            means[:, places] = pattern.expected(rows[np.ix_(places, np.flatnonzero(observed))])
            variances[:, places] = np.diagonal(pattern.residual, axis1=1, axis2=2)[:, np.newaxis]
        return means, variances

    def draw(self, rows: Vector, labels: NDArray[np.int64], normals: Vector) -> Vector:
        """The rows with their missing cells drawn given the observed ones and the component.

        Args:
            rows: `(n, D)`, NaN where missing.
            labels: `(n,)`, the component of each row.
            normals: `(n, D)`, standard normals; those of observed cells are not used.
        """
        drawn = rows.copy()
        for places, observed in _patterns(rows):
            if observed.all():
                continue
            pattern, unseen = _Pattern.of(self, observed), np.flatnonzero(~observed)
            expected = pattern.expected(rows[np.ix_(places, np.flatnonzero(observed))])
            lower = np.linalg.cholesky(pattern.residual[:, unseen[:, np.newaxis], unseen])
            of_row = labels[places] if len(lower) > 1 else np.zeros(len(places), dtype=np.int64)
            noise = np.einsum("nij,nj->ni", lower[of_row], normals[np.ix_(places, unseen)])
            means = expected[labels[places], np.arange(len(places))]
            drawn[np.ix_(places, unseen)] = means[:, unseen] + noise
        return drawn

    def _groups(self, rows: Vector) -> Iterator[tuple[Places, _Group]]:
        if self.structure in ("diag", "spherical"):
            yield np.arange(len(rows)), _Uncorrelated.of(self, rows)
            return
        for places, observed in _patterns(rows):
            yield places, _OfPattern(_Pattern.of(self, observed), rows[np.ix_(places, np.flatnonzero(observed))])


def _patterns(rows: Vector) -> Iterator[tuple[Places, NDArray[np.bool_]]]:
    """The rows of each pattern of missing columns, and which columns `(D,)` it shows; patterns in a fixed order."""
    observed = ~np.isnan(rows)
    packed = np.packbits(observed, axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    order = np.argsort(keys, kind="stable")
    if len(order) == 0:
        return
    changes = np.flatnonzero(keys[order[1:]] != keys[order[:-1]]) + 1
    for places in np.split(order, changes):
        yield places, observed[places[0]]


@dataclass(frozen=True, eq=False)
class _Pattern:
    """The components given which columns are observed; the leading axis K is 1 where they share it (tied).

    Attributes:
        means: `(K, D)`.
        observed: `(D,)`.
        whitening: The factorised Σ_oo.
        regression: G `(K, D, o)`: the identity for observed columns, B for missing ones.
        residual: C `(K, D, D)`, zero outside the missing columns.
        log_determinant: log |C_mm|, `(K,)`.
    """

    means: Vector
    observed: NDArray[np.bool_]
    whitening: Whitening
    regression: Vector
    residual: Vector
    log_determinant: Vector

    @classmethod
    def of(cls, components: GaussianComponents, observed: NDArray[np.bool_]) -> _Pattern:
        """Condition the components on the observed columns `(D,)`."""
        matrices, tied = _matrices(components)
        seen, unseen = np.flatnonzero(observed), np.flatnonzero(~observed)
        whitening = _whitening(matrices[:, seen[:, np.newaxis], seen], len(components.means), tied)
        factors = whitening.factors.reshape(len(matrices), len(seen), len(seen))
        # With A = Σ_mo Wᵀ: B = A W and C = Σ_mm − A Aᵀ.
        half = matrices[:, unseen[:, np.newaxis], seen] @ np.swapaxes(factors, 1, 2)
        schur = matrices[:, unseen[:, np.newaxis], unseen] - half @ np.swapaxes(half, 1, 2)
        regression = np.zeros((len(matrices), len(observed), len(seen)))
        regression[:, seen] = np.eye(len(seen))
        regression[:, unseen] = half @ factors
        residual = np.zeros_like(matrices)
        residual[:, unseen[:, np.newaxis], unseen] = schur
        signs, logs = np.linalg.slogdet(schur)
        for k in np.flatnonzero(signs <= 0):
            raise _singular("the tied" if tied else f"component {k}'s")
        return cls(components.means, observed, whitening, regression, residual, logs)

    @property
    def offsets(self) -> Vector:
        """a = μ − G μ_o, `(K, D)`; x̂ = a + G x_o."""
        predicted = self.regression @ self.means[:, self.observed, np.newaxis]
        return np.asarray(self.means - predicted[:, :, 0])

    def expected(self, observed_cells: Vector) -> Vector:
        """x̂ `(K, n, D)` of rows of which `(n, o)` is observed."""
        return np.asarray(self.offsets[:, np.newaxis] + observed_cells @ np.swapaxes(self.regression, 1, 2))


@dataclass(frozen=True, eq=False)
class _OfPattern:
    """Rows of one pattern, of which the observed cells are given, `(n, o)`. Implements `_Group`."""

    pattern: _Pattern
    cells: Vector

    def log_densities(self) -> Vector:
        n_observed, whitening = self.cells.shape[1], self.pattern.whitening
        means = self.pattern.means[:, self.pattern.observed]
        whitened = whitening.factors @ (self.cells.T - means[:, :, np.newaxis])
        distances = np.einsum("kdn,kdn->kn", whitened, whitened)
        constants = whitening.log_determinants - 0.5 * n_observed * _LOG_2PI
        return np.asarray(constants[:, np.newaxis] - 0.5 * distances)

    def moments(self, responsibilities: Vector) -> ExpectedMoments:
        pattern, counts = self.pattern, responsibilities.sum(axis=1)
        offsets, regression = pattern.offsets, pattern.regression
        squares = (responsibilities[:, np.newaxis] * self.cells.T) @ self.cells
        slopes = (regression @ (responsibilities @ self.cells)[:, :, np.newaxis])[:, :, 0]
        cross = offsets[:, :, np.newaxis] * slopes[:, np.newaxis]
        outer = (
            regression @ squares @ np.swapaxes(regression, 1, 2)
            + cross
            + np.swapaxes(cross, 1, 2)
            + counts[:, np.newaxis, np.newaxis]
            * (offsets[:, :, np.newaxis] * offsets[:, np.newaxis] + pattern.residual)
        )
        upper, right = np.triu_indices(len(pattern.observed))
        n_missing = int((~pattern.observed).sum())
        entropies = 0.5 * (n_missing * (1 + _LOG_2PI) + pattern.log_determinant)
        return ExpectedMoments(
            counts[:, np.newaxis] * offsets + slopes, outer[:, upper, right], float((counts * entropies).sum())
        )


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
        n_components, n_columns = components.means.shape
        # The check of the covariances is that of the factorisation.
        Whitening.of(components.structure, components.covariances, n_components, n_columns)
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


@dataclass(frozen=True, eq=False)
class GaussianSums:
    """The sums of records, named as the statistics of a Gaussian mixture are."""

    count: float
    log_likelihood: float
    entropy: float
    responsibilities: Vector
    moments: ExpectedMoments


def expected_sums(components: GaussianComponents, mixture_weights: Vector, records: Records) -> GaussianSums:
    """The E-step of a Gaussian mixture over records with missing values, weights or labels.

    Args:
        components: The components.
        mixture_weights: `(K,)`.
        records: n may be 0; no infinity among the rows.

    Returns:
        The sums; the log-likelihood is not finite if a record is beyond every component.

    Raises:
        CollapsedComponent: a covariance is not positive definite, naming the component.
    """
    k, d = components.means.shape
    records = records.of_positive_weight()
    counts, first = np.zeros(k), np.zeros((k, d))
    second = np.zeros((k, n_second_moments(components.structure, d)))
    log_likelihood = entropy = missing_entropy = 0.0
    for _, block in records.blocks(components.block_rows):
        joint = block.log_prior_joint(mixture_weights)
        log_densities, entropies, moments = components.posterior(joint, block.rows, block.weights)
        log_likelihood += weighted_sum(log_densities, block.weights)
        entropy += weighted_sum(entropies, block.weights)
        counts += joint.sum(axis=1)
        first += moments.first
        second += moments.second
        missing_entropy += moments.missing_entropy
    moments = ExpectedMoments(first, second, missing_entropy)
    return GaussianSums(records.total_weight, log_likelihood, entropy, counts, moments)


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


def _matrices(components: GaussianComponents) -> tuple[Vector, bool]:
    """Covariance matrices `(K, D, D)`, or `(1, D, D)` where all share one, and whether they do."""
    covariances, (k, d) = components.covariances, components.means.shape
    match components.structure:
        case "full":
            return covariances, False
        case "tied":
            return covariances[np.newaxis], True
        case _:
            return np.broadcast_to(covariances.reshape(k, -1), (k, d))[:, :, np.newaxis] * np.eye(d), False


def _whitening(matrices: Vector, n_components: int, tied: bool) -> Whitening:
    n_observed = matrices.shape[-1]
    if n_observed == 0:
        return Whitening("tied" if tied else "full", matrices, np.zeros(n_components))
    if tied:
        return Whitening.of("tied", np.ascontiguousarray(matrices[0]), n_components, n_observed)
    return Whitening.of("full", matrices, n_components, n_observed)


def _singular(name: str) -> CollapsedComponent:
    return CollapsedComponent(
        f"{name} covariance leaves missing cells without variance",
        remedy="raise the covariance floor, use a prior, fit fewer components, or scale the columns",
    )
