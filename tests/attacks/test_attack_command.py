"""`fed-em audit attack`: scenarios are read strictly, run by the real protocol, and told in words and in figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fed_em.errors import CallerError
from fed_em_protocols.masks import RingVector
from fed_em_protocols.privacy.noise import Noise
from fed_em_protocols.window import Randomness
from fed_em_simulations.attacks.attack_report import AttackReport
from fed_em_simulations.attacks.finding import Severity
from fed_em_simulations.attacks.run_attacks import run_attacks
from fed_em_simulations.attacks.scenario import AttackScenario, read_attack, shipped_attacks
from fed_em_simulations.command_line import app

ATTACKS = {
    "differencing", "single-records", "membership-weak", "membership-strong", "canaries", "reconstruction", "model-inversion",
    "equivocation",
}  # fmt: skip

TINY = AttackScenario(
    tenants=3, rows=12, small=4, sums=3, sessions=1, dropout=0.0, colluding=2, components=2, canaries=2, candidates=100
)


def severities(report: AttackReport) -> dict[str, Severity]:
    """By attack."""
    return {finding.attack: finding.severity for finding in report.findings}


def test_the_command_tells_all_attacks_in_json_and_in_a_table_that_fits(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    fields = "".join(f"{name} = {json.dumps(value)}\n" for name, value in TINY.model_dump(exclude_unset=True).items())
    path.write_text('title = "Tiny"\n' + fields)
    ran = CliRunner().invoke(app, ["audit", "attack", str(path), "--json", "--set", "seed=3", "--tenants", "3"])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert {finding["attack"] for finding in told["findings"]} == ATTACKS and told["title"] == "Tiny"
    assert told["severity"] == "exposed" and not told["not_run"]
    found = {finding["attack"]: finding for finding in told["findings"]}
    assert found["reconstruction"]["figures"]["alone"] == [{"tenant": "t2", "sums": 3, "rows": 4, "solved": True}]

    report = run_attacks(TINY.with_changes({"seed": 3, "title": "Tiny"}))
    assert json.loads(json.dumps(report.to_json())) == told
    console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
    console.print(report)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100 and all(any(attack in line for line in lines) for attack in ATTACKS)


def test_the_shipped_scenarios_are_listed_and_read() -> None:
    ran = CliRunner().invoke(app, ["audit", "attack", "--list"])
    assert ran.exit_code == 0
    for name, title in shipped_attacks():
        assert name in ran.stdout and title in ran.stdout
        assert read_attack(name).expectation


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tenants": 2}, "tenants"),
        ({"row": 3}, "row: Extra inputs"),
        ({"colluding": 9}, "nobody is left to attack"),
        ({"tenants": 4, "outliers": 5}, "more outliers than tenants"),
        ({"epsilon": 1.0, "mass_floor": 10.0}, "may fail too often"),
    ],
)
def test_what_suits_no_federation_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(CallerError, match=complaint):
        AttackScenario().with_changes(changes)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(CallerError, match="no scenario 'gaurded'") as raised:
        read_attack("gaurded")
    assert "guarded" in raised.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "exposed"),
    [
        ("guarded", {"membership-strong"}),
        ("waived-blocks", {"differencing", "membership-strong"}),
        ("single-record", {"single-records", "model-inversion", "membership-strong"}),
        ("small-cohort", {"reconstruction", "membership-strong"}),
        ("private", set()),
        ("canaries-without-noise", {"canaries", "membership-strong"}),
    ],
)
def test_the_shipped_scenarios_come_out_as_they_say(name: str, exposed: set[str]) -> None:
    found = severities(run_attacks(read_attack(name)))
    assert {attack for attack, severity in found.items() if severity is Severity.EXPOSED} == exposed


@pytest.mark.slow
def test_tenants_that_add_a_hundredth_of_their_noise_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    added = Noise.added

    def too_little(self: Noise, vector: RingVector, randomness: Randomness) -> RingVector:
        return added(replace(self, sigmas=tuple(max(sigma // 100, 9) for sigma in self.sigmas)), vector, randomness)

    monkeypatch.setattr(Noise, "added", too_little)
    report = run_attacks(read_attack("private"))
    assert severities(report)["canaries"] is Severity.EXPOSED
    (canaries,) = (finding for finding in report.findings if finding.attack == "canaries")
    assert "the claimed ε = 1 does not hold" in canaries.sentence
