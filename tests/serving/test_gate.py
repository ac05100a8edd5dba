"""So many at once, so many that wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from fed_em.errors import CallerError
from fed_em_server.serving.gate import Gate
from fed_em_server.serving.limits import ServingLimits
from fed_em_server.serving.refusals import DeadlinePassed, Overloaded


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def soon() -> float:
    return time.monotonic() + 60.0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_who_is_beyond_both_bounds_is_refused_and_who_waits_gets_in() -> None:
    gate, leave, inside = Gate(ServingLimits(at_once=1, waiting=1)), threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        with gate.admitted(soon()):
            inside.set()
            leave.wait(60)
            order.append("first")

    def second() -> None:
        with gate.admitted(soon()):
            order.append("second")

    threads = [in_thread(first)]
    inside.wait(60)
    threads.append(in_thread(second))
    until(lambda: gate._waiting == 1)
    with pytest.raises(Overloaded) as caught, gate.admitted(soon()):
        pass
    assert caught.value.remedy
    leave.set()
    for thread in threads:
        thread.join()
    assert order == ["first", "second"]
    with gate.admitted(soon()):  # and there is room again
        pass


def test_who_waits_too_long_is_told_so_and_takes_no_room() -> None:
    gate = Gate(ServingLimits(at_once=1, waiting=1))
    with gate.admitted(soon()):
        for _ in range(2):
            with pytest.raises(DeadlinePassed), gate.admitted(time.monotonic() + 0.01):
                pass


def test_a_deadline_that_has_passed_is_not_worked_for() -> None:
    with pytest.raises(DeadlinePassed), Gate(ServingLimits()).admitted(time.monotonic() - 1.0):
        pass


def test_an_error_inside_makes_room_too() -> None:
    gate = Gate(ServingLimits(at_once=1, waiting=0))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), gate.admitted(soon()):
            _ = 1 // 0


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"waiting": -1}, {"seconds": 0.0}, {"drain_seconds": -1.0}])
def test_limits_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(CallerError, match=next(iter(wrong))):
        ServingLimits(**wrong)  # type: ignore[arg-type]
