"""Vectors of what tenants sign outside of rounds: commitments to policies, and versions of a roster."""

from __future__ import annotations

import datetime

from fed_em_client.configuration import PolicyTable
from fed_em_protocols.policy import commitment_to, salt_of
from fed_em_protocols.roster import Roster
from fed_em_protocols.roster_drafts import begun, with_revoked
from fed_em_protocols.roster_versions import Proposal, approval_statement, approve, missing_approvals
from tests.protocols.federation import identity_of, roster_of
from tests.protocols.vector_cases import Case, error_of


def policies() -> list[Case]:
    """Canonical form, digest, salt and commitment, by policy and by tenant."""
    written: list[dict[str, object]] = [
        {},
        {"minimum_cohort": 5, "columns": ["b", "a"], "hours": "Sat-Sun 22:00-06:00", "time_zone": "Europe/Berlin"},
    ]
    cases: list[Case] = []
    for name in ("t0", "t1"):
        for text in written:
            policy, key = PolicyTable.model_validate(text), identity_of(name)
            salt = salt_of(policy.digest, key)
            cases.append({
                "identity": key.seed.hex(), "policy": text, "canonical": policy.canonical.decode(), "digest": policy.digest.hex(),
                "salt": salt.hex(), "commitment": commitment_to(policy.digest, salt).hex(),
            })  # fmt: skip
    return cases


def roster_versions() -> list[Case]:
    """A first version, one after it, one that revokes; what tenants sign; and an approval that counts for another version only."""
    first = roster_of(5)
    revoking = with_revoked(begun(first), "t4", "laptop stolen", datetime.date(2026, 3, 1))
    rosters: list[Roster] = [first, begun(first).roster, revoking.roster]
    cases: list[Case] = [_version(roster) for roster in rosters]
    replayed = begun(first).model_copy(update={"approvals": approve(revoking, "t0", identity_of("t0")).approvals})
    error = error_of(lambda: missing_approvals(replayed))
    cases.append({"proposal": replayed.model_dump(mode="json"), "error": error})
    return cases


def _version(roster: Roster) -> Case:
    signed = approve(Proposal(roster=roster), "t0", identity_of("t0")).approvals[0]
    return {
        "roster": roster.model_dump(mode="json"), "hash": roster.digest.hex(), "statement": approval_statement(roster).hex(),
        "approval": signed.model_dump(), "signer": identity_of("t0").public.hex(),
    }  # fmt: skip
