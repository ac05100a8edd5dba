"""The terms of a session from its configuration and its roster, and what a reader must know of them."""

from __future__ import annotations

import hashlib
import math
import secrets

from fed_em_protocols.description import SessionDescription, rounds_with_failures
from fed_em_protocols.roster import Roster
from fed_em_protocols.session_numbers import DROPOUTS, ThreatModel, default_survivors, graph_of
from fed_em_protocols.terms import SUITE, SessionTerms, Trust, default_colluders
from fed_em_server.configuration import TrustTable
from fed_em_server.privacy_plan import PrivacyPlan

BANNER = {
    Trust.MALICIOUS_SERVER: (
        "Trust: malicious-server. Tenants' statistics are hidden from the other tenants and from any server, also one that "
        "breaks the protocol; sums are not."
    ),
    Trust.SEMI_HONEST: (
        "Trust: semi-honest. Tenants' statistics are hidden from a server that follows the protocol; "
        "a server that does not could learn more."
    ),
}

UNGUARDED = (
    "Difference guard: off. Sums over any {least} tenants may be opened, so two sums that differ by one tenant, as after a "
    "dropout, give that tenant's statistics away."
)


def threats_of(trust: TrustTable, roster: Roster) -> ThreatModel:
    """What a session is to withstand."""
    colluders = default_colluders(roster.n) if trust.colluders is None else trust.colluders
    return ThreatModel(
        trust.trust,
        colluders,
        guarded=trust.difference_guard == "blocks",
        complete=trust.graph == "complete",
        security_bits=trust.security_bits,
        correctness_bits=trust.correctness_bits,
    )


def survivors_of(trust: TrustTable, roster: Roster) -> int:
    """u_min of a session."""
    if trust.minimum_survivors is not None:
        return trust.minimum_survivors
    threats = threats_of(trust, roster)
    dropouts = DROPOUTS if trust.dropouts is None else trust.dropouts
    return default_survivors(roster, trust.minimum_cohort or threats.colluders + 2, threats, dropouts)


def planned_rounds(trust: TrustTable, description: SessionDescription, sums: int) -> int:
    """How many rounds a session takes at most if none fails: one for each sum, or two with a mass gate.

    Args:
        trust, description: Of the session.
        sums: How many the fit may take besides those of the moments and for standard errors.
    """
    return (1 + sums + bool(description.standard_errors)) * (2 if trust.mass_floor else 1)


def session_terms(trust: TrustTable, roster: Roster, description: SessionDescription, sums: int) -> SessionTerms:
    """Terms with a fresh session number.

    Args:
        trust: Against whom.
        roster: Among whom.
        description: What is fitted.
        sums: How many the fit may take besides those of the moments and for standard errors, if none fails.

    Raises:
        CallerError: no sparse graph will do for a large roster; names the condition that fails and what to change.
    """
    threats, survivors = threats_of(trust, roster), survivors_of(trust, roster)
    graph = graph_of(roster, threats, survivors)
    return SessionTerms(
        session=secrets.token_bytes(16),
        roster=roster.digest,
        schema=hashlib.sha256(description.to_json()).digest(),
        suite=SUITE,
        trust=int(threats.trust),
        minimum_cohort=trust.minimum_cohort or threats.colluders + 2,
        minimum_survivors=survivors,
        colluders=threats.colluders,
        witnesses=graph.witnesses if graph else 0,
        certificate_quorum=graph.certificate_quorum if graph else 0,
        share_threshold=graph.share_threshold if graph else 0,
        neighbours=graph.neighbours if graph else 0,
        side_honest=graph.side_honest if graph else 0,
        blocks=len(roster.blocks) if threats.guarded else 0,
        mass_floor=math.ceil(1000 * trust.mass_floor),
        round_cap=rounds_with_failures(planned_rounds(trust, description, sums)),
        window_rounds=trust.window_rounds,
    )


def warnings_of(terms: SessionTerms) -> tuple[str, ...]:
    """What a session's terms expose that others would not."""
    return () if terms.blocks else (UNGUARDED.format(least=terms.minimum_survivors),)


def privacy_plan(trust: TrustTable, roster: Roster, description: SessionDescription) -> PrivacyPlan | None:
    """The noise of a private session among a roster's tenants; None without privacy."""
    if description.privacy is None:
        return None
    return PrivacyPlan(description, roster.row_caps, survivors_of(trust, roster), threats_of(trust, roster).colluders)
