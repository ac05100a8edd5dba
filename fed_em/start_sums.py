"""The sums of starts, without candidates that somebody's rows cannot be evaluated at: the other starts can do without those.

A candidate's parameters may be such that the statistics of some records are not numbers, or are beyond what can be encoded. Where it is
known whose parameters they are, that candidate alone is left out. In a federation it is not: the sum tells how many tenants could not
compute it, and nothing else. Then every second candidate is left out, or else the others, or else all but every fourth: whatever part
can be evaluated goes on. To look for the one would take more sums, and each that comes to nothing tells a number of tenants.

In the place of a candidate that is left out a point is evaluated that is as wide as all records are, so that payloads have one layout.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from fed_em.candidates import CandidateNotEvaluated, Candidates
from fed_em.em import Summed
from fed_em.errors import CallerError, NotEvaluated
from fed_em.model import COUNT
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics

# Into how many parts candidates are taken apart, one part going on, where a sum of them all comes to nothing.
_PARTS = (2, 4)


class StartSums:
    """Sums of all starts of one model or several.

    Args:
        candidates: What they are of, the starts of each model one after the other.
        total: Of the candidates.
        n_each: How many starts each model has.
    """

    def __init__(self, candidates: Candidates, total: Callable[[Parameters], Summed], n_each: int) -> None:
        self._candidates, self._total, self._n_each = candidates, total, n_each

    def at(self, points: Sequence[Parameters | None], wide: Sequence[Parameters]) -> list[Statistics | None]:
        """The statistics of each start.

        Args:
            points: Where each is to be evaluated; None for one that was left out before.
            wide: What is evaluated in the place of each that is left out.

        Returns:
            Of each; None of one that is left out.

        Raises:
            NotEvaluated: no start of some model is left.
            CallerError: the sum holds no records.
        """
        live = [r for r, point in enumerate(points) if point is not None]
        nowhere: NotEvaluated | None = None
        for part in self._parts(live):
            try:
                return self._of_part(part, points, wide)
            except NotEvaluated as error:
                nowhere = nowhere or error
        assert nowhere is not None
        raise nowhere

    def _parts(self, live: Sequence[int]) -> Iterator[Sequence[int]]:
        """All of them; then parts that have a start of every model."""
        yield live
        for n_parts in _PARTS:
            yield from filter(self._suffices, (live[first::n_parts] for first in range(n_parts)))

    def _suffices(self, live: Collection[int]) -> bool:
        return len({r // self._n_each for r in live}) * self._n_each == len(self._candidates.models)

    def _of_part(
        self, part: Sequence[int], points: Sequence[Parameters | None], wide: Sequence[Parameters]
    ) -> list[Statistics | None]:
        live = set(part)
        while True:
            asked = [point if r in live and point is not None else wide[r] for r, point in enumerate(points)]
            try:
                statistics = self._total(self._candidates.joined(asked)).statistics
            except CandidateNotEvaluated as error:
                if error.candidate not in live:
                    raise
                live.remove(error.candidate)
                if not self._suffices(live):
                    raise
                continue
            if float(statistics[COUNT]) <= 0:
                raise CallerError("a round of starts summed no records at all", remedy="give at least one row")
            each = self._candidates.statistics_of(statistics)
            return [own if r in live else None for r, own in enumerate(each)]
