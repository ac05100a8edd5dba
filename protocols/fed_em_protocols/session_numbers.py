"""Numbers of a session that follow from its roster: the least sum, and the sparse graph of a roster that needs one.

A sparse graph is chosen for the smallest window that can open a sum, u_min tenants, with as many missing as the session puts up
with, n − u_min. Every window is at least as large: the more members, the smaller the share of the corrupt and the missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fed_em.errors import CallerError
from fed_em_protocols.graph_parameters import (
    CORRECTNESS_BITS,
    SECURITY_BITS,
    GraphParameters,
    connection_is_safe,
    malicious_server_parameters,
    most_corrupt_witnesses,
    semi_honest_parameters,
    side_is_safe,
    threshold_is_safe,
)
from fed_em_protocols.limits import MAX_NEIGHBOURS, MIN_TENANTS, MOST_COMPLETE
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms, Trust, is_sparse

DROPOUTS = 0.1
"""δ: the share of a large roster that may be missing from a round, blocks included, unless the session says otherwise."""


@dataclass(frozen=True)
class ThreatModel:
    """What a session is to withstand.

    Attributes:
        trust: Whether the server may break the protocol.
        colluders: f.
        guarded: Whether every sum holds the roster's blocks whole or not at all.
        complete: Whether every two tenants share masks however many they are.
        security_bits, correctness_bits: σ and η of a sparse graph; see `fed_em_protocols.graph_parameters`.
    """

    trust: Trust
    colluders: int
    guarded: bool
    complete: bool = False
    security_bits: int = SECURITY_BITS
    correctness_bits: int = CORRECTNESS_BITS

    def has_sparse_graph(self, roster: Roster) -> bool:
        """Whether a session among a roster's tenants has a sparse graph."""
        return is_sparse(roster) and not self.complete


def default_survivors(roster: Roster, cohort: int, threats: ThreatModel, dropouts: float = DROPOUTS) -> int:
    """u_min where nobody says otherwise.

    Blocks are whole or absent, so with them nothing smaller than a block is ever seen and a larger sum protects no more: the
    cohort is enough. One block alone is the whole roster. Without blocks it is half of the roster at least. A sparse graph is
    made for a share `dropouts` of the roster missing, and for no more.
    """
    if threats.guarded and len(roster.blocks) == 1:
        return roster.n
    if threats.has_sparse_graph(roster):
        return max(cohort, roster.n - math.floor(dropouts * roster.n))
    return max(cohort, MIN_TENANTS, 0 if threats.guarded else math.ceil(roster.n / 2))


def graph_of(roster: Roster, threats: ThreatModel, survivors: int) -> GraphParameters | None:
    """The sparse graph for a roster and u_min; None on the complete graph, where every number follows by rule.

    Raises:
        CallerError: no graph will do; names the condition that fails and what to change.
    """
    if not threats.has_sparse_graph(roster):
        if roster.n > MOST_COMPLETE:
            raise CallerError(
                f"{roster.n} tenants are too many for the complete graph, which has {MOST_COMPLETE} at most",
                remedy='say graph = "auto" in [trust]',
            )
        return None
    missing, witnesses = roster.n - survivors, len(roster.witnesses)
    remedy = (
        "in [trust], lower `colluders`, `security_bits` or `correctness_bits`, or lower `dropouts` (raise `minimum_survivors`); "
        "or name other witnesses in a new version of the roster"
    )
    bits = (threats.security_bits, threats.correctness_bits)
    if threats.trust is Trust.MALICIOUS_SERVER and witnesses > survivors:
        raise CallerError(
            f"the roster names {witnesses} witnesses, and a window may have {survivors} tenants",
            remedy="make the roster with `fed-em roster new --witnesses`, or lower `dropouts` in [trust]",
        )
    try:
        if threats.trust is Trust.MALICIOUS_SERVER:
            found = malicious_server_parameters(survivors, witnesses, threats.colluders, missing, *bits)
        else:
            found = semi_honest_parameters(survivors, threats.colluders, missing, *bits)
    except CallerError as error:
        raise CallerError(f"a session of {roster.n} tenants: {error.message}", remedy=remedy) from None
    if found.neighbours > MAX_NEIGHBOURS:
        raise CallerError(
            f"a session of {roster.n} tenants needs {found.neighbours} neighbours each, the protocol knows {MAX_NEIGHBOURS}",
            remedy=remedy,
        )
    return found


def require_safe_graph(terms: SessionTerms, roster: Roster, colluders: int, bits: int) -> None:
    """Recompute, as a tenant that was told k, τ, h and q, that a sparse graph protects against so many colluders.

    A roster of any size may be offered one: the complete graph is what terms without neighbours say.

    Args:
        bits: σ; each condition may fail with a probability of 2^−σ.

    Raises:
        CallerError: names the number that does not.
    """
    if not terms.neighbours:
        return
    rules = _certified_rules if terms.trust == Trust.MALICIOUS_SERVER else _semi_honest_rules
    for safe, number in rules(terms, roster, colluders, bits):
        if not safe:
            raise CallerError(
                f"{number} does not protect against {colluders} colluding tenants in windows of "
                f"{terms.minimum_survivors} tenants with {bits} bits of security"
            )


def _certified_rules(terms: SessionTerms, roster: Roster, f: int, bits: int) -> Iterator[tuple[bool, str]]:
    k, sizes = terms.neighbours, (terms.minimum_survivors, roster.n)
    yield (
        all(threshold_is_safe(size, f, k, terms.share_threshold, bits) for size in sizes),
        f"the share threshold {terms.share_threshold} of {k} neighbours",
    )
    yield (
        all(side_is_safe(size, f, k, terms.side_honest, bits) for size in sizes),
        f"the {terms.side_honest} neighbours on each side, of {k} in all,",
    )
    yield _quorums_meet(terms, roster, f, bits), f"the quorum of {terms.certificate_quorum} witnesses"


def _semi_honest_rules(terms: SessionTerms, roster: Roster, f: int, bits: int) -> Iterator[tuple[bool, str]]:
    k, least = terms.neighbours, terms.minimum_survivors
    # σ is shared by two conditions, as where the numbers come from (`semi_honest_parameters`).
    yield (
        all(threshold_is_safe(size, f, k, terms.share_threshold, bits + 1) for size in (least, roster.n)),
        f"the share threshold {terms.share_threshold} of {k} neighbours",
    )
    # In a window of any size at most those beyond u_min may be missing from a sum.
    connected = all(connection_is_safe(size, f, size - least, k, bits + 1) for size in (least, roster.n))
    yield connected, f"the number of {k} neighbours"


def _quorums_meet(terms: SessionTerms, roster: Roster, colluders: int, bits: int) -> bool:
    """Whether any two quorums share an honest witness."""
    corrupt = most_corrupt_witnesses(roster.n, colluders, terms.witnesses, bits)
    return 2 * terms.certificate_quorum > terms.witnesses + corrupt
