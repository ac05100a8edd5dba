"""What simulated tenants were asked and have not been heard on, in the order in which they were asked."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """A greeting or a message that a tenant answers.

    Attributes:
        tenant: Roster index.
        time: When it was asked.
        number: Its place among all that happens, which decides between what follows from it and what else comes at the same time.
        soonest: Nothing that follows from it comes before this time.
    """

    tenant: int
    time: float
    number: int
    soonest: float


class OwedAnswers:
    """A queue that knows its least `soonest`: those that are less than all behind them are a queue of their own, ascending."""

    def __init__(self) -> None:
        self._asked: deque[Asked] = deque()
        self._least: deque[Asked] = deque()
        self._tenants: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._asked)

    def owes(self, tenant: int) -> bool:
        """Whether a tenant's answer is due."""
        return tenant in self._tenants

    @property
    def soonest(self) -> float:
        """The time before which nothing comes of all this."""
        return self._least[0].soonest if self._least else math.inf

    def add(self, asked: Asked) -> None:
        """One more, of a tenant that owes none."""
        while self._least and self._least[-1].soonest >= asked.soonest:
            self._least.pop()
        self._least.append(asked)
        self._asked.append(asked)
        self._tenants.add(asked.tenant)

    def take(self) -> Asked:
        """The first."""
        asked = self._asked.popleft()
        if self._least[0] is asked:
            self._least.popleft()
        self._tenants.discard(asked.tenant)
        return asked
