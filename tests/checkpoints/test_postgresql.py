"""Checkpoints in PostgreSQL: against a real server, on a Unix socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgresql_server import PostgreSQL
from processes import Death, World
from small_federation import clustered_rows, write_small_federation
from test_checkpoint_store import row
from test_resuming import PLAIN, POLICY, SIZES, assert_it_ended_well

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_server.checkpoints.store import Changes, CheckpointStore, checkpoint_url
from fed_em_server.serve import open_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database(program: Callable[[str], Path]) -> Iterator[str]:
    """The URL of a server that is gone with the tests."""
    with PostgreSQL(program) as server:
        yield server.url


def test_a_session_goes_on_from_it_after_every_death(database: str, tmp_path: Path) -> None:
    world = World.of(write_small_federation(tmp_path / "f", clustered_rows(SIZES), PLAIN, policy=POLICY))
    world.url = database
    outcome = world.until_it_ends(lambda number: Death("after commit", 2 * number + 3))
    assert world.processes > 2
    assert_it_ended_well(world, outcome, PLAIN)
    assert not (world.federation.server.output / "checkpoints.sqlite").exists()


def test_one_place_has_one_server_and_the_newest_process_alone_adds(database: str) -> None:
    url = checkpoint_url(database)
    with CheckpointStore(url, "one") as store:
        with pytest.raises(CallerError, match=r"another server uses the sessions of one in .*fed:"):
            CheckpointStore(url, "one")
        with CheckpointStore(url, "two") as other:
            store.begin(row("a1"))
            assert other.unfinished() is None
        store.commit("a1", 1, Changes({"life": 2}))
        with pytest.raises(EnvironmentFault, match="another server goes on with session a1"):
            store.commit("a1", 1, Changes({"entries": 5}))
    with CheckpointStore(url, "one") as store:
        found = store.unfinished()
        assert found is not None and (found.life, found.entries) == (2, 1)


def test_the_sessions_file_names_it_and_no_error_its_password(database: str, tmp_path: Path) -> None:
    table = f'\n[checkpoints]\nurl = "{database}"\n'
    federation = write_small_federation(tmp_path / "f", clustered_rows(SIZES), PLAIN + table, policy=POLICY)
    server = open_server(federation.server)
    assert "secret" not in repr(server.configuration)
    with server.checkpoints(), pytest.raises(CallerError) as locked:
        server.checkpoints()
    said = locked.value.diagnostics()
    assert str(server.configuration.output.resolve()) in said and "secret" not in said and "fed:***@" in said
