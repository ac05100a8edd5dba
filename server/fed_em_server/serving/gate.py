"""So many requests at once, so many that wait, and none beyond its deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fed_em_server.serving.limits import ServingLimits
from fed_em_server.serving.refusals import DeadlinePassed, Overloaded


class Gate:
    """Lets requests in, from any thread.

    Args:
        limits: How many.
        clock: Monotonic seconds.
    """

    def __init__(self, limits: ServingLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once, self._most_waiting, self._clock = limits.at_once, limits.waiting, clock
        self._inside = self._waiting = 0
        self._changed = threading.Condition()

    @contextmanager
    def admitted(self, deadline: float) -> Iterator[None]:
        """Wait to be let in, be in, and leave.

        Args:
            deadline: When the request's time is up, by the gate's clock.

        Raises:
            Overloaded: as many wait as may.
            DeadlinePassed: the time is up before there is room.
        """
        with self._changed:
            self._enter(deadline)
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify()

    def _enter(self, deadline: float) -> None:
        if self._inside >= self._at_once and self._waiting >= self._most_waiting:
            raise Overloaded("the server has more requests than it can take", remedy="ask again, less often")
        self._waiting += 1
        try:
            self._changed.wait_for(lambda: self._inside < self._at_once, deadline - self._clock())
        finally:
            self._waiting -= 1
        if self._clock() >= deadline:
            raise DeadlinePassed("the request's time is up", remedy="ask with more time, or less often")
        self._inside += 1
