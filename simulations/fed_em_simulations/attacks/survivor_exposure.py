"""What sums over changing sets of terms give away by differences, from the sets alone.

Write each opened sum as a row of zeros and ones over the terms in it. A reader of all sums can form every combination of these rows, and
nothing else. So what matters is their span over the rationals: its dimension, and the fewest tenants whose terms any non-zero combination
involves, its *least support*. A support of one is a tenant's own statistics; with whole blocks in every sum it never falls below the
smallest block (`protocols/SPEC.md`).

Which terms are one and the same is the caller's matter. In the worst case a tenant has one: as if nobody's statistics changed between
rounds, as near convergence they hardly do.

Finding the least support is the minimum-distance problem of a linear code, hard in general, so the search is exact and bounded:
tenants that were always in and out together are one class; supports are tried in order of size.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em_simulations.attacks.row_span import RowSpan

Bits = NDArray[np.int8]

# Subsets of classes that are tried at most: a few seconds.
_MOST_TRIES = 6_000


@dataclass(frozen=True)
class Exposure:
    """What differences of opened sums give away.

    Attributes:
        span: Dimension of the span of the sums, from 0 to the number of terms.
        least_support: The fewest tenants that a combination of sums involves; 0 without a sum. If the search was cut off, a
            lower bound.
        exposed: Tenants whose statistics are a combination of sums by themselves, in order.
        exact: Whether the search for the least support came to its end.
        involved: The tenants of a combination of least support; none if the search was cut off.
        combination: Its weight of each sum, whole numbers without a common factor.
    """

    span: int
    least_support: int
    exposed: tuple[str, ...]
    exact: bool = True
    involved: tuple[str, ...] = ()
    combination: tuple[int, ...] = ()


def exposure(survivors: Sequence[Collection[str]], tenants: Sequence[str]) -> Exposure:
    """The exposure by sums over these sets, in the worst case.

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
    return exposure_of_terms(matrix, range(len(tenants)), tenants)


def exposure_of_terms(matrix: Bits, owners: Sequence[int], tenants: Sequence[str]) -> Exposure:
    """The exposure by sums of these terms.

    Args:
        matrix: `(sums, terms)`: 1 where a term is in a sum.
        owners: Whose each term is, as an index of `tenants`.
        tenants: All tenants.
    """
    classes = _classes(matrix, owners)
    rows, which = np.unique(matrix, axis=0, return_index=True) if matrix.size else (matrix, np.zeros(0, np.int64))
    span = RowSpan.of(rows[:, [column for each in classes for column in each.columns]])
    if not span.rank:
        return Exposure(0, 0, ())
    ends = np.cumsum([len(each.columns) for each in classes])
    places = [tuple(range(end - len(each.columns), end)) for each, end in zip(classes, ends.tolist(), strict=True)]
    alone = [k for k, each in enumerate(classes) if len(each.members) == 1 and span.combination_within(places[k])]
    exposed = tuple(tenants[k] for k in sorted(classes[k].members[0] for k in alone))
    support, size, found = _least_support(span, places, [len(each.members) for each in classes])
    if found is None:
        return Exposure(span.rank, size, exposed, exact=False)
    weights = [0] * len(matrix)
    for place, weight in zip(which.tolist(), found, strict=True):
        weights[place] = weight
    involved = tuple(tenants[i] for i in sorted(member for k in support for member in classes[k].members))
    return Exposure(span.rank, size, exposed, True, involved, tuple(weights))


@dataclass(frozen=True)
class _Class:
    """Tenants that were always in and out together, and the distinct columns of their terms."""

    members: tuple[int, ...]
    columns: tuple[int, ...]


def _classes(matrix: Bits, owners: Sequence[int]) -> list[_Class]:
    """Tenants that were never in are in no class."""
    columns: dict[int, dict[bytes, int]] = defaultdict(dict)
    for column, owner in enumerate(owners):
        if matrix[:, column].any():
            columns[owner].setdefault(matrix[:, column].tobytes(), column)
    together: dict[frozenset[bytes], list[int]] = defaultdict(list)
    for owner, theirs in columns.items():
        together[frozenset(theirs)].append(owner)
    return [_Class(tuple(members), tuple(columns[members[0]].values())) for members in together.values()]


def _least_support(
    span: RowSpan, places: Sequence[tuple[int, ...]], sizes: Sequence[int]
) -> tuple[tuple[int, ...], int, tuple[int, ...] | None]:
    """The classes of the least support, how many tenants they are, and a combination; None if the search was cut off."""
    for tried, support in enumerate(_by_size(sizes)):
        size = sum(sizes[k] for k in support)
        if tried >= _MOST_TRIES:
            return (), size, None
        found = span.combination_within([place for k in support for place in places[k]])
        if found is not None:
            return support, size, found
    raise AssertionError("all classes together support every combination")


def _by_size(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All sets of classes but the empty one, in the order of how many tenants are in them."""
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    queue: list[tuple[int, tuple[int, ...]]] = [(sizes[order[0]], (0,))]
    while queue:
        total, places = heapq.heappop(queue)
        yield tuple(order[place] for place in places)
        last, following = places[-1], places[-1] + 1
        if following < len(order):
            more = sizes[order[following]]
            heapq.heappush(queue, (total + more, (*places, following)))
            heapq.heappush(queue, (total + more - sizes[order[last]], (*places[:-1], following)))
