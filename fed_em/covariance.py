"""The linear algebra of the four covariance structures of a Gaussian mixture.

Shapes are scikit-learn's: `full` (K, D, D), `tied` (D, D), `diag` (K, D), `spherical` (K,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from fed_em.errors import CollapsedComponent
from fed_em.triangles import upper_triangle

Vector = NDArray[np.float64]
CovarianceStructure = Literal["full", "tied", "diag", "spherical"]
COVARIANCE_STRUCTURES: tuple[CovarianceStructure, ...] = get_args(CovarianceStructure)


def covariance_shape(structure: CovarianceStructure, n_components: int, n_columns: int) -> tuple[int, ...]:
    """Shape of the array `covariances`."""
    return {
        "full": (n_components, n_columns, n_columns),
        "tied": (n_columns, n_columns),
        "diag": (n_components, n_columns),
        "spherical": (n_components,),
    }[structure]


def n_covariance_parameters(structure: CovarianceStructure, n_components: int, n_columns: int) -> int:
    """Number of free covariance parameters."""
    triangle = n_columns * (n_columns + 1) // 2
    return {
        "full": n_components * triangle,
        "tied": triangle,
        "diag": n_components * n_columns,
        "spherical": n_components,
    }[structure]


def n_second_moments(structure: CovarianceStructure, n_columns: int) -> int:
    """Second moments that a component needs: the triangle of xxᵀ, or its diagonal only."""
    return n_columns * (n_columns + 1) // 2 if structure in ("full", "tied") else n_columns


def unvech(triangles: Vector, n_columns: int) -> Vector:
    """`(K, D(D+1)/2)` upper triangles, row by row, as symmetric matrices `(K, D, D)`."""
    upper, right = upper_triangle(n_columns)
    matrices = np.empty((len(triangles), n_columns, n_columns))
    matrices[:, upper, right] = triangles
    matrices[:, right, upper] = triangles
    return matrices


def raw_scatter(structure: CovarianceStructure, second: Vector, means: Vector, weight: Vector) -> Vector:
    """Scatter about the means from raw second moments: Σ r xxᵀ − weight · μμᵀ.

    Args:
        second: `(K, n_second_moments)`.
        means: `(K, D)`.
        weight: `(K,)`, the multiplicity of μμᵀ.

    Returns:
        `(K, D, D)` for full and tied, `(K, D)` for diag and spherical.
    """
    if structure in ("diag", "spherical"):
        squares: Vector = second - weight[:, np.newaxis] * means**2
        return squares
    outer = np.einsum("k,ki,kj->kij", weight, means, means)
    matrices: Vector = unvech(second, means.shape[1]) - outer
    return matrices


def moved_scatter(
    structure: CovarianceStructure, counts: Vector, first: Vector, second: Vector, means: Vector
) -> Vector:
    """Scatter about any means from raw moments: Σ r (x − μ)(x − μ)ᵀ.

    Args:
        counts: `(K,)`, Σ r.
        first: `(K, D)`, Σ r x.
        second: `(K, n_second_moments)`.
        means: `(K, D)`, which need not be those of the moments.

    Returns:
        As `raw_scatter`.
    """
    scatter = raw_scatter(structure, second, means, -counts)
    if structure in ("diag", "spherical"):
        squares: Vector = scatter - 2 * first * means
        return squares
    cross = np.einsum("ki,kj->kij", first, means)
    matrices: Vector = scatter - cross - np.swapaxes(cross, 1, 2)
    return matrices


def scatter_about(structure: CovarianceStructure, responsibilities: Vector, rows: Vector, means: Vector) -> Vector:
    """Scatter about the means from the rows themselves, Σ r (x − μ)(x − μ)ᵀ.

    Args:
        responsibilities: `(n, K)`.
        rows: `(n, D)`.
        means: `(K, D)`.

    Returns:
        As `raw_scatter`.
    """
    scatters = []
    for weight, mean in zip(responsibilities.T, means, strict=True):
        deviations = rows - mean
        if structure in ("diag", "spherical"):
            scatters.append(weight @ deviations**2)
        else:
            scatters.append((weight * deviations.T) @ deviations)
    return np.stack(scatters)


def pool_scatter(structure: CovarianceStructure, scatter: Vector, counts: Vector) -> Vector:
    """Maximum-likelihood covariances: the scatter divided by the number of records behind each parameter.

    Args:
        scatter: As `raw_scatter` gives it.
        counts: `(K,)`, positive.
    """
    if structure == "full":
        full: Vector = scatter / counts[:, np.newaxis, np.newaxis]
        return full
    if structure == "tied":
        tied: Vector = scatter.sum(axis=0) / counts.sum()
        return tied
    diagonal: Vector = scatter / counts[:, np.newaxis]
    return diagonal if structure == "diag" else np.asarray(diagonal.mean(axis=1))


def add_floor(structure: CovarianceStructure, covariances: Vector, floor: float) -> Vector:
    """The covariances with `floor` added to every variance."""
    if structure in ("diag", "spherical"):
        return covariances + floor
    return covariances + floor * np.eye(covariances.shape[-1])


def restrict(structure: CovarianceStructure, covariance: Vector, n_components: int) -> Vector:
    """One covariance matrix `(D, D)` as the covariances of `n_components` equal components in `structure`."""
    variances = np.diagonal(covariance)
    match structure:
        case "full":
            return np.tile(covariance, (n_components, 1, 1))
        case "tied":
            return covariance.copy()
        case "diag":
            return np.tile(variances, (n_components, 1))
        case "spherical":
            return np.full(n_components, variances.mean())


def covariance_matrices(structure: CovarianceStructure, covariances: Vector, means: Vector) -> Vector:
    """The covariance matrix of each component, `(K, D, D)`, whatever the structure."""
    n_components, n_columns = means.shape
    match structure:
        case "full":
            return covariances
        case "tied":
            return np.tile(covariances, (n_components, 1, 1))
        case "diag":
            return covariances[:, :, np.newaxis] * np.eye(n_columns)
        case "spherical":
            return covariances[:, np.newaxis, np.newaxis] * np.eye(n_columns)


def standard_deviations(
    structure: CovarianceStructure, covariances: Vector, n_components: int, n_columns: int
) -> Vector:
    """The square root of the variance of each column in each component, `(K, D)`, whatever the structure."""
    match structure:
        case "full" | "tied":
            variances = np.diagonal(covariances, axis1=-2, axis2=-1)
        case "diag":
            variances = covariances
        case "spherical":
            variances = covariances[:, np.newaxis]
    return np.asarray(np.sqrt(np.broadcast_to(variances, (n_components, n_columns))))


@dataclass(frozen=True, eq=False)
class Whitening:
    """What turns a row into one with identity covariance: W with WᵀW = Σ⁻¹.

    Attributes:
        structure: The covariance structure.
        factors: Lower triangular L⁻¹ (Σ = LLᵀ) of shape (K, D, D) or (D, D); or 1/σ of shape (K, D) or (K,).
        log_determinants: `(K,)`, log |W_k| = −½ log |Σ_k|.
    """

    structure: CovarianceStructure
    factors: Vector
    log_determinants: Vector

    @classmethod
    def of(cls, structure: CovarianceStructure, covariances: Vector, n_components: int, n_columns: int) -> Whitening:
        """Factorise the covariances.

        Raises:
            CollapsedComponent: a covariance is not positive definite; the message names the component.
        """
        if structure in ("diag", "spherical"):
            for k in np.flatnonzero(~(covariances.reshape(n_components, -1) > 0).all(axis=1)):
                raise _not_positive_definite(f"component {k}'s variance is not positive")
            factors = 1.0 / np.sqrt(covariances)
            logs = np.log(factors).sum(axis=1) if structure == "diag" else n_columns * np.log(factors)
            return cls(structure, factors, logs)
        names = ["the tied"] if structure == "tied" else [f"component {k}'s" for k in range(n_components)]
        factors = _inverse_cholesky(covariances.reshape(-1, n_columns, n_columns), names)
        logs = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        return cls(structure, factors.reshape(covariances.shape), np.broadcast_to(logs, (n_components,)))

    def precisions_cholesky(self) -> Vector:
        """scikit-learn's `precisions_cholesky_`: upper triangular U with Σ⁻¹ = UUᵀ, or 1/σ."""
        if self.structure in ("diag", "spherical"):
            return self.factors.copy()
        return np.ascontiguousarray(np.swapaxes(self.factors, -1, -2))

    def summed_distances(self, scatter: Vector) -> float:
        """Σ_k tr(Σ_k⁻¹ A_k): the squared Mahalanobis distances of all rows behind a scatter, weighted by responsibility.

        Args:
            scatter: A_k, as `raw_scatter` gives it.
        """
        inverse = self.inverse()
        return float(np.sum((inverse[:, np.newaxis] if self.structure == "spherical" else inverse) * scatter))

    def squared_distances(self, deviations: Vector, k: int) -> Vector:
        """Squared Mahalanobis distances of rows to the mean of component k, `(n,)`.

        Args:
            deviations: `(D, n)`, x − μ_k, transposed. The difference taken first, nothing cancels here.
        """
        match self.structure:
            case "full":
                whitened = self.factors[k] @ deviations
            case "tied":
                whitened = self.factors @ deviations
            case "diag":
                whitened = self.factors[k][:, np.newaxis] * deviations
            case "spherical":
                whitened = self.factors[k] * deviations
        return np.asarray(np.einsum("dn,dn->n", whitened, whitened))

    def whiten_each(self, vectors: Vector) -> Vector:
        """W_k v_k of one vector for each component, `(K, D)`."""
        match self.structure:
            case "full":
                return np.asarray(np.einsum("kij,kj->ki", self.factors, vectors))
            case "tied":
                return np.asarray(vectors @ self.factors.T)
            case "diag":
                return np.asarray(self.factors * vectors)
            case "spherical":
                return np.asarray(self.factors[:, np.newaxis] * vectors)

    def absolute(self) -> Whitening:
        """|W| entry by entry, for bounds of rounding."""
        return Whitening(self.structure, np.abs(self.factors), self.log_determinants)

    def inverse(self) -> Vector:
        """Σ⁻¹ = WᵀW, in the shape of the structure."""
        if self.structure in ("diag", "spherical"):
            return self.factors**2
        return np.asarray(np.swapaxes(self.factors, -1, -2) @ self.factors)


def _inverse_cholesky(matrices: Vector, names: list[str]) -> Vector:
    """L⁻¹ of each of the `(K, D, D)` matrices LLᵀ."""
    inverses = np.empty_like(matrices)
    for matrix, inverse, name in zip(matrices, inverses, names, strict=True):
        lower, failed = lapack.dpotrf(matrix, lower=1, clean=1)
        if failed == 0:
            inverse[...], failed = lapack.dtrtri(lower, lower=1)
        if failed != 0:
            raise _not_positive_definite(f"{name} covariance is not positive definite")
    return inverses


def _not_positive_definite(message: str) -> CollapsedComponent:
    return CollapsedComponent(
        message,
        remedy="raise the covariance floor, use a prior, fit fewer components, or scale the columns",
    )
