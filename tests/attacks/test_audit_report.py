"""The report of an audit: what it says of sessions that are guarded, waived, private and tampered with, as JSON and as a page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from recorded import Recorded, recorded
from scipy.stats import norm
from small_federation import clustered_rows, write_small_federation
from typer.testing import CliRunner

from fed_em import GaussianMixture
from fed_em.em import Stopping
from fed_em_client.configuration import read_tenant_configuration
from fed_em_client.privacy_ledger import PrivacyLedger, ledger_files
from fed_em_client.privacy_statement import PrivacyStatement, SessionLine
from fed_em_protocols.privacy.accounting import Spend, epsilon_of
from fed_em_protocols.transcript.memory_transcript import MemoryTranscript
from fed_em_server.configuration import PrivacyTable
from fed_em_server.transcript_folder import CHECKPOINTS_FILE, ENTRIES_FILE
from fed_em_simulations import Federation
from fed_em_simulations.attacks.membership import FALSE_ALARMS
from fed_em_simulations.audit_report.attacks_found import found_at
from fed_em_simulations.audit_report.build import Evidence, audit_report
from fed_em_simulations.audit_report.contents import AttackLine, AuditReport, Shown
from fed_em_simulations.audit_report.guarantees import OwnLedger
from fed_em_simulations.audit_report.page import audit_page, marked
from fed_em_simulations.audit_report.writing import write_audit_report
from fed_em_simulations.command_line import app

pytestmark = pytest.mark.usefixtures("remembered_keys")

CENTRES = np.array([[-4.0, 0.0], [4.0, 1.0], [0.0, 6.0]])
EPSILON = PrivacyTable(epsilon=2.0, delta=1e-5)


def evidence_of(rows: int, tenants: int, **more: object) -> Evidence:
    """Of a session of Gaussian clusters."""
    generator = np.random.default_rng(3)
    tables = [CENTRES[generator.integers(3, size=rows)] + generator.normal(size=(rows, 2)) for _ in range(tenants)]
    store = MemoryTranscript()
    said = {"seed": 5, "starts": 0, "optimiser": "em", "stopping": Stopping(0.0, 3), "colluders": 1, **more}
    outcome = Federation(tables, transcript=store, **said).fit(GaussianMixture(3))  # type: ignore[arg-type]
    return Evidence(store.files, outcome.roster, "result", "roster.json")


@cache
def waived() -> AuditReport:
    return audit_report(evidence_of(20, 5, difference_guard="off", minimum_survivors=3, dropout=0.2, seed=1))


@cache
def guarded() -> AuditReport:
    return audit_report(evidence_of(20, 6, block_size=3, mass_floor=5.0))


@cache
def private_evidence() -> Evidence:
    return evidence_of(60, 4, privacy=EPSILON)


@cache
def private() -> AuditReport:
    return audit_report(private_evidence())


def logged(whole: Recorded, logs: dict[str, bytes]) -> Evidence:
    return Evidence(whole.files, whole.roster, "result", "roster.json", logs=logs)


def shown(report: AuditReport) -> Shown:
    assert report.shown is not None
    return report.shown


def attack(report: AuditReport, name: str) -> AttackLine:
    return next(line for line in shown(report).attacks.findings if line.attack == name)


def unprotected(report: AuditReport) -> set[str]:
    return {line.what for line in shown(report).unprotected}


def test_waived_blocks_are_shown_as_an_exposed_tenant() -> None:
    report = waived()
    assert report.passed
    found = attack(report, "differencing")
    assert found.severity == "exposed" == shown(report).attacks.severity
    assert shown(report).attacks.least_support == 1
    assert "Differences between sums" in unprotected(report)
    page = audit_page(report)
    assert "waived" in page
    assert 'class="grade exposed">exposed</span></h3>' in page


def test_guarded_sessions_give_nobody_away_by_differences() -> None:
    report = guarded()
    assert report.passed
    assert attack(report, "differencing").severity in ("none", "bounded")
    assert shown(report).attacks.least_support >= 3
    assert attack(report, "single-records").severity == "none"
    assert not {"Differences between sums", "Rare records"} & unprotected(report)
    assert "Counts" in unprotected(report)
    assert [group.counts for group in shown(report).sums] == [True, False, True, False]
    # Exact sums have no defence against whoever knows the rest.
    assert attack(report, "membership").severity == "exposed"
    assert attack(report, "membership").figures["found_at_most"] == 1.0


def test_what_left_is_counted() -> None:
    report = shown(guarded())
    vectors = sum(house.masked_vectors for house in report.houses)
    assert vectors == next(message.messages for message in report.messages if message.kind == "Upload")
    assert vectors == 6 * len(report.points)
    assert {house.in_sums for house in report.houses} == {len(report.points)}
    of_a_tail = {house.content_bytes for house in report.houses}
    assert len(of_a_tail) == 1
    names = {statistic.name: statistic.numbers for statistic in report.sums[-1].statistics}
    assert names == {"count": 1, "log_likelihood": 1, "entropy": 1, "responsibilities": 3, "first": 6, "second": 9}
    assert all("sum over records" not in statistic.meaning for group in report.sums for statistic in group.statistics)


@pytest.mark.slow
def test_privacy_is_told_with_what_it_promises_and_what_was_spent() -> None:
    report = private()
    assert report.passed, report.checks
    promise = shown(report).guarantees.privacy
    assert promise is not None
    assert (promise.epsilon, promise.delta, promise.unit) == (2.0, 1e-5, "record")
    assert promise.sums_opened == len(shown(report).points) <= promise.sums_promised
    spent = epsilon_of([Spend(promise.noise_multiplier, promise.sums_opened)], promise.delta)
    assert promise.epsilon_spent == pytest.approx(spent, rel=1e-3)
    assert promise.epsilon_spent <= promise.epsilon
    advantage = np.sqrt(promise.sums_opened) / promise.noise_multiplier
    assert promise.best_guess == pytest.approx(norm.cdf(advantage / 2))
    assert attack(report, "membership").figures["found_at_most"] == pytest.approx(found_at(FALSE_ALARMS, advantage))
    assert "Questions made up to single somebody out" not in unprotected(report)
    assert {"Tenants that leave out their noise", "People with several rows"} <= unprotected(report)
    assert not {"Tenants that leave out their noise", "People with several rows"} & unprotected(guarded())
    assert "single-records" in {line.attack for line in shown(report).attacks.not_run}
    assert all(not point.masses for point in shown(report).points)
    assert "ε = 2" in audit_page(report)


def test_the_best_of_attackers_is_within_the_promise() -> None:
    """(ε, δ)-differential privacy bounds what is found by e^ε times the false alarms, and δ."""
    report = private()
    promise = shown(report).guarantees.privacy
    assert promise is not None
    advantage = shown(report).attacks.advantage
    assert advantage is not None
    for alarms in (1e-4, 0.01, 0.1, 0.5):
        assert found_at(alarms, advantage) <= np.exp(promise.epsilon) * alarms + promise.delta


@pytest.mark.slow
def test_a_tenants_own_ledger_is_set_beside_the_promise() -> None:
    evidence = private_evidence()
    session = bytes.fromhex(private().session)
    line = SessionLine(session, Spend(10.0, 9), 5, 4, None, None, 0.75)
    own = OwnLedger(PrivacyStatement((line,), 0.75, 0.5, 1.1), 1e-6, 4.0)
    report = audit_report(replace(evidence, ledgers={"t1": own}))
    promise = shown(report).guarantees.privacy
    assert promise is not None
    (ledger,) = promise.ledgers
    assert (ledger.tenant, ledger.charged_sums, ledger.session_epsilon, ledger.budget) == ("t1", 5, 0.75, 4.0)
    assert ">0.75</td>" in audit_page(report)


def test_a_tampered_transcript_is_red_with_the_place_and_nothing_of_it_is_repeated() -> None:
    whole = recorded()
    data = bytearray(whole.files.entries)
    place = whole.files.entries.index(b'"kind":"certificate"') + 10
    entry = whole.files.entries[:place].count(b"\n")
    data[place] ^= 1
    report = audit_report(logged(replace(whole, files=replace(whole.files, entries=bytes(data))), {}))
    assert not report.passed
    assert report.shown is None
    (failed,) = [check for check in report.checks if check.verdict == "failed"]
    assert failed.place == f"entry {entry}"
    page = audit_page(report)
    assert f"At entry {entry}." in page
    assert "trust alarm" in page
    assert "trust calm" not in page
    assert "Who got what" not in page


def test_a_log_that_disagrees_is_red_though_the_session_is_shown() -> None:
    whole = recorded()
    name = next(iter(whole.logs))
    cut = whole.logs[name][: whole.logs[name].index(b"\n") + 1]
    report = audit_report(logged(whole, {name: cut}))
    assert not report.passed
    assert report.shown is not None
    assert any(check.check == f"log {name}" and check.verdict == "failed" for check in report.checks)
    assert "trust alarm" in audit_page(report)


def test_logs_of_two_tenants_are_laid_side_by_side() -> None:
    whole = recorded()
    report = audit_report(logged(whole, dict(list(whole.logs.items())[:2])))
    assert report.passed, report.checks
    assert attack(report, "equivocation").severity == "none"
    houses = {house.tenant: house for house in shown(report).houses}
    sent = {message.kind: message.messages for message in houses["t0"].logged or ()}
    assert sent["Deposit"] > 0
    assert sent["Upload"] >= houses["t0"].masked_vectors
    assert houses["t2"].logged is None
    assert houses["t1"].silent == 1
    page = audit_page(report)
    assert "Everything that t0 sent, by its own log" in page
    assert "and from tenants" in page


class _Assets(HTMLParser):
    """Whatever a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "object", "embed"):
            self.found.append(tag)
        self.found += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if name in ("src", "href", "srcset", "data", "action") and not (value or "").startswith("#")
        ]


def test_the_page_asks_for_nothing_else() -> None:
    page = audit_page(waived())
    assets = _Assets()
    assets.feed(page)
    assert not assets.found
    assert not re.search(r"https?://|url\((?!#)|@import", page)


def test_names_are_escaped() -> None:
    whole = recorded()
    evil = "<script>alert('x')</script>"
    data = next(iter(whole.logs.values()))
    page = audit_page(audit_report(logged(whole, {evil: data})))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    described = shown(waived()).model_copy(update={"columns": (evil,)})
    page = audit_page(waived().model_copy(update={"shown": described, "title": evil}))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 3
    assert marked("a `b<` c<") == "a <code>b&lt;</code> c&lt;"


def test_the_command_reads_a_ledger_and_other_sessions(tmp_path: Path) -> None:
    evidence = private_evidence()
    (tmp_path / ENTRIES_FILE).write_bytes(evidence.files.entries)
    (tmp_path / CHECKPOINTS_FILE).write_bytes(evidence.files.checkpoints)
    evidence.roster.write_new(tmp_path / "roster.json")
    tenant = write_small_federation(tmp_path / "f", clustered_rows((9, 9, 9))).tenant_files["t1"]
    with PrivacyLedger(ledger_files(read_tenant_configuration(tenant))) as ledger:
        ledger.reserve(bytes.fromhex(private().session), Spend(10.0, 5))
        ledger.charge(bytes.fromhex(private().session), 1)
    # A session that was read twice is one session.
    also = ["--also", str(tmp_path), "--ledger", str(tenant), "--output", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, ["audit", "report", str(tmp_path), "--roster", str(tmp_path / "roster.json"), *also])
    assert ran.exit_code == 0, ran.output
    report = AuditReport.model_validate_json((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    promise = shown(report).guarantees.privacy
    assert promise is not None
    (line,) = promise.ledgers
    assert (line.tenant, line.charged_sums, line.budget) == ("t1", 1, None)
    assert line.session_epsilon == pytest.approx(epsilon_of([Spend(10.0, 1)], line.delta))
    assert shown(report).attacks.sessions == 1
    assert attack(report, "differencing") == attack(private(), "differencing")


def test_the_json_says_the_same(tmp_path: Path) -> None:
    made = guarded()
    page, data = write_audit_report(tmp_path, made)
    again = AuditReport.model_validate_json(data.read_text(encoding="utf-8"))
    assert again == made
    assert audit_page(again) == page.read_text(encoding="utf-8")
    assert again.format == 1


def test_equal_evidence_gives_an_equal_report() -> None:
    assert audit_report(private_evidence()) == private()


def test_the_command_writes_both_and_says_by_its_status_whether_all_holds(tmp_path: Path) -> None:
    whole = recorded()
    (tmp_path / ENTRIES_FILE).write_bytes(whole.files.entries)
    (tmp_path / CHECKPOINTS_FILE).write_bytes(whole.files.checkpoints)
    whole.roster.write_new(tmp_path / "roster.json")
    log = tmp_path / "log.jsonl"
    log.write_bytes(whole.logs["t3/log.jsonl"])
    command = ["audit", "report", str(tmp_path), "--roster", str(tmp_path / "roster.json"), "--tenant-log", str(log)]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    assert ran.output.splitlines()[-1] == "verified"
    report = AuditReport.model_validate_json((tmp_path / "audit.json").read_text(encoding="utf-8"))
    assert f"--tenant-log {log}" in report.commands[0].command
    attacked = CliRunner().invoke(app, ["audit", "attack", *command[2:], "--json"])
    assert attacked.exit_code == 0, attacked.output
    told = json.loads(attacked.output)
    assert {each["attack"]: each["severity"] for each in told["findings"]} == {
        each.attack: each.severity for each in shown(report).attacks.findings
    }
    assert {"equivocation", "reconstruction"} <= set(told["not_run"])
    log.write_bytes(log.read_bytes().replace(b'"Upload"', b'"upload"', 1))
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 1
    assert ran.output.splitlines()[-1] == "NOT verified"
