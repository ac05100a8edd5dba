"""What `fed-em doctor` says of a session's protection: whom it withstands, which losses it survives, what its blocks cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from fed_em.errors import CallerError
from fed_em_protocols.checks import Finding, check
from fed_em_protocols.graph_parameters import what_it_survives
from fed_em_protocols.roster import Roster
from fed_em_protocols.session_numbers import ThreatModel, graph_of
from fed_em_protocols.terms import Trust, certificate_quorum_of, share_threshold_of


def check_protection(roster: Roster, threats: ThreatModel, survivors: int) -> Iterator[Finding]:
    """What a session on a roster withstands, and what it survives.

    Args:
        roster: The roster.
        threats: Whom it is to withstand.
        survivors: u_min.
    """
    yield Finding("trust", _say_trust(roster.n, threats))
    if threats.has_sparse_graph(roster):
        graph = check("graph", lambda: graph_of(roster, threats, survivors), lambda _: "")
        sentences = what_it_survives(graph.result) if graph.result else ()
        yield from (Finding("graph", sentence) for sentence in sentences)
        if graph.result is None:
            yield graph.finding
    else:
        yield check(
            "losses",
            lambda: _complete_losses(roster, threats, survivors),
            lambda losses: _say_losses(roster.n, threats, losses),
        ).finding
    yield check(
        "blocks", lambda: _check_blocks(roster, threats), lambda _: _say_blocks(roster, threats, survivors)
    ).finding


@dataclass(frozen=True)
class Losses:
    """How many of a window's members may be lost for good, and the round still opens.

    Attributes:
        uploaded: After the upload, before the certificate.
        certified: After the certificate.
    """

    uploaded: int
    certified: int


def losses_survived(members: int, colluders: int, trust: Trust) -> Losses:
    """On the complete graph: a lost tenant is replaced from the shares of τ others, and q others must certify its loss.

    Raises:
        CallerError: no window can be set up, as a secret has fewer holders than τ; where it has enough, f ≤ n − 2 and q witnesses exist.
    """
    threshold = share_threshold_of(members, colluders, trust)
    quorum = certificate_quorum_of(members, colluders) if trust is Trust.MALICIOUS_SERVER else 0
    if threshold > members - 1:
        raise CallerError(
            f"n = {members}, f = {colluders}: a secret needs τ = {threshold} holders, and has {members - 1}",
            remedy="add tenants to the roster, or lower the number of colluders",
        )
    return Losses(members - max(threshold, quorum), members - threshold)


def stale_share(roster: Roster, dropout: float) -> float:
    """The share of contributions that are of an earlier round, if each tenant is away with this probability for itself."""
    return sum(len(block) * (1 - (1 - dropout) ** len(block)) for block in roster.blocks) / roster.n


def _say_trust(n: int, threats: ThreatModel) -> str:
    tenants = "1 of them colludes" if threats.colluders == 1 else f"{threats.colluders} of them collude"
    if threats.trust is Trust.MALICIOUS_SERVER:
        return (
            f"{threats.trust.label}: nothing but sums is learned from {n} tenants by any server, even if "
            f"f = {tenants} with it; three trips a round"
        )
    return (
        f"{threats.trust.label}: nothing but sums is learned from {n} tenants by a server that follows the protocol, or if "
        f"f = {tenants}; one that does not follow it could learn more; two trips a round"
    )


def _say_losses(n: int, threats: ThreatModel, losses: Losses) -> str:
    said = f"n = {n}, f = {threats.colluders}: τ = {share_threshold_of(n, threats.colluders, threats.trust)} shares"
    if threats.trust is not Trust.MALICIOUS_SERVER:
        return f"{said}; a round survives the loss of {_tenants(losses.uploaded)} between upload and opening"
    quorum = certificate_quorum_of(n, threats.colluders)
    return (
        f"{said}, q = {quorum} of {n} witnesses; a round survives the loss of {_tenants(losses.uploaded)} between upload and "
        f"certificate, {losses.certified or 'none'} between certificate and opening"
    )


def _complete_losses(roster: Roster, threats: ThreatModel, survivors: int) -> Losses:
    graph_of(roster, threats, survivors)  # refuses more tenants than the complete graph may have
    return losses_survived(roster.n, threats.colluders, threats.trust)


def _tenants(count: int) -> str:
    return {0: "no tenant", 1: "1 tenant"}.get(count, f"{count} tenants")


def _check_blocks(roster: Roster, threats: ThreatModel) -> None:
    smallest = min(len(block) for block in roster.blocks)
    if threats.guarded and smallest < threats.colluders + 2:
        raise CallerError(
            f"a block of this roster has {smallest} tenants, fewer than f + 2 = {threats.colluders + 2}: f colluding ones "
            "could leave one alone in it",
            remedy=f"agree on colluders = {max(smallest - 2, 0)}, or on a roster with larger blocks",
        )


def _say_blocks(roster: Roster, threats: ThreatModel, survivors: int) -> str:
    if not threats.guarded:
        return (
            "none, the difference guard is off: two sums that differ by one tenant, as after every dropout, give that "
            "tenant's statistics away"
        )
    sizes = sorted((len(block) for block in roster.blocks), reverse=True)
    if len(sizes) == 1:
        return (
            f"one block of {sizes[0]} tenants: nothing smaller is ever seen; a sum needs all of them, and whoever drops "
            "out pauses the session until it is back"
        )
    between = f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[-1]} to {sizes[0]}"
    spare = sum(out <= roster.n - survivors for out in accumulate(sizes))
    return (
        f"{len(sizes)} of {between} tenants: a tenant hides among those of its block; {spare or 'none'} may be out of a sum, and "
        f"with one tenant in ten away, {100 * stale_share(roster, 0.1):.0f} % of the contributions are of an earlier round"
    )
