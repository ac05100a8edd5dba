"""Several onlookers of a fit as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fed_em.em import Iteration
from fed_em.lock_step import RoundOfFits
from fed_em.selection import Picked
from fed_em.standardised_fit import Onlooker
from fed_em.starts import StartRound


@dataclass(frozen=True)
class Onlookers:
    """Tells each of them everything, in order. Implements `fed_em.standardised_fit.Onlooker`."""

    onlookers: Sequence[Onlooker]

    def started(self, seen: StartRound) -> None:
        """Tell all."""
        for onlooker in self.onlookers:
            onlooker.started(seen)

    def fitted_together(self, iterations: RoundOfFits) -> None:
        """Tell all."""
        for onlooker in self.onlookers:
            onlooker.fitted_together(iterations)

    def picked(self, picked: Picked) -> None:
        """Tell all."""
        for onlooker in self.onlookers:
            onlooker.picked(picked)

    def iterated(self, iteration: Iteration) -> None:
        """Tell all."""
        for onlooker in self.onlookers:
            onlooker.iterated(iteration)
