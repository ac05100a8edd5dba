"""Processor time by who spends it, for parties that all live in one process."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

SERVER, TENANTS = "server", "tenants"
NOBODY = "nobody"


class CpuLedger:
    """Charges the processor time of this process, all threads together, to the innermost `charge`."""

    def __init__(self) -> None:
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._owner = NOBODY
        self._since = time.process_time()

    @contextmanager
    def charge(self, owner: str) -> Iterator[None]:
        """Charge what the block spends to `owner`, except what blocks within it charge to others."""
        before = self._switch(owner)
        try:
            yield
        finally:
            self._switch(before)

    def take(self, owner: str) -> float:
        """What `owner` has spent since the last time this was asked."""
        self._switch(self._owner)
        return self._spent.pop(owner, 0.0)

    def _switch(self, owner: str) -> str:
        now = time.process_time()
        self._spent[self._owner] += now - self._since
        before, self._owner, self._since = self._owner, owner, now
        return before
