"""Exposure by differences of sums, against exact rational arithmetic over all subsets."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em.errors import CallerError
from fed_em_simulations.attacks import survivor_exposure
from fed_em_simulations.attacks.row_span import RowSpan
from fed_em_simulations.attacks.survivor_exposure import exposure, exposure_of_terms

NAMES = tuple("abcdef")


def rank(rows: Sequence[Sequence[int]]) -> int:
    """By Gaussian elimination over the rationals."""
    matrix, found = [[Fraction(x) for x in row] for row in rows], 0
    for column in range(len(matrix[0]) if matrix else 0):
        pivot = next((r for r in range(found, len(matrix)) if matrix[r][column]), None)
        if pivot is None:
            continue
        matrix[found], matrix[pivot] = matrix[pivot], matrix[found]
        for r in range(found + 1, len(matrix)):
            factor = matrix[r][column] / matrix[found][column]
            matrix[r] = [x - factor * y for x, y in zip(matrix[r], matrix[found], strict=True)]
        found += 1
    return found


def by_brute_force(sets: Sequence[frozenset[str]]) -> tuple[int, int, tuple[str, ...]]:
    rows = [[int(name in names) for name in NAMES] for names in sets]
    whole = rank(rows)
    exposed = tuple(
        name for k, name in enumerate(NAMES) if rank([*rows, [int(j == k) for j in range(len(NAMES))]]) == whole
    )
    for size in range(1, len(NAMES) + 1):
        for chosen in combinations(range(len(NAMES)), size):
            if rank([[x for j, x in enumerate(row) if j not in chosen] for row in rows]) < whole:
                return whole, size, exposed
    return whole, 0, exposed


@given(sets=st.lists(st.frozensets(st.sampled_from(NAMES)), max_size=7))
@settings(max_examples=60, deadline=None)
def test_it_is_that_of_rational_arithmetic(sets: list[frozenset[str]]) -> None:
    found = exposure(sets, NAMES)
    assert (found.span, found.least_support, found.exposed) == by_brute_force(sets)
    assert found.exact
    if found.span:
        rows = np.array([[int(name in names) for name in NAMES] for names in sets])
        combined = rows.T @ np.array(found.combination)
        assert tuple(name for name, weight in zip(NAMES, combined, strict=True) if weight) == found.involved
        assert len(found.involved) == found.least_support


def test_whole_blocks_hide_each_tenant_among_its_own() -> None:
    blocks = ("abc", "def", "gh")
    sets = [frozenset("".join(chosen)) for n in (1, 2, 3) for chosen in combinations(blocks, n)]
    found = exposure(sets, tuple("abcdefgh"))
    assert (found.span, found.least_support, found.exposed, found.involved) == (3, 2, (), ("g", "h"))


def test_one_who_dropped_out_once_is_given_away() -> None:
    found = exposure([frozenset("abcdef"), frozenset("abcef")], NAMES)
    assert (found.span, found.least_support, found.exposed, found.involved) == (2, 1, ("d",), ("d",))
    assert found.combination in ((1, -1), (-1, 1))


def test_two_terms_of_one_tenant_are_about_that_tenant() -> None:
    """b's term of another round replaces its first one: the difference of the sums is about b, and of nobody's single term."""
    matrix = np.array([[1, 1, 0, 1], [1, 0, 1, 1]], dtype=np.int8)
    found = exposure_of_terms(matrix, (0, 1, 1, 2), ("a", "b", "c"))
    assert (found.span, found.least_support, found.exposed) == (2, 1, ("b",))
    moved = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=np.int8)
    assert exposure_of_terms(moved, (0, 1, 0, 1), ("a", "b")).least_support == 2


@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_the_span_of_whole_numbers(rows: list[list[int]]) -> None:
    span = RowSpan.of(np.array(rows))
    assert span.rank == rank(rows)
    for columns in combinations(range(4), 2):
        found = span.combination_within(columns)
        outside = [[row[j] for j in range(4) if j not in columns] for row in rows]
        assert (found is None) == (rank(outside) == span.rank)
        if found is not None:
            combined = np.array(rows).T @ np.array(found)
            assert set(np.flatnonzero(combined).tolist()) <= set(columns) and combined.any()


def test_a_search_that_is_cut_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of neighbours: no combination involves fewer than two."""
    monkeypatch.setattr(survivor_exposure, "_MOST_TRIES", 3)
    found = exposure([frozenset(pair) for pair in ("ab", "bc", "cd", "de", "ef", "fa")], NAMES)
    assert found.least_support == 1 and not found.exact
    monkeypatch.undo()
    assert exposure([frozenset(pair) for pair in ("ab", "bc", "cd", "de", "ef", "fa")], NAMES).least_support == 2


def test_strangers_are_refused() -> None:
    with pytest.raises(CallerError, match="'z'"):
        exposure([frozenset("az")], NAMES)
