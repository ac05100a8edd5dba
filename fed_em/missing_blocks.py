"""Gaussian components given what a row shows, from the block of the precision matrix that belongs to its *missing* columns.

With P = Σ⁻¹, once a component, z = x − μ on observed cells and 0 on missing ones, and g = P z,

    C = P_mm⁻¹,   x̂_m − μ_m = −C g_m,   z_oᵀ Σ_oo⁻¹ z_o = zᵀg − g_mᵀ C g_m,   log |Σ_oo| = log |Σ| + log |P_mm|:

the inverse of a partitioned matrix (Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", appendix A.3).
Where few cells are missing P_mm is much smaller than Σ_oo, and all that depends on the row is matrix products of whole blocks.

**When it is accurate.** Large terms of g and C cancel where Σ is nearly singular. By Cauchy and Schwarz |z_i| ≤ σ_i √q, q the
squared Mahalanobis distance of the observed cells, so the absolute values of all terms of zᵀ(P z) add up to at most 2 C_k q,
with the C_k of `fed_em.gaussian_densities.conditions` for means of 0. It also bounds the inverse R⁻¹ of the correlations,
‖R⁻¹‖ ≤ tr R⁻¹ = Σ P_ii σ_i² ≤ 2 C_k, and with it the conditions of all blocks P_mm, scaled to unit diagonals. So errors are of
the order of ε C_k: relative in distances, of x̂ − μ in units of σ √q, of C in units of σσᵀ, absolute in log |Σ_oo|. C_k needs
the parameters only: no rule looks at rows. Components beyond `LARGEST_CONDITION` are left to `fed_em.observed_blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.expected_moments import LOG_2PI, ExpectedMoments
from fed_em.missing_patterns import PatternBatch

Vector = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class MissingBlocks:
    """The components given what each of the P patterns of a batch shows, m columns missing. Implements `_Group`.

    Axis K of what depends on the covariance alone is 1 where the components share one (tied).

    Attributes:
        batch: The rows and their patterns.
        expected: x̂ `(K, n, D)`.
        distances: z_oᵀ Σ_oo⁻¹ z_o, `(K, n)`.
        log_factors: `(K, P)`, −½ log |Σ_oo|.
        residuals: C `(K, m, m, P)`.
        entropies: `(K, P)`, ½ log |2πe C|, in nats.
    """

    batch: PatternBatch
    expected: Vector
    distances: Vector
    log_factors: Vector
    residuals: Vector
    entropies: Vector

    @classmethod
    def of(cls, means: Vector, precisions: Vector, log_factors: Vector, batch: PatternBatch) -> MissingBlocks:
        """Condition components on the columns that each pattern shows.

        Args:
            means: `(K, D)`.
            precisions: P, `(K, D, D)` or `(1, D, D)`.
            log_factors: −½ log |Σ|, `(K,)` or `(1,)`.
            batch: The rows.
        """
        n_components, n_columns = means.shape
        missing = batch.unseen.T
        entries = precisions.reshape(len(precisions), -1)
        lower = _factors(np.take(entries, missing[:, np.newaxis] * n_columns + missing, axis=1))
        half_logs = np.log(np.einsum("kiip->kip", lower)).sum(axis=1)
        unknown = np.isnan(batch.rows)
        shown = np.where(unknown, 0.0, batch.rows)
        deviations = shown - means[:, np.newaxis]
        deviations[:, unknown] = 0.0
        pulls = deviations @ precisions
        distances = np.einsum("knd,knd->kn", deviations, pulls)
        pulls = np.take(pulls.reshape(n_components, -1), batch.missing_cells, axis=1)
        halves = _forward(lower, batch.patterns, pulls)
        distances -= np.einsum("kmn,kmn->kn", halves, halves)
        moved = _backward(lower, batch.patterns, halves)
        expected = np.tile(shown, (n_components, 1, 1))
        filled = expected.reshape(n_components, -1)
        for i, cells in enumerate(batch.missing_cells):
            filled[:, cells] = means[:, missing[i, batch.patterns]] - moved[:, i]
        log_factors = log_factors[:, np.newaxis] - half_logs
        entropies = 0.5 * len(missing) * (1 + LOG_2PI) - half_logs
        return cls(batch, expected, distances, log_factors, _inverses(lower), entropies)

    def log_densities(self) -> Vector:
        """log N(x_o; μ_o, Σ_oo), `(K, n)`."""
        constants = self.log_factors - 0.5 * self.batch.seen.shape[1] * LOG_2PI
        return np.take(constants, self.batch.patterns, axis=1) - 0.5 * self.distances

    def variances(self) -> Vector:
        """The diagonal of C, `(K, n, D)`, 0 for observed cells."""
        out = np.zeros(self.expected.shape)
        filled = out.reshape(len(out), -1)
        for i, cells in enumerate(self.batch.missing_cells):
            filled[:, cells] = np.take(self.residuals[:, i, i], self.batch.patterns, axis=1)
        return out

    def moments(self, responsibilities: Vector) -> ExpectedMoments:
        """The sums for responsibilities `(K, n)`, weights included."""
        n_components, _, n_columns = self.expected.shape
        first = np.matmul(responsibilities[:, np.newaxis], self.expected)[:, 0]
        outer = np.swapaxes(responsibilities[:, :, np.newaxis] * self.expected, 1, 2) @ self.expected
        counts = np.add.reduceat(responsibilities, self.batch.ends[:-1], axis=1)
        missing = self.batch.unseen.T
        cells = (missing[:, np.newaxis] * n_columns + missing).ravel()
        weighted = counts[:, np.newaxis, np.newaxis] * self.residuals
        for k in range(n_components):
            outer[k] += np.bincount(cells, weighted[k].ravel(), n_columns**2).reshape(outer[k].shape)
        return ExpectedMoments.of_full(first, outer, float((counts * self.entropies).sum()))


# LAPACK would be called once for each of these small matrices, which costs more than what it computes. Here one step is taken for
# all at once, along the last axis. Systems are solved and not multiplied by inverses, whose errors would go with the condition squared.


def _factors(matrices: Vector) -> Vector:
    """L of positive definite matrices LLᵀ, `(K, m, m, P)`; overwritten, and the upper triangles hold no meaning."""
    for j in range(matrices.shape[1]):
        matrices[:, j:, j] -= np.einsum("kijp,kjp->kip", matrices[:, j:, :j], matrices[:, j, :j])
        matrices[:, j:, j] /= np.sqrt(matrices[:, j, j])[:, np.newaxis]
    return matrices


def _forward(lower: Vector, patterns: Places, vectors: Vector) -> Vector:
    """L⁻¹ v of rows of some patterns, `(K, m, n)`."""
    out = np.empty_like(vectors)
    for i in range(vectors.shape[1]):
        known = np.einsum("kjn,kjn->kn", np.take(lower[:, i, :i], patterns, axis=2), out[:, :i])
        out[:, i] = (vectors[:, i] - known) / np.take(lower[:, i, i], patterns, axis=1)
    return out


def _backward(lower: Vector, patterns: Places, vectors: Vector) -> Vector:
    """L⁻ᵀ v of rows of some patterns, `(K, m, n)`."""
    out = np.empty_like(vectors)
    for i in reversed(range(vectors.shape[1])):
        known = np.einsum("kjn,kjn->kn", np.take(lower[:, i + 1 :, i], patterns, axis=2), out[:, i + 1 :])
        out[:, i] = (vectors[:, i] - known) / np.take(lower[:, i, i], patterns, axis=1)
    return out


def _inverses(lower: Vector) -> Vector:
    """(LLᵀ)⁻¹, `(K, m, m, P)`."""
    halves, out = np.zeros_like(lower), np.empty_like(lower)
    for i in range(lower.shape[1]):  # L⁻¹, row by row
        halves[:, i, :i] = -np.einsum("kap,kajp->kjp", lower[:, i, :i], halves[:, :i, :i])
        halves[:, i, i] = 1.0
        halves[:, i, : i + 1] /= lower[:, i, i][:, np.newaxis]
    for i in range(lower.shape[1]):
        out[:, i, : i + 1] = np.einsum("kap,kajp->kjp", halves[:, i:, i], halves[:, i:, : i + 1])
        out[:, :i, i] = out[:, i, :i]
    return out
