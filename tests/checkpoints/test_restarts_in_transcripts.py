"""What a transcript says of a server that went on in another process, and what nobody can make of it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from processes import Crashed, Death
from recorded import Recorded
from test_resuming import PLAIN, world_of
from test_tampering import place_of_failure
from typer.testing import CliRunner

from fed_em_protocols.transcript.canonical_json import canonical_json
from fed_em_server.audit.verify import verify
from fed_em_server.checkpoints.store import CheckpointStore, SessionRow
from fed_em_server.serve import open_server
from fed_em_server.transcript_folder import read_transcript
from fed_em_simulations.command_line import app


@cache
def restarted() -> Recorded:
    """A session whose server died with a round in progress: one restart in its transcript."""
    with TemporaryDirectory() as folder:
        world = world_of(Path(folder), PLAIN)
        with pytest.raises(Crashed):
            world.process(Death("after commit", 10))
        world.links_break()
        world.process()
        configuration = world.federation.server
        files = read_transcript(configuration.output)
        return Recorded(files, world.federation.roster, {}, open_server(configuration).keys.identity)


def with_line(number: int, **changes: object) -> list[bytes]:
    lines = [*restarted().lines]
    lines[number] = canonical_json(json.loads(lines[number]) | changes)
    return lines


def the_restart() -> int:
    kinds = [json.loads(line)["kind"] for line in restarted().lines]
    assert kinds.count("restarted") == 1
    return kinds.index("restarted")


def test_it_holds_and_says_so() -> None:
    whole = restarted()
    found = verify(whole.files, whole.roster)
    assert found.passed and found.session is not None
    assert found.session.tally.restarts == 1
    assert [
        attempt.outcome.interrupted for attempt in found.session.attempts if not hasattr(attempt.outcome, "vector")
    ] == [True]  # type: ignore[union-attr]


def test_its_round_is_the_last_and_its_time_is_free() -> None:
    whole, place = restarted(), the_restart()
    number = json.loads(whole.lines[place])["round"]
    found = place_of_failure(whole.signed_anew(with_line(place, round=number + 1)), whole)
    assert (found.line, found.field) == (place, "round")
    files = whole.signed_anew(with_line(place, time="2020-01-01T00:00:00+00:00"))
    assert verify(files, whole.roster).passed


def test_it_can_neither_be_left_out_nor_added() -> None:
    whole, place = restarted(), the_restart()
    without = whole.lines[:place] + whole.lines[place + 1 :]
    found = place_of_failure(whole.signed_anew(without), whole)
    assert found.line is not None and found.line >= place
    doubled = [*whole.lines[: place + 1], *whole.lines[place:]]
    assert verify(whole.signed_anew(doubled), whole.roster).passed, (
        "a server may say that it died where nothing followed"
    )
    last = json.loads(whole.lines[-1])["kind"]
    assert last == "closed"
    behind = [*whole.lines[:-1], whole.lines[place], whole.lines[-1]]
    assert place_of_failure(whole.signed_anew(behind), whole).line == len(whole.lines) - 1


def test_a_transcript_of_format_1_has_none() -> None:
    whole, place = restarted(), the_restart()
    found = place_of_failure(whole.signed_anew(with_line(0, format=1)), whole)
    assert found.line == place


def test_audit_verify_reads_the_transcript_of_the_session_and_not_the_orphan_of_a_server_that_died_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that dies before the store has its session leaves a transcript that is of none; the next has a folder of its own."""
    world = world_of(tmp_path, PLAIN)

    def dies(_: CheckpointStore, __: SessionRow) -> None:
        raise Crashed

    with monkeypatch.context() as dying:
        dying.setattr(CheckpointStore, "begin", dies)
        with pytest.raises(Crashed):
            world.process()
    world.links_break()
    outcome = world.process()
    output, roster = world.federation.server.output, world.federation.server.roster
    assert (output / "transcript" / "entries.jsonl").exists() and (output / "transcript-2" / "entries.jsonl").exists()
    done = CliRunner().invoke(app, ["audit", "verify", str(output), "--roster", str(roster), "--json"])
    assert done.exit_code == 0, done.output
    found = world.verified().session
    assert found is not None and found.terms.content.session.hex() == outcome.record.session
    orphan = CliRunner().invoke(app, ["audit", "verify", str(output / "transcript"), "--roster", str(roster)])
    assert orphan.exit_code != 0, "which can be named by itself"
