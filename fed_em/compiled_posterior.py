"""The log-sum-exp of `fed_em.posterior` compiled with numba, eight rows at a time. It holds no lock of Python."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fed_em.compilation import compiled
from fed_em.lane_functions import LEAST_LOG, exponential, logarithm
from fed_em.vector_lanes import LANES, filled_up, larger, load, spread, store

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


def _normalise(joint: Vector, n: int, log_densities: Vector, entropies: Vector) -> None:
    """Of the first n rows, a multiple of LANES."""
    for first in range(0, n, LANES):
        _normalise_lanes(joint, first, log_densities, entropies)


_normalise = compiled(_normalise)


def normalise_in_place(joint: Vector) -> tuple[Vector, Vector]:
    """As `fed_em.posterior.normalise_in_place`, of joint log-densities `(K, n)`, contiguous."""
    log_densities, entropies = np.empty((2, joint.shape[1]))
    rest = joint.shape[1] % LANES
    whole = joint.shape[1] - rest
    _normalise(joint, whole, log_densities, entropies)
    if rest:
        few = filled_up(joint[:, whole:], LANES)
        found = np.empty((2, LANES))
        _normalise(few, LANES, *found)
        joint[:, whole:] = few[:, :rest]
        log_densities[whole:], entropies[whole:] = found[:, :rest]
    return log_densities, entropies
