"""Time by who spends it, for parties that all live in one process."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

SERVER, TENANTS = "server", "tenants"
NOBODY = "nobody"


class Spent(NamedTuple):
    """Seconds: of the processor, all threads together, and of the clock."""

    cpu: float
    wall: float


class CpuLedger:
    """Charges the time of this process to the innermost `charge`."""

    def __init__(self) -> None:
        self._spent: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.owner = NOBODY
        self._since = self._now()

    @contextmanager
    def charge(self, owner: str) -> Iterator[None]:
        """Charge what the block spends to `owner`, except what blocks within it charge to others."""
        before = self._switch(owner)
        try:
            yield
        finally:
            self._switch(before)

    def take(self, owner: str) -> Spent:
        """What `owner` has spent since the last time this was asked."""
        self._switch(self.owner)
        return Spent(*self._spent.pop(owner, (0.0, 0.0)))

    def take_all(self) -> dict[str, Spent]:
        """The same of every owner that spent anything."""
        self._switch(self.owner)
        taken = {owner: Spent(*both) for owner, both in self._spent.items()}
        self._spent.clear()
        return taken

    def _switch(self, owner: str) -> str:
        now = self._now()
        spent = self._spent[self.owner]
        for place in range(2):
            spent[place] += now[place] - self._since[place]
        before, self.owner, self._since = self.owner, owner, now
        return before

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.process_time(), time.perf_counter()
