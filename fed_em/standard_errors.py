"""Standard errors of a mixture's parameters by the outer products of scores, from one sum.

Fisher's identity makes the score of a record, ∇ log p(x_i | θ), that of its expected complete-data log-likelihood (`fed_em.chart`), which
is linear in its expected statistics: s_i = B(θ) t_i. The empirical information

    I  =  Σ w_i s_i s_iᵀ − g gᵀ / n  =  B (Σ w_i t_i t_iᵀ) Bᵀ − g gᵀ / n,      g = Σ w_i s_i,   n = Σ w_i

needs Σ w t tᵀ alone (`fed_em.statistic_products`): as Σ_k r_k = 1, g is in it too. Its inverse is the covariance of the estimates (Berndt,
Hall, Hall and Hausman 1974, "Estimation and inference in nonlinear structural models"; McLachlan and Krishnan 2008, "The EM Algorithm
and Extensions", section 4.3, who subtract g gᵀ / n as well; at a maximum g = 0).

Standard errors of the model's arrays follow by their derivatives in the score's coordinates (the delta method; `fed_em.record_scores`).

A prior adds nothing: errors are those of the likelihood's information at the parameters given, under a prior rather too large.

What has no standard error gets none, and a remark. A probability or weight next to 0 or 1, a rate next to 0 and a covariance at the
floor are on the boundary, where the theory does not hold: they count as known, and the other errors are given them. What the records
do not determine, that is, what has a part in a direction in which the information is zero up to rounding, is not identified. Errors
of the others do not depend on what is along such directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from fed_em import tensors
from fed_em.blas import one_blas_thread
from fed_em.description import check_real, read_mapping
from fed_em.errors import CallerError
from fed_em.layout import Layout
from fed_em.model import COUNT
from fed_em.parameters import Parameters
from fed_em.record_scores import RecordScores
from fed_em.statistic_products import StatisticProducts
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]

FORMAT = 1
_ERRORS, _REMARKS = "errors.", "remarks."

# Eigenvalues of the information, scaled to a diagonal of ones, that are no more than this share of the largest are zero.
_SINGULAR = 1e-9
# Nor are those that are not so many times what rounding of the sum may do to them.
_ABOVE_ROUNDING = 10.0
# The rounding of a sum of many products, relative to that of their absolute values, in units of the last place.
_EPSILONS = 8.0
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
        shift: How far the parameters are from the maximum of the likelihood of those records, by one Newton step: the largest shift of
            an entry, in its standard errors. Far below 1 where they were fitted to the same records, without a prior, to convergence.
    """

    errors: Mapping[str, Vector]
    remarks: Mapping[str, NDArray[np.int8]]
    records: float
    shift: float

    def check_fits(self, parameters: Parameters) -> None:
        """Raise `CallerError` unless they are of arrays of such names and shapes."""
        shapes = {name: array.shape for name, array in parameters.items()}
        for arrays in (self.errors, self.remarks):
            if {name: array.shape for name, array in arrays.items()} != shapes:
                raise CallerError("the standard errors are of other parameters than the model's")

    def to_bytes(self) -> bytes:
        """Safetensors bytes: float64 arrays `errors.*`, 0 where there is none, and `remarks.*`; `format` (1), `records` and `shift`."""
        arrays = {_ERRORS + name: np.nan_to_num(array) for name, array in self.errors.items()}
        arrays |= {_REMARKS + name: array.astype(np.float64) for name, array in self.remarks.items()}
        return tensors.encode(arrays, {"format": FORMAT, "records": self.records, "shift": self.shift})

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> StandardErrors:
        """What `to_bytes` wrote.

        Args:
            data: The bytes, from anywhere.
            what: What they are, for messages.

        Raises:
            CallerError: garbage, another format, an error that is no number of at least 0, an unknown remark, or one array without
                the other.
        """
        arrays, document = tensors.decode(data, what)
        fields = read_mapping(f"the metadata of {what}", document, ("format", "records", "shift"))
        if type(fields["format"]) is not int or fields["format"] != FORMAT:
            raise CallerError(f"{what} has format {fields['format']!r}, this version reads format {FORMAT}")
        for name in ("records", "shift"):
            check_real(f"'{name}' of {what}", fields[name], 0.0)
        errors = {n.removeprefix(_ERRORS): array for n, array in arrays.items() if n.startswith(_ERRORS)}
        codes = {n.removeprefix(_REMARKS): array for n, array in arrays.items() if n.startswith(_REMARKS)}
        if set(errors) != set(codes) or len(arrays) != 2 * len(errors):
            raise CallerError(f"the arrays of {what} are not errors and remarks of the same parameters")
        remarks = {name: array.astype(np.int8) for name, array in codes.items()}
        for name, array in errors.items():
            if not (np.isfinite(array) & (array >= 0)).all() or not np.isin(codes[name], list(Remark)).all():
                raise CallerError(f"'{name}' in {what} holds what is no standard error")
            if codes[name].shape != array.shape:
                raise CallerError(f"errors and remarks of '{name}' in {what} differ in shape")
            errors[name] = np.where(remarks[name] == Remark.NONE, array, np.nan)
        return cls(errors, remarks, float(fields["records"]), float(fields["shift"]))


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
    with one_blas_thread():
        return _errors(products, parameters, statistics, rounding, n)


def _errors(
    products: StatisticProducts,
    parameters: Parameters,
    statistics: Statistics,
    rounding: Mapping[str, float] | None,
    n: float,
) -> StandardErrors:
    derivatives = RecordScores.of(products.of_record, parameters)
    scores, matrix = derivatives.scores, products.matrix(statistics)
    gradient = scores @ matrix[:, products.of_record.slices["responsibilities"]].sum(axis=1)
    information = scores @ matrix @ scores.T - np.outer(gradient, gradient) / n
    # That of the arithmetic, and of the sum, in which both triangles have the same.
    noise = _EPSILONS * np.finfo(np.float64).eps * _diagonal(np.abs(scores), np.abs(matrix))
    if rounding is not None:
        of_entries = products.spread(_by_entry(statistics.layout, rounding))
        noise += np.sqrt(2 * _diagonal(scores**2, of_entries**2))
    inverse = _Inverse.of(information, noise)
    variances = np.full(len(derivatives.of_arrays), np.nan)
    identified = inverse.determines(derivatives.of_arrays)
    shown = identified & ~derivatives.known
    variances[shown] = inverse.variances(derivatives.of_arrays[shown])
    remarks = np.where(
        derivatives.known, Remark.BOUNDARY, np.where(identified, Remark.NONE, Remark.NOT_IDENTIFIED)
    ).astype(np.int8)
    errors = np.sqrt(np.maximum(variances, 0.0))
    moved = np.abs(derivatives.of_arrays[shown] @ inverse.times(gradient))
    in_errors = np.divide(moved, errors[shown], out=np.zeros(len(moved)), where=errors[shown] > 0)
    return StandardErrors(derivatives.apart(errors), derivatives.apart(remarks), n, float(in_errors.max(initial=0.0)))


def _diagonal(factors: Vector, matrix: Vector) -> Vector:
    """That of factors · matrix · factorsᵀ."""
    return np.asarray(np.einsum("pa,pa->p", factors @ matrix, factors))


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
        # What is rounding alone tells nothing: a row of zeros has the eigenvalue zero.
        told = diagonal > _ABOVE_ROUNDING * noise
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
