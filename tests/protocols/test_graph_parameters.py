"""The numbers of the sparse graph: what is known of them, what they promise counted out in small cases, and what is refused."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from math import comb

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fed_em.errors import CallerError
from fed_em_protocols.graph import NeighbourGraph, well_tied
from fed_em_protocols.graph_parameters import (
    MAX_RESTARTS,
    GraphParameters,
    Sample,
    connection_is_safe,
    malicious_server_parameters,
    most_corrupt_witnesses,
    quorum_intersects,
    semi_honest_parameters,
    side_is_safe,
    threshold_is_safe,
    what_it_survives,
)

# n, witnesses, corrupt, dropouts: k, h
MALICIOUS_ROWS = {
    (100, 40, 10, 10): (42, 11),
    (1000, 100, 100, 100): (92, 26),
    (10_000, 100, 1000, 1000): (106, 30),
    (1000, 60, 50, 50): (58, 17),
}


# ---- What is known


@pytest.mark.parametrize(("lost", "expected"), [(50, (30, 17)), (100, (56, 29))])
def test_a_thousand_tenants_and_a_server_that_follows_the_protocol(lost: int, expected: tuple[int, int]) -> None:
    found = semi_honest_parameters(1000, lost, lost)
    assert (found.neighbours, found.share_threshold) == expected
    assert (found.side_honest, found.witnesses, found.witness_corrupt, found.certificate_quorum) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("n", "corrupt", "dropouts", "expected"),
    [
        (100, 5, 5, (12, 6)),
        (1000, 50, 50, (30, 17)),
        (10_000, 500, 500, (34, 20)),
        (100, 5, 33, (28, 6)),
        (1000, 50, 330, (72, 24)),
        (10_000, 500, 3300, (86, 29)),
        (100, 33, 5, (34, 29)),
        (1000, 330, 50, (78, 60)),
        (10_000, 3300, 500, (92, 70)),
        (100, 33, 33, (68, 34)),
        (1000, 330, 330, (286, 150)),
        (1000, 0, 0, (2, 2)),
    ],
)
def test_tenants_that_answer_give_the_published_rows(
    n: int, corrupt: int, dropouts: int, expected: tuple[int, int]
) -> None:
    """Known answers of google-parfait/federated-compute, `secagg/server/graph_parameter_finder_test`, "semihonest"."""
    found = semi_honest_parameters(n, corrupt, dropouts, corrupt_answer=True)
    assert (found.neighbours, found.share_threshold) == expected


@pytest.mark.parametrize(("sizes", "expected"), MALICIOUS_ROWS.items())
def test_the_graph_against_any_server(sizes: tuple[int, int, int, int], expected: tuple[int, int]) -> None:
    found = malicious_server_parameters(*sizes)
    assert (found.neighbours, found.side_honest) == expected
    assert (found.n, found.witnesses, found.corrupt, found.dropouts) == sizes


def test_the_rows_hold_for_one_draw_of_the_graph_and_restarts_cost_three_bits() -> None:
    assert side_is_safe(1000, 100, 92, 26, 40)
    assert not side_is_safe(1000, 100, 92, 26, 43)
    for_the_window = malicious_server_parameters(1000, 100, 100, 100, security_bits=43)
    assert (for_the_window.neighbours, for_the_window.side_honest) == (94, 27)
    assert MAX_RESTARTS + 1 == 2**3


# ---- Tails


@pytest.mark.parametrize(("population", "marked", "drawn"), [(9, 4, 3), (9, 3, 6), (8, 7, 5), (7, 0, 3), (7, 7, 3)])
def test_tails_are_those_of_counting_every_sample(population: int, marked: int, drawn: int) -> None:
    samples = [len(set(range(marked)).intersection(s)) for s in itertools.combinations(range(population), drawn)]
    for least in range(-1, drawn + 3):
        expected = Fraction(sum(found >= least for found in samples), len(samples))
        assert Sample(population, marked, drawn).probability_at_least(least) == expected


@cache
def tail(population: int, marked: int, drawn: int, least: int) -> Fraction:
    """P[at least `least` marked], term by term from the definition."""
    ways = sum(comb(marked, i) * comb(population - marked, drawn - i) for i in range(max(least, 0), drawn + 1))
    return Fraction(ways, comb(population, drawn))


def test_far_tails_are_exact() -> None:
    far = Sample(10_000, 1000, 53).probability_at_least(33)
    assert far == tail(10_000, 1000, 53, 33)
    assert 2**-72 < far < 2**-60


@given(st.integers(2, 60), st.data())
def test_a_rare_count_is_the_smallest_that_is_rare(population: int, data: st.DataObject) -> None:
    sample = Sample(population, data.draw(st.integers(0, population)), data.draw(st.integers(1, population)))
    bound = data.draw(st.fractions(0, Fraction(99, 100)))
    count = sample.rare_count(bound)
    assert sample.probability_at_least(count) <= bound < sample.probability_at_least(count - 1)


# ---- The search: the smallest k for which anything meets the conditions, by trying everything

Sizes = tuple[int, int, int, int, int]


def first_semi_honest(sizes: Sizes, corrupt_answer: bool) -> tuple[int, int] | None:
    n, corrupt, dropouts, sigma, eta = sizes
    each, correct = Fraction(1, 2 ** (sigma + 1)), Fraction(1, 2**eta)
    for k, threshold in itertools.product(range(2, n, 2), range(2, n)):
        conditions = (
            Fraction(n * (n - k - 1), 2) * tail(n, corrupt + dropouts, k, k) <= each,
            n * tail(n - 1, corrupt, k, threshold) <= each,
            n * tail(n - 1, dropouts, k, k - threshold + 1) <= correct,
            corrupt_answer or tail(n - 1, corrupt + dropouts, k, k - threshold + 1) <= correct,
        )
        if all(conditions):
            return k, threshold
    return None


def first_against_any_server(sizes: Sizes) -> tuple[int, int, int] | None:
    n, corrupt, dropouts, sigma, eta = sizes
    secure, correct = Fraction(1, 2**sigma), Fraction(1, 2**eta)
    for k in range(2, n, 2):
        for side_honest, threshold in itertools.product(range(1, k // 2 + 1), range(2, k + 1)):
            side = n * tail(n, corrupt, k // 2, side_honest)
            untied = 2 * n * tail(n - 1, dropouts, k // 2, k // 2 - side_honest + 1)
            conditions = (
                side + n * tail(n - 1, corrupt, k, threshold) <= secure,
                untied + n * tail(n - 1, dropouts, k, k - threshold + 1) <= correct,
                tail(n - 1, corrupt + dropouts, k, k - threshold + 1) <= correct,
            )
            if all(conditions):
                return k, side_honest, threshold
    return None


def witnesses_will_do(sizes: Sizes) -> bool:
    """With all tenants as witnesses, of whom exactly the corrupt ones are corrupt."""
    n, corrupt, dropouts, _, _ = sizes
    quorum = (n + corrupt) // 2 + 1
    return n - corrupt > MAX_RESTARTS and dropouts <= n - quorum


@st.composite
def small_sizes(draw: st.DrawFn, smallest: int) -> Sizes:
    n = draw(st.integers(smallest, 24))
    corrupt = draw(st.integers(0, n - 1))
    return n, corrupt, draw(st.integers(0, n - 1 - corrupt)), draw(st.integers(1, 9)), draw(st.integers(1, 6))


def found_or_none(search: Callable[[], GraphParameters]) -> GraphParameters | None:
    try:
        return search()
    except CallerError:
        return None


@settings(max_examples=200)
@given(small_sizes(3), st.booleans())
# The number of pairs of runs decides here.
@example((10, 1, 3, 3, 1), True)
@example((10, 1, 3, 2, 1), True)
# That nobody is its own neighbour decides here.
@example((12, 3, 0, 1, 1), True)
def test_no_smaller_graph_would_do_for_a_server_that_follows_the_protocol(sizes: Sizes, corrupt_answer: bool) -> None:
    found = found_or_none(lambda: semi_honest_parameters(*sizes, corrupt_answer=corrupt_answer))
    expected = first_semi_honest(sizes, corrupt_answer)
    assert (None if found is None else (found.neighbours, found.share_threshold)) == expected


@settings(max_examples=200)
@given(small_sizes(9))
# The largest graph (k = 22) will not do here, and a smaller one will.
@example((24, 7, 5, 2, 1))
# What h leaves of σ to τ decides here.
@example((13, 3, 0, 1, 1))
@example((14, 3, 0, 1, 2))
@example((13, 4, 0, 1, 1))
def test_no_smaller_graph_would_do_against_any_server(sizes: Sizes) -> None:
    n, corrupt, dropouts, sigma, eta = sizes
    found = found_or_none(lambda: malicious_server_parameters(n, n, corrupt, dropouts, sigma, eta))
    expected = first_against_any_server(sizes) if witnesses_will_do(sizes) else None
    assert (None if found is None else (found.neighbours, found.side_honest, found.share_threshold)) == expected


# ---- The promise, counted out: every way that corrupt and missing tenants can stand on a small ring


def placements(n: int, corrupt: int, dropouts: int) -> Iterator[tuple[frozenset[int], frozenset[int]]]:
    for bad in itertools.combinations(range(n), corrupt):
        for gone in itertools.combinations(sorted(set(range(n)) - set(bad)), dropouts):
            yield frozenset(bad), frozenset(gone)


def in_one_piece(graph: NeighbourGraph, members: frozenset[int]) -> bool:
    reached, ahead = set(), set(itertools.islice(members, 1))
    while ahead:
        reached |= ahead
        ahead = {other for member in ahead for other in graph.neighbours(member)} & members - reached
    return reached == members


def share(events: list[bool]) -> Fraction:
    return Fraction(sum(events), len(events))


@pytest.mark.parametrize("sizes", [(12, 2, 2, 2, 1), (12, 1, 3, 3, 1), (11, 3, 1, 4, 2)])
def test_the_promise_against_a_server_that_follows_the_protocol(sizes: Sizes) -> None:
    n, corrupt, dropouts, sigma, eta = sizes
    found = semi_honest_parameters(*sizes)
    graph, k, threshold = NeighbourGraph(tuple(range(n)), found.neighbours), found.neighbours, found.share_threshold
    assert k < n - 1
    everybody, unsafe, fails, stuck = frozenset(range(n)), [], [], []
    neighbours = {member: frozenset(graph.neighbours(member)) for member in everybody}
    for bad, gone in placements(n, corrupt, dropouts):
        exposed = any(len(neighbours[member] & bad) >= threshold for member in everybody - bad)
        unsafe.append(exposed or not in_one_piece(graph, everybody - bad - gone))
        fails.append(any(len(neighbours[member] - gone) < threshold for member in everybody))
        stuck.append(0 not in bad | gone and len(neighbours[0] - gone - bad) < threshold)
    assert share(unsafe) <= Fraction(1, 2**sigma)
    assert max(share(fails), share(stuck)) <= Fraction(1, 2**eta)


@pytest.mark.parametrize("sizes", [(14, 2, 1, 2, 1), (14, 3, 2, 3, 1), (15, 2, 2, 4, 2)])
def test_the_promise_against_any_server(sizes: Sizes) -> None:
    n, corrupt, dropouts, sigma, eta = sizes
    found = malicious_server_parameters(n, n, corrupt, dropouts, sigma, eta)
    graph, k = NeighbourGraph(tuple(range(n)), found.neighbours), found.neighbours
    assert k < n - 1
    everybody, unsafe, fails = frozenset(range(n)), [], []
    neighbours = {member: frozenset(graph.neighbours(member)) for member in everybody}
    windows = [frozenset((start + step) % n for step in range(k // 2)) for start in range(n)]
    for bad, gone in placements(n, corrupt, dropouts):
        exposed = any(len(neighbours[member] & bad) >= found.share_threshold for member in everybody - bad)
        unsafe.append(exposed or any(len(window & bad) >= found.side_honest for window in windows))
        untied = not well_tied(graph, everybody - gone, found.side_honest)
        fails.append(untied or any(len(neighbours[member] - gone) < found.share_threshold for member in everybody))
    assert share(unsafe) <= Fraction(1, 2**sigma)
    assert share(fails) <= Fraction(1, 2**eta)


# ---- The promise on drawn rings


@cache
def drawn_rings(n: int, k: int, rings: int) -> tuple[NeighbourGraph, ...]:
    chance = random.Random(f"{n} {k}")
    return tuple(NeighbourGraph.seeded(range(n), k, chance.randbytes(32)) for _ in range(rings))


def most_in_a_row(graph: NeighbourGraph, marked: range) -> int:
    twice, half = [member in marked for member in graph.ring * 2], graph.k // 2
    return max(sum(twice[start : start + half]) for start in range(len(graph.ring)))


def test_drawn_rings_keep_the_promise_and_would_break_a_bolder_one() -> None:
    """2000 rings of 60 with 12 corrupt; σ = 5: at most 62 unsafe ones are promised, and chance adds 5 deviations at most once
    in 10^6 samples (the sample here is fixed). A smaller h, a smaller τ must show far more."""
    found = malicious_server_parameters(60, 60, 12, 6, 5, 5)
    rings = drawn_rings(60, found.neighbours, 2000)
    rows = [most_in_a_row(ring, range(12)) for ring in rings]
    corrupt_neighbours = [
        max(len(set(ring.neighbours(member)) & set(range(12))) for member in range(12, 60)) for ring in rings
    ]
    left = range(6, 60)
    limit = 2000 / 2**5 + 5 * (2000 / 2**5) ** 0.5
    assert sum(most >= found.side_honest for most in rows) < limit
    assert sum(most >= found.share_threshold for most in corrupt_neighbours) < limit
    assert sum(not well_tied(ring, left, found.side_honest) for ring in rings) < limit
    assert sum(most >= found.side_honest - 2 for most in rows) > 2 * limit
    assert sum(most >= found.share_threshold - 2 for most in corrupt_neighbours) > 2 * limit
    bolder = found.side_honest + 4
    assert sum(not well_tied(ring, left, bolder) for ring in rings) > 2 * limit


def test_dropouts_that_take_their_blocks_along_must_be_counted() -> None:
    """One tenant in ten drops out; in blocks of three that makes 271 of 1000 missing. A graph for 100 often fails then."""
    planned_without, planned_with = (
        malicious_server_parameters(1000, 300, 100, 100),
        malicious_server_parameters(1000, 300, 100, 271),
    )
    blocks = [frozenset(range(start, min(start + 3, 1000))) for start in range(0, 1000, 3)]
    chance = random.Random(7)
    failed = []
    for planned in (planned_without, planned_with):
        rounds = []
        for ring in drawn_rings(1000, planned.neighbours, 10):
            gone = set(chance.sample(range(1000), 100))
            whole = frozenset().union(*(block for block in blocks if not block & gone))
            rounds.append(not well_tied(ring, whole, planned.side_honest))
        failed.append(sum(rounds))
    assert failed[0] >= 3
    assert failed[1] == 0


# ---- Witnesses


@pytest.mark.parametrize(("n", "witnesses", "corrupt"), [(100, 40, 10), (1000, 100, 100), (1000, 60, 50), (80, 80, 26)])
def test_corrupt_witnesses_are_bounded_by_the_smallest_number(n: int, witnesses: int, corrupt: int) -> None:
    f_w = most_corrupt_witnesses(n, corrupt, witnesses, 40)
    assert f_w <= min(corrupt, witnesses)
    assert tail(n, corrupt, witnesses, f_w + 1) <= Fraction(1, 2**40) < tail(n, corrupt, witnesses, f_w)
    found = malicious_server_parameters(n, witnesses, corrupt, 5)
    assert found.witness_corrupt == f_w
    assert found.certificate_quorum == (witnesses + f_w) // 2 + 1
    assert quorum_intersects(witnesses, found.certificate_quorum, f_w)
    assert not quorum_intersects(witnesses, found.certificate_quorum - 1, f_w)


@pytest.mark.parametrize("w", range(1, 7))
def test_quorums_that_intersect_are_told_by_trying_all(w: int) -> None:
    for q, f_w in itertools.product(range(1, w + 1), range(w + 1)):
        quorums = [set(chosen) for chosen in itertools.combinations(range(w), q)]
        fewest = min(len(one & other) for one, other in itertools.product(quorums, repeat=2))
        assert quorum_intersects(w, q, f_w) == (fewest > f_w)


@pytest.mark.parametrize(("w", "q", "f_w"), [(5, 0, 0), (5, 6, 0), (5, 5, -1), (0, 0, 0)])
def test_quorums_that_are_none_do_not_intersect(w: int, q: int, f_w: int) -> None:
    assert not quorum_intersects(w, q, f_w)


# ---- What a tenant checks for itself


@pytest.mark.parametrize(("sizes", "row"), MALICIOUS_ROWS.items())
def test_a_tenant_tells_safe_numbers_from_weaker_ones(sizes: tuple[int, int, int, int], row: tuple[int, int]) -> None:
    n, _, corrupt, _ = sizes
    k, side_honest = row
    threshold = malicious_server_parameters(*sizes).share_threshold
    assert side_is_safe(n, corrupt, k, side_honest, 40)
    assert not side_is_safe(n, corrupt, k, side_honest - 1, 40)
    assert threshold_is_safe(n, corrupt, k, threshold, 40)
    # τ leaves a part of 2^-40 to h, so one less may be safe for itself.
    assert not threshold_is_safe(n, corrupt, k, threshold - 2, 40)


def test_numbers_for_the_whole_roster_are_not_safe_for_a_part_of_it_with_all_its_corrupt_tenants() -> None:
    assert side_is_safe(1000, 100, 92, 26, 40)
    assert not side_is_safe(800, 100, 92, 26, 40)
    assert not threshold_is_safe(800, 100, 92, 37, 40)


@pytest.mark.parametrize(
    ("corrupt", "k", "count"),
    [(10, 43, 11), (10, 100, 30), (10, 0, 1), (10, -2, 1), (0, 42, 0), (-1, 42, 11), (100, 42, 11)],
)
def test_numbers_that_make_no_graph_are_not_safe(corrupt: int, k: int, count: int) -> None:
    assert not side_is_safe(100, corrupt, k, count, 40)
    assert not threshold_is_safe(100, corrupt, k, count, 40)


def test_a_threshold_of_one_or_beyond_the_neighbours_is_not_safe() -> None:
    assert not threshold_is_safe(100, 0, 42, 1, 40)
    assert threshold_is_safe(100, 0, 42, 2, 40)
    assert not threshold_is_safe(100, 0, 42, 43, 40)


@pytest.mark.parametrize(("n", "lost"), [(1000, 50), (1000, 100), (100, 10)])
def test_the_semi_honest_graph_is_connected_and_no_smaller_one_is_both(n: int, lost: int) -> None:
    found = semi_honest_parameters(n, lost, lost)
    assert connection_is_safe(n, lost, lost, found.neighbours, 41)
    fewest = next(k for k in range(2, n, 2) if connection_is_safe(n, lost, lost, k, 41))
    assert fewest <= found.neighbours and not connection_is_safe(n, lost, lost, fewest - 2, 41)


@pytest.mark.parametrize(("corrupt", "missing", "k"), [(50, 50, 40), (10, -1, 40), (10, 10, 41), (10, 10, 100)])
def test_nothing_is_connected_with_nobody_left_or_without_a_graph(corrupt: int, missing: int, k: int) -> None:
    assert not connection_is_safe(100, corrupt, missing, k, 0)


# ---- What cannot be had


@pytest.mark.parametrize(
    ("search", "fault"),
    [
        (lambda: semi_honest_parameters(2, 0, 0), "at least 3 tenants"),
        (lambda: semi_honest_parameters(100, 50, 50), "50 corrupt tenants and 50 dropouts"),
        (lambda: semi_honest_parameters(100, -1, 0), "-1 corrupt"),
        (lambda: semi_honest_parameters(100, 10, 10, 0), "promise nothing"),
        (lambda: semi_honest_parameters(100, 10, 10, 40, 0), "promise nothing"),
        (lambda: semi_honest_parameters(100, 30, 45), "k = 98 neighbours, τ = 31 of 98 shares.* refuse theirs"),
        (
            lambda: semi_honest_parameters(100, 49, 50, corrupt_answer=True),
            "k = 98 neighbours, the honest .* fall apart",
        ),
        (lambda: semi_honest_parameters(101, 50, 50, corrupt_answer=True), "τ = 51 of 100 shares.* some tenant"),
        (lambda: malicious_server_parameters(100, 0, 10, 10), "0 witnesses"),
        (lambda: malicious_server_parameters(100, 101, 10, 10), "101 witnesses"),
        (lambda: malicious_server_parameters(100, 12, 10, 10), "restarts until the corrupt ones draw"),
        (lambda: malicious_server_parameters(100, 30, 10, 10), "more than 9 of 30 witnesses .* quorum of 21"),
        (lambda: malicious_server_parameters(100, 100, 30, 33), "h = 31 of 49 neighbours on a side"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(search: Callable[[], GraphParameters], fault: str) -> None:
    with pytest.raises(CallerError, match=fault) as refused:
        search()
    assert refused.value.remedy


# ---- What is told


def test_the_choice_against_any_server_is_told() -> None:
    told = "\n".join(what_it_survives(malicious_server_parameters(1000, 100, 100, 100)))
    for part in (
        "k = 92",
        "τ = 37 of its 92",
        "h = 26",
        "20 of 46 may be missing on a side",
        "55 of its 92 may be lost",
        "2^-40.5 over the order of the ring",
        "2^-37.5 if they have it drawn again 7 times",
        "want of neighbours with probability at most 2^-21.9",
        "of 100 witnesses 34 may be corrupt",
        "q = 68 witnesses sign a certificate, so 32 may be lost",
    ):
        assert part in told


def test_the_choice_for_a_server_that_follows_the_protocol_is_told() -> None:
    told = "\n".join(what_it_survives(semi_honest_parameters(1000, 50, 50)))
    for part in ("k = 30", "τ = 17", "13 of its 30 may be lost", "2^-41.5 a round", "is not withstood"):
        assert part in told
    assert "witness" not in told


def test_certainty_is_told_as_such() -> None:
    told = "\n".join(what_it_survives(semi_honest_parameters(100, 0, 0)))
    assert "probability 0 a round" in told
