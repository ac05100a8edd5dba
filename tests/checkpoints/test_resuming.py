"""Whenever the server's process ends, the next one comes to the same parameters, bit for bit, and signs nothing twice."""

from __future__ import annotations

import json
import sqlite3
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from processes import Crashed, Death, World
from small_federation import clustered_rows, session_toml, write_small_federation

from fed_em.errors import CallerError, CollapsedComponent, EnvironmentFault
from fed_em.parameters import Parameters
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.envelope import unseal
from fed_em_protocols.errors import OutOfTurn, SumFailed
from fed_em_protocols.limits import PROTOCOL_VERSION
from fed_em_protocols.messages import Header
from fed_em_server.audit.verify import Verdict
from fed_em_server.checkpoints.resumable_sum import SessionPaused
from fed_em_server.session import SessionOutcome
from fed_em_simulations.command_line import _report
from fed_em_simulations.memory_hub import Fate, Passing

SIZES = (30, 25, 20, 35)
TRUST = 'difference_guard = "off"\ncolluders = 0\nminimum_survivors = 3'
POLICY = 'difference_guard = "off"\ncolluders = 0\nallow_semi_honest = true'
PLAIN = session_toml(fit="max_iterations = 3", trust=TRUST)
TRUSTING = session_toml(fit="max_iterations = 3", trust=TRUST + '\nmode = "semi-honest"')
GATED = session_toml(fit="max_iterations = 2", trust=TRUST + "\nmass_floor = 5")
STREAMED = session_toml(
    model='family = "gaussian-mixture"\nn_components = 3\ncovariance = "full"\n[stream]\nbatches = 3\nstep_size = 0.5',
    fit="max_iterations = 4",
    trust=TRUST,
)
RICH = session_toml(
    fit="max_iterations = 5\nstandard_errors = true",
    optimiser="lbfgs",
    start="starts = 2",
    trust=TRUST,
    model='family = "gaussian-mixture"\ncovariance = "full"\n[selection]\ncomponents = [1, 2]\nmax_iterations = 3',
)


def world_of(folder: Path, session: str) -> World:
    return World.of(write_small_federation(folder / "f", clustered_rows(SIZES), session, policy=POLICY))


@cache
def undisturbed(session: str) -> SessionOutcome:
    with TemporaryDirectory() as folder:
        return world_of(Path(folder), session).process()


def assert_same(parameters: Parameters, session: str) -> None:
    expected = undisturbed(session).fitted.parameters
    assert set(parameters) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(parameters[name], expected[name])


def assert_it_ended_well(world: World, outcome: SessionOutcome, session: str) -> None:
    assert_same(outcome.fitted.parameters, session)
    errors = {name: error for k, name in enumerate(world.federation.tenant_files) if (error := world.hub.error_of(k))}
    assert not errors, "tenants rejoin by themselves, and accuse nobody"
    found = world.verified()
    assert found.passed, [check for check in found.checks if check.verdict is Verdict.FAILED]
    assert [each.round for each in outcome.record.rounds] == sorted({each.round for each in outcome.record.rounds})
    seen = [(each.iteration, each.log_likelihood) for each in outcome.record.rounds]
    assert seen == [(each.iteration, each.log_likelihood) for each in undisturbed(session).record.rounds]
    for k in range(len(SIZES)):
        closed = world.hub.session_of(k)
        assert closed is None or closed.closed is not None, "everybody is told of the end"


@pytest.mark.parametrize(
    ("at", "session"), [("before commit", PLAIN), ("after commit", PLAIN), ("after commit", TRUSTING)]
)
def test_a_process_may_die_at_whatever_it_keeps(tmp_path: Path, at: str, session: str) -> None:
    """The p-th process dies at its p-th commit, so that each makes a little more way than the one before."""
    world = world_of(tmp_path, session)
    outcome = world.until_it_ends(lambda number: Death(at, number + 1))  # type: ignore[arg-type]
    assert world.processes > 8
    assert_it_ended_well(world, outcome, session)


# Each round takes twelve messages of four tenants, so that strides without a common divisor come to every place in one.
@pytest.mark.slow
@pytest.mark.parametrize(("session", "stride"), [(PLAIN, 5), (GATED, 7), (RICH, 61)], ids=["plain", "gated", "rich"])
def test_a_process_may_die_at_any_step(tmp_path: Path, session: str, stride: int) -> None:
    number, over = 1, False
    while not over:
        world = world_of(tmp_path / str(number), session)
        outcome = world.until_it_ends(lambda process, at=number: Death("listening", 0 if process else at))  # type: ignore[misc]
        assert_it_ended_well(world, outcome, session)
        number, over = number + stride, world.processes == 1
    assert number > 5 * stride


def test_a_stream_goes_on_with_the_minibatch_that_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever number its round has then: so it comes to the model of a session that nothing disturbed."""
    # Else each session draws its own minibatches, and there were nothing to compare.
    monkeypatch.setattr(RowsWork, "_own_key", lambda work, label: f"{label} of {work._index}".encode())
    world = world_of(tmp_path, STREAMED)
    outcome = world.until_it_ends(lambda number: Death("listening", 9 * number + 20))
    assert world.processes > 3
    rounds = [each.round for each in outcome.record.rounds]
    assert len(rounds) == 5 < rounds[-1], "some rounds were lost"
    assert_it_ended_well(world, outcome, STREAMED)


def died_after(world: World, commits: int) -> None:
    with pytest.raises(Crashed):
        world.process(Death("after commit", commits))
    world.links_break()


def test_the_record_and_the_watchers_have_the_rounds_of_all_processes(tmp_path: Path) -> None:
    world = world_of(tmp_path, PLAIN)
    died_after(world, 12)
    before = [notice.round for notice in world.watcher.notices if notice.kind is NoticeKind.SUMMED]
    assert len(before) >= 2
    outcome = world.process()
    assert_it_ended_well(world, outcome, PLAIN)
    kinds = [happening.kind for happening in outcome.record.happenings]
    assert kinds.count("restarted") == 1
    assert kinds.index("joined") < kinds.index("restarted") < len(kinds) - kinds[::-1].index("joined")
    assert {opened.round for opened in world.watcher.rounds} == {each.round for each in outcome.record.rounds}
    assert set(before) <= {each.round for each in outcome.record.rounds}
    assert all(each.complete and each.seconds >= 0 and each.bytes_up > 0 for each in outcome.record.rounds)
    restarts = next(check.said for check in world.verified().checks if check.name == "restarts")
    assert "in another process once" in restarts


def test_a_line_that_was_half_written_is_cut_off(tmp_path: Path) -> None:
    world = world_of(tmp_path, PLAIN)
    died_after(world, 6)
    for name in ("entries.jsonl", "checkpoints.jsonl"):
        with (world.federation.server.output / "transcript" / name).open("ab") as file:
            file.write(b'{"kind":"rou')
    assert_it_ended_well(world, world.process(), PLAIN)


def test_a_session_that_does_not_lead_to_its_requests_stops_and_stays(tmp_path: Path) -> None:
    """As on a machine whose arithmetic is another: no model comes of it, and nobody is told of an end."""
    world = world_of(tmp_path, PLAIN)
    died_after(world, 9)
    database = world.federation.server.output / "checkpoints.sqlite"
    with sqlite3.connect(database) as connection:
        kept = connection.execute("SELECT request FROM fed_em_attempts WHERE number = 1").fetchone()
        connection.execute("UPDATE fed_em_attempts SET request = ? WHERE number = 1", (bytes(32),))
    with pytest.raises(EnvironmentFault, match=r"does not come to what it came to before.*--new"):
        world.process()
    assert "Close" not in world.signed
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE fed_em_attempts SET request = ? WHERE number = 1", kept)
    assert_it_ended_well(world, world.process(), PLAIN)


def test_an_old_copy_of_the_store_is_refused(tmp_path: Path) -> None:
    """Its server would number rounds anew that tenants have seen."""
    world = world_of(tmp_path, PLAIN)
    died_after(world, 5)
    database = world.federation.server.output / "checkpoints.sqlite"
    old = database.read_bytes()
    died_after(world, 12)
    database.write_bytes(old)
    with pytest.raises(EnvironmentFault, match="never goes on from an old copy of its checkpoints"):
        world.process()


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("max_iterations = 3", "max_iterations = 4", r"\[fit\] max_iterations"),
        ('title = "small"', 'title = "another"', "title"),
        ("n_components = 3", "n_components = 2", "model"),
        ("minimum_survivors = 3", "minimum_survivors = 4", r"\[trust\] minimum_survivors"),
    ],
)
def test_a_plan_that_was_changed_is_named_with_two_ways_out(
    tmp_path: Path, before: str, after: str, named: str
) -> None:
    world = world_of(tmp_path, PLAIN)
    died_after(world, 2)
    file = world.federation.session_file
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    with pytest.raises(CallerError, match=rf"is not over \(round \d+\), and these have changed.*{named}.*--new"):
        world.process()
    file.write_text(text.replace("open = ", "open = 1"))  # times may change
    died_after(world, 2)


def test_an_abandoned_session_stays_in_the_store_and_another_begins(tmp_path: Path) -> None:
    world = world_of(tmp_path, PLAIN)
    died_after(world, 8)
    again = World.of(world.federation)  # the tenants' processes of the session before are gone
    outcome = again.process(new=True)
    assert_same(outcome.fitted.parameters, PLAIN)
    with sqlite3.connect(world.federation.server.output / "checkpoints.sqlite") as connection:
        sessions = connection.execute(
            "SELECT session, status, transcript FROM fed_em_sessions ORDER BY began"
        ).fetchall()
        kept = connection.execute("SELECT count(*) FROM fed_em_attempts WHERE session = ?", sessions[0][:1]).fetchone()
    assert [row[1:] for row in sessions] == [("abandoned", "transcript"), ("finished", "transcript-2")]
    assert sessions[1][0] == outcome.record.session
    assert kept[0] > 0


class TestPauses:
    """Too few are there: nothing fails, and nobody is told of an end."""

    def test_a_session_waits_for_those_it_cannot_do_without_and_then_goes_on(self, tmp_path: Path) -> None:
        world = self.world(tmp_path)
        with pytest.raises(SessionPaused, match=r"paused at round 3, waiting for t1 and t2: .*2 of 4") as paused:
            world.process()
        assert (paused.value.round, paused.value.tenants) == (3, ("t1", "t2"))
        assert "Close" not in world.signed
        with pytest.raises(SessionPaused, match="paused at round 3, waiting for t1 and t2"):
            world.process()  # they are still away
        for tenant in (1, 2):
            world.hub.let_back(tenant)
        assert_it_ended_well(world, world.process(), PLAIN)

    def test_the_command_says_so_with_a_status_of_its_own(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert _report(SessionPaused(7, ("ash", "elm"), "too few")) == 5
        said = capsys.readouterr().err
        assert "paused at round 7, waiting for ash and elm" in said and "start the server again to go on" in said

    def world(self, folder: Path) -> World:
        """Tenants 1 and 2 lose their links at the header of round 3, for long."""

        def fate(passing: Passing) -> Fate:
            content = unseal(passing.data, "").content
            held = passing.tenant in (1, 2) and isinstance(content, Header) and content.round == 3
            return Fate.HOLD if held else Fate.DELIVER

        federation = write_small_federation(folder / "f", clustered_rows(SIZES), PLAIN, policy=POLICY)
        return World.of(federation, fate)


def test_a_session_that_failed_is_over(tmp_path: Path) -> None:
    """A column that does not vary ends it, whichever process finds that; the next begins another."""
    rows = {name: table * [0.0, 1.0, 1.0] for name, table in clustered_rows(SIZES).items()}
    world = World.of(write_small_federation(tmp_path / "f", rows, PLAIN, policy=POLICY))
    with pytest.raises(CollapsedComponent):
        world.process()
    assert "Close" in world.signed
    with pytest.raises(CollapsedComponent):
        World.of(world.federation).process()
    with sqlite3.connect(world.federation.server.output / "checkpoints.sqlite") as connection:
        assert connection.execute("SELECT status FROM fed_em_sessions").fetchall() == [("failed",)] * 2


def test_a_tenant_of_an_abandoned_session_says_so_and_accuses_nobody_of_two_terms(tmp_path: Path) -> None:
    world = world_of(tmp_path, PLAIN)
    died_after(world, 8)
    with pytest.raises(SumFailed):
        world.process(new=True)  # nobody comes
    for tenant in range(len(SIZES)):
        error = world.hub.error_of(tenant)
        assert isinstance(error, OutOfTurn) and "began another session" in error.message


def test_another_roster_or_version_of_the_protocol_is_named(tmp_path: Path) -> None:
    world = world_of(tmp_path, PLAIN)
    died_after(world, 2)
    roster = world.federation.folder / "server" / "roster.json"
    before = roster.read_text()
    roster.write_text(world.federation.roster.model_copy(update={"version": 2}).to_json())
    with pytest.raises(CallerError, match=r"have changed since it began: the roster.*--new"):
        world.process()
    roster.write_text(before)
    with sqlite3.connect(world.federation.server.output / "checkpoints.sqlite") as connection:
        (plan,) = connection.execute("SELECT plan FROM fed_em_sessions").fetchone()
        older = json.dumps({**json.loads(plan), "protocol": PROTOCOL_VERSION - 1})
        connection.execute("UPDATE fed_em_sessions SET plan = ?", (older,))
    with pytest.raises(CallerError, match=rf"speaks version {PROTOCOL_VERSION - 1} of the protocol.*--new"):
        world.process()
