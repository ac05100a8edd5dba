"""Who answers in which round: a pattern that every method is given alike, so that comparisons are paired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field, FiniteFloat

from fed_em_protocols.configuration import Table
from fed_em_simulations.random_streams import stream

# The names of those who answer in each round.
Pattern = tuple[frozenset[str], ...]


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
