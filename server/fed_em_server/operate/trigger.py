"""When drift is acted on: not at the first large number, not again and again while it hovers, and not soon after the last time.

    quiet  --(k of the last m scores are `high` or more)-->  alarmed
    quiet  <--(k of the last m scores are below `low`)--     alarmed

While it is alarmed and no quiet window runs, it asks for a retrain; asking for one starts the window. Between `low` and `high` nothing
changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fed_em.description import check_real, check_whole_number
from fed_em.errors import CallerError


@dataclass(frozen=True)
class TriggerRule:
    """When to ask.

    Attributes:
        high, low: Scores; low below high.
        k, m: 1 ≤ k ≤ m, and 2 k > m, or both could hold at once.
        window: Seconds after a retrain was asked for in which no other one is.
    """

    high: float = 1.0
    low: float = 0.5
    k: int = 2
    m: int = 3
    window: float = 86400.0

    def __post_init__(self) -> None:
        check_whole_number("k", self.k, 1)
        check_whole_number("m", self.m, self.k)
        check_real("the quiet window", self.window, 0.0)
        if 2 * self.k <= self.m:
            raise CallerError(
                f"{self.k} of {self.m} scores could be high and as many low at once",
                remedy="give k of more than half of m",
            )
        if not self.low < self.high:
            raise CallerError(f"low = {self.low} must be below high = {self.high}")


@dataclass(frozen=True)
class Trigger:
    """What it remembers.

    Attributes:
        scores: The last m, oldest first, since it was last reset.
        alarmed: Whether drift was found and has not gone.
        quiet_until: Time until which nothing is asked for, in seconds of the clock whose times it is given (since 1970).
    """

    scores: tuple[float, ...] = ()
    alarmed: bool = False
    quiet_until: float = 0.0

    def after(self, rule: TriggerRule, score: float) -> Trigger:
        """With one score more; NaN is refused with `CallerError`."""
        if math.isnan(score):
            raise CallerError("a score of drift is no number")
        scores = (*self.scores, score)[-rule.m :]
        if not self.alarmed:
            alarmed = sum(each >= rule.high for each in scores) >= rule.k
        else:
            alarmed = sum(each < rule.low for each in scores) < rule.k
        # What made it change its mind counts once.
        return replace(self, scores=scores if alarmed == self.alarmed else (), alarmed=alarmed)

    def asks(self, now: float) -> bool:
        """Whether it asks for a retrain."""
        return self.alarmed and now >= self.quiet_until

    def asked(self, rule: TriggerRule, now: float) -> Trigger:
        """A retrain begins: the quiet window runs from now."""
        return replace(self, quiet_until=now + rule.window)

    def renewed(self) -> Trigger:
        """Another model is in use: what was measured of the one before says nothing of it. The window runs on."""
        return Trigger(quiet_until=self.quiet_until)
