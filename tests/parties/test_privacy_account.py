"""A session is admitted if the period can bear it; each sum is charged once; what is left is given back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import exp, sqrt
from pathlib import Path

import pytest
from scipy.stats import norm

from fed_em_client.configuration import read_tenant_configuration
from fed_em_client.privacy_account import PrivacyAccount
from fed_em_client.privacy_statement import statement
from fed_em_protocols.errors import IllegalStep, TermsRefused
from fed_em_protocols.privacy.accounting import Spend, epsilon_of, noise_for
from fed_em_protocols.privacy.demands import EpsilonBudget, PrivacyDemands
from tests.parties.forest import Parties

START = datetime(2030, 1, 1, tzinfo=UTC)
SESSION, OTHER, THIRD = bytes(range(16)), bytes(16), bytes([7]) * 16
DELTA = 1e-5
BUDGET = EpsilonBudget(2.0, DELTA, 30)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_days(self, days: float) -> None:
        self.now += timedelta(days=days)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock) -> PrivacyAccount:
    return PrivacyAccount(PrivacyDemands(budget=BUDGET), clock)


def plan_of(epsilon: float, sums: int) -> Spend:
    return Spend(noise_for(epsilon, DELTA, sums), sums)


class TestReserve:
    def test_a_plan_of_the_whole_budget_is_admitted_and_leaves_nothing(self, account: PrivacyAccount) -> None:
        account.reserve(SESSION, plan_of(2.0, 20))
        with pytest.raises(TermsRefused) as caught:
            account.reserve(OTHER, plan_of(0.05, 3))
        said = caught.value.message
        assert "asks for ε = 0.05 at δ = 1e-05" in said
        assert "of the ε = 2 that this tenant's policy allows in 30 days" in said
        assert "is left" in said
        for word in ("fed-em privacy plan", "fed-em privacy ledger", "[policy.privacy]"):
            assert word in caught.value.remedy
        assert OTHER not in account.spends.sessions

    def test_a_plan_beyond_the_budget_is_refused(self, account: PrivacyAccount) -> None:
        with pytest.raises(
            TermsRefused, match=r"asks for ε = 2.01 at .* ε = 2 is left, and with this session ε = 2.01"
        ):
            account.reserve(SESSION, plan_of(2.01, 20))

    def test_plans_compose_as_the_accounting_says_and_not_by_adding_epsilons(self, account: PrivacyAccount) -> None:
        plan = plan_of(1.2, 10)
        assert epsilon_of([plan, plan], DELTA) < BUDGET.epsilon < 2 * epsilon_of([plan], DELTA)
        account.reserve(SESSION, plan)
        account.reserve(OTHER, plan)
        with pytest.raises(TermsRefused):
            account.reserve(THIRD, plan)

    def test_against_gaussian_differential_privacy(self, account: PrivacyAccount) -> None:
        # δ(ε) of Gaussians, Balle and Wang 2018, Theorem 8: 20 sums of multiplier z are one of z/√20.
        def delta_at(mu: float) -> float:
            return float(norm.cdf(mu / 2 - 2 / mu) - exp(2) * norm.cdf(-mu / 2 - 2 / mu))

        low, high = 0.01, 2.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if delta_at(middle) <= DELTA else (low, middle)
        with pytest.raises(TermsRefused):
            account.reserve(SESSION, Spend(sqrt(20) / low * 0.9999, 20))
        account.reserve(SESSION, Spend(sqrt(20) / low * 1.0001, 20))

    def test_the_same_session_again_costs_nothing(self, account: PrivacyAccount) -> None:
        plan = plan_of(2.0, 20)
        account.reserve(SESSION, plan)
        before = account.spends
        account.charge(SESSION, 1)
        account.reserve(SESSION, plan)
        assert account.spends.reserved(START, None) == (before.sessions[SESSION].of(19),)

    def test_another_plan_of_the_same_session_is_refused(self, account: PrivacyAccount) -> None:
        account.reserve(SESSION, plan_of(1.0, 20))
        with pytest.raises(TermsRefused, match=f"session {SESSION.hex()} has another plan now"):
            account.reserve(SESSION, plan_of(1.0, 21))

    def test_without_a_budget_everything_is_admitted_and_recorded(self) -> None:
        account = PrivacyAccount()
        account.reserve(SESSION, Spend(0.1, 1000))
        account.charge(SESSION, 3)
        assert account.spends.charged(START, None) == (Spend(0.1, 1),)

    def test_a_budget_made_later_counts_what_was_spent_without_one(self, clock: Clock) -> None:
        account = PrivacyAccount(clock=clock)
        account.reserve(SESSION, plan_of(1.9, 20))
        account._demands = PrivacyDemands(budget=BUDGET)
        with pytest.raises(TermsRefused):
            account.reserve(OTHER, plan_of(1.0, 20))

    def test_slack_is_charged_too(self, account: PrivacyAccount) -> None:
        with pytest.raises(TermsRefused):
            account.reserve(SESSION, Spend(1000.0, 1, slack=2 * DELTA))

    def test_a_plan_without_sums_reserves_nothing(self, account: PrivacyAccount) -> None:
        account.reserve(SESSION, Spend(1.0, 0))
        assert not account.spends.sessions
        with pytest.raises(TermsRefused, match="not reserved"):
            account.charge(SESSION, 1)

    def test_a_session_number_has_sixteen_bytes(self, account: PrivacyAccount) -> None:
        with pytest.raises(IllegalStep, match="no session of 16 bytes"):
            account.reserve(SESSION[:-1], plan_of(1.0, 20))


class TestWithoutPrivacy:
    def test_is_admitted_by_default_and_leaves_no_entry(self, account: PrivacyAccount) -> None:
        account.reserve(SESSION, None)
        assert not account.spends.sessions
        assert account.release(SESSION) is None

    def test_is_refused_where_privacy_is_required(self) -> None:
        account = PrivacyAccount(PrivacyDemands(required=True))
        with pytest.raises(
            TermsRefused, match="no differential privacy, and this tenant's policy says required = true"
        ):
            account.reserve(SESSION, None)
        account.reserve(SESSION, Spend(1.0, 1))

    def test_a_session_cannot_lose_it(self, account: PrivacyAccount) -> None:
        account.reserve(SESSION, plan_of(1.0, 20))
        with pytest.raises(TermsRefused, match="had differential privacy when it was first joined, and has none now"):
            account.reserve(SESSION, None)


class TestCharge:
    def test_one_sum_a_round_and_a_round_once(self, account: PrivacyAccount) -> None:
        plan = Spend(30.0, 20, slack=1e-9)
        account.reserve(SESSION, plan)
        for round_number in (1, 2, 2, 1, 7):
            account.charge(SESSION, round_number)
        assert account.spends.charged(START, None) == (Spend(30.0, 3, slack=1e-9 * 3 / 20),)
        assert account.spends.reserved(START, None) == (Spend(30.0, 17, slack=1e-9 * 17 / 20),)

    def test_without_a_reservation_it_is_refused(self, account: PrivacyAccount) -> None:
        with pytest.raises(
            TermsRefused, match=f"round 1 of session {SESSION.hex()} would spend privacy that is not reserved"
        ):
            account.charge(SESSION, 1)

    def test_beyond_the_reservation_it_is_refused_and_a_charged_round_is_not(self, account: PrivacyAccount) -> None:
        account.reserve(SESSION, Spend(30.0, 2))
        account.charge(SESSION, 1)
        account.charge(SESSION, 2)
        with pytest.raises(TermsRefused, match=r"would be its sum 3, and 2 were planned"):
            account.charge(SESSION, 3)
        account.charge(SESSION, 2)
        assert account.spends.charged(START, None) == (Spend(30.0, 2),)

    def test_after_a_release_only_with_a_new_reservation(self, account: PrivacyAccount) -> None:
        plan = Spend(30.0, 20)
        account.reserve(SESSION, plan)
        account.charge(SESSION, 1)
        account.release(SESSION)
        with pytest.raises(TermsRefused, match="not reserved"):
            account.charge(SESSION, 2)
        with pytest.raises(TermsRefused, match="not reserved"):
            account.charge(SESSION, 1)
        account.reserve(SESSION, plan)
        account.charge(SESSION, 2)
        assert account.spends.charged(START, None) == (Spend(30.0, 2),)


class TestRelease:
    def test_gives_back_what_was_not_charged(self, account: PrivacyAccount) -> None:
        account.reserve(SESSION, plan_of(2.0, 20))
        account.charge(SESSION, 1)
        rest = account.release(SESSION)
        assert rest is not None and rest.sums == 19
        spent = epsilon_of(account.spends.charged(START, None), DELTA)
        assert 0 < spent < 0.5
        account.reserve(OTHER, plan_of(1.8, 20))

    def test_twice_or_of_an_unknown_session_gives_nothing(self, account: PrivacyAccount) -> None:
        account.reserve(SESSION, Spend(30.0, 1))
        assert account.release(SESSION) == Spend(30.0, 1)
        assert account.release(SESSION) is None
        assert account.release(OTHER) is None

    def test_after_all_is_charged_nothing_is_left(self, account: PrivacyAccount) -> None:
        account.reserve(SESSION, Spend(30.0, 1))
        account.charge(SESSION, 4)
        assert account.release(SESSION) is None


class TestPeriod:
    def test_what_was_charged_leaves_it_sum_by_sum(self, account: PrivacyAccount, clock: Clock) -> None:
        account.reserve(SESSION, plan_of(2.0, 2))
        account.charge(SESSION, 1)
        clock.pass_days(10)
        account.charge(SESSION, 2)
        clock.pass_days(19.9)
        assert len(account.spends.charged(clock.now, BUDGET.period)) == 1
        with pytest.raises(TermsRefused):
            account.reserve(OTHER, plan_of(1.0, 2))
        clock.pass_days(0.2)
        assert account.spends.charged(clock.now, BUDGET.period)[0].sums == 1
        account.reserve(OTHER, plan_of(1.0, 2))
        clock.pass_days(10)
        assert account.spends.charged(clock.now, BUDGET.period) == ()

    def test_a_round_that_is_charged_again_counts_from_then_on(self, account: PrivacyAccount, clock: Clock) -> None:
        account.reserve(SESSION, plan_of(2.0, 2))
        account.charge(SESSION, 1)
        clock.pass_days(20)
        account.charge(SESSION, 1)
        account.release(SESSION)
        clock.pass_days(29.9)
        assert [spend.sums for spend in account.spends.charged(clock.now, BUDGET.period)] == [1]
        clock.pass_days(0.2)
        assert account.spends.charged(clock.now, BUDGET.period) == ()

    def test_a_session_that_never_ends_is_reserved_for_a_period(self, account: PrivacyAccount, clock: Clock) -> None:
        account.reserve(SESSION, plan_of(2.0, 2))
        clock.pass_days(29.9)
        with pytest.raises(TermsRefused):
            account.reserve(OTHER, plan_of(0.5, 2))
        clock.pass_days(0.2)
        account.reserve(OTHER, plan_of(2.0, 2))

    def test_a_session_whose_reservation_is_over_must_reserve_again(
        self, account: PrivacyAccount, clock: Clock
    ) -> None:
        plan = plan_of(2.0, 5)
        account.reserve(SESSION, plan)
        account.charge(SESSION, 1)
        clock.pass_days(31)
        with pytest.raises(TermsRefused, match="not reserved"):
            account.charge(SESSION, 2)
        account.reserve(OTHER, plan_of(1.0, 5))
        with pytest.raises(TermsRefused, match="allows in 30 days"):
            account.reserve(SESSION, plan)
        account.release(OTHER)
        account.reserve(SESSION, plan)
        account.charge(SESSION, 2)

    def test_a_clock_that_is_set_back_forgets_nothing(self, account: PrivacyAccount, clock: Clock) -> None:
        account.reserve(SESSION, plan_of(2.0, 2))
        clock.pass_days(-365)
        account.charge(SESSION, 1)
        assert account.spends.sessions[SESSION].charged[1] == START
        with pytest.raises(TermsRefused):
            account.reserve(OTHER, plan_of(0.5, 2))
        clock.pass_days(365 + 29)
        assert account.spends.charged(clock.now, BUDGET.period) != ()


class TestStatement:
    def test_what_counts_and_when_it_leaves(self, account: PrivacyAccount, clock: Clock) -> None:
        account.reserve(SESSION, Spend(20.0, 3))
        clock.pass_days(1)
        account.charge(SESSION, 1)
        account.release(SESSION)
        account.reserve(OTHER, Spend(30.0, 4))
        found = statement(account.spends, clock.now, BUDGET.period, DELTA)
        first, second = found.sessions
        assert (first.session, first.charged, first.reserved, first.last) == (SESSION, 1, 0, clock.now)
        assert (second.session, second.charged, second.reserved, second.last) == (OTHER, 0, 4, None)
        assert first.leaves == second.leaves == clock.now + BUDGET.period
        assert found.charged == first.epsilon == epsilon_of([Spend(20.0, 1)], DELTA)
        assert found.together == epsilon_of([Spend(20.0, 1), Spend(30.0, 4)], DELTA)
        clock.pass_days(31)
        assert statement(account.spends, clock.now, BUDGET.period, DELTA).sessions == ()
        assert len(statement(account.spends, clock.now, None, DELTA).sessions) == 2


class TestPolicy:
    def test_by_default_nothing_is_demanded(self, parties: Parties) -> None:
        policy = read_tenant_configuration(parties.tenant_file()).policy
        assert policy.privacy.demands() == PrivacyDemands(required=False, budget=None)

    def test_a_budget(self, parties: Parties) -> None:
        path = parties.tenant_file(
            policy="{privacy = {required = true, epsilon = 2.0, delta = 1e-5, period_days = 30}}"
        )
        assert read_tenant_configuration(path).policy.privacy.demands() == PrivacyDemands(True, BUDGET)

    @pytest.mark.parametrize(
        ("table", "complaint"),
        [
            ("{epsilon = 1.0}", "give both, or neither"),
            ("{delta = 1e-5}", "give both, or neither"),
            ("{epsilon = 0.0, delta = 1e-5}", "epsilon"),
            ("{epsilon = inf, delta = 1e-5}", "epsilon"),
            ("{epsilon = 1.0, delta = 1.0}", "delta"),
            ("{epsilon = 1.0, delta = 1e-5, period_days = 0}", "period_days"),
            ("{epsilom = 1.0}", "epsilon"),
        ],
    )
    def test_what_is_no_budget_is_named(self, parties: Parties, table: str, complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            read_tenant_configuration(parties.tenant_file(policy=f"{{privacy = {table}}}"))

    def test_the_head_is_beside_the_keys_unless_it_is_named(self, parties: Parties) -> None:
        from fed_em_client.privacy_ledger import ledger_files

        files = ledger_files(read_tenant_configuration(parties.tenant_file()))
        assert files.head == parties.folder / "ash" / "ledger-head"
        assert files.ledger == parties.folder / "state" / "privacy.ledger"
        named = parties.tenant_file(ledger_head='"safe/head"')
        assert ledger_files(read_tenant_configuration(named)).head == Path(parties.folder / "safe" / "head")
