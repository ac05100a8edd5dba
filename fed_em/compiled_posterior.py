"""The log-sum-exp of `fed_em.posterior` compiled with numba, eight rows at a time. It holds no lock of Python."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fed_em.compilation import compiled
from fed_em.lane_functions import LEAST_LOG, exponential, logarithm
from fed_em.vector_lanes import LANES, larger, load, spread, store

Vector = NDArray[np.float64]


def _normalise_lanes(joint: Vector, first: int, log_densities: Vector, entropies: Vector) -> None:
    """Rows `first` to `first` + LANES − 1 of `normalise_in_place`."""
    n_components, n = joint.shape
    top = load(joint, first)
    for k in range(1, n_components):
        top = larger(top, load(joint, k * n + first))
    total = moment = spread(0.0)
    least = spread(LEAST_LOG)
    for k in range(n_components):
        # What is not a number stays so.
        below = larger(least, load(joint, k * n + first) - top)
        power = exponential(below)
        store(joint, k * n + first, power)
        total = total + power
        moment = moment + power * below
    share = 1.0 / total
    for k in range(n_components):
        store(joint, k * n + first, load(joint, k * n + first) * share)
    log_total = logarithm(total)
    store(log_densities, first, top + log_total)
    # H = −Σ r log r with log r = (a − a₀) − log Σ exp(a − a₀).
    store(entropies, first, log_total - moment * share)


_normalise_lanes = compiled(_normalise_lanes)


def _normalise(joint: Vector, log_densities: Vector, entropies: Vector) -> None:
    n_components, n = joint.shape
    whole = n - n % LANES
    for first in range(0, whole, LANES):
        _normalise_lanes(joint, first, log_densities, entropies)
    if whole < n:
        few, found = np.zeros((n_components, LANES)), np.empty((2, LANES))
        # One by one, and from an `np.int64`: as in `compiled_products`, there is less to compile.
        for i in range(n - whole):
            for k in range(n_components):
                few[k, i] = joint[k, whole + i]
        _normalise_lanes(few, np.int64(0), found[0], found[1])  # type: ignore[arg-type]
        for i in range(n - whole):
            for k in range(n_components):
                joint[k, whole + i] = few[k, i]
            log_densities[whole + i], entropies[whole + i] = found[0, i], found[1, i]


_normalise = compiled(_normalise)


def normalise_in_place(joint: Vector) -> tuple[Vector, Vector]:
    """As `fed_em.posterior.normalise_in_place`, of joint log-densities `(K, n)`, contiguous."""
    log_densities, entropies = np.empty((2, joint.shape[1]))
    _normalise(joint, log_densities, entropies)
    return log_densities, entropies
