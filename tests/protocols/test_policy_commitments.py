"""Every message that a tenant signs commits to its policy, and whoever has policy, salt and messages can check it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from fed_em_protocols.coordinator import coordinator_receive
from fed_em_protocols.envelope import Sealed, seal
from fed_em_protocols.errors import Equivocation, TermsRefused
from fed_em_protocols.hashing import digest
from fed_em_protocols.messages import (
    KINDS,
    Advertise,
    Certificate,
    Deposit,
    Endorsement,
    Header,
    Hello,
    Join,
    Opening,
    OpenWindow,
    Ready,
    Refusal,
    RefusalCode,
    SetUp,
    Shares,
    Upload,
)
from fed_em_protocols.policy import TermsPolicy, check_terms, commitment_to, salt_of
from fed_em_protocols.tenant import tenant_refuse
from fed_em_protocols.terms import Trust
from fed_em_protocols.transitions import COORDINATOR_HEARS, CoordinatorPhase
from fed_em_protocols.window import read_setup
from fed_em_simulations.memory_hub import Fate
from tests.protocols.drill import Drill
from tests.protocols.federation import TestFederation, identity_of, roster_of, terms_of
from tests.protocols.interferences import TO_TENANT, Watch, once
from tests.protocols.test_coordinator_rules import started

POLICY, OTHER = digest("a policy"), digest("another")


def test_a_commitment_is_salted_by_policy_and_by_tenant() -> None:
    ash, beech = identity_of("t0"), identity_of("t1")
    found = {commitment_to(policy, salt_of(policy, key)) for policy in (POLICY, OTHER) for key in (ash, beech)}
    assert len(found) == 4
    assert salt_of(POLICY, ash) == salt_of(POLICY, identity_of("t0")) != salt_of(OTHER, ash)
    assert commitment_to(POLICY, bytes(32)) not in found


def test_every_kind_that_a_tenant_signs_names_its_policy_or_what_binds_it() -> None:
    for kind in COORDINATOR_HEARS[CoordinatorPhase.GATHERING]:
        assert {"policy", "setup", "context"} & {each.name for each in fields(kind)}, kind
    assert len(COORDINATOR_HEARS[CoordinatorPhase.GATHERING]) == sum(number < 32 for number in KINDS.values())


class Verifier:
    """What somebody with the roster makes of a session's messages: the commitment behind each signature."""

    def __init__(self, federation: TestFederation, watch: Watch) -> None:
        roster, terms = federation.roster, federation.server.state.terms.content
        openings = {each.digest: each for each in watch.seen(OpenWindow)}
        self.headers = {each.digest: each.content.setup for each in watch.seen(Header)}
        self.setups = {}
        for message in watch.seen(SetUp):
            found = read_setup(message, openings[message.content.window], terms, roster)
            self.setups[found.digest] = found
        self.identities = [tenant.identity_key for tenant in roster.tenants]

    def policy_of(self, index: int, sealed: Sealed[Any]) -> bytes:
        content = sealed.content
        if hasattr(content, "policy"):
            sealed.require_signature(self.identities[index], "a tenant")
            return bytes(content.policy)
        setup = self.setups[content.setup if hasattr(content, "setup") else self.headers[content.context]]
        sealed.require_signature(setup.window_key(index), "a tenant")
        return setup.policy_of(index)


def test_all_messages_of_a_session_lead_to_the_policy_of_their_sender() -> None:
    watch = Watch(once(Fate.KILL, (TO_TENANT, Certificate), [4]))
    federation = TestFederation(6, interfere=watch, trust=int(Trust.MALICIOUS_SERVER), colluders=1, minimum_survivors=4)
    for _ in range(2):
        federation.sum()
    verifier, seen = Verifier(federation, watch), 0
    expected = [commitment_to(bytes(32), salt_of(bytes(32), identity_of(f"t{index}"))) for index in range(6)]
    for kind in (Hello, Join, Advertise, Deposit, Ready, Upload, Endorsement, Opening, Shares):
        messages = watch.passed(kind)
        assert messages, kind
        for index, sealed in messages:
            assert verifier.policy_of(index, sealed) == expected[index]
            seen += 1
    assert seen > 60


def test_a_process_has_one_policy() -> None:
    """A changed policy needs a new process; nothing that an old one signed can be passed off under the new policy."""
    state, key = started(), identity_of("t0")
    session, terms = state.terms.content.session, state.terms.digest
    hello = Hello("t0", state.roster.digest, b"b" * 16, "x", POLICY)
    linked = coordinator_receive(state, 0, seal(hello, key).to_bytes(), 0.0).state
    join = Join(session, terms, b"b" * 16, 0, POLICY)
    for changed in (replace(hello, policy=OTHER), replace(join, policy=OTHER), Refusal(session, 1, 0, OTHER)):
        with pytest.raises(Equivocation, match=r"t0: .* policy"):
            coordinator_receive(linked, 0, seal(changed, key).to_bytes(), 0.0)  # type: ignore[type-var]
    joined = coordinator_receive(linked, 0, seal(join, key).to_bytes(), 0.0).state
    assert joined.members[0].joined
    again = replace(hello, boot=b"c" * 16, policy=OTHER)
    restarted = coordinator_receive(joined, 0, seal(again, key).to_bytes(), 0.0).state
    assert not restarted.members[0].joined and restarted.members[0].policy == OTHER
    rejoin = replace(join, boot=b"c" * 16, policy=OTHER)
    assert coordinator_receive(restarted, 0, seal(rejoin, key).to_bytes(), 0.0).state.members[0].joined


def test_a_refusal_commits_to_the_policy_that_refused() -> None:
    drill = Drill(window=False)
    state = replace(drill.states[0], me=replace(drill.states[0].me, policy=TermsPolicy(digest=POLICY)))
    (sent,) = tenant_refuse(state, RefusalCode.POLICY).sends
    assert state.me.commitment in sent
    assert state.me.commitment == commitment_to(POLICY, salt_of(POLICY, state.me.identity))
    assert POLICY not in sent  # whoever has only the message cannot tell which policy it is


def test_only_rosters_that_the_policy_names_are_admitted() -> None:
    roster = roster_of(7)
    policy = TermsPolicy(difference_guard=False, rosters=(bytes(32), roster.digest))
    check_terms(policy, terms_of(roster), roster)
    with pytest.raises(TermsRefused, match=r"none of those that this tenant's policy admits \(rosters\)"):
        check_terms(replace(policy, rosters=(bytes(32),)), terms_of(roster), roster)
