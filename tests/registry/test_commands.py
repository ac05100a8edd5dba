"""`fed-em registry`: what a person sees and types."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from models import lineage, mixture
from rich.console import Console
from sessions import federation_in, run
from typer.testing import CliRunner

from fed_em.errors import CallerError
from fed_em.model_file import save_model
from fed_em_protocols.roster import Roster
from fed_em_server.record import Participation, SessionRecord
from fed_em_server.registry import Registry
from fed_em_server.registry.history import Decision
from fed_em_server.registry.views import in_ranges, version_page
from fed_em_simulations import command_line

RUN = CliRunner(env={"COLUMNS": "400"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def fed_em(folder: Path, *arguments: object, status: int = 0) -> str:
    """What a command prints."""
    words = ["registry", *map(str, arguments), "--registry", str(folder)]
    result = RUN.invoke(command_line.app, words, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Roster]:
    """The output of a session, the file of its roster, and the roster."""
    folder = tmp_path_factory.mktemp("session")
    federation = federation_in(folder / "f")
    return run(federation, folder / "result"), federation.server.roster, federation.roster


def test_a_session_is_added_shown_and_verified(session: tuple[Path, Path, Roster], folder: Path) -> None:
    output, roster_file, roster = session
    added = fed_em(folder, "add", output, "--roster", roster_file, "--reason", "nightly")
    assert re.fullmatch(r"version 1 \([0-9a-f]{12}\) is added: [0-9a-f]{64}\n", added)
    assert "was there already" in fed_em(folder, "add", output, "--roster", roster_file)
    shown = fed_em(folder, "show", 1)
    transcript = Registry(folder).version("1").lineage.transcript
    assert transcript is not None
    for said in (roster.digest.hex(), transcript.root, "t0, t1, t2", "over 75 records", "a fresh start"):
        assert said in shown
    assert f"fed-em audit verify {output} --roster ROSTER" in shown
    verify = RUN.invoke(command_line.app, ["audit", "verify", str(output), "--roster", str(roster_file)])
    assert verify.exit_code == 0, verify.output
    assert "verified" in fed_em(folder, "verify")


def test_show_tells_in_which_rounds_each_tenant_was(session: tuple[Path, Path, Roster], folder: Path) -> None:
    output, _, _ = session
    record = SessionRecord.model_validate_json((output / "record.json").read_bytes())
    late = (Participation.LATE, *record.rounds[1].participation[1:])
    rounds = (record.rounds[0], record.rounds[1].model_copy(update={"participation": late}), *record.rounds[2:])
    registry = Registry(folder)
    version = registry.add(
        mixture(), lineage(tenants=record.tenants), record=record.model_copy(update={"rounds": rounds})
    )
    console = Console(width=150)
    with console.capture() as captured:
        console.print(version_page(registry, version, registry.read()))
    lines = captured.get().splitlines()
    assert re.search(r"t0 +1, 3–5 +2 *$", next(line for line in lines if line.startswith("  t0")))
    assert re.search(r"t1 +1–5 *$", next(line for line in lines if line.startswith("  t1")))


@pytest.mark.parametrize(
    ("numbers", "said"), [([], ""), ([3], "3"), ([1, 2, 3, 5, 7, 8], "1–3, 5, 7–8"), (range(1, 25), "1–24")]
)
def test_rounds_are_told_in_ranges(numbers: list[int], said: str) -> None:
    assert in_ranges(numbers) == said


def test_stages_are_moved_and_their_history_told(folder: Path, tmp_path: Path) -> None:
    for k in range(2):
        save_model(tmp_path / f"{k}", mixture(float(k)))
        fed_em(folder, "add", tmp_path / f"{k}")
    assert "production is version 1" in fed_em(folder, "promote", 1, "--reason", "the first")
    assert "before, it was version 1" in fed_em(folder, "promote", 2)
    assert "is version 2" in fed_em(folder, "promote", "@production")
    assert "production is version 1" in fed_em(folder, "rollback", "--reason", "worse")
    fed_em(folder, "promote", 2, "--stage", "canary")
    listed = fed_em(folder, "list")
    assert re.search(r"1 .*fitted in one place.*production", listed)
    assert re.search(r"2 .*canary", listed)
    assert "canary is empty now" in fed_em(folder, "withdraw", "canary")
    history = fed_em(folder, "history")
    assert re.findall(r"promoted|rolled-back", history) == ["promoted", "promoted", "rolled-back"]
    assert "worse" in history
    with pytest.raises(CallerError, match="is or was in production, canary"):
        fed_em(folder, "remove", 2)


def test_brackets_in_a_reason_are_shown_as_they_are(folder: Path) -> None:
    """They are kept for good: what could not be shown once could never be."""
    registry = Registry(folder)
    registry.promote(registry.add(mixture(), lineage()), reason="see [/issue] of [red]")
    assert "see [/issue] of [red]" in fed_em(folder, "history")


def test_history_shows_decisions_about_versions_that_are_removed(folder: Path) -> None:
    registry = Registry(folder)
    first, second = (registry.add(mixture(float(k)), lineage()) for k in range(2))
    registry.promote(first)
    decision = Decision(candidate=second.id, baseline=first.id, outcome="keep", numbers={})
    registry.decided("production", decision, "too few records")
    assert "version 2" in fed_em(folder, "remove", second.id)
    assert re.search(r"decided: keep.*1 \(.*removed \(.*too few records", fed_em(folder, "history"))


def test_verify_finds_what_was_changed_and_what_lies_there(folder: Path) -> None:
    registry = Registry(folder)
    versions = [registry.add(mixture(float(k)), lineage()) for k in range(3)]
    head = registry.read().head
    registry.promote(versions[0])
    assert "1 file" not in fed_em(folder, "verify", "--head", head)
    (registry.folder / "versions" / ".new-something").mkdir()
    (registry.path(versions[0]) / "model" / "notes.txt").write_text("later")
    (registry.path(versions[1]) / "model" / "manifest.json").write_text("{}")
    (registry.path(versions[2]) / "version.json").unlink()
    found = fed_em(folder, "verify", status=1)
    assert re.search(r"✓ +version 1 +2 files are those of its manifest, in production", found)
    assert re.search(r"✗ +version 2 .*manifest\.json is not the file", found)
    assert re.search(r"✗ +version 3 .*there is no file", found)
    assert ".new-something is of no version" in found
    assert "model/notes.txt of version 1 is not in its manifest" in found
    assert "NOT verified: 2 failed" in found


def test_verify_finds_a_registry_that_was_put_back(folder: Path) -> None:
    registry = Registry(folder)
    registry.add(mixture(), lineage())
    copies = {name: (folder / name).read_bytes() for name in ("log.jsonl", "head.json")}
    registry.promote(registry.version("1"))
    head = registry.read().head
    for name, data in copies.items():
        (folder / name).write_bytes(data)
    assert "verified" in fed_em(folder, "verify")
    assert "cut, or written anew" in fed_em(folder, "verify", "--head", head, status=1)
    (folder / "log.jsonl").write_bytes(b"{}\n")
    assert "log.jsonl is damaged: entry 1" in fed_em(folder, "verify", status=1)


def test_diff_says_which_component_became_which(folder: Path) -> None:
    registry = Registry(folder)
    registry.add(mixture(), lineage(tenants=("ash", "elm"), roster="a" * 64))
    registry.add(mixture(0.5), lineage(tenants=("ash", "oak"), roster="b" * 64))
    said = fed_em(folder, "diff", 1, 2)
    assert re.search(r"roster +another; oak joined; elm left", said)
    # Bhattacharyya distance of unit Gaussians half a standard deviation apart: 0.5²/8.
    assert re.search(r"0 +0 +0\.4000 +0\.4000 +0\.03125 +0\.5 +a", said)
