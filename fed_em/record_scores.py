"""The score of a record, ∇ log p(x_i | θ), as a linear map of what it adds to the statistics: s_i = B(θ) t_i.

With t as in `fed_em.record_statistics`; by Fisher's identity it is the expected score of the complete data (`fed_em.chart`).

Coordinates are a minimal set in which the complete-data information of a component is about diagonal:

    weights, levels     the probabilities but for the largest          n_k / w_k − n_K / w_K
    yes                 q                                              yes / q − no / (1 − q)
    rates               λ                                              x / λ − 1, of observed cells
    means               a in μ + R a, Σ = R Rᵀ                         R⁻¹ r (x̂ − μ)
    covariances         symmetric E in R (I + E) Rᵀ                    R⁻¹ M R⁻ᵀ − r I, half of it on the diagonal,

with M = r (x̂x̂ᵀ + C − μx̂ᵀ − x̂μᵀ + μμᵀ). What is on the boundary of the possible has no coordinate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from fed_em.covariance import covariance_matrices
from fed_em.discrete_columns import (
    EVENTS,
    EXPOSURE,
    FAILURES,
    LEVEL_PROBABILITIES,
    SUCCESS_PROBABILITIES,
    SUCCESSES,
)
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.record_statistics import RecordStatistics

Vector = NDArray[np.float64]
Places = NDArray[np.intp]
Flags = NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)

# A probability, a weight or a rate is on the boundary if it is no farther from it than this.
_BOUNDARY = 1e-6
# A covariance is at the floor if an eigenvalue is less than so many floors.
_AT_FLOOR = 2.0


@dataclass(frozen=True, eq=False)
class RecordScores:
    """B at some parameters, and what its coordinates are.

    Attributes:
        shapes: Of the model's arrays, in the order of `of_arrays`.
        scores: B, `(P, M)`.
        of_arrays: The derivatives of all entries of the arrays in the coordinates, `(A, P)`.
        known: `(A,)`, whether an entry is on the boundary and counts as known.
    """

    shapes: Mapping[str, tuple[int, ...]]
    scores: Vector
    of_arrays: Vector
    known: Flags

    @classmethod
    def of(cls, record: RecordStatistics, parameters: Parameters) -> RecordScores:
        """At some parameters."""
        parts = {"weights": _probabilities(parameters["weights"], record.places("responsibilities")[0], record.size)}
        if record.gaussian is not None:
            covariances = _matrices if record.gaussian.covariance in ("full", "tied") else _variances
            parts |= {"means": _means(record, parameters), "covariances": covariances(record, parameters)}
        if record.discrete is not None:
            parts |= {name: _discrete(record, name, parameters[name]) for name in record.discrete.parameter_shapes}
        every = _joined(list(parts.values()))
        return cls({name: parameters[name].shape for name in parts}, every.scores, every.of_array, every.known)

    def apart(self, entries: NDArray[T]) -> dict[str, NDArray[T]]:
        """`(A,)` as arrays by name."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()])
        split = np.split(entries, ends[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), split, strict=True)}


@dataclass(frozen=True, eq=False)
class _Part:
    """Some entries of the parameters, A′ of them, with P′ coordinates.

    Attributes:
        scores: `(P′, M)`.
        of_array: `(A′, P′)`.
        known: `(A′,)`, whether an entry is on the boundary.
    """

    scores: Vector
    of_array: Vector
    known: Flags


def _joined(parts: list[_Part]) -> _Part:
    """Parts that share no coordinate as one."""
    scores, known = (np.concatenate(each) for each in zip(*((p.scores, p.known) for p in parts), strict=True))
    return _Part(scores, np.asarray(block_diag(*(part.of_array for part in parts))), known)


def _probabilities(values: Vector, places: Places, size: int) -> _Part:
    """Probabilities `(L,)`, whose counts stand at `places` in t of length `size`."""
    known = values <= _BOUNDARY
    largest = int(values.argmax())
    free = np.flatnonzero(~known & (np.arange(len(values)) != largest))
    # Next to 1 nothing is left free of it.
    known[largest] = len(free) == 0 and len(values) > 1
    scores, of_values = np.zeros((len(free), size)), np.zeros((len(values), len(free)))
    scores[np.arange(len(free)), places[free]] = 1.0 / values[free]
    scores[:, places[largest]] = -1.0 / values[largest]
    of_values[free, np.arange(len(free))] = 1.0
    of_values[largest] = -1.0
    return _Part(scores, of_values, known)


def _share(value: float, yes: int, no: int, size: int) -> _Part:
    """The probability of a yes, whose counts stand at `yes` and `no`."""
    of_both = _probabilities(np.array([value, 1.0 - value]), np.array([yes, no]), size)
    return _Part(of_both.scores, of_both.of_array[:1], np.array([of_both.known.any()]))


def _rate(value: float, events: int, exposure: int, size: int) -> _Part:
    """A rate, whose counts stand at `events` and `exposure`."""
    if value <= _BOUNDARY:
        return _Part(np.zeros((0, size)), np.zeros((1, 0)), np.array([True]))
    scores = np.zeros((1, size))
    scores[0, events], scores[0, exposure] = 1.0 / value, -1.0
    return _Part(scores, np.ones((1, 1)), np.array([False]))


def _discrete(record: RecordStatistics, name: str, array: Vector) -> _Part:
    """An array of the discrete columns, `(K, size)`."""
    columns, size = record.discrete, record.size
    assert columns is not None
    slices, parts = columns.statistic_slices, []
    for values, here in zip(array, record.places("features"), strict=True):
        if name == LEVEL_PROBABILITIES:
            parts += [_probabilities(values[levels], here[levels], size) for levels in columns.schema.level_slices]
        elif name == SUCCESS_PROBABILITIES:
            counted = zip(values, here[slices[SUCCESSES]], here[slices[FAILURES]], strict=True)
            parts += [_share(value, yes, no, size) for value, yes, no in counted]
        else:
            counted = zip(values, here[slices[EVENTS]], here[slices[EXPOSURE]], strict=True)
            parts += [_rate(value, events, exposure, size) for value, events, exposure in counted]
    return _joined(parts)


def _gaussian(record: RecordStatistics) -> GaussianMixtureModel:
    assert record.gaussian is not None
    return record.gaussian


def _frames(record: RecordStatistics, parameters: Parameters) -> Vector:
    """R of each component, `(K, D, D)`."""
    matrices = covariance_matrices(_gaussian(record).covariance, parameters["covariances"], parameters["means"])
    return np.asarray(np.linalg.cholesky(matrices))


def _means(record: RecordStatistics, parameters: Parameters) -> _Part:
    parts = []
    of_components = zip(parameters["means"], _frames(record, parameters), record.places("first"), strict=True)
    for component, (mean, frame, first) in enumerate(of_components):
        inverse = np.linalg.inv(frame)
        scores = np.zeros((len(mean), record.size))
        scores[:, component], scores[:, first] = -inverse @ mean, inverse
        parts.append(_Part(scores, frame, np.zeros(len(mean), dtype=np.bool_)))
    return _joined(parts)


def _variances(record: RecordStatistics, parameters: Parameters) -> _Part:
    """Of uncorrelated columns E is a number for each variance, and its score a sum over the columns that share it."""
    gaussian, means, covariances = _gaussian(record), parameters["means"], parameters["covariances"]
    (k, d), size = means.shape, covariances.size
    variances = np.broadcast_to(covariances.reshape(k, -1), (k, d))
    component = np.repeat(np.arange(k), d)
    of_cell = np.arange(k * d) if gaussian.covariance == "diag" else component
    scores = np.zeros((size, record.size))
    np.add.at(scores, (of_cell, component), 0.5 * ((means**2 / variances).ravel() - 1.0))
    scores[of_cell, record.places("first").ravel()] = -(means / variances).ravel()
    scores[np.arange(size), record.places("second").ravel()] = 0.5 / covariances.ravel()
    known = covariances.ravel() < _AT_FLOOR * gaussian.covariance_floor
    return _Part(scores[~known], np.diag(covariances.ravel())[:, ~known], known)


def _matrices(record: RecordStatistics, parameters: Parameters) -> _Part:
    means, frames, second = parameters["means"], _frames(record, parameters), record.places("second")
    d, floor = means.shape[1], _AT_FLOOR * _gaussian(record).covariance_floor
    low, high = np.triu_indices(d)
    scores = np.zeros((len(second), len(low), record.size))
    for component, (mean, frame, first) in enumerate(zip(means, frames, record.places("first"), strict=True)):
        # A tied covariance is of all components: each adds what is its own to the one score.
        matrix = component % len(second)
        inverse = np.linalg.inv(frame)
        centre, into = inverse @ mean, scores[matrix]
        # Of vech xxᵀ, in which each pair of columns stands once.
        both = inverse[low][:, low] * inverse[high][:, high] + inverse[low][:, high] * inverse[high][:, low]
        into[:, second[matrix]] = both * np.where(low == high, 0.5, 1.0)
        into[:, first] = -(inverse[low] * centre[high, np.newaxis] + inverse[high] * centre[low, np.newaxis])
        into[:, component] = centre[low] * centre[high] - (low == high)
    scores[:, low == high] /= 2
    parts = []
    for of_matrix, frame in zip(scores, frames, strict=False):
        # R E Rᵀ of one pair of entries of E.
        half = np.einsum("ap,bp->abp", frame[:, low], frame[:, high]) * np.where(low == high, 0.5, 1.0)
        of_array = (half + np.swapaxes(half, 0, 1)).reshape(d * d, -1)
        known = bool(np.linalg.eigvalsh(frame @ frame.T)[0] < floor)
        free = slice(0, 0 if known else None)
        parts.append(_Part(of_matrix[free], of_array[:, free], np.full(d * d, known)))
    return _joined(parts)
