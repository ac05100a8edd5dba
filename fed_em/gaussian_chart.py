"""Means and covariances as a vector, in the frame of reference components.

Full and tied structures, Σ_ref = R Rᵀ with floor ε and Σ_ref − ε I = F Fᵀ:

    μ = μ_ref + R a / s                 a  `(K, D)`, s = √w_ref
    Σ = ε I + (F T)(F T)ᵀ               T lower triangular; coordinates s · T_ij below, √2 s · log T_ii on the diagonal

Diagonal and spherical ones, with F a number for each variance: σ² = ε + (F e^(t / (√2 s)))², for spherical √(2D) s. A tied
covariance has s = 1. At the reference the information of one record, were its component known, is the identity, as far as ε
is small against Σ.

The floor is that of the M-step, which adds ε to what would maximise: no point of the chart has a smaller variance, and the objective in
it is bounded where the M-step's is. M-steps stop a little short of the maximum within the chart.

With the numerators M and the denominators m of the M-step's covariances, the gradient in Σ is −½ (m Σ⁻¹ − Σ⁻¹ M Σ⁻¹).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import CovarianceStructure, add_floor, moved_scatter
from fed_em.errors import CollapsedComponent
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.statistics import Statistics
from fed_em.triangles import lower_triangle

Vector = NDArray[np.float64]

# Components of less weight than this have the coordinates of one that has it, or a step of length 1 could move them by any distance.
_LEAST_WEIGHT = 1e-3


@dataclass(frozen=True, eq=False)
class GaussianChart:
    """The arrays `means` and `covariances`. Implements `fed_em.chart.PartialChart`.

    Attributes:
        structure: The covariance structure.
        floor: ε.
        prior: The conjugate prior; None for none.
        centres: μ_ref, `(K, D)`.
        frames: R; `(K, D, D)`, for tied `(1, D, D)`; for diag `(K, D)`, for spherical `(K, 1)`.
        spreads: F, in the same shape.
        scales: s of the means, `(K,)`.
        spread_scales: s of the rows of `spreads`, times √D for spherical, `(K,)` or `(1,)`.
    """

    structure: CovarianceStructure
    floor: float
    prior: GaussianMixturePrior | None
    centres: Vector
    frames: Vector
    spreads: Vector
    scales: Vector
    spread_scales: Vector

    @classmethod
    def about(
        cls, structure: CovarianceStructure, floor: float, prior: GaussianMixturePrior | None, reference: Parameters
    ) -> GaussianChart:
        """The chart about the arrays `weights`, `means` and `covariances`.

        Raises:
            CollapsedComponent: a covariance is not above the floor.
        """
        means, covariances = reference["means"], _lifted(structure, reference["covariances"])
        scales = np.sqrt(np.maximum(reference["weights"], _LEAST_WEIGHT))
        spread_scales = np.ones(1) if structure == "tied" else scales
        if structure == "spherical":
            spread_scales = spread_scales * math.sqrt(means.shape[1])
        frames, spreads = _root(structure, covariances, 0.0), _root(structure, covariances, floor)
        return cls(structure, floor, prior, means, frames, spreads, scales, spread_scales)

    @property
    def size(self) -> int:
        """Length of the vector."""
        return math.prod(self.centres.shape) + len(self.spread_scales) * self._n_spreads

    @property
    def _n_spreads(self) -> int:
        """Covariance coordinates of one component."""
        n = len(self.spreads[0])
        return n * (n + 1) // 2 if self._matrices else n

    @property
    def _matrices(self) -> bool:
        return self.spreads.ndim == 3

    def vector(self, parameters: Parameters) -> Vector:
        """The coordinates.

        Raises:
            CollapsedComponent: a covariance is not above the floor.
        """
        shifts, scales = parameters["means"] - self.centres, self.scales[:, np.newaxis]
        roots = _root(self.structure, _lifted(self.structure, parameters["covariances"]), self.floor)
        spread_scales = self.spread_scales[:, np.newaxis]
        if not self._matrices:
            logs = math.sqrt(2) * spread_scales * np.log(roots / self.spreads)
            return np.concatenate(((shifts / self.frames * scales).ravel(), logs.ravel()))
        moves = np.linalg.solve(self.frames, shifts[..., np.newaxis])[..., 0] * scales
        triangles = np.linalg.solve(self.spreads, roots)
        lower, left, diagonal = self._triangle()
        entries = triangles[:, lower, left]
        entries[:, diagonal] = math.sqrt(2) * np.log(entries[:, diagonal])
        return np.concatenate((moves.ravel(), (entries * spread_scales).ravel()))

    def _triangle(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """Rows and columns of the lower triangle, and which of its entries are on the diagonal."""
        lower, left = lower_triangle(self.spreads.shape[1])
        return lower, left, lower == left

    def _moved(self, vector: Vector) -> tuple[Vector, Vector]:
        """Means `(K, D)`, and T `(K or 1, D, D)` or e^t in the shape of `spreads`."""
        n = self.centres.size
        moves = vector[:n].reshape(self.centres.shape) / self.scales[:, np.newaxis]
        entries = vector[n:].reshape(len(self.spread_scales), -1) / self.spread_scales[:, np.newaxis]
        if not self._matrices:
            return self.centres + self.frames * moves, np.exp(entries / math.sqrt(2))
        lower, left, diagonal = self._triangle()
        triangles = np.zeros(self.spreads.shape)
        entries[:, diagonal] = np.exp(entries[:, diagonal] / math.sqrt(2))
        triangles[:, lower, left] = entries
        return self.centres + (self.frames @ moves[..., np.newaxis])[..., 0], triangles

    def arrays(self, vector: Vector) -> Mapping[str, Vector]:
        """Means and covariances."""
        means, moved = self._moved(vector)
        if self._matrices:
            roots = self.spreads @ moved
            squares = roots @ np.swapaxes(roots, 1, 2)
            covariances = squares[0] if self.structure == "tied" else squares
        else:
            squares = (self.spreads * moved) ** 2
            covariances = squares[:, 0] if self.structure == "spherical" else squares
        return {"means": means, "covariances": add_floor(self.structure, covariances, self.floor)}

    def gradient(self, statistics: Statistics, vector: Vector) -> Vector:
        """Of log-likelihood + log prior."""
        means, moved = self._moved(vector)
        counts, first = np.maximum(statistics["responsibilities"], 0.0), statistics["first"]
        second, pooled = statistics["second"], counts
        if self.prior is not None:
            pooled, first, second = self.prior.with_pseudo_records(self.structure, counts, first, second)
        numerators, masses = self._pooled(moved_scatter(self.structure, pooled, first, second, means), counts)
        pulls = first - pooled[:, np.newaxis] * means
        if self._matrices:
            return self._gradient_of_matrices(moved, numerators, masses, pulls)
        roots = self.spreads * moved
        variances = roots**2 + self.floor
        of_means = self.frames * pulls / variances / self.scales[:, np.newaxis]
        of_logs = roots**2 * (numerators / variances - masses[:, np.newaxis]) / variances
        of_spreads = of_logs / (math.sqrt(2) * self.spread_scales[:, np.newaxis])
        return np.concatenate((of_means.ravel(), of_spreads.ravel()))

    def _gradient_of_matrices(self, moved: Vector, numerators: Vector, masses: Vector, pulls: Vector) -> Vector:
        roots = self.spreads @ moved
        inverses = np.linalg.inv(roots @ np.swapaxes(roots, 1, 2) + self.floor * np.eye(roots.shape[1]))
        of_means = np.swapaxes(self.frames, 1, 2) @ (inverses @ pulls[..., np.newaxis])
        of_covariances = inverses @ numerators @ inverses - masses[:, np.newaxis, np.newaxis] * inverses
        of_triangles = np.swapaxes(self.spreads, 1, 2) @ of_covariances @ roots
        lower, left, diagonal = self._triangle()
        entries = of_triangles[:, lower, left]
        entries[:, diagonal] *= moved[:, lower, left][:, diagonal] / math.sqrt(2)
        of_means = of_means[..., 0] / self.scales[:, np.newaxis]
        return np.concatenate((of_means.ravel(), (entries / self.spread_scales[:, np.newaxis]).ravel()))

    def _pooled(self, scatter: Vector, counts: Vector) -> tuple[Vector, Vector]:
        """M, in the shape of `spreads` or of its squares, and m, of as many rows, for the scatter about the means."""
        if self.prior is not None:
            numerators, masses = self.prior.pooled(self.structure, scatter, counts)
        else:
            numerators, masses = _summed(self.structure, scatter, counts)
        return numerators.reshape(self.spreads.shape), masses.reshape(-1)


def _summed(structure: CovarianceStructure, scatter: Vector, counts: Vector) -> tuple[Vector, Vector]:
    """As `GaussianMixturePrior.pooled`, without a prior."""
    match structure:
        case "tied":
            return scatter.sum(axis=0), counts.sum()
        case "spherical":
            return scatter.sum(axis=1), scatter.shape[1] * counts
        case _:
            return scatter, counts


def _lifted(structure: CovarianceStructure, covariances: Vector) -> Vector:
    """Covariances with an axis for components, and for columns, also where there is one for all."""
    match structure:
        case "tied":
            return covariances[np.newaxis]
        case "spherical":
            return covariances[:, np.newaxis]
        case _:
            return covariances


def _root(structure: CovarianceStructure, covariances: Vector, floor: float) -> Vector:
    """Cholesky factors, or standard deviations, of the covariances less the floor."""
    less = add_floor(structure, covariances, -floor)
    try:
        if less.ndim == 3:
            return np.asarray(np.linalg.cholesky(less))
        if not (less > 0).all():
            raise np.linalg.LinAlgError
    except np.linalg.LinAlgError:
        raise CollapsedComponent(
            "a component's covariance has no more than the floor", remedy="use a prior, or fit fewer components"
        ) from None
    return np.sqrt(less)
