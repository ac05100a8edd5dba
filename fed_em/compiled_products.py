"""The two matrix products of an E-step compiled with numba. They hold no lock of Python, so that threads run side by side.

A block is kept as its points ỹ = [1, y]. Features, which are products of two of their entries, are made in the first-level cache, some
at a time, used by all components, and forgotten.

Compiled code assigns no part of an array to another, which takes the compiler longer than all loops; and numbers that are written out are
made `np.int64` where a function is called with them, as numba compiles a function anew for each that it can see.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fed_em.compilation import compiled
from fed_em.compiled_few_rows import add_sums_of_few_rows
from fed_em.covariance import CovarianceStructure
from fed_em.feature_map import FeatureMap, feature_factors, write_points
from fed_em.vector_lanes import LANES, filled_up, load, spread, store, summed

Vector = NDArray[np.float64]
Factors = NDArray[np.int64]

# Rows of a strip: with two components as many running sums as there are registers for. And how many of their features fill half a cache.
_STRIP, _SOME = 3 * LANES, 66
# Features that are multiplied with two components at one time, for the same reason; and rows whose features stay in the cache, a third of
# the most that a block has.
_THREE, _TILE = 3, 85 * LANES


def n_entries(_: CovarianceStructure, n_columns: int) -> int:
    """As `Kernels.n_entries`: [1, x]."""
    return 1 + n_columns


def prepare(_: CovarianceStructure, rows: Vector, shift: Vector | None, out: Vector) -> None:
    """As `Kernels.prepare`."""
    write_points(rows, shift, out)


def _write_features(points: Vector, factors: Factors, first: int, n_lanes: int, features: Vector) -> None:
    """Some features of rows from `first` on, so many times LANES: one after another, `(len(factors), n_lanes * LANES)` flat."""
    n, place = points.shape[1], 0
    for j in range(len(factors)):
        left, right = factors[j, 0] * n + first, factors[j, 1] * n + first
        for _ in range(n_lanes):
            store(features, place, load(points, left) * load(points, right))
            left, right, place = left + LANES, right + LANES, place + LANES


_write_features = compiled(_write_features)


def _add_strip(features: Vector, pair: Vector, out: Vector, one: int, other: int, begin: bool) -> None:
    """Add features of a strip times two components' coefficients `(n, 2)` to log-densities, which are at two places of `out`."""
    nothing = spread(0.0)
    a0 = a1 = a2 = b0 = b1 = b2 = nothing
    if not begin:
        a0, a1, a2 = load(out, one), load(out, one + LANES), load(out, one + 2 * LANES)
        b0, b1, b2 = load(out, other), load(out, other + LANES), load(out, other + 2 * LANES)
    for j in range(len(pair)):
        left, right = pair[j, 0], pair[j, 1]
        x = load(features, j * _STRIP)
        a0, b0 = a0 + left * x, b0 + right * x
        x = load(features, j * _STRIP + LANES)
        a1, b1 = a1 + left * x, b1 + right * x
        x = load(features, j * _STRIP + 2 * LANES)
        a2, b2 = a2 + left * x, b2 + right * x
    store(out, other, b0)
    store(out, other + LANES, b1)
    store(out, other + 2 * LANES, b2)
    store(out, one, a0)
    store(out, one + LANES, a1)
    store(out, one + 2 * LANES, a2)


_add_strip = compiled(_add_strip)


def _strip_log_densities(
    points: Vector, factors: Factors, pairs: Vector, first: int, features: Vector, out: Vector
) -> None:
    n, last = points.shape[1], len(out) - 1
    for j in range(0, len(factors), _SOME):
        some = factors[j : j + _SOME]
        _write_features(points, some, first, np.int64(3), features)  # type: ignore[arg-type]
        for p in range(len(pairs)):
            # Of an odd number of components the last is its own neighbour.
            one, other = 2 * p * n + first, min(2 * p + 1, last) * n + first
            _add_strip(features, pairs[p, j : j + _SOME], out, one, other, j == 0)


_strip_log_densities = compiled(_strip_log_densities)


def _log_densities(points: Vector, factors: Factors, coefficients: Vector, out: Vector) -> None:
    """Of a strip of rows or more."""
    (n_features, n_components), n = coefficients.shape, points.shape[1]
    pairs = np.empty(((n_components + 1) // 2, n_features, 2))
    for p in range(len(pairs)):
        for j in range(n_features):
            pairs[p, j, 0] = coefficients[j, 2 * p]
            pairs[p, j, 1] = coefficients[j, min(2 * p + 1, n_components - 1)]
    features = np.empty(_SOME * _STRIP)
    for start in range(0, n, _STRIP):
        # The last strip begins earlier where it would end beyond, and computes some rows again.
        _strip_log_densities(points, factors, pairs, min(start, n - _STRIP), features, out)


_log_densities = compiled(_log_densities)


def write_log_densities(structure: FeatureMap, points: Vector, coefficients: Vector, out: Vector) -> None:
    """As `Kernels.write_log_densities`."""
    factors, n = feature_factors(structure, len(points) - 1), points.shape[1]
    if n >= _STRIP:
        _log_densities(points, factors, coefficients, out)
    else:
        found = np.empty((len(out), _STRIP))
        _log_densities(filled_up(points, _STRIP), factors, coefficients, found)
        out[...] = found[:, :n]


def _add_three(features: Vector, n_lanes: int, responsibilities: Vector, one: int, other: int, total: Vector) -> None:
    """Add the sums over rows of three features times two components' responsibilities, which are at two places, to `(3, 2)`."""
    s0 = s1 = s2 = t0 = t1 = t2 = spread(0.0)
    n = n_lanes * LANES
    for i in range(0, n, LANES):
        s, t = load(responsibilities, one + i), load(responsibilities, other + i)
        x = load(features, i)
        s0, t0 = s0 + s * x, t0 + t * x
        x = load(features, n + i)
        s1, t1 = s1 + s * x, t1 + t * x
        x = load(features, 2 * n + i)
        s2, t2 = s2 + s * x, t2 + t * x
    total[0, 0] += summed(s0)
    total[0, 1] += summed(t0)
    total[1, 0] += summed(s1)
    total[1, 1] += summed(t1)
    total[2, 0] += summed(s2)
    total[2, 1] += summed(t2)


_add_three = compiled(_add_three)


def _add_tile(
    points: Vector, factors: Factors, first: int, n_lanes: int, responsibilities: Vector, features: Vector, sums: Vector
) -> None:
    n, last = responsibilities.shape[1], len(responsibilities) - 1
    for j in range(0, len(factors), _THREE):
        _write_features(points, factors[j : j + _THREE], first, n_lanes, features)
        for p in range(sums.shape[1]):
            one, other = 2 * p * n + first, min(2 * p + 1, last) * n + first
            _add_three(features, n_lanes, responsibilities, one, other, sums[j : j + _THREE, p])


_add_tile = compiled(_add_tile)


def _add_sums(points: Vector, factors: Factors, n: int, responsibilities: Vector, total: Vector) -> None:
    """The sums over the first n rows, a multiple of LANES."""
    n_features, n_components = total.shape
    features = np.zeros(_THREE * _TILE)
    # As many features as are added at a time, some of them beyond the last.
    sums = np.zeros((n_features + _THREE, (n_components + 1) // 2, 2))
    for start in range(0, n, _TILE):
        n_lanes = (min(start + _TILE, n) - start) // LANES
        _add_tile(points, factors, start, n_lanes, responsibilities, features, sums)
    for j in range(n_features):
        for k in range(n_components):
            total[j, k] += sums[j, k // 2, k % 2]


_add_sums = compiled(_add_sums)


def add_sums(structure: FeatureMap, points: Vector, responsibilities: Vector, total: Vector) -> None:
    """As `Kernels.add_sums`."""
    factors, n = feature_factors(structure, len(points) - 1), points.shape[1]
    if add_sums_of_few_rows(points, factors, responsibilities, total):
        return
    whole = n - n % LANES
    _add_sums(points, factors, whole, responsibilities, total)
    if whole < n:
        # What the last lanes are filled up with counts for nothing.
        few, shares = (filled_up(each[:, whole:], LANES) for each in (points, responsibilities))
        _add_sums(few, factors, LANES, shares, total)
