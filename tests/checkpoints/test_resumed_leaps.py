"""A server that dies right behind a leap that a tenant could not compute: the next process goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from processes import Death, World
from small_federation import session_toml, write_three_blocks
from test_dropouts import TIMES, Trouble, nine_tenants
from test_optimised_session import OVERLAPPING

from fed_em.errors import CallerError
from fed_em.lbfgs import WARM_UP
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.masks import RingVector
from fed_em_protocols.tenant_state import Evaluate
from fed_em_server.record import Participation
from fed_em_server.session import SessionOutcome
from fed_em_simulations.memory_hub import Fate

# Moments, warm-up, leap.
LEAP = 2 + WARM_UP + 1


@dataclass
class DeathBehind(Death):
    """Dies at the first commit, or wait, that `is_time`; and no other process after it."""

    is_time: Callable[[], bool] = lambda: False

    def comes(self, at: str) -> None:
        self.number = self.counted + 1 if at == self.at and self.is_time() else 0
        super().comes(at)


@pytest.fixture(scope="module", autouse=True)
def failing_leap() -> Iterator[None]:
    """Tenant 4 of nine cannot compute its statistics at the first leap."""
    evaluate = RowsWork.evaluate

    def at(work: RowsWork, asked: Evaluate) -> RingVector:
        if work._index == 4 and asked.round == LEAP and not asked.recall:
            raise CallerError("the covariance of component 2 is singular on these rows")
        return evaluate(work, asked)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RowsWork, "evaluate", at)
        yield


class LostOnce:
    """Behind the leap an upload of tenant 8 is lost with its link, so that its block's terms are those of the leap."""

    def __init__(self) -> None:
        self.lost = 0

    def __call__(self, tenant: int, number: int) -> Fate:
        if tenant != 8 or number <= LEAP or self.lost not in (0, number):
            return Fate.DELIVER
        self.lost = number
        return Fate.BREAK


def nine(folder: Path) -> World:
    session = session_toml(OVERLAPPING, "tracks = 1\ntolerance = 1e-4\nmax_iterations = 7", TIMES, optimiser="lbfgs")
    return World.of(write_three_blocks(folder, nine_tenants(), session), Trouble(LostOnce()))


def of_two_processes(
    world: World, at: Literal["before commit", "after commit", "listening"], once: NoticeKind, number: int
) -> SessionOutcome:
    """What comes of a session whose first process dies once it has told this of a round's sum."""

    def told() -> bool:
        return any(notice.kind is once and notice.round == number for notice in world.watcher.notices)

    deaths = iter([DeathBehind(at, is_time=told)])
    outcome = world.until_it_ends(lambda _: next(deaths, Death()))
    assert world.processes == 2
    return outcome


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, failing_leap: None) -> SessionOutcome:
    return nine(tmp_path_factory.mktemp("undisturbed") / "f").process()


# Between the sum and what it came to; then with that told and not kept, kept, and with the next round under way.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "once"),
    [
        ("after commit", NoticeKind.SUMMED),
        ("before commit", NoticeKind.NOT_COMPUTED),
        ("after commit", NoticeKind.NOT_COMPUTED),
        ("listening", NoticeKind.NOT_COMPUTED),
    ],
)
def test_the_next_process_knows_whose_terms_a_refused_leap_left(
    tmp_path: Path,
    undisturbed: SessionOutcome,
    at: Literal["before commit", "after commit", "listening"],
    once: NoticeKind,
) -> None:
    world = nine(tmp_path / "f")
    outcome = of_two_processes(world, at, once, LEAP)
    kinds = [each.kind for each in outcome.record.happenings]
    assert kinds.count("restarted") == kinds.count("not-computed") == 1
    behind = next(each for each in outcome.record.rounds if each.round > LEAP)
    assert sum(part is Participation.STALE for part in behind.participation) == 2, "the rest of its block"
    assert behind.bases == tuple(behind.round if part.in_sum else LEAP for part in behind.participation)
    again = undisturbed.fitted.parameters
    assert outcome.fitted.parameters.distance(again) == 0.0
    assert world.verified().passed
