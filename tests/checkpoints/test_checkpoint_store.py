"""The store: what comes back from it, who may write it, and what it says when it cannot."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from processes import Crashed, Death, World
from small_federation import clustered_rows, write_small_federation
from sqlalchemy.engine import make_url
from test_resuming import PLAIN, POLICY, SIZES

import fed_em_server.checkpoints.store as store_module
from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.checks import Finding
from fed_em_protocols.coordinator_state import CoordinatorStep, SumRequest, Unresolved
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.envelope import unseal
from fed_em_protocols.kept_state import KeptState, kept_of, state_from
from fed_em_protocols.messages import Opening, Payload, Shares, Upload
from fed_em_protocols.ring import RING_64
from fed_em_protocols.roster import load_roster
from fed_em_server.checkpoints.resumable_sum import ResumableSum
from fed_em_server.checkpoints.session_checkpoint import SessionCheckpoint, request_digest
from fed_em_server.checkpoints.state_lines import state_from_json, state_to_json, total_to_json
from fed_em_server.checkpoints.store import (
    RUNNING,
    AttemptRow,
    Changes,
    CheckpointStore,
    SessionRow,
    checkpoint_url,
)
from fed_em_server.server_doctor import examine_server
from fed_em_simulations.memory_hub import Fate, Passing

VERSION_1 = Path(__file__).parent / "version-1"
SECRET = "correct-horse"


def opened(folder: Path, place: str = "") -> CheckpointStore:
    return CheckpointStore(checkpoint_url(f"sqlite:///{folder / 'c.sqlite'}"), place)


def row(session: str = "aa", began: str = "2026-01-01") -> SessionRow:
    return SessionRow(session, RUNNING, 1, began, "{}", "transcript", 1, "{}", "{}")


def test_a_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.unfinished() is None
        store.begin(row())
        attempts = {0: AttemptRow(b"a" * 32, "{}"), 1: AttemptRow(b"b" * 32, "{1}", b"\x00\xffvector")}
        store.commit("aa", 1, Changes({"state": "{2}", "entries": 7, "total": "t"}, attempts, {0: "x", 1: "y"}))
        store.commit("aa", 1, Changes({"entries": 8}, {2: AttemptRow(b"c" * 32, "{3}", b"")}, {2: "z"}))
    with opened(tmp_path) as store:
        found = store.unfinished()
        assert found == replace(
            row(),
            state="{2}",
            entries=8,
            total="t",
            attempts=(*attempts.values(), AttemptRow(b"c" * 32, "{3}", b"")),
            lines=("x", "y", "z"),
        )


def test_only_the_newest_process_of_a_session_may_add_to_it(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.begin(row())
        store.commit("aa", 1, Changes({"life": 2}))
        with pytest.raises(EnvironmentFault, match="another server goes on with session aa"):
            store.commit("aa", 1, Changes({"entries": 2}, {0: AttemptRow(b"", "{}")}))
        found = store.unfinished()
        assert found is not None and (found.entries, found.attempts) == (1, ()), "nothing of it was kept"


def test_two_servers_cannot_open_one_store(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(CallerError, match=r"another server uses .*c\.sqlite"):
        opened(tmp_path)
    with opened(tmp_path) as store:
        assert store.unfinished() is None


def test_sessions_of_other_places_and_those_that_are_over_are_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path, "one") as store:
        store.begin(row("aa", "2026-01-01"))
        store.begin(row("bb", "2026-01-02"))
        store.commit("bb", 1, Changes({"status": "finished"}))
        found = store.unfinished()
        assert found is not None and found.session == "aa"
    with opened(tmp_path, "another") as store:
        assert store.unfinished() is None


def test_each_commit_reaches_the_disk(tmp_path: Path) -> None:
    with opened(tmp_path) as store, store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL


def test_a_store_of_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(store_module, "FORMAT", 2)
        opened(tmp_path).__exit__(None, None, None)
    with pytest.raises(CallerError, match=r"format 2, and this version of fed-em knows 1"):
        opened(tmp_path)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_bytes(b"something else entirely" * 100)
    with pytest.raises(EnvironmentFault, match=r"c\.sqlite cannot be read or written: file is not a database"):
        opened(tmp_path)


def test_what_is_no_database_url_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (f"postgresql://u:{SECRET}@host:port/x", f"mysql://u:{SECRET}@host/x", "sqlite://", SECRET):
        with pytest.raises(CallerError) as refused:
            checkpoint_url(url)
        assert SECRET not in refused.value.diagnostics() and "postgresql+psycopg" in refused.value.diagnostics()
    assert checkpoint_url("postgresql://u@host/x").drivername == "postgresql+psycopg"
    monkeypatch.setattr(store_module, "find_spec", lambda _: None)
    with pytest.raises(CallerError, match=r"pip install 'fed-em\[postgresql\]'"):
        checkpoint_url("postgresql+psycopg://u@host/x")


def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    url = make_url(f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/x?connect_timeout=2")
    with pytest.raises(EnvironmentFault, match=r"u:\*\*\*@127\.0\.0\.1:1/x") as refused:
        CheckpointStore(url, "here")
    assert SECRET not in refused.value.diagnostics() and refused.value.__cause__ is None


class _States(ResumableSum):
    seen: list[KeptState]

    def _keep(self, step: CoordinatorStep) -> None:
        super()._keep(step)
        kept = kept_of(step.state)
        total = None if kept.total is None else total_to_json(kept.total)
        # As in sparse graphs, and between two windows of which the later one closes a round of the earlier.
        kept = replace(kept, excused=frozenset({1, 3}), draws=2)
        if kept.unresolved is not None:
            endorsed = replace(kept.unresolved.outcome, endorsements={2: bytes(64), 0: b"\1" * 64})
            closed = Unresolved(kept.unresolved.header, endorsed)
            kept = replace(kept, previous=replace(kept.previous, closed=closed))
        again = state_from_json(state_to_json(kept), total)
        assert again == kept
        assert state_to_json(again) == state_to_json(kept)
        if kept.total is not None and again.total is not None:
            np.testing.assert_array_equal(again.total.vector, kept.total.vector)
            assert again.total.vector.dtype == kept.total.vector.dtype
            assert total_to_json(again.total) == total
            assert again.total.digest == kept.total.digest and again.total.contexts == kept.total.contexts
        assert kept_of(state_from(replace(step.state, round=None), again)).is_as(again)
        _States.seen.append(kept)


def test_every_state_of_a_session_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _States.seen = []
    monkeypatch.setattr("fed_em_server.session.ResumableSum", _States)
    world = World.of(write_small_federation(tmp_path / "f", clustered_rows(SIZES), PLAIN, policy=POLICY))
    world.until_it_ends(lambda number: Death("after commit", 0 if number == 3 else 7 * number + 7))
    assert {kept.previous.certificate is None for kept in _States.seen} == {True, False}
    assert {kept.unresolved is None for kept in _States.seen} == {True, False}
    assert {kept.total is None for kept in _States.seen} == {True, False}


def test_requests_differ_by_all_that_a_sum_follows_from() -> None:
    one = SumRequest(b"parameters", b"e" * 32, 10)
    others = [
        replace(one, parameters=b"others"), replace(one, encoding=b"f" * 32), replace(one, length=11),
        replace(one, whole=True), replace(one, counts=True), replace(one, held=b"\x01"), replace(one, ring=RING_64.for_counts),
    ]  # fmt: skip
    assert len({request_digest(each) for each in (one, *others)}) == 1 + len(others)


def test_a_session_commits_four_times_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the round begins, its outcome is fixed, it is certified, and its sum is there; and not at each message."""
    commits: list[frozenset[str]] = []
    commit = CheckpointStore.commit

    def counted(self: CheckpointStore, session: str, life: int, changes: Changes) -> None:
        commits.append(frozenset(changes.columns))
        commit(self, session, life, changes)

    monkeypatch.setattr(CheckpointStore, "commit", counted)
    federation = write_small_federation(tmp_path / "f", clustered_rows(SIZES), PLAIN, policy=POLICY)
    outcome = World.of(federation).process()
    assert len(commits) == 1 + 4 * len(outcome.record.rounds) + 2, "one window before, the close and the end behind"
    assert sum("total" in columns for columns in commits) == len(outcome.record.rounds)


def test_no_upload_no_opening_and_no_key_is_in_the_store(tmp_path: Path) -> None:
    seen: list[Payload] = []
    vectors: list[bytes] = []

    def listen(passing: Passing) -> Fate:
        sealed = unseal(passing.data, "")
        seen.append(sealed.content)
        vectors.append(sealed.attachment if isinstance(sealed.content, Upload) else b"")
        return Fate.DELIVER

    federation = write_small_federation(tmp_path / "f", clustered_rows(SIZES), PLAIN, policy=POLICY)
    World.of(federation, listen).process()
    data = (federation.server.output / "checkpoints.sqlite").read_bytes()
    secrets = [vector[:60] for vector in vectors if vector]
    secrets += [content.self_seed for content in seen if isinstance(content, Opening)]
    secrets += [each.share for content in seen if isinstance(content, Shares) for each in content.released]
    secrets += [path.read_bytes()[:60] for path in (federation.folder / "server" / "keys").iterdir()]
    assert len(secrets) > 30
    for secret in secrets:
        assert secret not in data and secret.hex().encode() not in data
        # Wherever base64 begins, one of three ways to cut the bytes is how it is written.
        assert not any(base64.b64encode(secret[k : k + 3 * ((len(secret) - k) // 3)]) in data for k in range(3))


def test_a_store_of_version_1_stays_readable(tmp_path: Path) -> None:
    """It was written by `make_version_1.py`: a session whose server died with the outcome of round 4 before the witnesses."""
    shutil.copy(VERSION_1 / "checkpoints.sqlite", tmp_path / "c.sqlite")
    known = json.loads((VERSION_1 / "kept.json").read_text())
    roster = load_roster(VERSION_1 / "roster.json")
    with opened(tmp_path, "here") as store:
        found = store.unfinished()
        assert found is not None and found.session == known["session"]
        checkpoint = SessionCheckpoint(store, found)
    terms = unseal(checkpoint.plan.terms, "server")
    terms.require_signature(roster.server.identity_key, "server")
    assert SessionDescription.from_json(terms.attachment).title == "small"
    assert [row.vector and row.vector.hex() for row in found.attempts] == known["vectors"]
    kept = state_from_json(found.state, found.total)
    assert kept.last_round == checkpoint.last_round == known["last_round"] == 4
    assert kept.unresolved is not None and kept.unresolved.outcome.survivors == frozenset(range(4))
    kept.unresolved.header.require_signature(roster.server.identity_key, "server")
    assert kept.total is not None and kept.total.vector.tobytes().hex() == known["vectors"][-1]
    assert [line.opened.round for line in checkpoint.lines if line.opened is not None] == [1, 2, 3]
    assert checkpoint.record is not None and checkpoint.record.asked == ("t0", "t1", "t2", "t3")


def test_doctor_says_where_they_are_and_whether_a_session_waits(tmp_path: Path) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows(SIZES), PLAIN, policy=POLICY)

    def said() -> Finding:
        return next(
            each for each in examine_server(federation.session_file, datetime.now(UTC)) if each.what == "checkpoints"
        )

    assert "none yet" in said().detail
    with pytest.raises(Crashed):
        World.of(federation).process(Death("after commit", 3))
    database = federation.server.output / "checkpoints.sqlite"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE fed_em_sessions SET place = ''")
        (session,) = connection.execute("SELECT session FROM fed_em_sessions").fetchone()
    assert f"session {session} waits to go on" in said().detail
    with CheckpointStore(checkpoint_url(f"sqlite:///{database}"), ""):
        assert "a running server uses" in said().detail
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO fed_em_checkpoints VALUES (9)")
    assert said().failed and "format 9" in said().detail
