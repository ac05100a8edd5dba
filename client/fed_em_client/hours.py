"""Hours in which a tenant takes part: "22:00-06:00", "Mon-Fri 20:00-24:00", by the clock of a time zone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SPAN = re.compile(r"(?:(?P<days>[A-Za-z,-]+) +)?(?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d)")
_MIDNIGHT = 24 * 60


@dataclass(frozen=True)
class Span:
    """A part of some days of the week.

    Attributes:
        days: The days on which it starts; 0 is Monday.
        start: In minutes after midnight, included.
        end: Likewise, not included; before `start`, it is of the day after.
    """

    days: frozenset[int]
    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read a span: days as "Mon-Fri", "Sat,Sun" or none for all, then times from "00:00" to "24:00".

        Raises:
            ValueError: it is none, or an empty one.
        """
        found = _SPAN.fullmatch(text.strip())
        if found is None:
            raise ValueError(f'\'{text}\' are no hours: write them as "22:00-06:00" or "Mon-Fri 22:00-06:00"')
        start, end = _minutes(found["from"]), _minutes(found["to"])
        if start in {end, _MIDNIGHT}:
            raise ValueError(f"'{text}' are no hours: for whole days write \"00:00-24:00\"")
        return cls(_days(found["days"]) if found["days"] else frozenset(range(7)), start, end)

    def __str__(self) -> str:
        """One way of writing it, whichever way it was written in."""
        days = "" if len(self.days) == len(_DAYS) else ",".join(_DAYS[day] for day in sorted(self.days)) + " "
        return f"{days}{_clock(self.start)}-{_clock(self.end)}"

    def holds(self, day: int, minute: int) -> bool:
        """Whether a minute of a day of the week lies in it."""
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name, such as "Europe/Berlin". Raises `ValueError` for an unknown one."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone '{name}' on this machine: UTC needs none") from None


def within(spans: Iterable[Span], zone: ZoneInfo, now: datetime) -> bool:
    """Whether a time of day (with its zone) lies in one of the spans, by the clock of `zone`."""
    there = now.astimezone(zone)
    return any(span.holds(there.weekday(), 60 * there.hour + there.minute) for span in spans)


def _minutes(clock: str) -> int:
    hours, minutes = map(int, clock.split(":"))
    if minutes > 59 or 60 * hours + minutes > _MIDNIGHT:
        raise ValueError(f"'{clock}' is no time of day")
    return 60 * hours + minutes


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = _day(first), _day(last or first)
        found.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(found)


def _day(name: str) -> int:
    if name.capitalize() not in _DAYS:
        raise ValueError(f"'{name}' is no day of the week: {', '.join(_DAYS)}")
    return _DAYS.index(name.capitalize())
