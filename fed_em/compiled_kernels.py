"""The loops of `fed_em.kernels`, compiled with numba. They hold no lock of Python, so that threads run side by side.

The only licence that the compiler gets is to fuse a multiplication with an addition ("contract"), and in sums over rows to
add in lanes ("reassoc"), always the same: what is infinite or not a number stays so, as log-sum-exp needs.
NumPy's exponential takes 6 ns an entry where the processor has no
AVX-512; the one here is a polynomial, which compilers turn into vector code for any processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.compilation import Function, compiled

Vector = NDArray[np.float64]

# Rows whose exponentials are held apart at one time: in the first-level cache for some tens of components.
_TILE = 64

_LOG2_E = 1.4426950408889634
# Added to x, |x| < 2^51, it leaves the whole number nearest to x in the low bits.
_ROUND = 6755399441055744.0
# log 2 in two parts, the first short enough for k · high to be exact for |k| < 2^11 (Cody and Waite 1980).
_LOG2_HIGH, _LOG2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_EXPONENT_BIAS, _FRACTION_BITS = np.int64(1023), np.int64(52)
# exp is a normal number down to here, and 0 below.
_LEAST_LOG = -708.0


# Rows of which products are summed at one time: with four features and two components they fill the first-level cache.
_ROWS_SUMMED = 256
# Of more components, or of few features, BLAS makes as good a product.
_MOST_COMPONENTS, _FEWEST_FEATURES = 31, 16


def _compile(function: Function, *licences: str, **options: Any) -> Function:
    return compiled(function, fastmath={"contract", *licences}, **options)


def _exponential(x: float) -> float:
    """exp x for −708 ≤ x ≤ 0 to within one unit in the last place; not a number stays so.

    x = k log 2 + r with k whole and |r| ≤ ½ log 2; then 2^k times the Taylor polynomial of exp r, whose
    remainder r^14/14! is below 2^-57.
    """
    shifted = x * _LOG2_E + _ROUND
    k = shifted - _ROUND
    r = x - k * _LOG2_HIGH
    r = r - k * _LOG2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    power = (np.float64(shifted).view(np.int64) + _EXPONENT_BIAS) << _FRACTION_BITS
    return p * np.int64(power).view(np.float64)


_exponential = _compile(_exponential, inline="always")


def _products(columns: Vector, out: Vector) -> None:
    n_columns, n = columns.shape
    place = 0
    for d in range(n_columns):
        for e in range(d, n_columns):
            for i in range(n):
                out[place, i] = columns[d, i] * columns[e, i]
            place += 1


write_products: Callable[[Vector, Vector], None] = _compile(_products)


def _exponentiate(joint: Vector, largest: Vector, total: Vector, weighted: Vector) -> None:
    """Responsibilities in place; of each row the largest entry a₀, Σ exp(a − a₀), and Σ r (a − a₀)."""
    n, k = joint.shape
    exponentials = np.empty(_TILE * k)
    for start in range(0, n, _TILE):
        rows = min(_TILE, n - start)
        for i in range(start, start + rows):
            top = joint[i, 0]
            for j in range(1, k):
                top = top if top >= joint[i, j] else joint[i, j]
            largest[i] = top
            for j in range(k):
                below = joint[i, j] - top
                joint[i, j] = _LEAST_LOG if below < _LEAST_LOG else below
        flat = joint[start : start + rows].reshape(rows * k)
        for place in range(rows * k):
            power = _exponential(flat[place])
            exponentials[place] = 0.0 if flat[place] <= _LEAST_LOG else power
        for i in range(rows):
            summed = moment = 0.0
            for j in range(k):
                summed += exponentials[i * k + j]
                moment += exponentials[i * k + j] * joint[start + i, j]
            total[start + i] = summed
            weighted[start + i] = moment / summed
            share = 1.0 / summed
            for j in range(k):
                joint[start + i, j] = exponentials[i * k + j] * share


_exponentiate = _compile(_exponentiate)


def normalise_in_place(joint: Vector) -> tuple[Vector, Vector]:
    """As `fed_em.posterior.normalise_in_place`, of joint log-densities `(n, K)`, contiguous."""
    largest, total, weighted = np.empty((3, len(joint)))
    _exponentiate(joint, largest, total, weighted)
    log_total = np.log(total)
    # H = −Σ r log r with log r = (a − a₀) − log Σ exp(a − a₀).
    return largest + log_total, log_total - weighted


def _add_products(features: Vector, responsibilities: Vector, total: Vector) -> None:
    (n_features, n), k = features.shape, responsibilities.shape[1]
    by_component = np.empty((k, _ROWS_SUMMED))
    for start in range(0, n, _ROWS_SUMMED):
        rows = min(_ROWS_SUMMED, n - start)
        for i in range(rows):
            for j in range(k):
                by_component[j, i] = responsibilities[start + i, j]
        for f in range(0, n_features - n_features % 4, 4):
            a, b = features[f, start : start + rows], features[f + 1, start : start + rows]
            c, d = features[f + 2, start : start + rows], features[f + 3, start : start + rows]
            # A last component without a second is summed twice over, into nothing.
            for j in range(0, k, 2):
                second = min(j + 1, k - 1)
                r, s = by_component[j, :rows], by_component[second, :rows]
                ra = rb = rc = rd = sa = sb = sc = sd = 0.0
                for i in range(rows):
                    ra += a[i] * r[i]
                    rb += b[i] * r[i]
                    rc += c[i] * r[i]
                    rd += d[i] * r[i]
                    sa += a[i] * s[i]
                    sb += b[i] * s[i]
                    sc += c[i] * s[i]
                    sd += d[i] * s[i]
                total[f, j] += ra
                total[f + 1, j] += rb
                total[f + 2, j] += rc
                total[f + 3, j] += rd
                if second > j:
                    total[f, second] += sa
                    total[f + 1, second] += sb
                    total[f + 2, second] += sc
                    total[f + 3, second] += sd
        for f in range(n_features - n_features % 4, n_features):
            a = features[f, start : start + rows]
            for j in range(k):
                r, ra = by_component[j, :rows], 0.0
                for i in range(rows):
                    ra += a[i] * r[i]
                total[f, j] += ra


_add_products = _compile(_add_products, "reassoc")


def add_products(features: Vector, responsibilities: Vector, total: Vector) -> None:
    """Adds Φ R to `total`: twice as fast as BLAS for ten components, which are too few for it."""
    if responsibilities.shape[1] <= _MOST_COMPONENTS and len(features) >= _FEWEST_FEATURES:
        _add_products(features, responsibilities, total)
    else:
        total += features @ responsibilities
