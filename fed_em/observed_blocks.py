"""Gaussian components given what a row shows, from the block of the covariance that belongs to its *observed* columns.

    x̂_m = μ_m + B (x_o − μ_o),   B = Σ_mo Σ_oo⁻¹,   C = Σ_mm − B Σ_om.

B, C and the Cholesky factor of Σ_oo are computed once a pattern, for all patterns that show equally many columns at once, and
since x̂ = a + G x_o is affine, the sums of patterns with many rows follow from those of [1, x_o]. Accurate for any Σ: nothing is
inverted but what was observed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CollapsedComponent
from fed_em.expected_moments import LOG_2PI, ExpectedMoments
from fed_em.missing_patterns import PatternBatch

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ObservedBlocks:
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

    batch: PatternBatch
    means: Vector
    factors: Vector
    log_factors: Vector
    offsets: Vector
    regressions: Vector
    residuals: Vector
    entropies: Vector

    @classmethod
    def of(cls, means: Vector, matrices: Vector, log_factors: Vector, batch: PatternBatch) -> ObservedBlocks:
        """Condition components on the columns that each pattern shows.

        Args:
            means: `(K, D)`.
            matrices: Σ, `(K, D, D)` or `(1, D, D)`.
            log_factors: −½ log |Σ|, `(K,)` or `(1,)`.
            batch: The rows.

        Raises:
            CollapsedComponent: Σ_oo of a component is not positive definite.
        """
        seen, unseen = batch.seen, batch.unseen
        # Σ_oo and Σ_mo of every pattern and component.
        observed = np.swapaxes(matrices[:, seen[:, :, np.newaxis], seen[:, np.newaxis]], 0, 1)
        across = np.swapaxes(matrices[:, unseen[:, :, np.newaxis], seen[:, np.newaxis]], 0, 1)
        within = np.swapaxes(matrices[:, unseen[:, :, np.newaxis], unseen[:, np.newaxis]], 0, 1)
        factors: Vector = np.linalg.inv(cholesky(observed)).astype(np.float64, copy=False)
        seen_logs = np.log(np.diagonal(factors, axis1=2, axis2=3)).sum(axis=2)
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
        seen_means = np.swapaxes(means[:, seen], 0, 1)
        offsets = means - (regressions @ seen_means[..., np.newaxis])[..., 0]
        # log |C_mm| = log |Σ| − log |Σ_oo|.
        n_missing = unseen.shape[1]
        log_residuals = 2 * (seen_logs - log_factors) if n_missing else np.zeros(seen_logs.shape)
        entropies = 0.5 * (n_missing * (1 + LOG_2PI) + log_residuals)
        return cls(batch, seen_means, factors, seen_logs, offsets, regressions, residuals, entropies)

    def log_densities(self) -> Vector:
        """log N(x_o; μ_o, Σ_oo) `(K, n)`."""
        batch, n_seen = self.batch, self.batch.seen.shape[1]
        deviations = batch.cells - np.swapaxes(self.means[batch.patterns], 0, 1)
        whitened = np.empty(deviations.shape)
        for p, rows in batch.slices:
            np.matmul(deviations[:, rows], np.swapaxes(self.factors[p], 1, 2), out=whitened[:, rows])
        distances = np.einsum("kno,kno->kn", whitened, whitened)
        constants = self.log_factors[batch.patterns].T - 0.5 * n_seen * LOG_2PI
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
        return ExpectedMoments.of_full(moved[..., 0].sum(axis=0), outer, float((counts * self.entropies).sum()))

    def _moments_of_rows(self, responsibilities: Vector) -> ExpectedMoments:
        """As `moments`, from x̂ of each row."""
        expected = self.expected
        outer = np.swapaxes(responsibilities[:, :, np.newaxis] * expected, 1, 2) @ expected
        counts = np.add.reduceat(responsibilities, self.batch.ends[:-1], axis=1).T
        residuals = np.broadcast_to(self.residuals, (*counts.shape, *outer.shape[1:]))
        outer += np.einsum("pk,pkij->kij", counts, residuals)
        first = np.einsum("kn,knd->kd", responsibilities, expected)
        return ExpectedMoments.of_full(first, outer, float((counts * self.entropies).sum()))

    def variances(self) -> Vector:
        """The diagonal of C, `(K, n, D)`, 0 for observed cells."""
        diagonals = np.diagonal(self.residuals, axis1=2, axis2=3)[self.batch.patterns]
        # Rounding may take a variance that is next to nothing below it.
        return np.maximum(np.swapaxes(diagonals, 0, 1), 0.0)

    @cached_property
    def expected(self) -> Vector:
        """x̂ of every row, `(K, n, D)`."""
        batch = self.batch
        out = np.empty((self.offsets.shape[1], len(batch.cells), self.offsets.shape[2]))
        for p, rows in batch.slices:
            out[:, rows] = self.offsets[p][:, np.newaxis] + batch.cells[rows] @ np.swapaxes(self.regressions[p], 1, 2)
        return out


def cholesky(matrices: Vector) -> Vector:
    """L of each positive definite matrix LLᵀ."""
    try:
        return np.asarray(np.linalg.cholesky(matrices))
    except np.linalg.LinAlgError:
        raise CollapsedComponent(
            "the covariance of some columns of a component is not positive definite",
            remedy="raise the covariance floor, use a prior, fit fewer components, or scale the columns",
        ) from None
