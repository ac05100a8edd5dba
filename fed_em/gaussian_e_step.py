"""The E-step of a Gaussian mixture over complete rows in memory: two matrix products a block of rows.

    joint = Θ Φ(x − c)              log w_k N(x_i; μ_k, Σ_k), by `fed_em.gaussian_densities`; −∞ where a label excludes the component
    r     = w exp(joint) / Σ exp(joint)
    sums += r Φ(x)ᵀ                 about the origin of the coordinates, whatever the shift c: what all parties add up

Several mixtures of equally many components are evaluated together, by products of all of their components: Φ is shared, and narrow
products are slow.

With a shift other than 0, Φ is written twice. Mapping the sums back from the shift would be cheaper, but cost digits
wherever the rows are closer to the origin than to the shift.

Rows with missing cells are left out and named: `fed_em.missing_gaussian` knows what to do with them. The complete rows of their block are
put together first.
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
from fed_em.records import Records, weighted_sum
from fed_em.row_blocks import Segment, aligned_empty, cut_into_segments, over_segments

Vector = NDArray[np.float64]
Places = NDArray[np.intp]

# Of a component that a label excludes, and of one that it admits.
_LOG_ADMISSIBLE = np.array([-np.inf, 0.0])


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over complete rows.

    Attributes:
        features: Σ_i r_ik Φ(x_i), `(R K, F)`, mixture after mixture; weights included, here and below.
        log_likelihoods, entropies: Of each mixture, `(R,)`, in nats; not finite where a row has no density.
        incomplete: Which rows are not in the sums, as they miss cells: ascending.
    """

    features: Vector
    log_likelihoods: Vector
    entropies: Vector
    incomplete: Places


@dataclass(frozen=True, eq=False)
class _Block:
    """Some complete rows that are evaluated at one time; memory is used again for the next.

    Attributes:
        places: Which they are among all.
        rows: `(n, D)`.
        prepared: What the kernels have prepared of them about the densities' shift, if these need features.
        joint: log w_k N(x; μ_k, Σ_k), `(K, n)`; −inf where a label excludes the component.
    """

    places: slice | Places
    rows: Vector
    prepared: Vector
    joint: Vector


@dataclass(frozen=True, eq=False)
class GaussianEStep:
    """An E-step at fixed parameters.

    Attributes:
        structure: Which second moments are summed.
        densities: The joint log-densities at the parameters.
        kernels: The inner loops.
        n_mixtures: R; the densities are of the R K components of all, a label is of the K components of each.
    """

    structure: CovarianceStructure
    densities: GaussianDensities
    kernels: Kernels
    n_mixtures: int = 1

    def sums(self, records: Records) -> Sums:
        """The sums over records of D columns; the same bits for any number of threads."""
        total = np.zeros((self._n_features, self._n_components))
        log_likelihoods, entropies = np.zeros(self.n_mixtures), np.zeros(self.n_mixtures)
        incomplete = [np.empty(0, dtype=np.intp)]
        with one_blas_thread():
            for part in over_segments(lambda segment: self._sums_of_segment(records, segment), self._segments(records)):
                total += part.features
                log_likelihoods += part.log_likelihoods
                entropies += part.entropies
                incomplete.append(part.incomplete)
        return Sums(total.T, log_likelihoods, entropies, np.concatenate(incomplete))

    def posterior(self, records: Records) -> tuple[Vector, Vector, Places]:
        """Log-densities `(n,)` of rows and labels under one mixture, not finite where a row has none, and responsibilities `(n, K)`.

        Both are unweighted, and not set for incomplete rows, whose places come third, ascending.
        """
        log_densities, responsibilities = np.empty(len(records)), np.empty((len(records), self._n_components))

        def of_segment(segment: Segment) -> list[Places]:
            incomplete: list[Places] = []
            with np.errstate(all="ignore"):
                for block in self._blocks(records, segment, incomplete):
                    log_densities[block.places], _ = self.kernels.normalise_in_place(block.joint)
                    responsibilities[block.places] = block.joint.T
            return incomplete

        incomplete = [np.empty(0, dtype=np.intp)]
        with one_blas_thread():
            for part in over_segments(of_segment, self._segments(records)):
                incomplete += part
        return log_densities, responsibilities, np.concatenate(incomplete)

    @property
    def _n_components(self) -> int:
        return len(self.densities.means)

    @property
    def _n_features(self) -> int:
        return n_features(self.structure, self.densities.means.shape[1])

    @property
    def _n_entries(self) -> int:
        return self.kernels.n_entries(self.structure, self.densities.means.shape[1])

    def _segments(self, records: Records) -> list[Segment]:
        return cut_into_segments(len(records), self._n_entries + self._n_components)

    def _sums_of_segment(self, records: Records, segment: Segment) -> Sums:
        total = np.zeros((self._n_features, self._n_components))
        log_likelihoods, entropies = np.zeros(self.n_mixtures), np.zeros(self.n_mixtures)
        incomplete = [np.empty(0, dtype=np.intp)]
        with np.errstate(all="ignore"):
            for block in self._blocks(records, segment, incomplete):
                weights = None if records.weights is None else records.weights[block.places]
                for r, of_mixture in enumerate(self._of_mixtures(block.joint)):
                    log_densities, of_rows = self.kernels.normalise_in_place(of_mixture)
                    log_likelihoods[r] += weighted_sum(log_densities, weights)
                    entropies[r] += weighted_sum(of_rows, weights)
                if weights is not None:
                    block.joint[...] *= weights
                # What `_blocks` has prepared may be about another point, or nothing.
                if self.densities.shift is not None or not self.densities.need_features:
                    self.kernels.prepare(self.structure, block.rows, None, block.prepared)
                self.kernels.add_sums(self.structure, block.prepared, block.joint, total)
        return Sums(total, log_likelihoods, entropies, np.concatenate(incomplete))

    def _of_mixtures(self, joint: Vector) -> Vector:
        return joint.reshape(self.n_mixtures, -1, joint.shape[1])

    def _blocks(self, records: Records, segment: Segment, incomplete: list[Places]) -> Iterator[_Block]:
        """Blocks of a segment, without the incomplete rows, whose places are appended."""
        longest, holes = segment[0].stop - segment[0].start, False
        memory = aligned_empty(self._n_entries * longest), aligned_empty(self._n_components * longest)
        for part in segment:
            block = None if holes else self._block(part, records.rows[part], memory)
            # A row that misses a cell has no number as its log-density. To look for such rows first would cost every block time.
            if block is None or np.isnan(block.joint[0].sum()):
                places, rows = _complete(records.rows, part, incomplete)
                holes = len(rows) < part.stop - part.start
                if not len(rows):
                    continue
                block = self._block(places, rows, memory)
            if records.admissible is not None:
                of_mixtures = self._of_mixtures(block.joint)
                # A table is a quarter of the time of a mask.
                known = records.admissible[block.places].T.view(np.int8)
                np.add(of_mixtures, _LOG_ADMISSIBLE.take(known), out=of_mixtures)
            yield block

    def _block(self, places: slice | Places, rows: Vector, memory: tuple[Vector, Vector]) -> _Block:
        """Some rows, before labels; in memory for what is prepared, and for log-densities."""
        densities, n = self.densities, len(rows)
        prepared, joint = (
            each[: entries * n].reshape(entries, n)
            for entries, each in zip((self._n_entries, self._n_components), memory, strict=True)
        )
        if densities.need_features:
            self.kernels.prepare(self.structure, rows, densities.shift, prepared)
        densities.write(rows, prepared if densities.need_features else None, self.kernels, joint)
        return _Block(places, rows, prepared, joint)


def _complete(rows: Vector, part: slice, incomplete: list[Places]) -> tuple[Places, Vector]:
    """The complete rows of a part, and their places; those of the others are appended to `incomplete`."""
    unknown = np.isnan(rows[part]).any(axis=1)
    incomplete.append(part.start + np.flatnonzero(unknown))
    known = part.start + np.flatnonzero(~unknown)
    return known, rows[known]
