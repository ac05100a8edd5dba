"""Moments that rows in a ball can have, nearest to some that no rows have: of Gaussian columns, component by component.

Rows with ‖z‖₂ ≤ R have masses N_k ≥ 0, sums with ‖s_k‖ ≤ N_k R, and implied covariances C_k = S_k / N_k − μ_k μ_kᵀ with spectra in [0, R²].
Noise that was added to such sums keeps none of it. In this order,

    N_k into [0, 2^53];    s_k into the ball of radius N_k R;    S_k into ± 2 N_k R²;    the spectrum of C_k into [v, R²],

what is within its range, up to rounding, stays as it is, bit for bit. Clipping a spectrum is the projection of a symmetric matrix onto
those with a spectrum in an interval, in the Frobenius norm (Higham 1988, "Computing a nearest symmetric positive semidefinite matrix").
v, a small part of R² / D, is what is made of an eigenvalue that noise took below zero, and of those that are less than v beside it: nothing
is known of them then, and a component that is flat in some direction would lose its rows in the next E-step. Where the noise is known,
so is what it hides: an eigenvalue below the edge of the spectrum of noise alone is raised to that edge, up to R² / D, and v plays no part.
With noise of standard deviation σ on each entry of S_k the edge is 2 σ √D / N_k (Wigner's semicircle).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import CovarianceStructure, covariance_matrices, pool_scatter, raw_scatter
from fed_em.triangles import upper_triangle

Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Rounding of sums over many rows, relative to what they can be.
SLACK = 1e-9

# Masses, and sums of them, that rounding below the normal numbers may have made of anything; of the mass of all components.
TINY = 1e-250

# More records than float64 counts.
MOST_RECORDS = 2.0**53

# Of R²: the least variance of the M-step by which its Cholesky factor surely exists.
_REGULAR = 1e-12

# v, of R² / D; by measurement (docs/adr/0032-what-one-record-can-add.md). In standardised coordinates R² / D is about 2.
LEAST_VARIANCE = 0.04


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of K components.

    Attributes:
        structure: Which covariances are of interest, and so which second moments there are.
        counts: N_k, `(K,)`.
        first: s_k, `(K, D)`.
        second: S_k, `(K, n_second_moments)`.
    """

    structure: CovarianceStructure
    counts: Vector
    first: Vector
    second: Vector

    @cached_property
    def tiny(self) -> float:
        """A mass that is nobody's."""
        return TINY * float(self.counts.sum())

    @cached_property
    def means(self) -> Vector:
        """μ_k, `(K, D)`; 0 of nobody."""
        held = self.counts[:, np.newaxis] > self.tiny
        return np.divide(self.first, self.counts[:, np.newaxis], out=np.zeros_like(self.first), where=held)

    @cached_property
    def covariances(self) -> Vector:
        """C, in the shape of the structure; 0 of nobody."""
        counts = np.where(self.counts > self.tiny, self.counts, 0.0)
        second = np.where(self.counts[:, np.newaxis] > self.tiny, self.second, 0.0)
        scatter = raw_scatter(self.structure, second, self.means, counts)
        nobody = not counts.any() if self.structure == "tied" else counts == 0
        return pool_scatter(self.structure, scatter, np.where(nobody, 1.0, counts))

    def hidden_by(self, noise: float) -> Vector:
        """Which variances noise of standard deviation σ on each second moment hides, `(K,)`, of a tied covariance `()`."""
        k, d = self.first.shape
        match self.structure:
            case "full":
                edge = 2 * noise * math.sqrt(d)
            case "tied":
                return np.asarray(2 * noise * math.sqrt(d * k) / max(float(self.counts.sum()), 1.0))
            case "diag":
                edge = 2 * noise
            case "spherical":
                edge = 2 * noise / math.sqrt(d)
        return edge / np.maximum(self.counts, 1.0)

    def with_covariances(self, covariances: Vector, which: Flags) -> Moments:
        """These moments, with the second ones of some components `(K,)` replaced by those that imply `covariances`."""
        if self.structure in ("diag", "spherical"):
            squares = np.broadcast_to(covariances.reshape(len(self.counts), -1), self.means.shape) + self.means**2
        else:
            matrices = covariance_matrices(self.structure, covariances, self.means)
            matrices = matrices + self.means[:, :, np.newaxis] * self.means[:, np.newaxis]
            upper, right = upper_triangle(self.means.shape[1])
            squares = matrices[:, upper, right]
        implied = self.counts[:, np.newaxis] * squares
        return replace(self, second=np.where(which[:, np.newaxis], implied, self.second))


def admissible_moments(
    moments: Moments, radius: float, added: Vector, width: float, noise: float = 0.0
) -> tuple[Moments, Flags]:
    """The moments, projected.

    Args:
        moments: Any finite ones.
        radius: R, positive.
        added: What the M-step adds to every variance, `(K,)` or `()`: where that is enough, variances may be 0.
        width: R² / D, of which v is a part; D counts the columns that share the ball.
        noise: σ, of each second moment; 0 if it is not known.

    Returns:
        Moments, and which components were not admissible, `(K,)`. One of mass 0 that needs a variance has none still.
    """
    counts = np.clip(moments.counts, 0.0, MOST_RECORDS)
    wrong, tiny = counts != moments.counts, TINY * counts.sum()
    lengths, directions = _polar(moments.first)
    outside = ~(lengths <= counts * radius * (1 + SLACK) + tiny)
    first = np.where(outside[:, np.newaxis], directions * (counts * radius)[:, np.newaxis], moments.first)
    limits = (2 * radius**2 * counts)[:, np.newaxis]
    beyond = ~(np.abs(moments.second) <= limits * (1 + SLACK) + tiny)
    second = np.where(beyond, np.clip(moments.second, -limits, limits), moments.second)
    clipped = Moments(moments.structure, counts, first, second)
    lowest = np.minimum(clipped.hidden_by(noise), width)
    covariances, flat = _admissible_covariances(clipped, radius**2, added, lowest, LEAST_VARIANCE * width)
    return clipped.with_covariances(covariances, flat), wrong | outside | beyond.any(axis=1) | flat


def _polar(vectors: Vector) -> tuple[Vector, Vector]:
    """Lengths `(K,)` and directions `(K, D)` of vectors, none of whose squares may be a number of float64."""
    peaks = np.abs(vectors).max(axis=1, keepdims=True)
    directions = vectors / np.where(peaks > 0, peaks, 1.0)
    norms = np.linalg.norm(directions, axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        lengths = (peaks * norms)[:, 0]
    return lengths, directions / np.where(norms > 0, norms, 1.0)


def _admissible_covariances(
    moments: Moments, highest: float, added: Vector, lowest: Vector, v: float
) -> tuple[Vector, Flags]:
    """Covariances with spectra in [lowest, R²], and whose were not, or are singular after the M-step, `(K,)`; v in place of 0."""
    structure, covariances, k = moments.structure, moments.covariances, len(moments.counts)
    if structure in ("diag", "spherical"):
        spectra = covariances.reshape(k, -1)
    else:
        spectra, axes = np.linalg.eigh(covariances)
    least, most = np.atleast_1d(spectra.min(axis=-1)), np.atleast_1d(spectra.max(axis=-1))
    wrong = (least < lowest - SLACK * highest) | (most > highest * (1 + SLACK)) | (least + added < _REGULAR * highest)
    if not wrong.any():
        return covariances, np.zeros(k, dtype=np.bool_)
    clipped = np.clip(spectra, np.where(lowest > 0, lowest, v)[..., np.newaxis], highest)
    if structure in ("full", "tied"):
        clipped = (axes * clipped[..., np.newaxis, :]) @ np.swapaxes(axes, -1, -2)
    return clipped.reshape(covariances.shape), np.broadcast_to(wrong, (k,)).copy()
