"""Runbooks and their drills: each names the signs that its drill looks for, and quotes what the log really says."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from fed_em_protocols.metric_catalogue import BY_NAME
from fed_em_simulations.command_line import app
from fed_em_simulations.game_day.drill import Drill, Finding
from fed_em_simulations.game_day.drills import DRILLS
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "docs" / "runbooks"
QUICK = ("underflow", "refused-rounds")
_EXCERPT = re.compile(r"<!-- log: ([a-z-]+) -->\n```text\n(.*?)\n```", re.S)


def page_of(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def test_every_drill_has_a_runbook_and_every_runbook_a_drill() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {*DRILLS, "index"}
    assert all(f"]({name}.md)" in page_of("index") for name in DRILLS)


@pytest.mark.parametrize("name", DRILLS)
def test_a_runbook_has_its_parts_and_its_drill_s_metrics(name: str) -> None:
    page = page_of(name)
    assert re.findall(r"^## (.*)$", page, re.M) == ["Symptoms", "Diagnosis", "Remedy", "Prevention"]
    assert f"fed-em game-day {name}" in page
    for metric in DRILLS[name].metrics:
        assert f"`{metric}" in page, f"{name} is told by {metric}"
    assert [found[1] for found in _EXCERPT.finditer(page)] == [name] * len(_EXCERPT.findall(page)) != []


def test_metrics_of_runbooks_are_in_the_catalogue() -> None:
    for name in (*DRILLS, "index"):
        for metric in re.findall(r"`(fed_em_[a-z_]+)", page_of(name)):
            assert metric in BY_NAME, f"{name} names {metric}"


def check_drill(name: str) -> None:
    found = DRILLS[name].run()
    assert found.shown, found
    assert found.helped, found
    log = "\n".join(found.log)
    for _, excerpt in _EXCERPT.findall(page_of(name)):
        # A line of its own stands for any lines, or none.
        pattern = re.escape(excerpt).replace("\\\n…\\\n", "\n…").replace("…", "(?:.|\n)*?")
        assert re.search(pattern, log), f"{name}: the log does not say\n{excerpt}\nbut\n{log}"


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_drill_shows_its_symptom_and_its_remedy_helps(name: str) -> None:
    check_drill(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DRILLS if name not in QUICK])
def test_a_drill_shows_its_symptom_and_its_remedy_helps(name: str) -> None:
    check_drill(name)


@pytest.mark.parametrize(("shown", "helped"), [(True, True), (False, True), (True, False)])
def test_a_drill_that_is_not_as_its_runbook_says_fails(
    monkeypatch: pytest.MonkeyPatch, shown: bool, helped: bool
) -> None:
    made_up = Drill(
        "made-up", "a sign [with brackets]", (), "a remedy", lambda: Finding(shown, "so", helped, "not", ("a line",))
    )
    monkeypatch.setattr("fed_em_simulations.game_day.drills.DRILLS", {"made-up": made_up})
    ended = CliRunner().invoke(app, ["game-day", "--log"], env={"COLUMNS": "160"})
    assert ended.exit_code == (0 if shown and helped else 1)
    assert "a line" in ended.output and "a sign [with brackets]" in ended.output
    assert ("not as their runbooks say: made-up" in ended.output) == (ended.exit_code == 1)


def test_an_unknown_drill_is_named() -> None:
    ended = CliRunner().invoke(app, ["game-day", "straglers"])
    assert "straglers" in str(ended.exception) and "stragglers" in str(ended.exception)
