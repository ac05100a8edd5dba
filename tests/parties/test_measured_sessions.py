"""What a tenant remembers of measurements, and refuses more of."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.coordinates import Coordinates
from fed_em.errors import EnvironmentFault
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em.reference import broadcast_of, edges_of
from fed_em_client.configuration import MeasuringTable, PolicyTable
from fed_em_client.measured_sessions import MeasuredSessions, excess_of, read_measured, within_period
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.description import Column, measuring
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.policy_rules import PolicyRule
from fed_em_protocols.privacy.promise import Privacy
from fed_em_simulations.volatile_marks import VolatileMarks
from tests.parties.forest import Parties
from tests.parties.test_rows_work import BEECH

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Days:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def number(k: int) -> bytes:
    return k.to_bytes(16, "big")


def point(k: int) -> str:
    return k.to_bytes(32, "big").hex()


def refusal(measured: MeasuredSessions, session: int, at: int) -> TermsRefused:
    with pytest.raises(TermsRefused) as refused:
        measured.admit(number(session), point(at))
    assert refused.value.rule is PolicyRule.MEASURING
    return refused.value


def test_so_many_sessions_a_period_and_the_same_one_again_is_none(tmp_path: Path) -> None:
    clock, path = Days(), tmp_path / "measured.json"
    limits = MeasuringTable(sessions=2, points=5, period_days=10)
    measured = MeasuredSessions(limits, clock, path)
    assert not path.exists()
    measured.admit(number(1), point(1))
    assert stat.S_ISREG(path.stat().st_mode)
    clock.now += 3 * DAY
    measured.admit(number(2), point(1))
    measured.admit(number(1), point(1))
    again = MeasuredSessions(limits, clock, path)  # another process
    assert "3 measurements in 10 days, where sessions = 2" in refusal(again, 3, 1).message
    assert len(read_measured(path)) == 2  # what is refused is not counted
    clock.now = START + 10 * DAY  # the first has left the period
    again.admit(number(3), point(1))
    refusal(again, 4, 1)


def test_a_number_that_is_used_again_measures_nothing_else(tmp_path: Path) -> None:
    limits, path = MeasuringTable(), tmp_path / "measured.json"
    MeasuredSessions(limits, Days(), path).admit(number(1), point(1))
    again = MeasuredSessions(limits, Days(), path)  # whose server ended the session, and offers others by its number
    for at in range(2, 20):
        assert "other models or edges now" in refusal(again, 1, at).message
    again.admit(number(1), point(1))


@pytest.mark.parametrize("private", [False, True])
def test_a_session_measures_the_rows_that_it_was_joined_with(parties: Parties, tmp_path: Path, private: bool) -> None:
    """Else one number would measure them whenever one came, and count once; noise that is paid for each time hides what came."""
    data, marks, model = tmp_path / "rows.npy", VolatileMarks(), GaussianMixtureModel(n_components=1, n_columns=2)
    at = Parameters({"weights": np.ones(1), "means": np.zeros((1, 2)), "covariances": np.eye(2)[np.newaxis]})
    fitted = FittedModel(model, Coordinates(np.zeros(2), np.ones(2)), ("a", "b"), at, {})
    columns = tuple(Column(name=name, low=-100.0, high=100.0) for name in fitted.columns)
    promise = Privacy(epsilon=1.0, delta=1e-5, radius=1.0, noise_multiplier=20.0, sums=3)
    asked = broadcast_of([fitted], edges_of(fitted))
    described = measuring("t", columns, None, asked, promise if private else None).to_json()
    rows = np.zeros((8, len(columns)))

    def joined(n: int) -> bool:
        np.save(data, rows[:n])
        policy = PolicyTable(measurements=True)
        work = RowsWork(data, {}, parties.roster, BEECH, marks, policy=policy)
        work.prepare(described, 0)
        return work.changed(number(1))

    assert not joined(7) and not joined(7)
    if private:
        assert not joined(8)
        return
    for _ in range(2):
        with pytest.raises(TermsRefused, match="it measures once") as refused:
            joined(8)
        assert refused.value.rule is PolicyRule.MEASURING
    assert not joined(7)


def test_so_many_models_or_edges_a_period() -> None:
    clock = Days()
    measured = MeasuredSessions(MeasuringTable(sessions=100, points=2, period_days=30), clock)
    for session, at in ((1, 1), (2, 2), (3, 1), (4, 2)):
        measured.admit(number(session), point(at))
    assert "3 different models or edges" in refusal(measured, 5, 3).message
    measured.admit(number(6), point(1))


def test_a_clock_that_was_set_back_gives_nothing_free() -> None:
    clock = Days()
    measured = MeasuredSessions(MeasuringTable(sessions=1, points=1, period_days=5), clock)
    measured.admit(number(1), point(1))
    clock.now -= 100 * DAY
    refusal(measured, 2, 1)
    assert measured.sessions[-1].time == START


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=30), st.integers(1, 5), st.integers(1, 4))
def test_no_stretch_of_a_period_holds_more_than_the_policy_says(
    asked: list[tuple[int, int]], sessions: int, points: int
) -> None:
    clock, limits = Days(), MeasuringTable(sessions=sessions, points=points, period_days=7)
    measured = MeasuredSessions(limits, clock)
    for k, (day, at) in enumerate(sorted(asked)):
        clock.now = START + day * DAY
        try:
            measured.admit(number(k), point(at))
        except TermsRefused:
            continue
    for last in measured.sessions:
        stretch = [each for each in within_period(measured.sessions, limits, last.time) if each.time <= last.time]
        assert not excess_of(stretch, limits)


def test_a_damaged_file_measures_nothing(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    path.write_text("{")
    with pytest.raises(EnvironmentFault, match="nobody knows which sessions"):
        MeasuredSessions(MeasuringTable(), Days(), path)


def test_the_digest_of_a_policy_is_what_it_was_before_there_was_a_bound() -> None:
    assert b"measuring" not in PolicyTable().canonical
    assert b"measuring" not in PolicyTable(measurements=True).canonical
    tighter = PolicyTable(measurements=True, measuring=MeasuringTable(sessions=1))
    assert tighter.digest != PolicyTable(measurements=True).digest
