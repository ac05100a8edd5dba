"""Sessions whose keys follow from a seed, or that have none, say so by their suite; and no real tenant takes part in one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_tables import run

from fed_em_protocols import policy, tenant
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.policy import TermsPolicy, check_terms
from fed_em_protocols.terms import FIRST_SIMULATED_SUITE, SUITE
from fed_em_simulations.simulated_suites import COSTED_SUITE, SEEDED_SUITE, admitted
from tests.protocols.federation import roster_of, terms_of

ROSTER = roster_of(4)
TERMS = terms_of(ROSTER)
POLICY = TermsPolicy(difference_guard=False)

simulated = pytest.mark.parametrize("suite", [COSTED_SUITE, SEEDED_SUITE])


@simulated
def test_a_tenant_with_data_refuses_it(suite: int) -> None:
    assert suite >= FIRST_SIMULATED_SUITE
    check_terms(POLICY, replace(TERMS, suite=SUITE), ROSTER)
    with pytest.raises(TermsRefused, match=f"suite {suite}, this tenant knows suite {SUITE}"):
        check_terms(POLICY, replace(TERMS, suite=suite), ROSTER)


@simulated
def test_a_simulated_tenant_takes_it_and_no_other_and_keeps_to_its_policy(suite: int) -> None:
    real = policy.check_terms
    with admitted(suite):
        # As a tenant's state machine has it.
        assert tenant.check_terms is not real
        tenant.check_terms(POLICY, replace(TERMS, suite=suite), ROSTER)
        for other in {SUITE, COSTED_SUITE, SEEDED_SUITE} - {suite}:
            with pytest.raises(TermsRefused, match=f"suite {other}, this simulation for {suite}"):
                tenant.check_terms(POLICY, replace(TERMS, suite=other), ROSTER)
        with pytest.raises(TermsRefused, match="difference guard"):
            tenant.check_terms(TermsPolicy(), replace(TERMS, suite=suite), ROSTER)
    assert tenant.check_terms is policy.check_terms is real


@pytest.mark.parametrize(("cipher", "suite"), [("real", SEEDED_SUITE), ("costed", COSTED_SUITE)])
def test_simulated_sessions_have_it_in_their_terms(cipher: str, suite: int) -> None:
    outcome = run(3, sums=2, cipher=cipher)
    assert outcome.terms is not None and outcome.terms.suite == suite
