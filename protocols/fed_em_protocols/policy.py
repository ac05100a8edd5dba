"""What one tenant demands of any session, checked by the tenant itself: never an option of the server's."""

from __future__ import annotations

from dataclasses import dataclass

from fed_em.errors import CallerError
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.graph_parameters import SECURITY_BITS
from fed_em_protocols.hashing import DIGEST_BYTES, digest
from fed_em_protocols.keys import SigningKey, derive
from fed_em_protocols.policy_rules import PolicyRule
from fed_em_protocols.roster import Roster
from fed_em_protocols.session_numbers import require_safe_graph
from fed_em_protocols.terms import SUITE, SessionTerms, Trust, default_colluders, validate_terms

_AGREE = "agree on the session's terms with its operator, or change [policy] in this tenant's file"


@dataclass(frozen=True)
class TermsPolicy:
    """A tenant's demands. Defaults are the strict ones.

    Attributes:
        allow_semi_honest: Accept sessions that trust the server to follow the protocol.
        minimum_cohort: The least number of tenants in an opened sum; at least 3.
        colluders: f that a session must withstand; None for ⌊(n − 1)/3⌋ of the roster.
        round_cap: The most rounds a session may plan.
        difference_guard: Whether a session must sum the roster's blocks whole or not at all.
        mass_floor: The least mass of an opened component that a session must keep, in records; 0: no demand.
        graph_bits: σ that a sparse graph must reach: a graph with fewer bits of security is refused.
        schema: SHA-256 of the session description that was agreed on; None to look at each one's columns when it is offered.
        rosters: Hashes of the rosters that a session may run on; none: whichever is pinned.
        digest: SHA-256 of the whole policy that these demands are part of, in canonical form; zeros where there is no other part.
    """

    allow_semi_honest: bool = False
    minimum_cohort: int = 3
    colluders: int | None = None
    round_cap: int = 1000
    difference_guard: bool = True
    mass_floor: float = 0.0
    graph_bits: int = SECURITY_BITS
    schema: bytes | None = None
    rosters: tuple[bytes, ...] = ()
    digest: bytes = bytes(DIGEST_BYTES)


def salt_of(policy: bytes, identity: SigningKey) -> bytes:
    """The salt of this tenant's commitment to a policy: another for each policy, the same in each of its processes.

    It follows from the tenant's identity key, so nothing need be kept; shown to an auditor it opens this one commitment, and says
    nothing on the key or on other policies.

    Args:
        policy: SHA-256 of the policy.
        identity: The tenant's long-term key.
    """
    return derive("policy", identity.seed, DIGEST_BYTES, policy)


def commitment_to(policy: bytes, salt: bytes) -> bytes:
    """What a tenant's messages say of its policy. Salted, since the few policies that are likely could be tried one after another.

    Args:
        policy: SHA-256 of the policy.
        salt: 32 bytes, as `salt_of` gives them.
    """
    return digest("policy", salt, policy)


def check_terms(policy: TermsPolicy, terms: SessionTerms, roster: Roster) -> None:
    """Accept the terms in silence, or refuse.

    Raises:
        TermsRefused: names the demand that is not met, and who can change what.
    """
    demanded = default_colluders(roster.n) if policy.colluders is None else policy.colluders
    semi_honest = terms.trust == Trust.SEMI_HONEST
    demands = (
        (
            PolicyRule.ROSTER,
            terms.roster == roster.digest,
            "the session runs on another roster than the one pinned here",
        ),
        (
            PolicyRule.ROSTERS,
            not policy.rosters or terms.roster in policy.rosters,
            f"the pinned roster {roster.digest.hex()[:16]}… is none of those that this tenant's policy admits (rosters)",
        ),
        (
            PolicyRule.SUITE,
            terms.suite == SUITE,
            f"the session asks for cryptographic suite {terms.suite}, this tenant knows suite {SUITE}",
        ),
        (
            PolicyRule.ALLOW_SEMI_HONEST,
            not semi_honest or policy.allow_semi_honest,
            "the session trusts the server to follow the protocol (semi-honest), "
            "and this tenant's policy does not say allow_semi_honest = true",
        ),
        (
            PolicyRule.DIFFERENCE_GUARD,
            terms.blocks > 0 or not policy.difference_guard,
            "the session waives the difference guard (blocks), "
            'and this tenant\'s policy does not say difference_guard = "off"',
        ),
        (
            PolicyRule.MASS_FLOOR,
            terms.mass_floor >= 1000 * policy.mass_floor,
            f"the session opens components of {terms.mass_floor / 1000:g} records, "
            f"this tenant's policy says mass_floor = {policy.mass_floor:g}",
        ),
        (
            PolicyRule.SCHEMA_HASH,
            policy.schema is None or terms.schema == policy.schema,
            "the session's description is not the one pinned by this tenant's schema_hash",
        ),
        (
            PolicyRule.MINIMUM_COHORT,
            terms.minimum_survivors >= policy.minimum_cohort,
            f"the session opens sums of {terms.minimum_survivors} tenants, "
            f"this tenant's policy says minimum_cohort = {policy.minimum_cohort}",
        ),
        (
            PolicyRule.COLLUDERS,
            terms.colluders >= demanded,
            f"the session withstands {terms.colluders} colluding tenants, this tenant's policy demands {demanded}",
        ),
        (
            PolicyRule.ROUND_CAP,
            terms.round_cap <= policy.round_cap,
            f"the session may take {terms.round_cap} rounds, this tenant's policy says round_cap = {policy.round_cap}",
        ),
    )
    for rule, met, complaint in demands:
        if not met:
            raise TermsRefused(complaint, remedy=_AGREE, rule=rule)
    try:
        validate_terms(terms, roster)
    except CallerError as error:
        remedy = "the session's terms break the protocol's own rules"
        raise TermsRefused(error.message, remedy=remedy, rule=PolicyRule.TERMS) from None
    try:
        require_safe_graph(terms, roster, terms.colluders, policy.graph_bits)
    except CallerError as error:
        raise TermsRefused(error.message, remedy=_AGREE, rule=PolicyRule.GRAPH_BITS) from None
