"""Gaussian components without covariances, of cells any of which may be missing: one matrix product each for densities and sums.

    log p_k(x_o) = θ_k · φ(x)      φ = x, x² and 1, of the observed cells; 0 of missing ones

So are the sums of the observed cells linear in φ, and those of missing cells in 1 of each missing cell, as x̂ = μ and C = σ². Patterns of
missing columns need not be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.expected_moments import LOG_2PI, ExpectedMoments

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class UncorrelatedComponents:
    """K components over G columns. Features of n rows are `(4 G, n)`: x, x² and 1 of observed cells, then 1 of missing ones.

    Components for which a product with the features would cancel, by the bound of `fed_em.gaussian_densities`, are computed from
    differences.

    Attributes:
        means, variances: `(K, G)`.
        accurate: Of which components the product is accurate, `(K,)`.
    """

    means: Vector
    variances: Vector
    accurate: NDArray[np.bool_]

    @property
    def n_features(self) -> int:
        """4 G."""
        return 4 * int(self.means.shape[1])

    @staticmethod
    def write_features(columns: Vector, out: Vector) -> None:
        """The features of columns `(G, n)`, NaN where missing, into `(4 G, n)`."""
        cells, squares, observed, missing = np.split(out, 4)
        unseen = np.isnan(columns)
        missing[...], observed[...], cells[...] = unseen, ~unseen, columns
        cells[unseen] = 0.0
        np.square(cells, out=squares)

    @property
    def coefficients(self) -> Vector:
        """θ, `(K, 3 G)`: of all features but the last, which densities do not follow from."""
        scaled = self.means / self.variances
        return np.concatenate((scaled, -0.5 / self.variances, -0.5 * (scaled * self.means + self._constants)), axis=1)

    @property
    def _constants(self) -> Vector:
        return np.log(self.variances) + LOG_2PI

    def from_differences(self, features: Vector) -> list[tuple[int, Vector]]:
        """Each component of which the product is not accurate, and its log-densities `(n,)`."""
        found = []
        for k in np.flatnonzero(~self.accurate):
            cells, _, observed, _ = np.split(features, 4)
            deviations = (cells - self.means[k, :, np.newaxis]) * observed
            distances = (1.0 / self.variances[k]) @ deviations**2
            found.append((int(k), -0.5 * (distances + self._constants[k] @ observed)))
        return found

    def log_densities(self, features: Vector) -> Vector:
        """log N(x_o; μ_o, Σ_oo) `(K, n)`."""
        out = np.asarray(self.coefficients @ features[: 3 * self.means.shape[1]])
        for k, found in self.from_differences(features):
            out[k] = found
        return out

    def moments(self, sums: Vector) -> ExpectedMoments:
        """The expected moments, from the features' sums over records, Σ r φ(x) `(K, 4 G)`."""
        first, second, _, unseen = np.split(sums, 4, axis=1)
        first = first + unseen * self.means
        second = second + unseen * (self.means**2 + self.variances)
        entropy = 0.5 * unseen * (1 + self._constants)
        return ExpectedMoments(first, second, float(entropy.sum()))
