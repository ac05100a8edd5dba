"""Default, private, gated, semi-honest sessions, one with checkpoints in PostgreSQL: their parties are killed at steps of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harm import Fault, fault_at, kills
from harness import KILLED, STOPPED, Chaos, at_once
from oracle import PATIENT, assert_it_ended_right, federation_of
from postgresql_server import PostgreSQL
from session_kinds import DEFAULT, GATED, PLAIN, PRIVATE, SEMI_HONEST, in_database

from fed_em.starts import ROUNDS
from fed_em_protocols.errors import SERVER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("chaos of kinds")]

# Each life comes a step farther into rounds that tenants have paid for. The last is over, and lacks its report.
PAID = (
    "after receive Upload 4",
    "before commit 4",
    "after receive Opening",
    "before commit 6",
    "after commit 6",
    "before report",
)
# Counts and moments are a pair: it dies in either, and between.
PAIRED = ("before send Header", "after receive Upload 4", "before commit 6", "after receive Upload 6", "after commit 9")
# There is no proposal, no endorsement and no certificate.
TRUSTING = (
    "after begin",
    "before commit 3",
    "after receive Upload 4",
    "before commit 4",
    "after commit 4",
    "before record",
)
# In a round of starts, of models to pick from, of two tracks, and of the one sum of standard errors.
BY_DEFAULT = (
    "after receive Upload 30",
    "after receive Upload 55",
    "before commit 15",
    "after commit 13",
    "before report",
)
# A tenant is charged, draws noise, marks the round and sends, and dies in between.
SPENDING = ("after ledger 2", "after mark round", "after send Upload", "before ledger")


def patiently(session: str) -> str:
    """Nobody is ever late, and whoever was killed is waited for."""
    table = session[session.index("[times]") : session.index("[model]")]
    return session.replace(table, f"[times]\n{PATIENT}\n")


def a_private_session_spends_what_it_says(folder: Path) -> None:
    session = patiently(PRIVATE.replace("max_iterations = 11", "max_iterations = 4"))
    federation = federation_of(folder, session)
    account = Chaos(federation, {SERVER: kills(PAID)}, patience=30).run(800)
    assert [life.status for life in account.lives_of(SERVER)] == [KILLED] * len(PAID) + [0], account.told()
    record = assert_it_ended_right(federation, account, session)
    assert len(account.uploaded["t0"]) > len(record.rounds), "and some of it on rounds that were lost"


def a_private_tenant_killed_while_it_spends_spends_no_more(folder: Path) -> None:
    """It comes back if the others are not done by then."""
    session = PRIVATE.replace("max_iterations = 11", "max_iterations = 40")
    federation = federation_of(folder, session)
    account = Chaos(federation, {"t1": kills(SPENDING)}, patience=30).run(800)
    assert account.struck["t1"], account.told()
    lacks = account.last("t1").status != 0
    assert_it_ended_right(federation, account, session, without=("t1",) if lacks else ())


def a_gated_session_comes_to_the_same_model(folder: Path) -> None:
    session = patiently(GATED.replace("max_iterations = 6", "max_iterations = 4"))
    federation = federation_of(folder, session)
    account = Chaos(federation, {SERVER: kills(PAIRED)}, patience=30).run(800)
    assert [life.status for life in account.lives_of(SERVER)] == [KILLED] * len(PAIRED) + [0], account.told()
    record = assert_it_ended_right(federation, account, session)
    assert all(each.complete and each.counted for each in record.rounds)


def a_semi_honest_session_comes_to_the_same_model(folder: Path) -> None:
    session = patiently(SEMI_HONEST.replace("max_iterations = 11", "max_iterations = 5"))
    federation = federation_of(folder, session)
    account = Chaos(federation, {SERVER: kills(TRUSTING)}, patience=30).run(800)
    assert [life.status for life in account.lives_of(SERVER)] == [KILLED] * len(TRUSTING) + [0], account.told()
    record = assert_it_ended_right(federation, account, session)
    assert all(each.complete for each in record.rounds)


def a_session_as_they_are_by_default_comes_to_the_same_model(folder: Path) -> None:
    """Of several starts, picked by BIC, on two tracks, with standard errors."""
    session = patiently(DEFAULT)
    federation = federation_of(folder, session)
    assert federation.server.description.tracks == 2
    account = Chaos(federation, {SERVER: kills(BY_DEFAULT)}, patience=30).run(800)
    assert [life.status for life in account.lives_of(SERVER)] == [KILLED] * len(BY_DEFAULT) + [0], account.told()
    record = assert_it_ended_right(federation, account, session)
    assert len(record.start_rounds) == ROUNDS and record.selection is not None and record.standard_errors is not None
    assert all(each.complete for each in record.rounds)


def checkpoints_in_a_database_that_crashes_lose_nothing(folder: Path, database: PostgreSQL) -> None:
    """The server is killed; then the database is, twice, and the server with it: it stops, and goes on when there is one again."""
    session = patiently(in_database(database.url, PLAIN.replace("max_iterations = 11", "max_iterations = 5")))
    federation = federation_of(folder, session)
    crashes = [(Fault(place, 3, "tell", 0.0, "down database 2"),) for place in ("before commit", "before send Header")]
    faults = [(fault_at("before commit 6"),), *crashes, (fault_at("after commit 6"),)]
    account = Chaos(federation, {SERVER: faults}, patience=30, database=database).run(800)
    statuses = [life.status for life in account.lives_of(SERVER)]
    assert statuses[0] == KILLED and statuses.count(STOPPED) >= 2 and statuses[-1] == 0, account.told()
    record = assert_it_ended_right(federation, account, session)
    assert all(each.complete for each in record.rounds)
    assert not (federation.server.output / "checkpoints.sqlite").exists()
    assert "secret" not in account.told()


RUNS = at_once(
    a_private_session_spends_what_it_says,
    a_private_tenant_killed_while_it_spends_spends_no_more,
    a_gated_session_comes_to_the_same_model,
    a_semi_honest_session_comes_to_the_same_model,
    a_session_as_they_are_by_default_comes_to_the_same_model,
)


@pytest.mark.parametrize("name", RUNS)
def test_run(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    RUNS.outcome(name, tmp_path_factory)


def test_checkpoints_in_a_database_that_crashes_lose_nothing(program: Callable[[str], Path], tmp_path: Path) -> None:
    with PostgreSQL(program) as database:
        checkpoints_in_a_database_that_crashes_lose_nothing(tmp_path, database)
