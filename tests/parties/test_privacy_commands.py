"""`fed-em privacy`: what was spent, what is given back, what a session would cost."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client.configuration import read_tenant_configuration
from fed_em_client.privacy_ledger import LedgerFiles, PrivacyLedger, ledger_files
from fed_em_client.tenant_doctor import examine_tenant
from fed_em_protocols.party import load_keys
from fed_em_protocols.privacy.accounting import Spend, epsilon_of
from fed_em_server.configuration import read_server_configuration
from fed_em_server.session import plan_session
from fed_em_server.session_terms import privacy_plan, survivors_of
from fed_em_simulations import command_line
from tests.parties.forest import Parties

RUN = CliRunner()
SESSION, OTHER = bytes(range(16)), b"\0\1" + bytes(14)
BUDGET = "{privacy = {epsilon = 2.0, delta = 1e-5, period_days = 30}}"


def run(*arguments: object) -> str:
    """What a command prints; it must succeed."""
    result = RUN.invoke(command_line.app, ["privacy", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> CallerError:
    """The error of a command that must be refused."""
    with pytest.raises(CallerError) as caught:
        RUN.invoke(command_line.app, ["privacy", *map(str, arguments)], catch_exceptions=False)
    return caught.value


@pytest.fixture
def tenant(parties: Parties) -> Path:
    return parties.tenant_file(policy=BUDGET)


@pytest.fixture
def files(tenant: Path) -> LedgerFiles:
    """Of a tenant that charged two sums of five in one session, and reserved three of another."""
    found = ledger_files(read_tenant_configuration(tenant))
    with PrivacyLedger(found) as ledger:
        ledger.reserve(SESSION, Spend(10.0, 5))
        ledger.charge(SESSION, 1)
        ledger.charge(SESSION, 4)
        ledger.reserve(OTHER, Spend(20.0, 3))
    return found


class TestLedger:
    def test_without_sessions_the_budget_is_whole(self, tenant: Path) -> None:
        output = run("ledger", tenant)
        assert "charged in the 30 days to" in output
        assert "left of the policy's ε = 2: 2" in output

    def test_what_was_spent_by_session_and_together(self, tenant: Path, files: LedgerFiles) -> None:
        output = run("ledger", tenant)
        charged = epsilon_of([Spend(10.0, 2)], 1e-5)
        together = epsilon_of([Spend(10.0, 5), Spend(20.0, 3)], 1e-5)
        line = next(line for line in output.splitlines() if SESSION.hex()[:12] in line)
        assert line.split()[1:6] == ["10", "5", "2", "3", f"{charged:.4g}"]
        other = next(line for line in output.splitlines() if OTHER.hex()[:12] in line)
        assert other.split()[1:7] == ["20", "3", "0", "3", "0", "never"]
        assert "days to" in output and f"ε = {charged:.4g} at δ = 1e-05" in output
        assert f"together ε = {together:.4g}" in output
        assert f"left of the policy's ε = 2: {2 - together:.4g}" in output

    def test_without_a_budget_and_at_another_delta(self, parties: Parties, files: LedgerFiles) -> None:
        output = run("ledger", parties.tenant_file(), "--delta", 1e-3)
        assert f"charged ever: ε = {epsilon_of([Spend(10.0, 2)], 1e-3):.4g} at δ = 0.001" in output
        assert "the policy has no budget" in output
        assert "--delta" in refused("ledger", parties.tenant_file(), "--delta", 1.0).remedy

    def test_a_tenant_that_runs_can_be_looked_at(self, tenant: Path, files: LedgerFiles) -> None:
        with PrivacyLedger(files):
            assert SESSION.hex()[:12] in run("ledger", tenant)

    def test_a_damaged_ledger_shows_no_numbers(self, tenant: Path, files: LedgerFiles) -> None:
        files.ledger.write_bytes(files.ledger.read_bytes()[:-1])
        with pytest.raises(EnvironmentFault, match=r"privacy\.ledger is damaged"):
            RUN.invoke(command_line.app, ["privacy", "ledger", str(tenant)], catch_exceptions=False)


class TestRelease:
    def test_gives_back_what_was_not_charged(self, tenant: Path, files: LedgerFiles) -> None:
        assert f"3 sums of session {SESSION.hex()} are given back" in run("release", tenant, SESSION.hex()[:6].upper())
        line = next(line for line in run("ledger", tenant).splitlines() if SESSION.hex()[:12] in line)
        assert line.split()[3:5] == ["2", "0"]
        assert "nothing is reserved for session" in refused("release", tenant, SESSION.hex()).message

    @pytest.mark.parametrize(
        ("session", "complaint"), [("ff", "nothing is reserved"), ("00", "2 sessions have numbers")]
    )
    def test_which_session_must_be_clear(self, tenant: Path, files: LedgerFiles, session: str, complaint: str) -> None:
        error = refused("release", tenant, session)
        assert complaint in error.message and "fed-em privacy ledger" in error.remedy

    def test_not_while_the_tenant_runs(self, tenant: Path, files: LedgerFiles) -> None:
        with PrivacyLedger(files):
            assert "another process" in refused("release", tenant, SESSION.hex()).message


class TestMend:
    def test_a_lost_head_is_written_anew(self, tenant: Path, files: LedgerFiles) -> None:
        files.head.unlink()
        with pytest.raises(EnvironmentFault, match="ledger-head is missing"):
            run("ledger", tenant)
        assert "after the 4 entries" in run("mend", tenant)
        run("ledger", tenant)


class TestPlan:
    def test_three_numbers_say_the_fourth(self) -> None:
        output = run("plan", "--epsilon", 1, "--delta", 1e-5, "--sums", 40)
        found = re.match(r"noise multiplier ([\d.]+): 40 sums cost ε = 1 at δ = 1e-05", output)
        assert found is not None
        noise = float(found[1])
        assert epsilon_of([Spend(noise, 40)], 1e-5) <= 1 < epsilon_of([Spend(noise - 0.001, 40)], 1e-5)
        assert run("plan", "--epsilon", 1, "--delta", 1e-5, "--noise", noise).startswith("40 sums")
        assert run("plan", "--delta", 1e-5, "--sums", 40, "--noise", noise).startswith("ε = 1 at")
        assert re.match(r"δ = 9\.99\d*e-06|δ = 1e-05", run("plan", "--epsilon", 1, "--sums", 40, "--noise", noise))

    def test_too_little_noise_for_one_sum(self) -> None:
        assert run("plan", "--epsilon", 0.1, "--delta", 1e-5, "--noise", 0.5).startswith("no sums with")

    @pytest.mark.parametrize(
        "options",
        [
            (),
            ("--epsilon", 1),
            ("--epsilon", 1, "--delta", 0.1),
            ("--epsilon", 1, "--delta", 0.1, "--sums", 2, "--noise", 3),
        ],
    )
    def test_other_than_three_are_refused(self, options: tuple[object, ...]) -> None:
        assert "give three of" in refused("plan", *options).remedy

    @pytest.mark.parametrize(
        ("option", "value"),
        [("--epsilon", 0), ("--epsilon", "inf"), ("--delta", 1), ("--delta", "nan"), ("--sums", 0), ("--noise", -1)],
    )
    def test_a_number_that_cannot_be_is_named(self, option: str, value: object) -> None:
        assert refused("plan", option, value).message.startswith(f"{option} is ")


class TestDoctor:
    def test_what_is_left_is_told_where_there_is_a_budget(self, tenant: Path, files: LedgerFiles) -> None:
        together = epsilon_of([Spend(10.0, 5), Spend(20.0, 3)], 1e-5)
        told = {finding.what: finding for finding in examine_tenant(tenant, datetime.now(UTC))}["privacy ledger"]
        assert not told.failed
        assert told.detail.startswith(f"ε = {together:.4g} of 2 (δ = 1e-05) is spent or reserved in 30 days")

    def test_a_damaged_ledger_fails(self, tenant: Path, files: LedgerFiles) -> None:
        files.head.unlink()
        told = {finding.what: finding for finding in examine_tenant(tenant, datetime.now(UTC))}["privacy ledger"]
        assert told.failed and "fed-em privacy mend" in told.remedy

    def test_without_a_budget_or_a_ledger_nothing_is_told(self, parties: Parties) -> None:
        told = {finding.what for finding in examine_tenant(parties.tenant_file(), datetime.now(UTC))}
        assert "privacy ledger" not in told


class TestPlanOfASession:
    """Of three tenants of at most 50 records: which noise stands in its sums, and what makes it less."""

    def test_sums_noise_and_what_would_make_it_less(self, parties: Parties) -> None:
        session = parties.server_file(privacy="{epsilon = 25.0, delta = 1e-5}", trust="{colluders = 1}")
        output = run("plan", "--session", session)
        configuration = read_server_configuration(session)
        privacy = configuration.description.privacy
        assert privacy is not None and privacy.in_words in output
        assert "1 for the moments, 6 for the start, 10 of the fit, 2 spare, for rounds that fail: 19" in output
        n, least = parties.roster.n, survivors_of(configuration.trust, parties.roster)
        assert f"the noise of {least - 1} has to do, and all together add √({n}/{least - 1})" in output
        assert "hint      with colluders = 0 it would be" in output
        assert "warning" not in output

    def test_the_noise_is_that_of_the_fit(self, parties: Parties) -> None:
        """A count's is σ = z/√a for the least noise of all tenants, and of √(n/m) as many shares."""
        configuration = read_server_configuration(parties.server_file(privacy="{epsilon = 2.0, delta = 1e-5}"))
        plan = privacy_plan(configuration.trust, parties.roster, configuration.description)
        assert plan is not None
        privacy, noise = plan.privacy, plan.noise()
        norms = {block.name: block.norm for block in plan.description.fitted_model.layout(radius=privacy.radius)}
        lost = sum((norms[name] / (sigma / plan.excess)) ** 2 for name, sigma in noise.items())
        assert lost == pytest.approx(privacy.noise_multiplier**-2, rel=2e-3)
        assert "log_likelihood" not in noise

    def test_few_tenants_cannot_hide_one_of_them(self, parties: Parties) -> None:
        session = parties.server_file(privacy='{epsilon = 2.0, delta = 1e-5, unit = "tenant"}')
        assert re.search(
            r"warning   Noise leaves little: .* all that a tenant may hold", run("plan", "--session", session)
        )
        configuration = read_server_configuration(session)
        plan = plan_session(configuration, parties.roster, load_keys(parties.folder / "server").identity, "memory")
        assert len(plan.doubts) == 1

    def test_a_session_without_privacy_has_no_plan(self, parties: Parties) -> None:
        assert "promises no differential privacy" in refused("plan", "--session", parties.server_file()).message

    def test_a_session_says_all_numbers(self, parties: Parties) -> None:
        assert "give --session alone" in refused("plan", "--session", parties.server_file(), "--sums", 3).remedy
