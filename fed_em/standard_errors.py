"""Standard errors of a mixture's parameters by the outer products of scores, from one sum.

Fisher's identity makes the score of a record, ∇ log p(x_i | θ), that of its expected complete-data log-likelihood (`fed_em.chart`), which
is linear in its expected statistics: s_i = B(θ) t_i. The empirical information

    I  =  Σ w_i s_i s_iᵀ − g gᵀ / n  =  B (Σ w_i t_i t_iᵀ) Bᵀ − g gᵀ / n,      g = Σ w_i s_i,   n = Σ w_i

needs Σ w t tᵀ alone (`fed_em.statistic_products`): as Σ_k r_k = 1, g is in it too. Its inverse is the covariance of the estimates (Berndt, Hall, Hall
and Hausman 1974; McLachlan and Krishnan 2008, "The EM Algorithm and Extensions", section 4.3, who subtract g gᵀ / n; at a maximum g = 0).

Coordinates are a minimal set, in which the complete-data information of a component is diagonal, or about so: a in μ + R a and symmetric E in R (I + E) Rᵀ with
Σ = R Rᵀ; weights, levels' probabilities but for the most probable one; yes, rates. Standard errors of the model's own arrays follow by the
derivative of those in these (the delta method).

A prior adds nothing: these are errors of the likelihood's information at the parameters given, if anything too large under a prior.

What has no standard error gets none, and a remark. A probability, weight or rate next to 0 or 1, and a covariance at the floor, are on the boundary,
where the theory does not hold: they count as known, and the others' errors are given them. Whatever the records do not determine, that is, has a part in
a direction in which the information is zero up to rounding, is not identified; the others are what they are with any value along it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from fed_em.covariance import covariance_matrices
from fed_em.discrete_columns import EVENTS, LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES, SUCCESSES
from fed_em.errors import CallerError
from fed_em.layout import Layout
from fed_em.model import COUNT
from fed_em.parameters import Parameters
from fed_em.statistic_products import StatisticProducts
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]
Places = NDArray[np.intp]
T = TypeVar("T", bound=np.generic)

# A probability, a weight or a rate is on the boundary if it is no farther from it than this.
_BOUNDARY = 1e-6
# A covariance is at the floor if an eigenvalue is less than so many floors.
_AT_FLOOR = 2.0
# Eigenvalues of the information, scaled to a diagonal of ones, that are no more than this share of the largest are zero.
_SINGULAR = 1e-9
# Nor are those that are not so many times what rounding of the sum may do to them.
_ABOVE_ROUNDING = 10.0
# The share of a parameter's gradient along such directions from which on it is not identified.
_ALONG = 1e-6


class Remark(IntEnum):
    """Why a parameter has no standard error."""

    NONE = 0
    """It has one."""
    BOUNDARY = 1
    """It is on the boundary of what is possible, and counts as known."""
    NOT_IDENTIFIED = 2
    """The records do not determine it."""


@dataclass(frozen=True, eq=False)
class StandardErrors:
    """Standard errors of a mixture's parameters, in the coordinates of these.

    Attributes:
        errors: By array of the parameters, in its shape; NaN where there is none.
        remarks: Likewise, numbers of `Remark`.
        records: n of the sum that they are from, weights counted: its records alone are behind the errors.
        shift: How far the parameters are from the maximum of the likelihood of those records, by one Newton step: the largest shift of a parameter in
            its standard errors. Far below 1 where they were fitted to the same records without a prior, and have converged.
    """

    errors: Mapping[str, Vector]
    remarks: Mapping[str, NDArray[np.int8]]
    records: float
    shift: float


def standard_errors(
    products: StatisticProducts,
    parameters: Parameters,
    statistics: Statistics,
    rounding: Mapping[str, float] | None = None,
) -> StandardErrors:
    """Standard errors from one sum.

    Args:
        products: What was summed.
        parameters: Where; in the coordinates of the sum.
        statistics: The sum.
        rounding: The standard deviation of the rounding of an entry, by block of the layout; None for none to speak of.

    Raises:
        CallerError: the sum is of no record at all.
    """
    n = float(statistics[COUNT])
    if not n > 0:
        raise CallerError("the statistics are of no record at all", remedy="give at least one row")
    derivatives = _Derivatives.of(products, parameters)
    scores, matrix = derivatives.scores, products.matrix(statistics)
    gradient = scores @ matrix[:, products.of_record.slices["responsibilities"]].sum(axis=1)
    information = scores @ matrix @ scores.T - np.outer(gradient, gradient) / n
    noise = np.zeros(len(scores))
    if rounding is not None:
        of_entries = products.spread(_by_entry(statistics.layout, rounding))
        # Both triangles have the same rounding.
        noise = np.sqrt(2 * np.einsum("pa,pa->p", scores**2 @ of_entries**2, scores**2))
    inverse = _Inverse.of(information, noise)
    variances = np.full(len(derivatives.of_arrays), np.nan)
    identified = inverse.determines(derivatives.of_arrays)
    known = derivatives.remarks == Remark.BOUNDARY
    shown = identified & ~known
    variances[shown] = inverse.variances(derivatives.of_arrays[shown])
    remarks = np.where(known, Remark.BOUNDARY, np.where(identified, Remark.NONE, Remark.NOT_IDENTIFIED)).astype(np.int8)
    errors = np.sqrt(np.maximum(variances, 0.0))
    moved = np.abs(derivatives.of_arrays[shown] @ inverse.times(gradient))
    in_errors = np.divide(moved, errors[shown], out=np.zeros(len(moved)), where=errors[shown] > 0)
    return StandardErrors(derivatives.apart(errors), derivatives.apart(remarks), n, float(in_errors.max(initial=0.0)))


def _by_entry(layout: Layout, values: Mapping[str, float]) -> Vector:
    """The value of each product's block."""
    return np.concatenate([np.full(block.size, values[block.name]) for block in layout if block.name != COUNT])


@dataclass(frozen=True, eq=False)
class _Inverse:
    """The inverse of an information matrix, where it has one.

    Attributes:
        scales: Square roots of its diagonal, `(P,)`; 1 where that is zero.
        vectors, values: Eigenvectors `(P, Q)` and eigenvalues of the matrix divided by these, those that are not zero.
        null: The others, `(P, P − Q)`.
    """

    scales: Vector
    vectors: Vector
    values: Vector
    null: Vector

    @classmethod
    def of(cls, information: Vector, noise: Vector) -> _Inverse:
        """Args: the matrix `(P, P)`, and the standard deviations of its diagonal, `(P,)`."""
        diagonal = np.diagonal(information)
        # What is rounding alone tells nothing; the diagonal of zero keeps the direction among those of eigenvalue zero.
        told = diagonal > np.maximum(_ABOVE_ROUNDING * noise, 0.0)
        scales = np.sqrt(np.where(told, diagonal, 1.0))
        scaled = np.where(np.outer(told, told), information / np.outer(scales, scales), 0.0)
        values, vectors = np.linalg.eigh((scaled + scaled.T) / 2)
        # The rounding of entry pq is about √(noise_p noise_q), and the norm of a matrix of such at most Σ noise_p.
        unsure = float(np.where(told, noise / scales**2, 0.0).sum())
        floor = max(_SINGULAR * float(values.max(initial=0.0)), _ABOVE_ROUNDING * unsure)
        positive = values > floor
        return cls(scales, vectors[:, positive], values[positive], vectors[:, ~positive])

    def determines(self, gradients: Vector) -> NDArray[np.bool_]:
        """Whether functions of gradients `(n, P)` have no part in a direction of eigenvalue zero, `(n,)`."""
        scaled = gradients / self.scales
        length = np.square(scaled).sum(axis=1)
        along = np.square(scaled @ self.null).sum(axis=1)
        return np.asarray(along <= _ALONG * length)

    def variances(self, gradients: Vector) -> Vector:
        """Of functions of gradients `(n, P)`, `(n,)`."""
        return np.asarray((np.square(gradients / self.scales @ self.vectors) / self.values).sum(axis=1))

    def times(self, vector: Vector) -> Vector:
        """The inverse times a vector, `(P,)`."""
        inner = (vector / self.scales) @ self.vectors
        return np.asarray((self.vectors @ (inner / self.values)) / self.scales)


@dataclass(frozen=True, eq=False)
class _Derivatives:
    """The coordinates, and what depends on them.

    Attributes:
        shapes: Of the model's arrays, in the order of `of_arrays`.
        scores: B, `(P, M)`.
        of_arrays: The derivatives of all entries of the arrays in the coordinates, `(A, P)`.
        remarks: `(A,)`: `BOUNDARY` for entries that count as known.
    """

    shapes: Mapping[str, tuple[int, ...]]
    scores: Vector
    of_arrays: Vector
    remarks: NDArray[np.int8]

    @classmethod
    def of(cls, products: StatisticProducts, parameters: Parameters) -> _Derivatives:
        """At some parameters."""
        parts = [_weights(products, parameters)]
        if products.of_record.gaussian is not None:
            parts += [_means(products, parameters), _covariances(products, parameters)]
        if products.of_record.discrete is not None:
            parts += _discrete(products, parameters)
        of_arrays = block_diag(*(part.of_array for part in parts))
        remarks = np.concatenate([np.where(part.known, Remark.BOUNDARY, Remark.NONE) for part in parts])
        shapes = {part.name: parameters[part.name].shape for part in parts}
        return cls(shapes, np.concatenate([part.scores for part in parts]), of_arrays, remarks.astype(np.int8))

    def apart(self, entries: NDArray[T]) -> dict[str, NDArray[T]]:
        """`(A,)` as arrays by name."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()])
        split = np.split(entries, ends[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), split, strict=True)}


@dataclass(frozen=True, eq=False)
class _Part:
    """One array of the parameters: P′ coordinates, A′ entries.

    Attributes:
        name: Of the array.
        scores: `(P′, M)`.
        of_array: `(A′, P′)`.
        known: `(A′,)`, whether the entry is on the boundary.
    """

    name: str
    scores: Vector
    of_array: Vector
    known: NDArray[np.bool_]


def _probabilities(values: Vector, places: Places, size: int) -> tuple[Vector, Vector, NDArray[np.bool_]]:
    """Coordinates of probabilities `(L,)`: all but the largest, and those on the boundary.

    Args:
        values: The probabilities.
        places: Where their counts stand in t, `(L,)`.
        size: M.

    Returns:
        Scores, derivatives and what is known, as in `_Part`.
    """
    known = values <= _BOUNDARY
    largest = int(values.argmax())
    free = np.flatnonzero(~known & (np.arange(len(values)) != largest))
    scores, of_values = np.zeros((len(free), size)), np.zeros((len(values), len(free)))
    scores[np.arange(len(free)), places[free]] = 1.0 / values[free]
    scores[:, places[largest]] = -1.0 / values[largest]
    of_values[free, np.arange(len(free))] = 1.0
    of_values[largest] = -1.0
    # Next to 1 nothing is left free of it.
    known[largest] = len(free) == 0 and len(values) > 1
    return scores, of_values, known


def _weights(products: StatisticProducts, parameters: Parameters) -> _Part:
    record = products.of_record
    places = np.arange(record.size)[record.slices["responsibilities"]]
    return _Part("weights", *_probabilities(parameters["weights"], places, record.size))


def _frames(products: StatisticProducts, parameters: Parameters) -> Vector:
    """R of each component, `(K, D, D)`."""
    gaussian = products.of_record.gaussian
    assert gaussian is not None
    matrices = covariance_matrices(gaussian.covariance, parameters["covariances"], parameters["means"])
    return np.asarray(np.linalg.cholesky(matrices))


def _means(products: StatisticProducts, parameters: Parameters) -> _Part:
    """a: the score is R⁻¹ (r x̂ − r μ)."""
    record, means, frames = products.of_record, parameters["means"], _frames(products, parameters)
    (k, d), inverses = means.shape, np.linalg.inv(frames)
    scores, of_array = np.zeros((k, d, record.size)), np.zeros((k * d, k * d))
    first = record.slices["first"].start
    for component, (mean, inverse) in enumerate(zip(means, inverses, strict=True)):
        here = slice(component * d, (component + 1) * d)
        scores[component, :, component] = -inverse @ mean
        scores[component, :, first + here.start : first + here.stop] = inverse
        of_array[here, here] = frames[component]
    return _Part("means", scores.reshape(k * d, -1), of_array, np.zeros(k * d, dtype=np.bool_))


def _covariances(products: StatisticProducts, parameters: Parameters) -> _Part:
    gaussian = products.of_record.gaussian
    assert gaussian is not None
    if gaussian.covariance in ("diag", "spherical"):
        return _variances(products, parameters)
    return _matrices(products, parameters)


def _variances(products: StatisticProducts, parameters: Parameters) -> _Part:
    """e in σ² (1 + e): the score is ½ Σ (r x̂² − 2 μ r x̂ + r μ²) / σ² − ½ r for each variance there is."""
    record, gaussian = products.of_record, products.of_record.gaussian
    assert gaussian is not None
    means, covariances = parameters["means"], parameters["covariances"]
    (k, d), size = means.shape, covariances.size
    variances = np.broadcast_to(covariances.reshape(k, -1), (k, d))
    scores = np.zeros((size, record.size))
    # The variance that a cell's column has in a component.
    of_cell = np.arange(k * d) if gaussian.covariance == "diag" else np.repeat(np.arange(k), d)
    component = np.repeat(np.arange(k), d)
    np.add.at(scores, (of_cell, component), 0.5 * ((means**2 / variances).ravel() - 1.0))
    scores[of_cell, record.slices["first"].start + np.arange(k * d)] = -(means / variances).ravel()
    scores[np.arange(size), record.slices["second"].start + np.arange(size)] = 0.5 / covariances.ravel()
    known = covariances.ravel() < _AT_FLOOR * gaussian.covariance_floor
    return _Part("covariances", scores[~known], np.diag(covariances.ravel())[:, ~known], known)


def _matrices(products: StatisticProducts, parameters: Parameters) -> _Part:
    """E in R (I + E) Rᵀ: the score is that of R⁻¹ M R⁻ᵀ − r I, M = Σ r (x̂x̂ᵀ + C − μx̂ᵀ − x̂μᵀ + μμᵀ), half of it on the diagonal."""
    record, gaussian, means = products.of_record, products.of_record.gaussian, parameters["means"]
    assert gaussian is not None
    (k, d), frames = means.shape, _frames(products, parameters)
    tied = gaussian.covariance == "tied"
    n_matrices, triangle = 1 if tied else k, d * (d + 1) // 2
    scores = np.zeros((n_matrices, triangle, record.size))
    of_array, known = np.zeros((n_matrices, d * d, n_matrices, triangle)), np.zeros(n_matrices, dtype=np.bool_)
    low, high = np.triu_indices(d)
    halves, on_diagonal = np.where(low == high, 0.5, 1.0), (low == high).astype(np.float64)
    first, second = record.slices["first"].start, record.slices["second"].start
    for component in range(k):
        matrix, inverse = 0 if tied else component, np.linalg.inv(frames[component])
        centre, of_matrix = inverse @ means[component], scores[0 if tied else component]
        one, other = inverse[low], inverse[high]
        # Of vech xxᵀ, which holds each pair of columns once.
        both = one[:, low] * other[:, high] + one[:, high] * other[:, low]
        both[:, low == high] /= 2
        here = slice(second + matrix * triangle, second + (matrix + 1) * triangle)
        of_matrix[:, here] = halves[:, np.newaxis] * both
        cross = one * centre[high, np.newaxis] + other * centre[low, np.newaxis]
        of_matrix[:, first + component * d : first + (component + 1) * d] = -halves[:, np.newaxis] * cross
        of_matrix[:, component] = halves * (centre[low] * centre[high] - on_diagonal)
        # R E Rᵀ, with E symmetric and of one pair of ones.
        frame = frames[component]
        moved = np.einsum("ap,bp->abp", frame[:, low], frame[:, high])
        moved = (moved + np.swapaxes(moved, 0, 1)) * np.where(low == high, 0.5, 1.0)
        of_array[matrix, :, matrix] = moved.reshape(d * d, triangle)
        known[matrix] = np.linalg.eigvalsh(frame @ frame.T)[0] < _AT_FLOOR * gaussian.covariance_floor
    free = np.repeat(~known, triangle)
    flat = of_array.reshape(n_matrices * d * d, n_matrices * triangle)
    return _Part("covariances", scores.reshape(n_matrices * triangle, -1)[free], flat[:, free], np.repeat(known, d * d))


def _discrete(products: StatisticProducts, parameters: Parameters) -> list[_Part]:
    """Probabilities and rates, of each component and column by themselves."""
    record, columns = products.of_record, products.of_record.discrete
    assert columns is not None
    k, slices, parts = products.model.n_components, columns.statistic_slices, []
    places = np.arange(record.size)[record.slices["features"]].reshape(k, -1)
    for name, size in columns.parameter_shapes.items():
        scores: list[Vector] = []
        of_array: list[Vector] = []
        known: list[NDArray[np.bool_]] = []
        for component in range(k):
            values = parameters[name][component]
            for part in columns.schema.level_slices if name == LEVEL_PROBABILITIES else map(_one, range(size)):
                here = places[component]
                if name == LEVEL_PROBABILITIES:
                    found = _probabilities(values[part], here[part], record.size)
                elif name == SUCCESS_PROBABILITIES:
                    both = np.concatenate((values[part], 1.0 - values[part]))
                    yes = here[slices[SUCCESSES]][part]
                    no = yes + size
                    of_both = _probabilities(both, np.concatenate((yes, no)), record.size)
                    found = of_both[0], of_both[1][:1], of_both[2].any(keepdims=True)
                else:
                    found = _rate(values[part], here[slices[EVENTS]][part], size, record.size)
                for into, piece in zip((scores, of_array, known), found, strict=True):
                    into.append(piece)
        parts.append(_Part(name, np.concatenate(scores), block_diag(*of_array), np.concatenate(known)))
    return parts


def _one(place: int) -> slice:
    return slice(place, place + 1)


def _rate(value: Vector, events: Places, n_columns: int, size: int) -> tuple[Vector, Vector, NDArray[np.bool_]]:
    """A rate `(1,)`: the score is x / λ − 1 of an observed cell."""
    known = value <= _BOUNDARY
    scores = np.zeros((1, size))
    scores[0, events], scores[0, events + n_columns] = 1.0 / np.maximum(value, _BOUNDARY), -1.0
    return scores[~known], np.ones((1, 1))[:, ~known], known
