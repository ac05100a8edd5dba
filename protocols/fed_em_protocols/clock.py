"""The time of day, of this machine and in UTC: for certificates, ledgers and records, never for deadlines."""

from __future__ import annotations

from datetime import UTC, datetime


def time_of_day() -> datetime:
    """Now."""
    return datetime.now(UTC)


def time_in_words(moment: datetime | None = None) -> str:
    """ISO 8601 to the second, such as "2026-03-01T12:00:00+00:00".

    Args:
        moment: With its zone; now if None.
    """
    return (moment or time_of_day()).astimezone(UTC).isoformat(timespec="seconds")
