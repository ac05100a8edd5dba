"""Round marks in memory, for simulated tenants: they outlive a tenant's simulated process, not this one."""

from __future__ import annotations

from fed_em_client.round_marks import SessionMarks


class VolatileMarks:
    """See `fed_em_client.round_marks.FileRoundMarks`: the same marks, refused in the same cases."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, SessionMarks] = {}

    def highest(self, session: bytes) -> int:
        """The highest round recorded for a session; 0 if none."""
        return self._marks(session).highest

    def record(self, session: bytes, round_number: int) -> None:
        """Record a round. Raises `IllegalStep` if it is not above the highest."""
        self._sessions[session] = self._marks(session).with_upload(round_number)

    def endorsed(self, session: bytes) -> tuple[int, bytes]:
        """The last round endorsed in a session, and its outcome digest; (0, b"") if none."""
        marks = self._marks(session)
        return marks.endorsed, marks.outcome

    def endorse(self, session: bytes, round_number: int, outcome: bytes) -> None:
        """Record an endorsement. Raises `IllegalStep` if a later one, or another of the round, is recorded."""
        self._sessions[session] = self._marks(session).with_endorsement(round_number, outcome)

    def work(self, session: bytes) -> bytes | None:
        """Fingerprint of the rows and code recorded for a session; None if there is none."""
        return self._marks(session).work

    def record_work(self, session: bytes, fingerprint: bytes) -> None:
        """Record a fingerprint (32 bytes), in place of an earlier one."""
        self._sessions[session] = self._marks(session).with_work(fingerprint)

    def _marks(self, session: bytes) -> SessionMarks:
        return self._sessions.get(session, SessionMarks())
