"""The sparse graph: regular, symmetric, drawn without favour; and the rule that keeps its honest part in one piece."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.errors import CallerError
from fed_em_protocols.graph import NeighbourGraph, graph_seed, well_tied, without_weakly_tied
from tests.protocols.uniformity import uniform_p_value

SEED = bytes(range(32))
ORDERS = {order: index for index, order in enumerate(itertools.permutations(range(4)))}


def seed_of(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "little")).digest()


@st.composite
def graphs(draw: st.DrawFn, largest: int = 24) -> NeighbourGraph:
    members = draw(st.lists(st.integers(0, 500), min_size=3, max_size=largest, unique=True))
    k = 2 * draw(st.integers(1, (len(members) - 1) // 2))
    return NeighbourGraph.seeded(members, k, draw(st.binary(min_size=32, max_size=32)))


def singles(members: Iterable[int]) -> list[frozenset[int]]:
    return [frozenset({member}) for member in members]


def in_one_piece(graph: NeighbourGraph, members: frozenset[int]) -> bool:
    """Whether `members` are connected by edges between themselves."""
    reached, ahead = set(), set(itertools.islice(members, 1))
    while ahead:
        reached |= ahead
        ahead = {other for member in ahead for other in graph.neighbours(member)} & members - reached
    return reached == members


def most_in_a_row(graph: NeighbourGraph, marked: frozenset[int]) -> int:
    """The most members of `marked` on any k/2 places in a row."""
    twice, half = graph.ring * 2, graph.k // 2
    return max(len(marked.intersection(twice[start : start + half])) for start in range(len(graph.ring)))


# ---- The graph


@given(graphs())
def test_everybody_has_k_neighbours_and_is_theirs(graph: NeighbourGraph) -> None:
    for member in graph.ring:
        neighbours = graph.neighbours(member)
        assert len(set(neighbours)) == graph.k
        assert list(neighbours) == sorted(neighbours)
        assert member not in neighbours
        assert all(member in graph.neighbours(other) for other in neighbours)


@given(graphs())
def test_neighbours_are_the_nearest_on_both_sides_of_the_ring(graph: NeighbourGraph) -> None:
    n, half = len(graph.ring), graph.k // 2
    for position, member in enumerate(graph.ring):
        before, after = graph.sides(member)
        assert sorted(before + after) == list(graph.neighbours(member))
        assert before == tuple(graph.ring[(position + step) % n] for step in range(-half, 0))
        assert after == tuple(graph.ring[(position + step) % n] for step in range(1, half + 1))
        assert all(member in graph.sides(other)[1] for other in before)


@pytest.mark.parametrize(
    ("members", "k", "fault"),
    [
        (range(8), 3, "evenly"),
        (range(8), 0, "do not fit"),
        (range(8), -2, "do not fit"),
        (range(8), 8, "do not fit"),
        (range(3), 4, "do not fit"),
        ((), 2, "do not fit"),
        ((0, 1, 1, 2), 2, "distinct"),
        ((-1, 0, 1, 2), 2, "distinct"),
    ],
)
def test_what_is_no_graph_is_refused(members: Iterable[int], k: int, fault: str) -> None:
    with pytest.raises(CallerError, match=fault):
        NeighbourGraph.seeded(members, k, SEED)


def test_a_stranger_has_no_neighbours() -> None:
    with pytest.raises(CallerError, match="tenant 8"):
        NeighbourGraph.seeded(range(8), 2, SEED).neighbours(8)


# ---- Its draw


def ring_by_the_letter(members: Iterable[int], seed: bytes) -> list[int]:
    """What the description of `NeighbourGraph.seeded` says, written down a second time from the hash function up."""

    def block(number: int) -> bytes:
        tag = b"fed-em/1/graph ring"
        fields = [tag, (2).to_bytes(8, "little"), seed, number.to_bytes(8, "little")]
        lengths = [len(tag), None, 32, 8]
        return hashlib.sha256(
            b"".join(
                (b"" if length is None else length.to_bytes(8, "little")) + field
                for length, field in zip(lengths, fields, strict=True)
            )
        ).digest()

    stream = b"".join(block(number) for number in range(64))
    ring, taken = sorted(members), 0
    for i in reversed(range(1, len(ring))):
        j = i + 1
        while j > i:
            word = int.from_bytes(stream[taken : taken + 4], "little")
            j, taken = word % 2 ** i.bit_length(), taken + 4
        ring[i], ring[j] = ring[j], ring[i]
    return ring


@given(st.sets(st.integers(0, 2**20), min_size=3, max_size=60), st.binary(min_size=32, max_size=32))
def test_the_ring_follows_from_its_description(members: set[int], seed: bytes) -> None:
    graph = NeighbourGraph.seeded(members, 2, seed)
    assert list(graph.ring) == ring_by_the_letter(members, seed)
    assert sorted(graph.ring) == sorted(members)
    assert NeighbourGraph.seeded(sorted(members, reverse=True), 2, seed) == graph


def test_every_order_is_equally_likely() -> None:
    """All 24 orders of four members: false alarm once in 10^6 samples (the sample here is fixed)."""
    drawn = [ORDERS[NeighbourGraph.seeded(range(4), 2, seed_of(number)).ring] for number in range(9600)]
    assert uniform_p_value(drawn, len(ORDERS)) > 1e-6


def test_every_place_of_a_large_ring_is_equally_likely() -> None:
    rings = [NeighbourGraph.seeded(range(100), 2, seed_of(number)) for number in range(2000)]
    for member in (0, 37, 99):
        assert uniform_p_value([ring.positions[member] for ring in rings], 100) > 1e-6


def test_the_uniformity_test_sees_a_shuffle_that_changes_places_with_anybody() -> None:
    """The well-known mistake: every position, not only those not yet settled, may be swapped with."""
    chance, drawn = random.Random(1), []
    for _ in range(9600):
        order = list(range(4))
        for i in range(4):
            j = chance.randrange(4)
            order[i], order[j] = order[j], order[i]
        drawn.append(ORDERS[tuple(order)])
    assert uniform_p_value(drawn, len(ORDERS)) < 1e-6


def test_the_uniformity_test_sees_words_taken_modulo() -> None:
    """A number up to 2 from two bits modulo 3: what drawing again avoids."""
    chance, drawn = random.Random(2), []
    for _ in range(9600):
        order = list(range(4))
        for i in (3, 2, 1):
            j = chance.getrandbits(2) % (i + 1)
            order[i], order[j] = order[j], order[i]
        drawn.append(ORDERS[tuple(order)])
    assert uniform_p_value(drawn, len(ORDERS)) < 1e-6


def test_the_seed_depends_on_every_nonce_on_their_order_and_on_the_set_up() -> None:
    nonces = [seed_of(number) for number in range(3)]
    seeds = {
        graph_seed(SEED, nonces),
        graph_seed(SEED, nonces[::-1]),
        graph_seed(SEED, nonces[:2]),
        graph_seed(SEED, [*nonces[:2], SEED]),
        graph_seed(seed_of(9), nonces),
    }
    assert len(seeds) == 5
    assert all(len(seed) == 32 for seed in seeds)


@pytest.mark.parametrize(("setup", "nonces"), [(SEED[:31], [SEED]), (SEED, []), (SEED, [SEED, SEED[:31]])])
def test_a_seed_from_misshapen_parts_is_refused(setup: bytes, nonces: list[bytes]) -> None:
    with pytest.raises(CallerError):
        graph_seed(setup, nonces)


def test_a_misshapen_seed_is_refused() -> None:
    with pytest.raises(CallerError, match="32 bytes"):
        NeighbourGraph.seeded(range(8), 2, SEED[:16])


# ---- Who is struck


def tied(graph: NeighbourGraph, members: frozenset[int], side_honest: int) -> bool:
    """The condition, member by member."""
    return all(len(members.intersection(side)) >= side_honest for member in members for side in graph.sides(member))


def partition(chance: random.Random, members: Iterable[int], parts: int) -> list[frozenset[int]]:
    """`members` in `parts` units, the members of a unit anywhere on the ring."""
    unit_of = {member: chance.randrange(parts) for member in members}
    return [frozenset(member for member in unit_of if unit_of[member] == part) for part in range(parts)]


def every_sum(units: list[frozenset[int]]) -> list[frozenset[int]]:
    return [
        frozenset().union(*chosen) for size in range(len(units) + 1) for chosen in itertools.combinations(units, size)
    ]


def struck_one_by_one(
    graph: NeighbourGraph, units: list[frozenset[int]], candidates: frozenset[int], side_honest: int
) -> frozenset[int]:
    """Strike every unit with somebody who has too few neighbours left, as long as there is one."""
    left = candidates
    while not tied(graph, left, side_honest):
        weak = [m for m in left if any(len(left.intersection(side)) < side_honest for side in graph.sides(m))]
        left -= frozenset().union(*(unit for unit in units if unit.intersection(weak)))
    return left


@pytest.mark.parametrize(
    ("n", "k", "side_honest"), [(9, 4, 0), (9, 4, 1), (10, 6, 2), (10, 8, 2), (10, 8, 3), (9, 4, 2)]
)
def test_what_is_left_is_the_largest_part_in_which_all_are_tied(n: int, k: int, side_honest: int) -> None:
    """For single tenants and every choice of candidates: against trying every part of it, and against striking in turn."""
    graph = NeighbourGraph.seeded(range(n), k, SEED)
    sums = every_sum(singles(range(n)))
    good = [part for part in sums if tied(graph, part, side_honest)]
    kept = 0
    for candidates in sums:
        left = without_weakly_tied(graph, singles(range(n)), candidates, side_honest)
        assert left == frozenset().union(*(part for part in good if part <= candidates))
        assert left == struck_one_by_one(graph, singles(range(n)), candidates, side_honest)
        assert (left == candidates) == well_tied(graph, candidates, side_honest)
        kept += bool(left)
    assert kept == len(good) - 1 and 0 < kept < len(sums)


def test_blocks_leave_whole() -> None:
    """The same for random blocks of 14 tenants that stand anywhere on the ring."""
    chance = random.Random(3)
    kept = struck = 0
    for number in range(40):
        graph = NeighbourGraph.seeded(range(14), 8, seed_of(number))
        units = partition(chance, range(14), 6)
        sums = every_sum(units)
        good = [part for part in sums if tied(graph, part, 2)]
        for candidates in sums:
            left = without_weakly_tied(graph, units, candidates, 2)
            assert left == frozenset().union(*(part for part in good if part <= candidates))
            assert left == struck_one_by_one(graph, units, candidates, 2)
            kept, struck = kept + bool(left), struck + (left < candidates)
    assert min(kept, struck) > 200


@given(graphs(), st.data())
def test_in_larger_graphs_all_or_nobody_is_left(graph: NeighbourGraph, data: st.DataObject) -> None:
    missing = data.draw(st.sets(st.sampled_from(graph.ring), max_size=len(graph.ring) // 3))
    side_honest = data.draw(st.integers(0, graph.k // 2))
    candidates = frozenset(graph.ring) - missing
    left = struck_one_by_one(graph, singles(graph.ring), candidates, side_honest)
    assert left in (candidates, frozenset())
    assert without_weakly_tied(graph, singles(graph.ring), candidates, side_honest) == left


def test_one_tenant_missing_from_a_large_graph_is_too_many_only_for_the_largest_h() -> None:
    graph = NeighbourGraph.seeded(range(10_000), 106, SEED)
    everybody, others = frozenset(range(10_000)), frozenset(range(1, 10_000))
    assert well_tied(graph, everybody, 53)
    assert well_tied(graph, others, 52)
    assert not well_tied(graph, others, 53)


def test_a_stranger_cannot_be_chosen() -> None:
    with pytest.raises(CallerError, match="not members"):
        well_tied(NeighbourGraph.seeded(range(8), 4, SEED), {0, 8}, 1)


@pytest.mark.parametrize(
    ("units", "candidates"),
    [
        ([{0, 1}, {2, 3}], {0, 1, 2}),
        ([{0, 1}, {2, 3}], {0, 1, 4}),
        ([{0, 1}], {0, 2}),
        ([{0, 1}, {1, 2}], {0, 1, 2}),
        ([{0, 8}], {0, 8}),
        ([{0, 1}, {8, 9}], {0, 1, 8, 9}),
    ],
)
def test_candidates_that_are_no_union_of_units_are_refused(units: list[set[int]], candidates: set[int]) -> None:
    graph = NeighbourGraph.seeded(range(8), 4, SEED)
    with pytest.raises(CallerError):
        without_weakly_tied(graph, [frozenset(unit) for unit in units], candidates, 1)


# ---- Why: the honest part stays in one piece


@pytest.mark.parametrize(("n", "k", "side_honest"), [(8, 4, 1), (10, 6, 2), (9, 8, 2), (9, 8, 3)])
def test_the_honest_part_is_in_one_piece_whatever_the_server_picks(n: int, k: int, side_honest: int) -> None:
    """Every choice of candidates by the server, and every set of corrupt tenants with fewer than h on k/2 places in a row."""
    graph = NeighbourGraph(tuple(range(n)), k)
    subsets = [frozenset(c) for size in range(n + 1) for c in itertools.combinations(range(n), size)]
    sums = {without_weakly_tied(graph, singles(range(n)), candidates, side_honest) for candidates in subsets}
    allowed = [corrupt for corrupt in subsets if most_in_a_row(graph, corrupt) < side_honest]
    assert len(sums) > 10 and len(allowed) > (1 if side_honest > 1 else 0)
    assert all(in_one_piece(graph, chosen - corrupt) for chosen in sums for corrupt in allowed)


@given(graphs(largest=40), st.data())
def test_the_honest_part_is_in_one_piece_in_larger_graphs(graph: NeighbourGraph, data: st.DataObject) -> None:
    side_honest = data.draw(st.integers(1, graph.k // 2))
    corrupt: frozenset[int] = frozenset()
    for member in data.draw(st.permutations(graph.ring)):
        if most_in_a_row(graph, corrupt | {member}) < side_honest:
            corrupt |= {member}
    missing = data.draw(st.sets(st.sampled_from(graph.ring), max_size=len(graph.ring) // 3))
    chosen = without_weakly_tied(graph, singles(graph.ring), set(graph.ring) - missing, side_honest)
    assert in_one_piece(graph, chosen - corrupt)


def test_without_the_rule_the_server_can_cut_honest_tenants_off() -> None:
    """Nobody is corrupt; the server merely leaves two runs of k/2 tenants out, and learns two sums instead of one."""
    graph = NeighbourGraph(tuple(range(8)), 4)
    chosen = frozenset({0, 1, 4, 5})
    assert not in_one_piece(graph, chosen)
    assert without_weakly_tied(graph, singles(range(8)), chosen, 1) == frozenset()


def test_with_h_corrupt_tenants_in_a_row_the_rule_does_not_help() -> None:
    """Everybody is in the sum and has h = 2 neighbours on each side: all of them corrupt for some."""
    graph = NeighbourGraph(tuple(range(8)), 4)
    everybody, corrupt = frozenset(range(8)), frozenset({2, 3, 6, 7})
    assert without_weakly_tied(graph, singles(range(8)), everybody, 2) == everybody
    assert most_in_a_row(graph, corrupt) == 2
    assert not in_one_piece(graph, everybody - corrupt)
