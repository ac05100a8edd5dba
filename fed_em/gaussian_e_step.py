"""The E-step of a Gaussian mixture over rows in memory: two matrix products a block of rows.

    joint = Θ Φ(x − c)       log w_k N(x_i; μ_k, Σ_k), by `fed_em.gaussian_densities`
    r     = exp(joint) / Σ exp(joint)
    sums += r Φ(x)ᵀ          about the origin of the coordinates, whatever the shift c: what all parties add up

Several mixtures of equally many components are evaluated together, by products of all of their components: Φ is shared, and narrow
products are slow.

With a shift other than 0, Φ is written twice. Mapping the sums back from the shift would be cheaper, but cost digits
wherever the rows are closer to the origin than to the shift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.blas import one_blas_thread
from fed_em.covariance import CovarianceStructure
from fed_em.feature_map import n_features
from fed_em.gaussian_densities import GaussianDensities
from fed_em.kernels import Kernels
from fed_em.row_blocks import Segment, aligned_empty, cut_into_segments, over_segments

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over rows.

    Attributes:
        features: Σ_i r_ik Φ(x_i), `(R K, F)`, mixture after mixture.
        log_likelihoods, entropies: Of each mixture, `(R,)`, in nats; not finite where a row has no density.
    """

    features: Vector
    log_likelihoods: Vector
    entropies: Vector


@dataclass(frozen=True, eq=False)
class GaussianEStep:
    """An E-step at fixed parameters.

    Attributes:
        structure: Which second moments are summed.
        densities: The joint log-densities at the parameters.
        kernels: The inner loops.
        n_mixtures: R; the densities are of the R K components of all.
    """

    structure: CovarianceStructure
    densities: GaussianDensities
    kernels: Kernels
    n_mixtures: int = 1

    def sums(self, rows: Vector) -> Sums:
        """The sums over rows `(n, D)`; the same bits for any number of threads."""
        total = np.zeros((self._n_features, self._n_components))
        log_likelihoods, entropies = np.zeros(self.n_mixtures), np.zeros(self.n_mixtures)
        with one_blas_thread():
            for part in over_segments(lambda segment: self._sums_of_segment(rows, segment), self._segments(rows)):
                total += part.features
                log_likelihoods += part.log_likelihoods
                entropies += part.entropies
        return Sums(total.T, log_likelihoods, entropies)

    def posterior(self, rows: Vector) -> tuple[Vector, Vector]:
        """Log-densities `(n,)` under one mixture, not finite where a row has none, and responsibilities `(n, K)` of rows `(n, D)`."""
        log_densities, responsibilities = np.empty(len(rows)), np.empty((len(rows), self._n_components))

        def of_segment(segment: Segment) -> None:
            with np.errstate(all="ignore"):
                for block, joint, _ in self._blocks(rows, segment):
                    log_densities[block], _ = self.kernels.normalise_in_place(joint)
                    responsibilities[block] = joint.T

        with one_blas_thread():
            for _ in over_segments(of_segment, self._segments(rows)):
                pass
        return log_densities, responsibilities

    @property
    def _n_components(self) -> int:
        return len(self.densities.means)

    @property
    def _n_features(self) -> int:
        return n_features(self.structure, self.densities.means.shape[1])

    @property
    def _n_entries(self) -> int:
        return self.kernels.n_entries(self.structure, self.densities.means.shape[1])

    def _segments(self, rows: Vector) -> list[Segment]:
        return cut_into_segments(len(rows), self._n_entries + self._n_components)

    def _sums_of_segment(self, rows: Vector, segment: Segment) -> Sums:
        total = np.zeros((self._n_features, self._n_components))
        log_likelihoods, entropies = np.zeros(self.n_mixtures), np.zeros(self.n_mixtures)
        with np.errstate(all="ignore"):
            for block, joint, prepared in self._blocks(rows, segment):
                for r, of_mixture in enumerate(joint.reshape(self.n_mixtures, -1, joint.shape[1])):
                    log_densities, of_rows = self.kernels.normalise_in_place(of_mixture)
                    log_likelihoods[r] += log_densities.sum()
                    entropies[r] += of_rows.sum()
                # What `_blocks` has prepared may be about another point, or nothing.
                if self.densities.shift is not None or not self.densities.need_features:
                    self.kernels.prepare(self.structure, rows[block], None, prepared)
                self.kernels.add_sums(self.structure, prepared, joint, total)
        return Sums(total, log_likelihoods, entropies)

    def _blocks(self, rows: Vector, segment: Segment) -> Iterator[tuple[slice, Vector, Vector]]:
        """Blocks: which rows, log w_k N(x; μ_k, Σ_k) `(K, n)`, and what is prepared about the shift, if needed; memory is reused."""
        densities, n = self.densities, 0
        for block in segment:
            part = rows[block]
            if len(part) != n:
                n = len(part)
                prepared, joint = aligned_empty(self._n_entries, n), aligned_empty(self._n_components, n)
            if densities.need_features:
                self.kernels.prepare(self.structure, part, densities.shift, prepared)
            densities.write(part, prepared if densities.need_features else None, self.kernels, joint)
            yield block, joint, prepared
