"""The E-step of a mixture over mixed columns: two matrix products a block of rows, as of Gaussian ones (`fed_em.gaussian_e_step`).

    joint = Θ φ(x)             log w_k p_k(x) but for Σ log x!; −∞ where a label excludes the component
    r     = w exp(joint) / Σ exp(joint)
    sums += r φ(x)ᵀ

Features φ are 1, those of the discrete columns (`fed_em.discrete_columns`), and of Gaussian columns without covariances
(`fed_em.uncorrelated`). They are written once a block, which stays in a cache. Gaussian columns with covariances are added to `joint`
and summed by `fed_em.missing_gaussian`, over blocks as long as it needs to find rows of equal patterns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fed_em.blas import one_blas_thread
from fed_em.cell_features import CellFeatures
from fed_em.discrete_columns import IMPOSSIBLE, LOG_OF_ZERO, DiscreteColumns
from fed_em.errors import NotEvaluated
from fed_em.expected_moments import ExpectedMoments
from fed_em.kernels import Kernels
from fed_em.missing_gaussian import GaussianComponents
from fed_em.records import Records, weighted_sum
from fed_em.row_blocks import Segment, cut_into_segments, over_segments, rows_in_block
from fed_em.uncorrelated import UncorrelatedComponents

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MixedSums:
    """Sums over records, weights included.

    Attributes:
        log_likelihood, entropy, log_factorials: In nats; entropy of the components.
        responsibilities: `(K,)`.
        discrete: Σ r φ of the discrete columns, `(K, F)`.
        moments: Of the Gaussian columns, None if there are none.
    """

    log_likelihood: float
    entropy: float
    log_factorials: float
    responsibilities: Vector
    discrete: Vector
    moments: ExpectedMoments | None


@dataclass(frozen=True, eq=False)
class _Block:
    """The posterior of some records; its arrays are used again for the next.

    Attributes:
        part: Which they are.
        features: φ, `(P, n)`.
        responsibilities: `(K, n)`, times the weights.
        log_densities, entropies, log_factorials: `(n,)`, in nats, unweighted.
        moments: Of Gaussian columns with covariances, None if there are none.
    """

    part: slice
    features: Vector
    responsibilities: Vector
    log_densities: Vector
    entropies: Vector
    log_factorials: Vector
    moments: ExpectedMoments | None


@dataclass(eq=False)
class _Running:
    """Sums so far."""

    features: Vector
    moments: ExpectedMoments | None
    log_likelihood: float = 0.0
    entropy: float = 0.0
    log_factorials: float = 0.0

    def add(self, other: _Running) -> None:
        """Add what has been summed elsewhere."""
        self.features += other.features
        self.log_likelihood += other.log_likelihood
        self.entropy += other.entropy
        self.log_factorials += other.log_factorials
        if self.moments is not None and other.moments is not None:
            self.moments = self.moments + other.moments


@dataclass(frozen=True, eq=False)
class MixedEStep:
    """An E-step at some parameters.

    Attributes:
        discrete: The discrete columns, and the schema.
        coefficients: Theirs, `(K, F)`.
        gaussian: The components of the Gaussian columns; None if there are none.
        weights: `(K,)`, of the mixture.
        kernels: The inner loops.
    """

    discrete: DiscreteColumns
    coefficients: Vector
    gaussian: GaussianComponents | None
    weights: Vector
    kernels: Kernels

    def sums(self, records: Records) -> MixedSums:
        """The sums over records; the same bits for any number of threads."""
        total = self._nothing
        with one_blas_thread():
            for part in over_segments(lambda segment: self._sums_of_segment(records, segment), self._segments(records)):
                total.add(part)
        features, moments = total.features.T, total.moments
        if self._uncorrelated is not None:
            moments = self._uncorrelated.moments(features[:, self._features.of_gaussian])
        return MixedSums(
            total.log_likelihood,
            total.entropy,
            total.log_factorials,
            features[:, 0],
            features[:, self._features.of_discrete],
            moments,
        )

    def posterior(self, records: Records) -> tuple[Vector, Vector]:
        """Log-densities `(n,)` of observed cells and labels, in nats, and responsibilities `(n, K)`; weights do not count."""
        records = replace(records, weights=None)
        log_densities, responsibilities = np.empty(len(records)), np.empty((len(records), len(self.weights)))

        def of_segment(segment: Segment) -> None:
            with np.errstate(all="ignore"):
                for block in self._blocks(records, segment):
                    log_densities[block.part] = block.log_densities
                    responsibilities[block.part] = block.responsibilities.T

        with one_blas_thread():
            for _ in over_segments(of_segment, self._segments(records)):
                pass
        return log_densities, responsibilities

    @cached_property
    def _uncorrelated(self) -> UncorrelatedComponents | None:
        """The Gaussian columns, where no covariance is modelled."""
        if self.gaussian is None or self.gaussian.structure in ("full", "tied"):
            return None
        return self.gaussian.uncorrelated

    @cached_property
    def _features(self) -> CellFeatures:
        return CellFeatures(self.discrete, self._uncorrelated is not None)

    @cached_property
    def _theta(self) -> Vector:
        """Θᵀ, contiguous: of all features that densities follow from, which come first."""
        parts = [np.log(self.weights)[:, np.newaxis], np.maximum(self.coefficients, LOG_OF_ZERO)]
        if self._uncorrelated is not None:
            parts.append(np.where(self._uncorrelated.accurate[:, np.newaxis], self._uncorrelated.coefficients, 0.0))
        return np.ascontiguousarray(np.concatenate(parts, axis=1).T)

    @cached_property
    def _some_impossible(self) -> bool:
        return bool((self.coefficients <= LOG_OF_ZERO).any())

    @property
    def _nothing(self) -> _Running:
        moments, gaussian = None, self.gaussian
        if gaussian is not None and self._uncorrelated is None:
            moments = ExpectedMoments.zero(gaussian.structure, *gaussian.means.shape)
        return _Running(np.zeros((self._features.n_features, len(self.weights))), moments)

    def _segments(self, records: Records) -> list[Segment]:
        n_entries, n_components = self._features.n_features, len(self.weights)
        if self.gaussian is None or self._uncorrelated is not None:
            return cut_into_segments(len(records), n_entries + n_components)
        size = rows_in_block(n_entries + n_components * (self.gaussian.means.shape[1] + 3))
        return [[part] for part, _ in records.blocks(size)]

    def _sums_of_segment(self, records: Records, segment: Segment) -> _Running:
        total = self._nothing
        with np.errstate(all="ignore"):
            for block in self._blocks(records, segment):
                weights = None if records.weights is None else records.weights[block.part]
                total.log_likelihood += weighted_sum(block.log_densities, weights)
                total.entropy += weighted_sum(block.entropies, weights)
                total.log_factorials += weighted_sum(block.log_factorials, weights)
                if total.moments is not None and block.moments is not None:
                    total.moments = total.moments + block.moments
                self.kernels.add_sums("linear", block.features, block.responsibilities, total.features)
        return total

    def _blocks(self, records: Records, segment: Segment) -> Iterator[_Block]:
        n_features, n_components, n = self._features.n_features, len(self.weights), 0
        for part in segment:
            rows = records.rows[part]
            weights = None if records.weights is None else records.weights[part]
            admissible = None if records.admissible is None else records.admissible[part]
            if len(rows) != n:
                n = len(rows)
                features, joint = np.empty((n_features, n)), np.empty((n_components, n))
            log_factorials, fit = self.kernels.write_cells(self._features, rows, features)
            if not fit:
                self.discrete.schema.check_rows(records.rows)
            self._write_joint(features, admissible, joint)
            moments = None
            if self.gaussian is not None and self._uncorrelated is None:
                cells = rows[:, self.discrete.schema.gaussian]
                log_densities, entropies, moments = self.gaussian.posterior(joint, cells, weights)
            else:
                log_densities, entropies = self.kernels.normalise_in_place(joint)
                if weights is not None:
                    joint *= weights
            log_densities -= log_factorials
            if not np.isfinite(log_densities).all():
                raise NotEvaluated(
                    "no component can show a row: its density is zero",
                    remedy="use a prior, which leaves no probability at zero, scale the columns, or start elsewhere",
                )
            yield _Block(part, features, joint, log_densities, entropies, log_factorials, moments)

    def _write_joint(self, features: Vector, admissible: NDArray[np.bool_] | None, out: Vector) -> None:
        self.kernels.write_log_densities("linear", features[: len(self._theta)], self._theta, out)
        if self._some_impossible:
            out[out < IMPOSSIBLE] = -np.inf
        if self._uncorrelated is not None:
            for k, of_gaussian in self._uncorrelated.from_differences(features[self._features.of_gaussian]):
                out[k] += of_gaussian
        if admissible is not None:
            np.copyto(out, -np.inf, where=~admissible.T)
