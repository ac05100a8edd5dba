"""Trouble in simulated federations: who is gone when, how often, and what a session makes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from small_tables import run

from fed_em.errors import CallerError
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_server.record import Participation
from fed_em_simulations import FederationOutcome
from fed_em_simulations.distributions import Constant, Lognormal, OneApart
from fed_em_simulations.scene import Scene
from fed_em_simulations.trouble import (
    Absences,
    Bursts,
    Dropout,
    Joins,
    Leaves,
    Partition,
    RegionalOutage,
    ServerCrash,
    Step,
    Stragglers,
    Trouble,
)


def kinds(outcome: FederationOutcome) -> list[str]:
    return [each.kind for each in outcome.record.happenings]


@pytest.mark.parametrize("step", [Step.ADVERTISE, Step.DEPOSIT, Step.CONFIRM, Step.UPLOAD, Step.ENDORSE, Step.OPEN])
def test_a_tenant_may_be_gone_at_any_step_and_the_session_goes_on(step: Step) -> None:
    outcome = run(6, Leaves([2], after=0 if step in (Step.ADVERTISE, Step.DEPOSIT, Step.CONFIRM) else 1, step=step))
    assert not outcome.failure and not outcome.accusations
    parts = [each.participation[2] for each in outcome.rounds]
    if step is Step.OPEN:
        assert parts[0] is Participation.SUMMED and parts[1] is Participation.RECOVERED
    elif step is not Step.ENDORSE:
        assert not parts[-1].in_sum
    assert not parts[-1].in_sum and "left" in kinds(outcome)


def test_everybody_is_back_after_a_dropout() -> None:
    outcome = run(6, Dropout(0.5, tenants=[1, 3]), sums=8)
    assert not outcome.failure
    # Tenants 1, 3 and 5 are one block, of which the last shares the others' fate.
    assert {each.participation[5].in_sum for each in outcome.rounds} == {True, False}
    assert all(each.participation[index].in_sum for each in outcome.rounds for index in (0, 2, 4))


def test_a_partition_takes_its_blocks_out_and_gives_them_back() -> None:
    outcome = run(9, Partition([1, 4, 7], first=2, sums=2), sums=5)
    assert not outcome.failure
    assert [each.summed for each in outcome.rounds] == [9, 9, 6, 6, 9]
    assert [each.stale for each in outcome.rounds] == [0, 0, 3, 3, 0]


def test_a_partition_that_leaves_no_quorum_ends_the_session() -> None:
    outcome = run(6, Partition([1, 3, 5], first=1, sums=2), sums=5)
    assert "4 witnesses of round 2" in outcome.failure and len(outcome.rounds) == 1


def test_who_joins_late_is_in_later_sums() -> None:
    outcome = run(6, Joins([0, 2, 4], after=2), sums=5, window_rounds=4)
    assert not outcome.failure
    assert outcome.rounds[0].missing == 3 and outcome.rounds[-1].missing == 0


@pytest.mark.slow
def test_a_server_that_crashes_goes_on_with_the_sum_it_was_at() -> None:
    clean, crashed = run(6), run(6, ServerCrash(sum=2, at=NoticeKind.UPLOADED, seconds=7.0))
    assert not crashed.failure and not crashed.accusations
    assert crashed.model.parameters.distance(clean.model.parameters) < 1e-12
    assert clean.seconds + 7 < crashed.seconds < clean.seconds + 7 + 60
    assert crashed.rounds[2].round > clean.rounds[2].round


@pytest.mark.slow
def test_stragglers_are_late_and_no_later_than_the_deadline() -> None:
    outcome = run(6, Stragglers(OneApart(0.0, 30.0, tenant=5)))
    assert not outcome.failure
    assert outcome.rounds[1].participation[5] in (Participation.LATE, Participation.STALE)
    assert outcome.rounds[0].participation[0] is Participation.SUMMED
    slow = run(6, Stragglers(Lognormal(0.1, 0.1)))
    assert slow.seconds > run(6).seconds + 4 * 0.08


@dataclass
class Links:
    """A hub that lets everybody back."""

    back: list[int] = field(default_factory=list)

    def let_back(self, tenant: int) -> None:
        self.back.append(tenant)


def frequencies(trouble: Trouble, n: int, sums: int, seed: int) -> np.ndarray:
    """Who is gone in which sum, `(sums, n)`."""
    scene = Scene(Links(), _Many(n), None, seed, 0)  # type: ignore[arg-type]
    absences = trouble.begin(scene)
    assert isinstance(absences, Absences)
    return np.array([[absences._gone(tenant, k) for tenant in range(n)] for k in range(sums)])


@dataclass
class _Many:
    n: int


# An interval is 4.4 standard deviations wide each way: a correct draw leaves it once in 10^5 seeds, and the seed is fixed.
def within(observed: float, expected: float, deviation: float) -> bool:
    return abs(observed - expected) < 4.4 * deviation


def test_dropouts_are_as_frequent_as_they_say_and_independent() -> None:
    gone = frequencies(Dropout(0.1), 100, 200, 7)
    assert within(gone.mean(), 0.1, math.sqrt(0.1 * 0.9 / gone.size))
    together = (gone[:, 0::2] & gone[:, 1::2]).mean()
    assert within(together, 0.01, math.sqrt(0.01 * 0.99 / (gone.size / 2)))


def test_bursts_have_the_length_and_the_share_they_say() -> None:
    gone = frequencies(Bursts(leave=0.05, come_back=0.25), 200, 400, 7)[100:]
    # A chain that forgets at the rate λ = 0.7 a sum: its mean over T sums varies (1 + λ) / (1 − λ) times as much as of independent ones.
    share, forgets = 0.05 / 0.3, 0.7
    deviation = math.sqrt(share * (1 - share) * (1 + forgets) / (1 - forgets) / gone.size)
    assert within(gone.mean(), share, deviation)
    again = gone[1:][gone[:-1]].mean()
    assert within(again, 0.75, math.sqrt(0.75 * 0.25 / gone[:-1].sum()))


def test_a_region_goes_and_comes_together() -> None:
    gone = frequencies(RegionalOutage(5, 0.2), 20, 300, 7)
    assert all((gone[:, region] == gone[:, region + 5]).all() for region in range(5))
    assert within(gone[:, :5].mean(), 0.2, math.sqrt(0.16 / 1500))


def test_draws_depend_on_the_seed_and_on_which_trouble_it_is() -> None:
    first = frequencies(Dropout(0.5), 20, 20, 1)
    assert (first == frequencies(Dropout(0.5), 20, 20, 1)).all()
    assert (first != frequencies(Dropout(0.5), 20, 20, 2)).any()


@pytest.mark.parametrize(
    ("trouble", "complaint"),
    [
        (lambda: Dropout(1.0), "probability"),
        (lambda: Bursts(0.1, 0.0), "come_back"),
        (lambda: RegionalOutage(0, 0.1), "regions"),
        (lambda: Leaves([1], after=-1), "after"),
        (lambda: Constant(-1.0), "value"),
        (lambda: run(3, Leaves([3])), "no tenant number 3 among 3"),
        (lambda: run(3, Stragglers(OneApart(0, 1, tenant=7))), "no tenant number 7 among 3"),
    ],
)
def test_impossible_trouble_is_refused(trouble: object, complaint: str) -> None:
    with pytest.raises(CallerError, match=complaint):
        trouble()  # type: ignore[operator]
