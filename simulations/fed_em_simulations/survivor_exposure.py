"""What sums over changing sets of tenants give away by differences: a worst case, from the sets alone.

Write each opened sum as a row of zeros and ones over the tenants. If nobody's statistics changed between rounds, as near convergence they
hardly do, a reader of all sums could form every combination of these rows, and nothing else. So what matters is their span over the
rationals: its dimension, and the fewest tenants that any non-zero combination involves, its *least support*. A support of one is a
tenant's own statistics; with whole blocks in every sum it never falls below the smallest block (`protocols/SPEC.md`).

Finding the least support is the minimum-distance problem of a linear code, hard in general, so the search is exact and bounded:
tenants that were always in and out together are one class; supports are tried in order of size.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError

Bits = NDArray[np.int8]

# Subsets of classes that are tried at most: a second or so.
_MOST_TRIES = 6_000


@dataclass(frozen=True)
class Exposure:
    """What differences of opened sums give away, at worst.

    Attributes:
        span: Dimension of the span of the sums, from 0 to the number of tenants.
        least_support: The fewest tenants that a combination of sums involves; 0 without a sum. If the search was cut off, a
            lower bound.
        exposed: Tenants whose statistics are a combination of sums by themselves, in order.
        exact: Whether the search for the least support came to its end.
    """

    span: int
    least_support: int
    exposed: tuple[str, ...]
    exact: bool = True


def exposure(survivors: Sequence[Collection[str]], tenants: Sequence[str]) -> Exposure:
    """The exposure by sums over these sets.

    Args:
        survivors: Who was in each opened sum.
        tenants: All tenants.

    Raises:
        CallerError: somebody in a sum is not among the tenants.
    """
    for name in sorted({name for names in survivors for name in names} - set(tenants)):
        raise CallerError(f"'{name}' was in a sum and is not among the tenants")
    sets = [frozenset(names) for names in survivors]
    matrix = np.array([[name in names for name in tenants] for names in sets], dtype=np.int8).reshape(-1, len(tenants))
    classes, sizes, members = _classes(matrix)
    rank = _rank(classes)
    if not rank:
        return Exposure(0, 0, ())
    alone = [k for k in range(len(sizes)) if sizes[k] == 1 and _in_span(classes, rank, (k,))]
    exposed = tuple(tenants[k] for k in sorted(int(np.flatnonzero(members == k)[0]) for k in alone))
    least, exact = _least_support(classes, sizes, rank)
    return Exposure(rank, least, exposed, exact)


def _classes(matrix: Bits) -> tuple[Bits, NDArray[np.int64], NDArray[np.int64]]:
    """Distinct columns, how many tenants have each, and each tenant's; tenants that were never in are in no class."""
    if not matrix.size:
        return matrix[:, :0], np.zeros(0, np.int64), np.full(matrix.shape[1], -1)
    columns, members, sizes = np.unique(matrix, axis=1, return_inverse=True, return_counts=True)
    never = ~columns.any(axis=0)
    numbers = np.where(never, -1, np.cumsum(~never) - 1)
    rows = np.unique(columns[:, ~never], axis=0)
    return rows, sizes[~never], numbers[members.reshape(-1)]


def _rank(matrix: Bits) -> int:
    return int(np.linalg.matrix_rank(matrix.astype(np.float64))) if matrix.size else 0


def _in_span(classes: Bits, rank: int, support: tuple[int, ...]) -> bool:
    """Whether some non-zero combination involves only these classes: then the others alone have a smaller rank."""
    return _rank(np.delete(classes, support, axis=1)) < rank


def _least_support(classes: Bits, sizes: NDArray[np.int64], rank: int) -> tuple[int, bool]:
    if rank == classes.shape[1]:
        return int(sizes.min()), True
    for tried, support in enumerate(_by_size(sizes)):
        size = int(sizes[list(support)].sum())
        if tried >= _MOST_TRIES:
            return size, False
        if _in_span(classes, rank, support):
            return size, True
    raise AssertionError("all classes together support every combination")


def _by_size(sizes: NDArray[np.int64]) -> Iterator[tuple[int, ...]]:
    """All sets of classes but the empty one, in the order of how many tenants are in them."""
    order = np.argsort(sizes, kind="stable").tolist()
    queue: list[tuple[int, tuple[int, ...]]] = [(int(sizes[order[0]]), (0,))]
    while queue:
        total, places = heapq.heappop(queue)
        yield tuple(order[place] for place in places)
        last, following = places[-1], places[-1] + 1
        if following < len(order):
            more = int(sizes[order[following]])
            heapq.heappush(queue, (total + more, (*places, following)))
            heapq.heappush(queue, (total + more - int(sizes[order[last]]), (*places[:-1], following)))
