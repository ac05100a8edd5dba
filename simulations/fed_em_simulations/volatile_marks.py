"""Round marks in memory, for simulated tenants: they outlive a tenant's simulated process, not this one."""

from __future__ import annotations


class VolatileMarks:
    """See `fed_em_protocols.tenant.RoundMarks`."""

    def __init__(self) -> None:
        self._highest: dict[bytes, int] = {}

    def highest(self, session: bytes) -> int:
        """The highest round recorded for a session; 0 if none."""
        return self._highest.get(session, 0)

    def record(self, session: bytes, round_number: int) -> None:
        """Record a round."""
        self._highest[session] = max(round_number, self.highest(session))
