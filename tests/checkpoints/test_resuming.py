"""Whenever the server's process ends, the next one comes to the same parameters, bit for bit, and signs nothing twice."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from processes import Death, World
from small_federation import clustered_rows, session_toml, write_small_federation

from fed_em.parameters import Parameters
from fed_em_server.audit.verify import Verdict
from fed_em_server.session import SessionOutcome

SIZES = (30, 25, 20, 35)
TRUST = 'difference_guard = "off"\ncolluders = 0\nminimum_survivors = 3'
POLICY = 'difference_guard = "off"\ncolluders = 0'
PLAIN = session_toml(fit="max_iterations = 3", trust=TRUST)
GATED = session_toml(fit="max_iterations = 2", trust=TRUST + "\nmass_floor = 5")
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


@pytest.mark.parametrize("at", ["before commit", "after commit"])
def test_a_process_may_die_at_whatever_it_keeps(tmp_path: Path, at: str) -> None:
    """The p-th process dies at its p-th commit, so that each makes a little more way than the one before."""
    world = world_of(tmp_path, PLAIN)
    outcome = world.until_it_ends(lambda number: Death(at, number + 1))  # type: ignore[arg-type]
    assert world.processes > 8
    assert_it_ended_well(world, outcome, PLAIN)


@pytest.mark.slow
@pytest.mark.parametrize("session", [PLAIN, GATED, RICH], ids=["plain", "gated", "rich"])
def test_a_process_may_die_at_any_step(tmp_path: Path, session: str) -> None:
    number, over = 0, False
    while not over:
        number += 1
        world = world_of(tmp_path / str(number), session)
        outcome = world.until_it_ends(lambda process, at=number: Death("listening", 0 if process else at))  # type: ignore[misc]
        assert_it_ended_well(world, outcome, session)
        over = world.processes == 1
    assert number > 20
