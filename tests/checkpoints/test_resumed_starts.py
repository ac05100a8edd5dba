"""A server that dies behind a round of starts that a tenant could not compute: the next process leaves out the same starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from processes import World
from small_federation import clustered_rows, session_toml, write_small_federation
from test_optimised_session import OVERLAPPING
from test_resumed_leaps import of_two_processes

from fed_em.errors import CallerError
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.masks import RingVector
from fed_em_protocols.tenant_state import Evaluate
from fed_em_server.session import SessionOutcome

# Of Lloyd's algorithm, and of EM.
FAILING = (4, 12)


@pytest.fixture(scope="module", autouse=True)
def failing_starts() -> Iterator[None]:
    """Tenant 1 of three cannot compute its statistics in two rounds of starts."""
    evaluate = RowsWork.evaluate

    def at(work: RowsWork, asked: Evaluate) -> RingVector:
        if work._index == 1 and asked.round in FAILING:
            raise CallerError("the covariance of component 2 is singular on these rows")
        return evaluate(work, asked)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RowsWork, "evaluate", at)
        yield


def three(folder: Path) -> World:
    fit = "tolerance = 1e-4\nmax_iterations = 3\nstarts = 4\ntracks = 2"
    session = session_toml(OVERLAPPING, fit, optimiser="lbfgs", start="")
    return World.of(write_small_federation(folder, clustered_rows((60, 50, 70)), session))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, failing_starts: None) -> SessionOutcome:
    return three(tmp_path_factory.mktemp("undisturbed") / "f").process()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failing", "at", "once"),
    [
        (FAILING[0], "after commit", NoticeKind.SUMMED),
        (FAILING[0], "before commit", NoticeKind.NOT_COMPUTED),
        (FAILING[1], "after commit", NoticeKind.SUMMED),
        (FAILING[1], "before commit", NoticeKind.NOT_COMPUTED),
        # The round that is under way is taken again, under the next number.
        (FAILING[1], "listening", NoticeKind.NOT_COMPUTED),
    ],
)
def test_the_next_process_leaves_out_the_same_starts(
    tmp_path: Path,
    undisturbed: SessionOutcome,
    failing: int,
    at: Literal["before commit", "after commit", "listening"],
    once: NoticeKind,
) -> None:
    world = three(tmp_path / "f")
    outcome = of_two_processes(world, at, once, failing)
    assert [each.left_out for each in outcome.record.start_rounds] == [
        each.left_out for each in undisturbed.record.start_rounds
    ]
    assert {each.left_out for each in undisturbed.record.start_rounds} == {0, 2, 3}
    assert outcome.fitted.parameters.distance(undisturbed.fitted.parameters) == 0.0
    assert world.verified().passed
