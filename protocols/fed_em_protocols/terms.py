"""Session terms: everything both sides agree on before the first round, hashed into every message of the session.

Fields that the complete graph derives from the members of each window (`witnesses`, `certificate_quorum`, `share_threshold`,
`neighbours`, `side_honest`) are 0 here, which reads "by rule"; `share_threshold_of` is that rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from fed_em.errors import CallerError
from fed_em_protocols.limits import MAX_WINDOW_ROUNDS, MIN_TENANTS
from fed_em_protocols.wire.fields import DIGEST, ID, at_most

# X25519, HKDF-SHA-256, AES-128-CTR, Ed25519, ChaCha20-Poly1305, Shamir over 2^256+297, ring 2^64.
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
    """f = ⌊(n − 1)/3⌋."""
    return (n - 1) // 3


def share_threshold_of(members: int, colluders: int) -> int:
    """τ on the complete graph of a window with `members` tenants, semi-honest: ⌊(members − 1 + f)/2⌋ + 1.

    No two disjoint sets of honest holders can then each complete a set of shares, so b_v and a_v are never both open.
    """
    return (members - 1 + colluders) // 2 + 1


def validate_terms(terms: SessionTerms, n: int) -> None:
    """Check the rules u_min ≥ m ≥ f + 2 and their kin for a roster of `n` tenants.

    Raises:
        CallerError: names the rule that is broken.
    """
    rules = (
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
        (
            not any(
                (terms.witnesses, terms.certificate_quorum, terms.share_threshold, terms.neighbours, terms.side_honest)
            ),
            "the terms set what the complete graph derives by rule",
        ),
        (
            terms.blocks == 0 and terms.mass_floor == 0,
            "the terms ask for blocks or for a mass floor, which this version does not enforce",
        ),
        (terms.round_cap >= 1, "the round cap must be at least 1"),
        (1 <= terms.window_rounds <= MAX_WINDOW_ROUNDS, f"a window holds 1 to {MAX_WINDOW_ROUNDS} rounds"),
    )
    for holds, complaint in rules:
        if not holds:
            raise CallerError(complaint, remedy="change the session's terms or its roster")
