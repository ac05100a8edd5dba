"""kill -9 of either side at every step of the protocol."""

from __future__ import annotations

from pathlib import Path

import pytest
from harm import kills
from harness import KILLED, STOPPED, Chaos, at_once
from oracle import CONVERGING, STEADY, assert_clear, assert_it_ended_right, federation_of
from steps import SERVER_STEPS, TENANT_LAST_STEPS, TENANT_STEPS

from fed_em_protocols.errors import SERVER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("chaos of kills")]


def a_server_killed_at_every_step_comes_to_the_same_model(folder: Path) -> None:
    """One session, and a death at each of them in turn."""
    federation = federation_of(folder)
    account = Chaos(federation, {SERVER: kills(SERVER_STEPS)}, patience=30).run(800)
    assert [life.status for life in account.lives_of(SERVER)] == [KILLED] * len(SERVER_STEPS) + [0], account.told()
    assert_it_ended_right(federation, account, STEADY)


def tenants_killed_at_every_step_are_in_the_last_sums(folder: Path) -> None:
    """One tenant, as a second would leave too few for a sum."""
    federation = federation_of(folder, CONVERGING)
    account = Chaos(federation, {"t1": kills(TENANT_STEPS)}, patience=30).run(800)
    assert len(account.struck["t1"]) == len(TENANT_STEPS), account.told()
    assert_it_ended_right(federation, account, CONVERGING)


def tenants_killed_at_the_end_say_where_the_model_is(folder: Path) -> None:
    """Three of them, each at a step of its own."""
    federation = federation_of(folder)
    struck = dict(zip(("t0", "t1", "t2"), TENANT_LAST_STEPS, strict=True))
    account = Chaos(federation, {name: kills([step]) for name, step in struck.items()}, patience=3).run(800)
    for name in struck:
        # On a busy machine it may end while the server is still at its report, and is started, and ends, again.
        first, *others = [life.status for life in account.lives_of(name)]
        assert first == KILLED and set(others) == {STOPPED}, account.told()
        assert_clear(account.last(name).said, "no link to the server", "its operator has the model")
    assert_it_ended_right(federation, account, STEADY, without=tuple(struck))


RUNS = at_once(
    a_server_killed_at_every_step_comes_to_the_same_model,
    tenants_killed_at_every_step_are_in_the_last_sums,
    tenants_killed_at_the_end_say_where_the_model_is,
)


@pytest.mark.parametrize("name", RUNS)
def test_run(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    RUNS.outcome(name, tmp_path_factory)
