"""Known answers of the sparse graph: how it is drawn, who must be tied to whom, and how large it must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from fed_em_protocols.graph import NeighbourGraph, graph_seed, without_weakly_tied
from fed_em_protocols.graph_parameters import malicious_server_parameters, semi_honest_parameters
from fed_em_protocols.hashing import digest
from fed_em_protocols.terms import Trust, certificate_quorum_of, share_threshold_of
from tests.protocols.vector_cases import Case, error_of, hexes

SETUP = bytes(range(32))


def graphs() -> list[Case]:
    """Seeds from nonces, rings from seeds, and what is left of candidates for a sum; then what is no graph."""
    cases: list[Case] = []
    for n, k, witnesses in ((5, 2, 1), (12, 6, 3), (70, 12, 5)):
        nonces = [digest("nonce of a vector", index) for index in range(witnesses)]
        members = [3 * index + 1 for index in range(n)]
        graph = NeighbourGraph.seeded(members, k, graph_seed(SETUP, nonces))
        cases.append({
            "setup": SETUP.hex(), "nonces": hexes(nonces), "seed": graph_seed(SETUP, nonces).hex(), "members": members, "k": k,
            "ring": graph.ring, "neighbours": {str(member): graph.neighbours(member) for member in members[:2]},
        })  # fmt: skip
    return cases + ties() + no_graphs()


def ties() -> list[Case]:
    """On the ring 0 … 9 with two neighbours on each side: who is left in a sum if everybody needs `side_honest` on each side."""
    graph = NeighbourGraph(tuple(range(10)), 4)
    single = [frozenset({index}) for index in range(10)]
    blocks = [frozenset({0, 5}), frozenset({1, 6}), frozenset({2, 7}), frozenset({3, 8}), frozenset({4, 9})]
    chosen = [
        (single, range(10), 2), (single, [0, 1, 2, 3, 5, 6, 7, 8, 9], 1), (single, [0, 1, 2, 3, 5, 6, 7, 8, 9], 2),
        (single, [0, 1, 4, 5, 6, 7, 8, 9], 1), (single, [0, 1, 5, 6, 7, 8, 9], 1), (blocks, [0, 2, 4, 5, 7, 9], 1),
        (blocks, [0, 5, 1, 6], 1),
    ]  # fmt: skip
    return [
        {
            "ring": graph.ring, "k": 4, "units": [sorted(unit) for unit in units], "candidates": sorted(candidates),
            "side_honest": h, "left": sorted(without_weakly_tied(graph, units, candidates, h)),
        }
        for units, candidates, h in chosen
    ]  # fmt: skip


def no_graphs() -> list[Case]:
    """What is refused."""
    refused: dict[str, Callable[[], object]] = {
        "an odd number of neighbours": lambda: NeighbourGraph.seeded(range(9), 3, SETUP),
        "more neighbours than others": lambda: NeighbourGraph.seeded(range(6), 6, SETUP),
        "no neighbours": lambda: NeighbourGraph.seeded(range(6), 0, SETUP),
        "a seed of 31 bytes": lambda: NeighbourGraph.seeded(range(9), 4, SETUP[1:]),
        "no nonce": lambda: graph_seed(SETUP, []),
        "a nonce of 31 bytes": lambda: graph_seed(SETUP, [SETUP[1:]]),
        "candidates that split a unit": lambda: without_weakly_tied(
            NeighbourGraph(tuple(range(10)), 4), [frozenset({0, 1})], [0], 1
        ),
    }
    return [{"what": what, "error": error_of(action)} for what, action in refused.items()]


def graph_parameters() -> list[Case]:
    """k, τ, h and q from the sizes of a session; τ and q by rule on the complete graph; and sizes for which there is no graph."""
    semi_honest = [(100, 5, 5), (100, 10, 10), (1000, 50, 50), (1000, 100, 100)]
    malicious = [(66, 20, 1, 4), (100, 40, 5, 10), (1000, 80, 50, 50), (1000, 100, 100, 100)]
    cases: list[Case] = [
        {"trust": Trust.SEMI_HONEST.label, **asdict(semi_honest_parameters(*sizes))} for sizes in semi_honest
    ]
    cases += [
        {"trust": Trust.MALICIOUS_SERVER.label, **asdict(malicious_server_parameters(*sizes))} for sizes in malicious
    ]
    for n, f in ((3, 0), (3, 1), (4, 1), (10, 3), (64, 21)):
        rules = {trust.label: share_threshold_of(n, f, trust) for trust in Trust}
        cases.append(
            {"n": n, "corrupt": f, "share_thresholds": rules, "certificate_quorum": certificate_quorum_of(n, f)}
        )
    refused: list[tuple[Trust, tuple[int, ...]]] = [
        (Trust.SEMI_HONEST, (20, 10, 9)), (Trust.SEMI_HONEST, (2, 0, 0)), (Trust.SEMI_HONEST, (100, 60, 40)),
        (Trust.MALICIOUS_SERVER, (100, 5, 5, 5)), (Trust.MALICIOUS_SERVER, (100, 40, 33, 10)),
        (Trust.MALICIOUS_SERVER, (100, 101, 5, 5)),
    ]  # fmt: skip
    for trust, sizes in refused:
        rule = semi_honest_parameters if trust is Trust.SEMI_HONEST else malicious_server_parameters
        cases.append({"trust": trust.label, "sizes": sizes, "error": error_of(lambda r=rule, s=sizes: r(*s))})  # type: ignore[misc]
    return cases
