"""Gaussian mixtures by seed, that overlap or are poorly separated; and some that are separated, and handwritten digits, for starts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class HardMixture:
    """A mixture to sample from: means √(2/D) · `separation` · N(0, I), Wishart covariances of 6 D degrees of freedom and mean I.

    Attributes:
        components, columns: K and D.
        separation: The mean distance of two means, in standard deviations of a component, is about twice this.
        rows: Of a sample, for each component.
        seed: Of everything.
    """

    components: int
    columns: int
    separation: float
    rows: int = 400
    seed: int = 0

    @property
    def name(self) -> str:
        """For tables."""
        return f"K = {self.components}, D = {self.columns}, separation {self.separation}"

    def sample(self) -> Vector:
        """Standardised rows `(n, D)`."""
        k, d = self.components, self.columns
        generator = np.random.default_rng([self.seed, k, d, int(10 * self.separation)])
        means = self.separation * generator.standard_normal((k, d)) * np.sqrt(2 / d)
        roots = generator.standard_normal((k, d, 6 * d))
        factors = np.linalg.cholesky(roots @ np.swapaxes(roots, 1, 2) / (6 * d))
        weights = generator.dirichlet(np.full(k, 5.0))
        labels = generator.choice(k, k * self.rows, p=weights)
        normals = generator.standard_normal((k * self.rows, d))
        rows = means[labels] + np.einsum("nij,nj->ni", factors[labels], normals)
        return np.asarray((rows - rows.mean(axis=0)) / rows.std(axis=0))


@dataclass(frozen=True)
class Digits:
    """The first principal components of scikit-learn's 1797 handwritten digits, of which nobody knows what mixture they are.

    Attributes:
        components: K.
        columns: How many principal components.
    """

    components: int = 10
    columns: int = 8

    @property
    def name(self) -> str:
        """For tables."""
        return f"digits, {self.columns} principal components, K = {self.components}"

    def sample(self) -> Vector:
        """Standardised rows `(1797, D)`."""
        rows = load_digits().data
        left, lengths, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
        rows = left[:, : self.columns] * lengths[: self.columns]
        return np.asarray((rows - rows.mean(axis=0)) / rows.std(axis=0))


_SHAPES = ((3, 2), (3, 5), (4, 3), (5, 2), (5, 5), (5, 10), (8, 3), (8, 6), (10, 10))
OVERLAPPING, POOR, SEPARATED = 1.5, 0.9, 4.0

HARD = tuple(HardMixture(k, d, separation) for separation in (OVERLAPPING, POOR) for k, d in _SHAPES)
FOR_STARTS: tuple[HardMixture | Digits, ...] = (
    *(HardMixture(k, d, SEPARATED, rows=200) for k, d in ((6, 2), (10, 2), (8, 3), (10, 5))),
    Digits(),
)
