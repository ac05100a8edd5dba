"""Who answers in which round: a pattern that every method is given alike, so that comparisons are paired.

Totals in memory ask `answering`; in a session of the real protocol `Attended` makes everybody else miss the upload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, FiniteFloat

from fed_em.errors import CallerError
from fed_em_protocols.configuration import Table
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.configuration import TimesTable
from fed_em_simulations.random_streams import stream
from fed_em_simulations.scene import Mischief, Scene, Trouble
from fed_em_simulations.trouble import Absences, Step

# The names of those who answer in each round.
Pattern = tuple[frozenset[str], ...]

# Deadlines of a session in which a pattern is kept: the first uploads start the straggler's clock.
WAITING = TimesTable(patience=30.0, quorum=0.01, straggler=1.0, upload=10.0)


class Attendance(Table):
    """How many answer."""

    share: Annotated[FiniteFloat, Field(gt=0, le=1)] = 1.0
    """Of the tenants in each round."""
    fixed: bool = True
    """Whether it is that many of them each time, and not each by a toss of its own. Somebody comes always."""

    def pattern(self, names: Sequence[str], rounds: int, seed: int) -> Pattern:
        """Who answers in each of so many rounds, drawn anew every time."""
        generator = stream(seed, "attendance")
        if not self.fixed:
            coins = generator.random((rounds, len(names)))
            comes = (coins < self.share) | (coins == coins.min(axis=1, keepdims=True))
            return tuple(frozenset(name for name, here in zip(names, row, strict=True) if here) for row in comes)
        n = max(1, round(self.share * len(names)))
        chosen = (generator.choice(len(names), size=n, replace=False) for _ in range(rounds))
        return tuple(frozenset(names[int(i)] for i in row) for row in chosen)


def answering(pattern: Pattern) -> Callable[[int], frozenset[str]]:
    """As the totals in memory ask: those who answer the n-th sum, 1 for the first."""
    return lambda number: pattern[number - 1]


class _Comings(Absences):
    """Absences of a whole sum: nobody is back to certify it, everybody for the next, and whoever is gone in that one as well goes again."""

    def noticed(self, notice: Notice) -> None:
        """See `fed_em_simulations.scene.Mischief`."""
        if notice.kind is NoticeKind.SUMMED:
            for tenant in sorted(self._held):
                self._scene.hub.let_back(tenant)
            self._held.clear()
        elif notice.kind is not NoticeKind.SURVIVORS:
            super().noticed(notice)


@dataclass(frozen=True)
class Attended(Trouble):
    """Tenants that come to a session's sums as a pattern says.

    The server must wait for those who come back: `patience` longer than it waits for uploads, as in `WAITING`. If a sum fails
    without those who do not come, all come to the next attempt.

    Attributes:
        pattern: Who uploads to each sum of an E-step; to the first sum, of the moments, and beyond the pattern everybody does.
    """

    pattern: Pattern

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`.

        Raises:
            CallerError: the pattern names somebody who is not in the roster.
        """
        names = [tenant.name for tenant in scene.roster.tenants]
        for name in sorted(frozenset().union(*self.pattern) - frozenset(names)):
            raise CallerError(f"'{name}' answers and is not in the roster")
        within = range(1, len(self.pattern) + 1)
        return _Comings(scene, Step.UPLOAD, lambda tenant, k: k in within and names[tenant] not in self.pattern[k - 1])
