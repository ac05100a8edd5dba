"""Sums over the rows that each component is responsible for, where these are few; compiled with numba.

Where components lie apart, as they do in many columns, almost all responsibilities are next to nothing, and a product with all of them
multiplies by what is next to nothing. Here each component's rows are put together, and sums are over those alone.

What is left out of a sum is not exactly 0, but no digit of the sum has it: its responsibility is 2^-100 or less of the greatest of *its
own component* in the block, so that a component which holds next to nothing keeps its digits too. That is so while no feature of a row that
is left out is 2^40 times those of the rows that are summed; beyond that, 2^-100 of such a feature is missed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fed_em.compilation import compiled
from fed_em.vector_lanes import LANES, larger, load, spread, store, summed

Vector = NDArray[np.float64]
Factors = NDArray[np.int64]
Places = NDArray[np.int64]

_NEGLIGIBLE = 2.0**-100
_LEAST = 5e-324
# It is worth the putting together where there are so many features for each column, as there are of covariances between eight and more, and
# up to such a share of all rows and components.
_FEATURES_A_COLUMN, _FEW = 5, 0.2
# Features whose sums are in registers at one time.
_THREE = 3


def _greatest(numbers: Vector, k: int) -> float:
    """The greatest number of a row of `(K, n)`, and of the least above 0; what is not a number is passed over."""
    n = numbers.shape[1]
    lanes, whole = spread(0.0), n - n % LANES
    for i in range(0, whole, LANES):
        lanes = larger(load(numbers, k * n + i), lanes)
    eight = np.empty(LANES)
    store(eight, 0, lanes)
    found = _LEAST
    for number in eight:
        found = max(found, number)
    for i in range(whole, n):
        found = max(found, numbers[k, i])
    return found


_greatest = compiled(_greatest)


def _find_limits(responsibilities: Vector, limits: Vector, most: int) -> int:
    """Write below what the responsibilities of each component are not summed; how many are, or any number beyond `most`."""
    found = 0
    for k in range(len(responsibilities)):
        limits[k] = max(_LEAST, _NEGLIGIBLE * _greatest(responsibilities, k))
        for i in range(responsibilities.shape[1]):
            # What is not a number has to stay in its sum.
            found += not responsibilities[k, i] < limits[k]
        if found > most:
            break
    return found


_find_limits = compiled(_find_limits)


def _put_together(points: Vector, shares: Vector, limit: float, chosen: Places, left: Vector, right: Vector) -> int:
    """Write points of the rows with a share of the limit or more, times it and as they are: `(1 + D, m)` flat. m is of whole lanes."""
    m = 0
    for i in range(len(shares)):
        chosen[m] = i
        m += not shares[i] < limit
    filled = m + -m % LANES
    for d in range(len(points)):
        place = d * filled
        for j in range(m):
            point = points[d, chosen[j]]
            left[place + j], right[place + j] = shares[chosen[j]] * point, point
        for j in range(m, filled):
            left[place + j] = right[place + j] = 0.0
    return filled


_put_together = compiled(_put_together)


def _products(left: Vector, right: Vector, factors: Factors, m: int, total: Vector, k: int) -> None:
    """Add Σ left·right over m rows of each feature's two factors to one component's column of the total `(F, K)`."""
    last = len(factors) - 1
    for j in range(0, len(factors), _THREE):
        one, two = min(j + 1, last), min(j + 2, last)
        a, b, c = factors[j, 0] * m, factors[one, 0] * m, factors[two, 0] * m
        x, y, z = factors[j, 1] * m, factors[one, 1] * m, factors[two, 1] * m
        s0 = s1 = s2 = spread(0.0)
        for i in range(0, m, LANES):
            s0 = s0 + load(left, a + i) * load(right, x + i)
            s1 = s1 + load(left, b + i) * load(right, y + i)
            s2 = s2 + load(left, c + i) * load(right, z + i)
        total[j, k] += summed(s0)
        if one > j:
            total[one, k] += summed(s1)
        if two > one:
            total[two, k] += summed(s2)


_products = compiled(_products)


def _add_sums(points: Vector, factors: Factors, responsibilities: Vector, total: Vector) -> bool:
    (n_components, n), n_entries = responsibilities.shape, len(points)
    limits, chosen, most = np.empty(n_components), np.empty(n + 1, np.int64), int(_FEW * n_components * n)
    if len(factors) < _FEATURES_A_COLUMN * n_entries or _find_limits(responsibilities, limits, most) > most:
        return False
    left, right = np.empty(n_entries * (n + LANES)), np.empty(n_entries * (n + LANES))
    for k in range(n_components):
        m = _put_together(points, responsibilities[k], limits[k], chosen, left, right)
        _products(left, right, factors, m, total, k)
    return True


_add_sums = compiled(_add_sums)


def add_sums_of_few_rows(points: Vector, factors: Factors, responsibilities: Vector, total: Vector) -> bool:
    """Adds as `Kernels.add_sums` does, where few rows count for each component; else adds nothing, and False.

    Args:
        points: ỹ, `(1 + D, n)`.
        factors: Which two entries of ỹ each feature multiplies, `(F, 2)`.
        responsibilities: `(K, n)`, none below 0.
        total: `(F, K)`; is added to.
    """
    found: bool = _add_sums(points, factors, responsibilities, total)
    return found
