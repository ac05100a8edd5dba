"""Whether a session is one that a tenant's policy admits, and whether the tenant signed under that policy."""

from __future__ import annotations

from dataclasses import dataclass

from fed_em_client.configuration import PolicyTable, TenantConfiguration
from fed_em_client.policy_checks import check_description
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.party import load_keys
from fed_em_protocols.policy import check_terms, commitment_to, salt_of
from fed_em_protocols.transcript.faults import Place, TranscriptFault
from fed_em_protocols.transcript.walk import WalkedSession


@dataclass(frozen=True)
class OwnPolicy:
    """A tenant's policy, as the tenant itself can show it.

    Attributes:
        tenant: Whose.
        policy: What it says.
        commitment: Its salted digest, as it stands in the tenant's messages.
    """

    tenant: str
    policy: PolicyTable
    commitment: bytes

    @classmethod
    def of(cls, configuration: TenantConfiguration) -> OwnPolicy:
        """From a tenant's file and its identity key, which the salt follows from. Raises `CallerError` as `load_keys`."""
        digest = configuration.policy.digest
        salt = salt_of(digest, load_keys(configuration.keys).identity)
        return cls(configuration.name, configuration.policy, commitment_to(digest, salt))


def require_admitted(session: WalkedSession, own: OwnPolicy) -> str:
    """Hold a verified session against a policy; hours are of the tenant's own clock, and not looked at.

    Returns:
        What holds, in a sentence.

    Raises:
        CallerError: the tenant is not in the roster.
        TranscriptFault: it signed under another policy, or the policy does not admit the session.
    """
    index = session.roster.index(own.tenant)
    signed = session.policies.get(index, frozenset())
    if signed - {own.commitment}:
        raise TranscriptFault(
            "it signed under another policy than the one of its file",
            Place(line=0, field="policy", party=own.tenant),
            "the file has changed since, or the tenant declared a policy that it does not show",
        )
    required = own.policy.privacy.required and session.description.privacy is None
    try:
        check_terms(own.policy.terms_policy(), session.terms.content, session.roster)
        check_description(own.policy, session.description)
        if required:
            raise TermsRefused("the session has no differential privacy, and the policy requires it")
    except TermsRefused as refusal:
        raise TranscriptFault(refusal.message, Place(line=0, field="policy", party=own.tenant)) from None
    said = "signed under this policy, which" if signed else "never joined; its policy"
    return f"'{own.tenant}' {said} admits the session's terms, model and columns"
