"""A simulated server that crashes: the next process goes on from the checkpoints, and comes to the same bits."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from small_tables import QUICK, run, tables_of

from fed_em import GaussianMixture
from fed_em.errors import CallerError
from fed_em.model_file import FittedModel
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.selection import Selection
from fed_em_protocols.transcript.memory_transcript import MemoryTranscript
from fed_em_server.audit.verify import verify
from fed_em_server.checkpoints.session_checkpoint import SessionCheckpoint
from fed_em_simulations import Federation, FederationOutcome
from fed_em_simulations.memory_hub import MemoryHub
from fed_em_simulations.trouble import Dropout, Joins, ServerCrash

AT = [NoticeKind.ROUND_STARTED, NoticeKind.UPLOADED, NoticeKind.SURVIVORS, NoticeKind.CERTIFIED, NoticeKind.SUMMED]


def assert_same_bits(one: FittedModel, other: FittedModel) -> None:
    assert set(one.parameters) == set(other.parameters)
    for name, array in one.parameters.items():
        np.testing.assert_array_equal(array, other.parameters[name])


@cache
def undisturbed() -> FederationOutcome:
    return run(3, sums=3)


@pytest.mark.parametrize(
    "at", [pytest.param(at, marks=() if at is NoticeKind.SURVIVORS else pytest.mark.slow) for at in AT]
)
def test_a_server_that_crashes_comes_to_the_same_bits(at: NoticeKind) -> None:
    clean, crashed = undisturbed(), run(3, ServerCrash(sum=1, at=at, seconds=7.0), sums=3)
    assert not crashed.failure and not crashed.accusations and not crashed.left
    assert_same_bits(crashed.model, clean.model)
    assert [each.kind for each in crashed.record.happenings].count("restarted") == 1
    assert [each.log_likelihood for each in crashed.rounds] == [each.log_likelihood for each in clean.rounds]
    # The time in which there was no server is time that the session takes.
    assert clean.seconds_to_last_sum + 7 < crashed.seconds_to_last_sum < clean.seconds_to_last_sum + 7 + 30
    assert crashed.seconds == pytest.approx(sum(crashed.seconds_by_phase.values()))


def test_without_a_crash_the_last_sum_is_opened_when_its_rounds_say() -> None:
    clean = undisturbed()
    assert clean.seconds_to_last_sum == pytest.approx(sum(each.seconds for each in clean.rounds), abs=1e-3)


@pytest.mark.slow
def test_a_crash_at_the_end_is_survived_and_tenants_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last sum is opened and kept; the process ends with the first message of the end."""
    closed = []
    close = MemoryHub.close

    def closing(hub: MemoryHub) -> None:
        close(hub)
        closed.append([hub.session_of(index).closed is not None for index in range(3)])  # type: ignore[union-attr]

    monkeypatch.setattr(MemoryHub, "close", closing)
    crashed = run(3, ServerCrash(sum=2, at=NoticeKind.SUMMED), sums=3)
    assert_same_bits(crashed.model, undisturbed().model)
    assert closed[0] == [False] * 3 and closed[1] == [True] * 3


@pytest.mark.slow
def test_every_kind_of_fit_goes_on_by_production_s_replay() -> None:
    """Starts, a pick among models, leaps, and two crashes: what an optimiser held comes back by fitting once more."""

    def outcome(*trouble: ServerCrash):  # type: ignore[no-untyped-def]
        federation = Federation(
            tables_of(4), trouble=trouble, deadlines=QUICK, colluders=1, starts=2, max_iterations=6,
            selection=Selection(components=(1, 2), max_iterations=3), standard_errors=True,
        )  # fmt: skip
        return federation.fit(GaussianMixture(2))

    clean = outcome()
    crashed = outcome(ServerCrash(sum=4), ServerCrash(sum=len(clean.rounds) - 2, at=NoticeKind.CERTIFIED))
    assert_same_bits(crashed.model, clean.model)
    assert crashed.record.selection == clean.record.selection
    assert crashed.model.errors is not None


@pytest.mark.slow
def test_what_the_next_process_has_is_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the sums before a crash not answered from what was kept, they would be asked for again, which the store refuses to keep."""
    before = [each.round for each in run(3, ServerCrash(sum=2), sums=3).rounds]
    assert before[:2] == [1, 2] and before[2] == 4
    monkeypatch.setattr(SessionCheckpoint, "answer", lambda _checkpoint, _request: None)
    again = run(3, ServerCrash(sum=2), sums=3)
    assert "fed_em_attempts" in again.failure and len(again.rounds) == 2


@pytest.mark.slow
def test_the_transcript_of_a_server_that_crashed_holds() -> None:
    store = MemoryTranscript()
    outcome = run(3, ServerCrash(sum=1), sums=3, transcript=store)
    assert outcome.roster is not None
    found = verify(store.files, outcome.roster)
    assert found.passed and any("in another process once" in check.said for check in found.checks)


@pytest.mark.slow
def test_who_is_away_when_the_server_crashes_pauses_the_session() -> None:
    """A server that is started again when they are back goes on; the simulation ends there, and says for whom."""
    outcome = run(6, ServerCrash(sum=1), Joins([0, 2, 4, 1], after=99), sums=3)
    assert outcome.failure


@pytest.mark.slow
def test_crashes_and_dropouts_go_together() -> None:
    outcome = run(6, ServerCrash(sum=2), Dropout(0.3, tenants=[1, 3, 5]), sums=5)
    assert not outcome.failure and len(outcome.rounds) == 5


class _Deaf:
    def session_started(self, *_: object) -> None:
        """Hears nothing."""

    sum_opened = session_started


def test_what_does_not_outlive_a_server_is_refused() -> None:
    with pytest.raises(CallerError, match="a listener does not outlive a server that crashes"):
        Federation(tables_of(3), trouble=(ServerCrash(1),), listener=_Deaf())  # type: ignore[arg-type]
    fitted = undisturbed().model
    with pytest.raises(CallerError, match="a measurement does not outlive"):
        Federation(tables_of(3), trouble=(ServerCrash(1),)).measure([fitted])
