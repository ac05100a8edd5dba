"""Sums over discrete columns that records can have, nearest to some that no records have.

Of a component of mass N, the levels of a categorical column, and yes and no of a Bernoulli one, are counts ≥ 0 of at most N together,
as cells may be missing: the projection is onto that part of a simplex (Duchi et al. 2008, "Efficient projections onto the l1-ball").
Exposures are in [0, N] and events in [0, u · exposure], u the largest count. What is within its range, up to rounding, stays as it is, bit
for bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fed_em.admissible_moments import SLACK, TINY
from fed_em.discrete_columns import EVENTS, EXPOSURE, FAILURES, LEVEL_COUNTS, SUCCESSES, DiscreteColumns

Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]

# How far above its mass a count is looked at: differences of greater ones would cost digits.
_FAR = 1e3


def admissible_sums(
    discrete: DiscreteColumns, sums: Mapping[str, Vector], counts: Vector
) -> tuple[dict[str, Vector], Flags]:
    """The sums of K components, projected.

    Args:
        discrete: The columns.
        sums: Those of `discrete.statistic_slices`, `(K, …)` each; finite.
        counts: N_k, `(K,)`, at least 0.

    Returns:
        Sums, and which components were not admissible, `(K,)`.
    """
    out = {name: sums[name].copy() for name in discrete.statistic_slices}
    wrong = np.zeros(len(counts), dtype=np.bool_)
    if LEVEL_COUNTS in out:
        for levels in discrete.schema.level_slices:
            out[LEVEL_COUNTS][:, levels], moved = _onto_simplex(out[LEVEL_COUNTS][:, levels], counts)
            wrong |= moved
    if SUCCESSES in out:
        for b in range(out[SUCCESSES].shape[1]):
            answers = np.stack((out[SUCCESSES][:, b], out[FAILURES][:, b]), axis=1)
            answers, moved = _onto_simplex(answers, counts)
            out[SUCCESSES][:, b], out[FAILURES][:, b] = answers.T
            wrong |= moved
    if EVENTS in out:
        tiny, masses = TINY * counts.sum(), np.broadcast_to(counts[:, np.newaxis], out[EXPOSURE].shape)
        out[EXPOSURE], moved = _between(out[EXPOSURE], masses, tiny)
        out[EVENTS], also = _between(out[EVENTS], out[EXPOSURE] * discrete.schema.upper_counts, tiny)
        wrong |= (moved | also).any(axis=1)
    return out, wrong


def _onto_simplex(values: Vector, masses: Vector) -> tuple[Vector, Flags]:
    """Rows `(K, L)` projected onto {x ≥ 0, Σ x ≤ mass}, and which of them were elsewhere."""
    masses, tiny = masses[:, np.newaxis], TINY * masses.sum()
    with np.errstate(over="ignore"):
        fine = (values >= 0).all(axis=1) & (values.sum(axis=1, keepdims=True) <= masses * (1 + SLACK) + tiny)[:, 0]
    clipped = np.clip(values, 0.0, _FAR * masses)
    descending = -np.sort(-clipped, axis=1)
    excess = np.cumsum(descending, axis=1) - masses
    ranks = np.arange(1, values.shape[1] + 1)
    last = (descending * ranks >= excess).sum(axis=1, keepdims=True) - 1
    level = np.take_along_axis(excess, last, axis=1) / (last + 1)
    projected = np.maximum(clipped - np.maximum(level, 0.0), 0.0)
    return np.where(fine[:, np.newaxis], values, projected), ~fine


def _between(values: Vector, highest: Vector, tiny: float) -> tuple[Vector, Flags]:
    """Values clipped into [0, highest], and which were elsewhere."""
    wrong = ~((values >= 0) & (values <= highest * (1 + SLACK) + tiny))
    return np.where(wrong, np.clip(values, 0.0, highest), values), wrong
