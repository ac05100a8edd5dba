"""When the next measurement is due: every so many seconds, or at times of day."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from fed_em.description import check_real
from fed_em.errors import CallerError

_DAY = 86400.0


@dataclass(frozen=True)
class Schedule:
    """Either of both.

    Attributes:
        every: Seconds between measurements, positive; None if they are at times of day.
        at: Times of day in UTC; empty if they are every so often.
        jitter: Up to so many seconds later each time, so that not all federations dial at once.
    """

    every: float | None = _DAY
    at: tuple[time, ...] = ()
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if (self.every is None) == (not self.at):
            raise CallerError("a schedule is `every` so often, or `at` times of day: give one of them")
        if self.every is not None:
            check_real("every", self.every, 0.0, strict=True)
        check_real("jitter", self.jitter, 0.0)

    def after(self, now: float, seed: str) -> float:
        """When the next one is due, later than `now`; seconds since 1970.

        Args:
            now: Likewise.
            seed: What the jitter follows from: a process that starts anew waits for the same moment.
        """
        late = random.Random(f"{seed}/{now}").uniform(0.0, self.jitter) if self.jitter else 0.0
        if self.every is not None:
            return now + self.every + late
        here = datetime.fromtimestamp(now, UTC)
        days = (here.date() + timedelta(days=k) for k in range(2))
        moments = (datetime.combine(day, at, UTC) for day in days for at in sorted(self.at))
        return next(moment.timestamp() for moment in moments if moment > here) + late
