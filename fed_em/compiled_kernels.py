"""The loops of `fed_em.kernels`, compiled with numba. They hold no lock of Python, so that threads run side by side.

The only licence that the compiler gets is to fuse a multiplication with an addition ("contract"): what is infinite
or not a number stays so, as log-sum-exp needs. NumPy's exponential takes 6 ns an entry where the processor has no
AVX-512; the one here is a polynomial, which compilers turn into vector code for any processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.compilation import Function, compiled
from fed_em.covariance import CovarianceStructure
from fed_em.feature_map import feature_runs, write_points
from fed_em.vector_lanes import LANES, add_product, load, spread, store

Vector = NDArray[np.float64]

# Rows of a strip: with two components as many running sums as there are registers for.
_STRIP = 3 * LANES
# Features that are multiplied with two components at one time, for the same reason; and rows whose features stay in the first cache.
_SIX, _TILE = 6, 384

_LOG2_E = 1.4426950408889634
# Added to x, |x| < 2^51, it leaves the whole number nearest to x in the low bits.
_ROUND = 6755399441055744.0
# log 2 in two parts, the first short enough for k · high to be exact for |k| < 2^11 (Cody and Waite 1980).
_LOG2_HIGH, _LOG2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_EXPONENT_BIAS, _FRACTION_BITS = np.int64(1023), np.int64(52)
# exp is a normal number down to here, and 0 below.
_LEAST_LOG = -708.0


def _compile(function: Function, **options: Any) -> Function:
    return compiled(function, fastmath={"contract"}, **options)


def _exponential(x: float) -> float:
    """exp x for −708 ≤ x ≤ 0 to within one unit in the last place; not a number stays so.

    x = k log 2 + r with k whole and |r| ≤ ½ log 2; then 2^k times the Taylor polynomial of exp r, whose
    remainder r^14/14! is below 2^-57.
    """
    shifted = x * _LOG2_E + _ROUND
    k = shifted - _ROUND
    r = x - k * _LOG2_HIGH
    r = r - k * _LOG2_LOW
    # exp r = 1 + r (1 + r q), and of q even and odd powers apart: chains of half the length, side by side in a processor.
    square = r * r
    even = 1.0 / 479001600.0
    even = even * square + 1.0 / 3628800.0
    even = even * square + 1.0 / 40320.0
    even = even * square + 1.0 / 720.0
    even = even * square + 1.0 / 24.0
    even = even * square + 0.5
    odd = 1.0 / 6227020800.0
    odd = odd * square + 1.0 / 39916800.0
    odd = odd * square + 1.0 / 362880.0
    odd = odd * square + 1.0 / 5040.0
    odd = odd * square + 1.0 / 120.0
    odd = odd * square + 1.0 / 6.0
    p = odd * r + even
    p = p * r + 1.0
    p = p * r + 1.0
    power = (np.float64(shifted).view(np.int64) + _EXPONENT_BIAS) << _FRACTION_BITS
    return p * np.int64(power).view(np.float64)


_exponential = _compile(_exponential, inline="always")


def n_entries(_: CovarianceStructure, n_columns: int) -> int:
    """As `Kernels.n_entries`: [1, x]."""
    return 1 + n_columns


def prepare(_: CovarianceStructure, rows: Vector, shift: Vector | None, out: Vector) -> None:
    """As `Kernels.prepare`."""
    write_points(rows, shift, out)


def _strip_log_densities(points: Vector, runs: NDArray[np.int64], pairs: Vector, first: int, out: Vector) -> None:
    """Θ Φ of the rows from `first` on, as many as a strip has, two components at a time.

    Σ_d ỹ_d Σ_e θ_de ỹ_e, the inner sums and the outer one in registers: no feature is ever written.
    """
    n, n_components = points.shape[1], len(out)
    nothing = spread(0.0)
    for pair in range(len(pairs)):
        coefficients, j = pairs[pair], 0
        a0 = a1 = a2 = b0 = b1 = b2 = nothing
        for d in range(len(runs)):
            s0 = s1 = s2 = t0 = t1 = t2 = nothing
            place = d * n + first
            for _ in range(runs[d]):
                left, right = spread(coefficients[j, 0]), spread(coefficients[j, 1])
                x = load(points, place)
                s0, t0 = add_product(s0, left, x), add_product(t0, right, x)
                x = load(points, place + LANES)
                s1, t1 = add_product(s1, left, x), add_product(t1, right, x)
                x = load(points, place + 2 * LANES)
                s2, t2 = add_product(s2, left, x), add_product(t2, right, x)
                place += n
                j += 1
            place = d * n + first
            x = load(points, place)
            a0, b0 = add_product(a0, s0, x), add_product(b0, t0, x)
            x = load(points, place + LANES)
            a1, b1 = add_product(a1, s1, x), add_product(b1, t1, x)
            x = load(points, place + 2 * LANES)
            a2, b2 = add_product(a2, s2, x), add_product(b2, t2, x)
        place = 2 * pair * n + first
        store(out, place, a0)
        store(out, place + LANES, a1)
        store(out, place + 2 * LANES, a2)
        if 2 * pair + 1 < n_components:
            place += n
            store(out, place, b0)
            store(out, place + LANES, b1)
            store(out, place + 2 * LANES, b2)


_strip_log_densities = _compile(_strip_log_densities)


def _log_densities(points: Vector, runs: NDArray[np.int64], coefficients: Vector, out: Vector) -> None:
    (n_features, n_components), n = coefficients.shape, points.shape[1]
    pairs = np.zeros(((n_components + 1) // 2, n_features, 2))
    for k in range(n_components):
        for j in range(n_features):
            pairs[k // 2, j, k % 2] = coefficients[j, k]
    if n >= _STRIP:
        for start in range(0, n, _STRIP):
            # The last strip begins earlier where it would end beyond, and computes some rows again.
            _strip_log_densities(points, runs, pairs, min(start, n - _STRIP), out)
    else:
        few, found = np.zeros((len(points), _STRIP)), np.empty((n_components, _STRIP))
        few[:, :n] = points
        _strip_log_densities(few, runs, pairs, 0, found)
        out[...] = found[:, :n]


_log_densities = _compile(_log_densities)


def write_log_densities(structure: CovarianceStructure, points: Vector, coefficients: Vector, out: Vector) -> None:
    """As `Kernels.write_log_densities`."""
    _log_densities(points, feature_runs(structure, len(points) - 1), coefficients, out)


def _add_pair(features: Vector, one: Vector, other: Vector, total: Vector) -> None:
    """Add the sums of six features `(6, n)` times two responsibilities `(n,)` to `(6, 2)`."""
    x0, x1, x2, x3, x4, x5 = features[0], features[1], features[2], features[3], features[4], features[5]
    s0 = s1 = s2 = s3 = s4 = s5 = 0.0
    t0 = t1 = t2 = t3 = t4 = t5 = 0.0
    for i in range(len(one)):
        s, t = one[i], other[i]
        s0, t0 = s0 + s * x0[i], t0 + t * x0[i]
        s1, t1 = s1 + s * x1[i], t1 + t * x1[i]
        s2, t2 = s2 + s * x2[i], t2 + t * x2[i]
        s3, t3 = s3 + s * x3[i], t3 + t * x3[i]
        s4, t4 = s4 + s * x4[i], t4 + t * x4[i]
        s5, t5 = s5 + s * x5[i], t5 + t * x5[i]
    total[0, 0], total[0, 1] = s0, t0
    total[1, 0], total[1, 1] = s1, t1
    total[2, 0], total[2, 1] = s2, t2
    total[3, 0], total[3, 1] = s3, t3
    total[4, 0], total[4, 1] = s4, t4
    total[5, 0], total[5, 1] = s5, t5


# What is added may be added in another order ("reassoc"), which vectors are; which order, the compiled code says.
_add_pair = compiled(_add_pair, fastmath={"contract", "reassoc"})


def _add_sums(points: Vector, runs: NDArray[np.int64], responsibilities: Vector, total: Vector) -> None:
    (n_features, n_components), n = total.shape, points.shape[1]
    features, sums = np.zeros((_SIX, _TILE)), np.empty((_SIX, 2))
    for start in range(0, n, _TILE):
        stop = min(start + _TILE, n)
        d = e = 0
        for j in range(0, n_features, _SIX):
            some = min(_SIX, n_features - j)
            for f in range(some):
                left, right, product = points[d, start:stop], points[e, start:stop], features[f]
                for i in range(stop - start):
                    product[i] = left[i] * right[i]
                e += 1
                if e == d + runs[d]:
                    d += 1
                    e = d
            for k in range(0, n_components, 2):
                last = min(k + 1, n_components - 1)
                _add_pair(features, responsibilities[k, start:stop], responsibilities[last, start:stop], sums)
                for f in range(some):
                    for c in range(last - k + 1):
                        total[j + f, k + c] += sums[f, c]


_add_sums = _compile(_add_sums)


def add_sums(structure: CovarianceStructure, points: Vector, responsibilities: Vector, total: Vector) -> None:
    """As `Kernels.add_sums`."""
    _add_sums(points, feature_runs(structure, len(points) - 1), responsibilities, total)


def _exponentiate(joint: Vector, largest: Vector, total: Vector, weighted: Vector) -> None:
    """Responsibilities in place; of each row the largest entry a₀, Σ exp(a − a₀), and Σ r (a − a₀)."""
    n_components, n = joint.shape
    for start in range(0, n, _TILE):
        stop = min(start + _TILE, n)
        top, summed, moment = largest[start:stop], total[start:stop], weighted[start:stop]
        top[...] = joint[0, start:stop]
        for k in range(1, n_components):
            logs = joint[k, start:stop]
            for i in range(stop - start):
                top[i] = top[i] if top[i] >= logs[i] else logs[i]
        summed[...] = 0.0
        moment[...] = 0.0
        for k in range(n_components):
            logs = joint[k, start:stop]
            for i in range(stop - start):
                below = logs[i] - top[i]
                below = _LEAST_LOG if below < _LEAST_LOG else below
                power = _exponential(below)
                power = 0.0 if below <= _LEAST_LOG else power
                logs[i] = power
                summed[i] += power
                moment[i] += power * below
        for i in range(stop - start):
            moment[i] /= summed[i]
        for k in range(n_components):
            shares = joint[k, start:stop]
            for i in range(stop - start):
                shares[i] /= summed[i]


_exponentiate = _compile(_exponentiate)


def normalise_in_place(joint: Vector) -> tuple[Vector, Vector]:
    """As `fed_em.posterior.normalise_in_place`, of joint log-densities `(K, n)`, contiguous."""
    largest, total, weighted = np.empty((3, joint.shape[1]))
    _exponentiate(joint, largest, total, weighted)
    log_total = np.log(total)
    # H = −Σ r log r with log r = (a − a₀) − log Σ exp(a − a₀).
    return largest + log_total, log_total - weighted
