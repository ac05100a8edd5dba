"""The trigger and the schedule: pure functions of scores and times."""

from __future__ import annotations

from datetime import UTC, datetime, time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.errors import CallerError
from fed_em_server.operate.schedule import Schedule
from fed_em_server.operate.trigger import Trigger, TriggerRule

RULES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.floats(0, 50)).filter(
    lambda each: each[0] <= each[1] < 2 * each[0]
)
SCORES = st.lists(st.floats(-3, 3), max_size=40)


def rule_of(drawn: tuple[int, int, float]) -> TriggerRule:
    k, m, window = drawn
    return TriggerRule(1.0, 0.0, k, m, window)


def asked_at(rule: TriggerRule, scores: list[float]) -> list[int]:
    """One score every ten seconds; at which of them a retrain was asked for."""
    trigger, asked = Trigger(), []
    for number, score in enumerate(scores):
        trigger = trigger.after(rule, score)
        if trigger.asks(10.0 * number):
            asked.append(number)
            trigger = trigger.asked(rule, 10.0 * number)
    return asked


@given(RULES, SCORES)
def test_it_asks_only_once_k_of_the_last_m_were_high_and_never_within_the_window(
    drawn: tuple[int, int, float], scores: list[float]
) -> None:
    rule, asked = rule_of(drawn), asked_at(rule_of(drawn), scores)
    if asked:
        before = scores[: asked[0] + 1][-rule.m :]
        assert sum(score >= rule.high for score in before) >= rule.k
    assert all(10.0 * (later - one) >= rule.window for one, later in pairwise(asked))


@given(RULES, SCORES)
def test_scores_that_are_never_high_never_ask(drawn: tuple[int, int, float], scores: list[float]) -> None:
    assert not asked_at(rule_of(drawn), [min(score, 0.999) for score in scores])


@given(RULES, SCORES, st.booleans())
def test_between_low_and_high_nothing_changes(
    drawn: tuple[int, int, float], scores: list[float], alarmed: bool
) -> None:
    trigger = Trigger(alarmed=alarmed)
    for score in scores:
        trigger = trigger.after(rule_of(drawn), abs(score) % 1.0)
        assert trigger.alarmed == alarmed


@given(RULES, SCORES)
def test_m_high_scores_alarm_and_m_low_ones_calm_it(drawn: tuple[int, int, float], scores: list[float]) -> None:
    rule, trigger = rule_of(drawn), Trigger()
    for score in scores:
        trigger = trigger.after(rule, score)
    for score, alarmed in ((2.0, True), (-1.0, False), (2.0, True)):
        for _ in range(rule.m):
            trigger = trigger.after(rule, score)
        assert trigger.alarmed == alarmed
        assert len(trigger.scores) <= rule.m


def test_drift_that_stays_asks_again_after_the_window_and_a_new_model_begins_calm() -> None:
    rule = TriggerRule(k=1, m=1, window=35.0)
    assert asked_at(rule, [2.0] * 10) == [0, 4, 8]
    trigger = Trigger().after(rule, 2.0).asked(rule, 100.0).renewed()
    assert not trigger.alarmed and not trigger.scores and trigger.quiet_until == 135.0


def test_rules_that_make_no_sense_are_refused() -> None:
    for wrong in ({"k": 0}, {"k": 4, "m": 3}, {"k": 2, "m": 4}, {"low": 1.0}, {"window": -1.0}):
        with pytest.raises(CallerError):
            TriggerRule(**wrong)  # type: ignore[arg-type]
    with pytest.raises(CallerError, match="no number"):
        Trigger().after(TriggerRule(), float("nan"))


@given(st.floats(0, 4e9), st.floats(0, 3600), st.sets(st.times(), min_size=1, max_size=3))
def test_a_moment_is_later_at_a_time_of_day_and_the_same_for_the_same_seed(
    now: float, jitter: float, at: set[time]
) -> None:
    plain, late = Schedule(None, tuple(at)), Schedule(None, tuple(at), jitter)
    due = plain.after(now, "")
    assert now < due <= now + 86400.001
    assert datetime.fromtimestamp(round(due, 3), UTC).time().replace(microsecond=0) in {
        moment.replace(microsecond=0) for moment in at
    } | {moment.replace(microsecond=0, second=(moment.second + 1) % 60) for moment in at}
    assert due <= late.after(now, "x") <= due + jitter
    assert late.after(now, "x") == late.after(now, "x")
    assert Schedule(100.0, (), jitter).after(now, "x") >= now + 100.0


def test_a_schedule_is_one_of_both() -> None:
    for wrong in ((None, ()), (5.0, (time(3),)), (0.0, ())):
        with pytest.raises(CallerError):
            Schedule(*wrong)
