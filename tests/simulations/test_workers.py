"""Tenants in worker processes are those of one process, byte by byte and second by second; and memory changes nothing."""

from __future__ import annotations

import os
import signal
from dataclasses import fields

import pytest
from small_tables import run

from fed_em.errors import CallerError, FedEmError
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.errors import PeerFault
from fed_em_server.record import RoundRecord, SessionRecord
from fed_em_simulations import FederationOutcome
from fed_em_simulations.costs import CostModel
from fed_em_simulations.dishonest_server import ChangedParameters
from fed_em_simulations.distributions import Lognormal
from fed_em_simulations.tenant_host import Answer
from fed_em_simulations.tenant_shards import _answer_frame, _read_answer
from fed_em_simulations.trouble import Dropout, Trouble
from fed_em_simulations.work import Work

UNEVEN = CostModel(latency=Lognormal(0.02, 0.7), slowness=Lognormal(1.0, 0.5))


def told(outcome: FederationOutcome) -> list[object]:
    """All of an outcome but the model's objects, and how much was remembered, which depends on who shares a process."""
    parts = {each.name: getattr(outcome, each.name) for each in fields(outcome)}
    work = [{**vars(parts.pop(name)), "remembered": 0} for name in ("tenant_work", "server_work")]
    result = parts.pop("result")
    parameters = None if parts.pop("fitted") is None else outcome.model.parameters
    last = None if parameters is None else {name: parameters[name].tobytes() for name in parameters}
    return [*parts.values(), *work, last, result is None]


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param((), marks=pytest.mark.slow),
        (Dropout(0.4),),
        pytest.param((ChangedParameters([1], first_round=3),), marks=pytest.mark.slow),
    ],
)
def test_two_workers_are_one_process(trouble: tuple[Trouble, ...]) -> None:
    alone, shared = run(6, *trouble, costs=UNEVEN), run(6, *trouble, costs=UNEVEN, workers=2)
    assert told(shared) == told(alone)
    assert 0 < shared.tenant_work.remembered <= alone.tenant_work.remembered


@pytest.mark.parametrize(
    "error", [None, PeerFault("server", "did it", proves="much"), FedEmError("it is broken", remedy="mend it")]
)
def test_answers_cross_over_whole(error: FedEmError | None) -> None:
    answer = Answer(7, (b"", b"abc", bytes(300)), Work(1, 2, 3, 4, 5, 6, 7, 8), error, over=True)
    read = _read_answer(_answer_frame(answer))
    assert (read.tenant, read.messages, read.work, read.over) == (7, answer.messages, answer.work, True)
    assert (type(read.error), str(read.error)) == (type(error), str(error))


class Killer:
    """Kills a worker process when the second round begins."""

    def session_started(self, record: SessionRecord) -> None:
        """Nothing yet."""

    def noticed(self, notice: Notice) -> None:
        """Kill."""
        import multiprocessing

        if notice.kind is NoticeKind.ROUND_STARTED and notice.round == 2:
            pid = multiprocessing.active_children()[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

    def round_opened(self, record: RoundRecord) -> None:
        """Nothing."""


def test_a_lost_worker_ends_the_simulation_and_is_told() -> None:
    outcome = run(3, workers=2, watchers=(Killer(),))
    assert "a worker process of the simulation was lost" in outcome.failure


def test_workers_are_counted_from_one() -> None:
    with pytest.raises(CallerError, match="workers"):
        run(3, workers=0)
