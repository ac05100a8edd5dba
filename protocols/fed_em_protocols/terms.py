"""Session terms: everything both sides agree on before the first round, hashed into every message of the session.

Fields that the complete graph derives from the members of each window (`witnesses`, `certificate_quorum`, `share_threshold`,
`neighbours`, `side_honest`) are 0 there, which reads "by rule": `share_threshold_of` and `certificate_quorum_of` are the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from fed_em.errors import CallerError
from fed_em_protocols.limits import (
    COMPLETE_GRAPH_TENANTS,
    MAX_NEIGHBOURS,
    MAX_WINDOW_ROUNDS,
    MIN_TENANTS,
    MOST_COMPLETE,
)
from fed_em_protocols.roster import Roster
from fed_em_protocols.wire.fields import DIGEST, ID, at_most

# X25519, HKDF-SHA-256, AES-128-CTR, Ed25519, ChaCha20-Poly1305, Shamir over 2^256+297, rings 2^64 and 2^32.
SUITE = 1

# Suites from here on exist in simulations alone; a tenant with data refuses them.
FIRST_SIMULATED_SUITE = 0x8000


class Trust(IntEnum):
    """Against whom a session protects: a server that follows the protocol, or any server."""

    SEMI_HONEST = 1
    MALICIOUS_SERVER = 2

    @property
    def label(self) -> str:
        """The name that people write and read."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True)
class SessionTerms:
    """The terms of one session. The letters are those of the protocol's specification.

    Attributes:
        session: 16 random bytes.
        roster: H(roster).
        schema: H(schema): columns, ranges and model plan, from which every encoding of the session follows by rule.
        suite: Cryptographic suite.
        trust: See `Trust`.
        minimum_cohort: m, the least number of tenants whose sum may be opened.
        minimum_survivors: u_min ≥ m, the least |U| that this session opens.
        colluders: f, how many tenants may collude with each other (and with a malicious server).
        witnesses, certificate_quorum, share_threshold, neighbours, side_honest: w, q, τ, k, h; 0 = by rule.
        blocks: Number of blocks of the difference guard; 0 = waived.
        mass_floor: Least mass of an opened component, in thousandths of a record; 0 = no gate.
        round_cap: The most rounds of the whole session.
        window_rounds: W, rounds served by one set-up.
    """

    session: bytes = field(metadata=ID)
    roster: bytes = field(metadata=DIGEST)
    schema: bytes = field(metadata=DIGEST)
    suite: int
    trust: int
    minimum_cohort: int
    minimum_survivors: int
    colluders: int
    witnesses: int
    certificate_quorum: int
    share_threshold: int
    neighbours: int
    side_honest: int
    blocks: int
    mass_floor: int
    round_cap: int
    window_rounds: int = field(metadata=at_most(MAX_WINDOW_ROUNDS))


def default_colluders(n: int) -> int:
    """f = ⌊(n − 1)/3⌋ on the complete graph, ⌊n/20⌋ beyond it: no graph much sparser than the complete one withstands a third."""
    return (n - 1) // 3 if n <= COMPLETE_GRAPH_TENANTS else n // 20


def share_threshold_of(members: int, colluders: int, trust: Trust) -> int:
    """τ on the complete graph of a window with `members` tenants.

    Semi-honest: ⌊(members − 1 + f)/2⌋ + 1, so that no two disjoint sets of honest holders can each complete a set of shares.
    With certificates honest holders all act on one set of survivors: what is left is that f colluding holders alone must never
    complete a set, whatever the size of the window, so max(⌊members/2⌋, f) + 1. At most members − 1, as every window has f + 2.
    """
    if trust is Trust.MALICIOUS_SERVER:
        return max(members // 2, colluders) + 1
    return (members - 1 + colluders) // 2 + 1


def certificate_quorum_of(witnesses: int, colluders: int) -> int:
    """q = ⌊(w + f)/2⌋ + 1: two sets of q witnesses share more than f, so an honest one would have signed twice."""
    return (witnesses + colluders) // 2 + 1


def guarded_units(roster: Roster, terms: SessionTerms) -> tuple[frozenset[int], ...]:
    """The units of the difference guard: the roster's blocks, or single tenants if the terms waive it.

    A set of survivors holds each unit whole or not at all.
    """
    return roster.blocks if terms.blocks else tuple(frozenset({index}) for index in range(roster.n))


def unit_place(roster: Roster, terms: SessionTerms, index: int) -> int:
    """Which of the `guarded_units` a tenant is in."""
    return next(place for place, unit in enumerate(roster.blocks) if index in unit) if terms.blocks else index


def whole_units(units: tuple[frozenset[int], ...], members: frozenset[int]) -> frozenset[int]:
    """The union of the units that lie entirely within `members`."""
    return frozenset().union(*(unit for unit in units if unit <= members))


def is_sparse(roster: Roster) -> bool:
    """Whether a session of this roster has a sparse graph, unless its operator wants the complete one (`MOST_COMPLETE` tenants at most)."""
    return roster.n > COMPLETE_GRAPH_TENANTS


def validate_terms(terms: SessionTerms, roster: Roster) -> None:
    """Check the rules u_min ≥ m ≥ f + 2 and their kin for a roster.

    Raises:
        CallerError: names the rule that is broken.
    """
    n = roster.n
    rules = [
        (n >= MIN_TENANTS, f"a secure sum needs at least {MIN_TENANTS} tenants, the roster has {n}"),
        (terms.trust in set(Trust), f"trust {terms.trust} is unknown"),
        (
            terms.minimum_cohort >= terms.colluders + 2,
            f"the minimum cohort {terms.minimum_cohort} is below colluders + 2 = {terms.colluders + 2}",
        ),
        (
            terms.minimum_survivors >= max(terms.minimum_cohort, MIN_TENANTS),
            f"the minimum number of survivors {terms.minimum_survivors} is below the minimum cohort "
            f"{terms.minimum_cohort} or below {MIN_TENANTS}",
        ),
        (terms.minimum_survivors <= n, f"{terms.minimum_survivors} survivors cannot come from {n} tenants"),
        (terms.round_cap >= 1, "the round cap must be at least 1"),
        (1 <= terms.window_rounds <= MAX_WINDOW_ROUNDS, f"a window holds 1 to {MAX_WINDOW_ROUNDS} rounds"),
        *_graph_rules(terms, roster),
        *_block_rules(terms, roster),
        (
            terms.mass_floor == 0 or terms.trust == Trust.MALICIOUS_SERVER,
            "a mass floor needs trust malicious-server: without certificates nobody could hold the server to it",
        ),
    ]
    for holds, complaint in rules:
        if not holds:
            raise CallerError(complaint, remedy="change the session's terms or its roster")


def _graph_rules(terms: SessionTerms, roster: Roster) -> list[tuple[bool, str]]:
    graph = (terms.witnesses, terms.certificate_quorum, terms.share_threshold, terms.neighbours, terms.side_honest)
    if not terms.neighbours:
        return [
            (not any(graph), "the terms set what the complete graph derives by rule"),
            (roster.n <= MOST_COMPLETE, f"{roster.n} tenants are too many for the complete graph"),
        ]
    k, w, q = terms.neighbours, terms.witnesses, terms.certificate_quorum
    certified = terms.trust == Trust.MALICIOUS_SERVER
    named = len(roster.witnesses)
    # The smallest window must make a graph too.
    most = min(terms.minimum_survivors - 1, MAX_NEIGHBOURS)
    return [
        (k % 2 == 0 and 2 <= k <= most, f"{k} neighbours are not an even number from 2 to {most}"),
        (
            2 <= terms.share_threshold <= k,
            f"share threshold {terms.share_threshold} is not between 2 and {k} neighbours",
        ),
        (
            (1 <= terms.side_honest <= k // 2) if certified else terms.side_honest == 0,
            f"{terms.side_honest} neighbours a side do not fit {k} neighbours and this trust",
        ),
        (
            (w == named and w < 2 * q <= 2 * w) if certified else (w == 0 and q == 0),
            f"a quorum of {q} out of {w} witnesses does not fit the {named} witnesses of the roster and this trust",
        ),
    ]


def _block_rules(terms: SessionTerms, roster: Roster) -> list[tuple[bool, str]]:
    if not terms.blocks:
        return []
    smallest = min(roster.blocks, key=len)
    first = roster.tenants[min(smallest)].name
    return [
        (
            terms.blocks == len(roster.blocks),
            f"the terms say {terms.blocks} blocks, the roster has {len(roster.blocks)}",
        ),
        (
            len(smallest) >= terms.colluders + 2,
            f"the block of '{first}' has {len(smallest)} tenants, fewer than colluders + 2 = {terms.colluders + 2}",
        ),
    ]
