"""The sparse graph of a large window: who masks with whom, and holds whose shares, when not everybody can with everybody.

A Harary graph of even degree k: the members stand on a ring in random order, and each is joined to the k/2 nearest before and
the k/2 nearest after it (Harary, "The maximum connectivity of a graph", 1962; for secure sums: Bell et al., "Secure
single-server aggregation with (poly)logarithmic overhead", 2020). The order follows from a seed that no single party chooses.
`fed_em_protocols.graph_parameters` says how large k must be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, count

from fed_em.errors import CallerError
from fed_em_protocols.hashing import DIGEST_BYTES, digest

NONCE_BYTES = 32
_WORD_BYTES = 4


def graph_seed(setup_digest: bytes, nonces: Sequence[bytes]) -> bytes:
    """The 32-byte seed of a window's graph: a hash of the set-up and of every witness's nonce.

    Args:
        setup_digest: H(set-up), 32 bytes, fixed before any nonce is revealed.
        nonces: 32 bytes of each witness that takes part in this draw, in roster order; at least one.

    Raises:
        CallerError: a length is wrong, or there is no nonce.
    """
    if len(setup_digest) != DIGEST_BYTES:
        raise CallerError(f"the digest of a set-up has {DIGEST_BYTES} bytes, not {len(setup_digest)}")
    if not nonces:
        raise CallerError("the seed of a graph needs the nonce of at least one witness")
    if any(len(nonce) != NONCE_BYTES for nonce in nonces):
        raise CallerError(f"the nonce of a witness has {NONCE_BYTES} bytes")
    return digest("graph seed", setup_digest, *nonces)


@dataclass(frozen=True)
class NeighbourGraph:
    """A k-regular Harary graph over a ring.

    Attributes:
        ring: The members (distinct roster indices, with gaps or without) in ring order; the last stands before the first.
        k: Neighbours of each member; even, at least 2 and below the number of members.
    """

    ring: tuple[int, ...]
    k: int

    def __post_init__(self) -> None:
        if len(set(self.ring)) != len(self.ring) or min(self.ring, default=0) < 0:
            raise CallerError("the members of a graph must be distinct roster indices")
        if self.k % 2:
            raise CallerError(
                f"k = {self.k} neighbours cannot be shared out evenly between the two sides of a ring",
                remedy="choose an even number of neighbours",
            )
        if not 2 <= self.k < len(self.ring):
            raise CallerError(
                f"k = {self.k} neighbours do not fit a graph of {len(self.ring)} members",
                remedy="choose k from 2 to one less than the number of members, or use the complete graph",
            )

    @classmethod
    def seeded(cls, members: Iterable[int], k: int, seed: bytes) -> NeighbourGraph:
        """The graph in which every order of the ring is equally likely, given a uniform seed.

        Exactly so, for anyone who computes it again: block c = 0, 1, … of the stream is `digest("graph ring", seed, c)` of
        `fed_em_protocols.hashing`, 32 bytes, read as eight words of 4 bytes, little-endian. A number from 0 to i is drawn by
        taking words until one is at most i in its lowest b bits, b the bit length of i; the rest of the word is dropped, and
        words go on from block to block. The ring starts as the members in ascending order; for i from the last position down
        to 1, a number j from 0 to i is drawn, and the members at i and j change places (Fisher and Yates; Durstenfeld 1964).

        Args:
            members: Distinct roster indices, in any order.
            k: Even, at least 2 and below the number of members.
            seed: 32 bytes.

        Raises:
            CallerError: no such graph exists, or the seed is not 32 bytes long.
        """
        if len(seed) != DIGEST_BYTES:
            raise CallerError(f"the seed of a graph has {DIGEST_BYTES} bytes, not {len(seed)}")
        ring = sorted(members)
        words = _words(seed)
        for i in range(len(ring) - 1, 0, -1):
            j = _number_up_to(i, words)
            ring[i], ring[j] = ring[j], ring[i]
        return cls(tuple(ring), k)

    @cached_property
    def positions(self) -> Mapping[int, int]:
        """Where on the ring each member stands, from 0."""
        return {member: position for position, member in enumerate(self.ring)}

    def neighbours(self, member: int) -> tuple[int, ...]:
        """The k neighbours of `member`, ascending.

        Raises:
            CallerError: `member` is not in the graph.
        """
        before, after = self.sides(member)
        return tuple(sorted(before + after))

    def sides(self, member: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The k/2 members before `member` and the k/2 after it, both in ring order.

        Raises:
            CallerError: `member` is not in the graph.
        """
        position = self.positions.get(member)
        if position is None:
            raise CallerError(f"tenant {member} is not a member of this graph")
        half, n = self.k // 2, len(self.ring)
        before = tuple(self.ring[p % n] for p in range(position - half, position))
        after = tuple(self.ring[p % n] for p in range(position + 1, position + half + 1))
        return before, after


def _words(seed: bytes) -> Iterator[int]:
    for block in count():
        data = digest("graph ring", seed, block)
        for start in range(0, DIGEST_BYTES, _WORD_BYTES):
            yield int.from_bytes(data[start : start + _WORD_BYTES], "little")


def _number_up_to(largest: int, words: Iterator[int]) -> int:
    """A number from 0 to `largest`: taking a word modulo `largest` + 1 instead would favour small numbers."""
    mask = (1 << largest.bit_length()) - 1
    return next(number for word in words if (number := word & mask) <= largest)


def well_tied(graph: NeighbourGraph, chosen: Iterable[int], side_honest: int) -> bool:
    """Whether everybody in `chosen` has `side_honest` neighbours that are in it too, on each side of the ring.

    Args:
        graph: The window's graph.
        chosen: Members of the graph.
        side_honest: h, at least 0.

    Raises:
        CallerError: somebody in `chosen` is not a member of the graph.
    """
    wanted = frozenset(chosen)
    if not wanted <= graph.positions.keys():
        raise CallerError("tenants that are not members of this graph are chosen for a sum")
    n, half = len(graph.ring), graph.k // 2
    # How many are chosen on the first places of the ring, gone round far enough for the last member's side.
    running = [0, *accumulate(graph.ring[place % n] in wanted for place in range(n + half))]
    # The places after each member tell of those before: with fewer than h there, the h-th chosen one backwards is out of reach,
    # and has itself fewer than h after it.
    return all(
        running[place + half + 1] - running[place + 1] >= side_honest
        for place, member in enumerate(graph.ring)
        if member in wanted
    )


def without_weakly_tied(
    graph: NeighbourGraph, units: Sequence[frozenset[int]], candidates: Iterable[int], side_honest: int
) -> frozenset[int]:
    """The largest union of units in `candidates` in which everybody has `side_honest` neighbours on each side of the ring.

    That is all of `candidates` or nobody, for whoever is struck takes the whole ring along. Let v have fewer than h of the others
    on the k/2 places after it, and let u be the last one left before v. Without v, the places after u hold nobody up to v, and
    what they hold beyond v lies on the places after v: fewer than h, so u goes too, and so on round the ring; likewise for the
    other side. A round without enough neighbours for one tenant is therefore a void one.

    Args:
        graph: The window's graph.
        units: Disjoint sets of tenants that stay whole or leave whole: the blocks, or single tenants where blocks are waived.
        candidates: Members of the graph, a union of units; other units are ignored.
        side_honest: h, at least 0.

    Raises:
        CallerError: `candidates` splits a unit, goes beyond the units or beyond the graph, or two units overlap.
    """
    wanted = frozenset(candidates)
    inside = [unit for unit in units if unit & wanted]
    if frozenset().union(*inside) != wanted or sum(map(len, inside)) != len(wanted):
        raise CallerError(
            "the candidates for a sum are not a union of whole blocks",
            remedy="leave out every block that is not complete",
        )
    return wanted if well_tied(graph, wanted, side_honest) else frozenset()
