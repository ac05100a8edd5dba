"""Sessions with faults of every kind, chosen by seed: no wrong sum, no double opening, no split block, no false accusation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fed_em_client import tenant_session
from fed_em_protocols import (
    certification,
    coordinator,
    coordinator_round,
    coordinator_state,
    tenant_outcome,
    tenant_round,
)
from fed_em_protocols.messages import Header, Mode
from fed_em_protocols.round_sum import RoundSum
from fed_em_protocols.tenant_state import BaseRound, TenantState
from fed_em_protocols.terms import Trust
from tests.faults.campaign import complaint_about, run_campaign, run_seeds, shrink
from tests.faults.plan import Fault, FaultKind, Plan, plan_of
from tests.faults.simulator import simulate
from tests.protocols.remembering import remembered_protocol

# Some minutes on two cores; `python -m tests.faults --sessions` does any number.
SESSIONS = 10_000


def test_sessions_with_faults() -> None:
    tally = run_seeds(range(60))
    assert tally.violations == ()
    assert tally.opened > 150


@pytest.mark.slow
@pytest.mark.all_cores
@pytest.mark.timeout(1800)
def test_thousands_of_sessions_with_faults(capsys: pytest.CaptureFixture[str]) -> None:
    tally = run_campaign(1_000_000, SESSIONS)
    with capsys.disabled():
        print(f"\n{tally}")
    assert tally.violations == ()
    assert tally.sessions == SESSIONS and tally.faulty >= 0.3 * SESSIONS and tally.opened > 2 * SESSIONS
    # The aim is six minutes on two cores, which is 14 for each second of a processor; caches that others fill make it less.
    assert tally.sessions / tally.cpu > 4


def test_a_plan_is_a_function_of_its_seed() -> None:
    assert plan_of(7) == plan_of(7) != plan_of(8)
    with remembered_protocol():
        assert simulate(plan_of(7)) == simulate(plan_of(7))


def test_some_sessions_have_a_mass_gate() -> None:
    gated = [plan for plan in map(plan_of, range(200)) if plan.gated]
    assert 30 < len(gated) < 90
    assert all(plan.trust is Trust.MALICIOUS_SERVER for plan in gated)


def test_in_some_sessions_rows_change_and_some_have_a_sparse_graph() -> None:
    plans = [plan_of(seed) for seed in range(4000)]
    assert 800 < sum(plan.change is not None for plan in plans) < 1200
    assert {plan.trust for plan in plans if plan.sparse and plan.change and len(plan.faults) > 1} == set(Trust)


def test_every_kind_of_fault_is_planned() -> None:
    planned = {fault.kind for seed in range(200) for fault in plan_of(seed).faults}
    assert planned == set(FaultKind)


def test_without_faults_every_sum_is_opened_at_once() -> None:
    with remembered_protocol():
        for seed in range(12):
            plan = replace(plan_of(seed), faults=(), change=None)
            outcome = simulate(plan)
            assert (outcome.opened, outcome.failed, outcome.blamed) == (plan.rounds, 0, ()), plan


@pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)
def test_without_faults_every_sum_is_opened_at_once_on_a_sparse_graph_too(trust: Trust) -> None:
    plan = replace(
        plan_of(1), n=9, trust=trust, colluders=0, blocks=0, gated=False, faults=(), change=None, sparse=True
    )
    outcome = simulate(plan)
    assert (outcome.opened, outcome.failed, outcome.blamed) == (plan.rounds, 0, ()), plan


def test_rows_that_change_cost_one_sum_at_most() -> None:
    """Of one block that is the sum at whose beginning its tenant is started anew."""
    with remembered_protocol():
        for seed in range(6):
            plan = replace(
                plan_of(seed), n=4, colluders=0, blocks=1, gated=False, faults=(), change=(1 + seed % 2, seed % 4)
            )
            outcome = simulate(plan)
            assert (outcome.opened, outcome.blamed) == (plan.rounds, ()) and outcome.failed <= 1, plan


def test_a_join_with_changed_rows_may_be_lost_with_the_server() -> None:
    """The same process joins anew, and must say again that its rows changed: else its increment would start from rows that it never had."""
    with remembered_protocol():
        for crash in range(68, 80):
            plan = replace(
                plan_of(0), n=4, trust=Trust.MALICIOUS_SERVER, colluders=0, blocks=0, gated=False, window_rounds=4, change=(1, 1),
                faults=(Fault(FaultKind.CRASH_SERVER, crash, 0.05),),
            )  # fmt: skip
            assert complaint_about(plan)[0] == "", plan


class TestItFinds:
    """Planted defects: the simulator must find each within some seeds, and shrink what it found."""

    def _finds(self, seeds: range) -> str:
        with remembered_protocol():
            for seed in seeds:
                complaint, _ = complaint_about(plan_of(seed))
                if complaint:
                    smallest = shrink(plan_of(seed))
                    assert len(smallest.faults) <= len(plan_of(seed).faults)
                    return complaint
        return ""

    def test_increments_that_start_from_the_last_upload(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Right as long as every round is opened with everybody in it."""

        def last_upload(header: Header, base: BaseRound, state: TenantState) -> tuple[int, bytes] | None:
            return (
                (base.round, next(reversed(state.vectors))) if header.mode == Mode.INCREMENT and state.vectors else None
            )

        monkeypatch.setattr(tenant_round, "_increment_start", last_upload)
        assert "total" in self._finds(range(60))

    def test_rows_that_change_unsaid(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Increments over other rows than their bases: the total would be of rows that nobody has."""
        real = tenant_session.tenant_join
        monkeypatch.setattr(tenant_session, "tenant_join", lambda state, _changed: real(state))
        assert "total" in self._finds(range(60))

    def test_survivors_that_split_a_block(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(coordinator_round, "admissible_survivors", lambda uploaded, *_: uploaded)
        monkeypatch.setattr(tenant_outcome, "require_admissible", lambda *_: None)
        monkeypatch.setattr(RoundSum, "with_upload", lambda self, _index, _unit, upload: RoundSum(self.vector + upload))
        assert self._finds(range(80))

    def test_counts_that_are_lost_with_a_link(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Honest tenants accuse the server that asks them for moments behind counts that they never saw."""
        monkeypatch.setattr(coordinator, "_counts_for", lambda *_: ())

        def broken_at(step: int) -> Plan:
            return replace(
                plan_of(0), n=4, trust=Trust.MALICIOUS_SERVER, colluders=0, blocks=0, gated=True,
                faults=(Fault(FaultKind.BREAK_LINK, step),),
            )  # fmt: skip

        with remembered_protocol():
            assert any("a false accusation" in complaint_about(broken_at(step))[0] for step in range(80, 200, 3))

    def test_a_server_that_forgets_what_it_put_to_the_witnesses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a restart it proposes void for a round of which it had proposed survivors: witnesses refuse, and accuse it."""
        void = coordinator_state.Outcomes(frozenset(), b"", bytes(32))
        real = coordinator_state.Unresolved
        monkeypatch.setattr(coordinator_state, "Unresolved", lambda header, _outcome: real(header, void))

        def crashed_at(step: int) -> Plan:
            return replace(
                plan_of(0), n=5, trust=Trust.MALICIOUS_SERVER, colluders=1, blocks=0, gated=False,
                faults=(Fault(FaultKind.CRASH_SERVER, step, 0.05),),
            )  # fmt: skip

        with remembered_protocol():
            assert any("two different outcomes" in complaint_about(crashed_at(step))[0] for step in range(100, 240, 2))


def test_certification_is_what_tenants_check() -> None:
    """The planted defects above patch names that the machines really use."""
    assert coordinator_round.admissible_survivors is certification.admissible_survivors
    assert tenant_outcome.require_admissible is certification.require_admissible
