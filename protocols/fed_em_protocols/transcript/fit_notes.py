"""What a fit makes of its sums, as entries of a transcript: written once, and made again by whoever replays it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from fed_em.em import Iteration
from fed_em.lock_step import RoundOfFits
from fed_em.selection import Picked
from fed_em.standard_errors import StandardErrors
from fed_em.starts import StartRound
from fed_em.statistics import Vector
from fed_em.tensors import encode
from fed_em_protocols.transcript.entries import (
    CandidateDone,
    ErrorsDone,
    FitEntry,
    FittedTogether,
    IterationDone,
    ModelPicked,
    StartDone,
)


class FitNotes:
    """Turns a fit's course into entries. Implements `fed_em.standardised_fit.Onlooker`.

    Args:
        add: Takes each entry.
    """

    def __init__(self, add: Callable[[FitEntry], None]) -> None:
        self._add = add

    def started(self, seen: StartRound) -> None:
        """A sum of the start is over."""
        self._add(StartDone(number=seen.number, objectives=tuple(map(float, seen.objectives))))

    def fitted_together(self, iterations: RoundOfFits) -> None:
        """A round of the models to pick from is over."""
        done = (CandidateDone(candidate=k, iteration=_done(each)) for k, each in sorted(iterations.items()))
        self._add(FittedTogether(iterations=tuple(done)))

    def picked(self, picked: Picked) -> None:
        """One of the models was picked."""
        self._add(ModelPicked(number=picked.number, complete=picked.complete, parameters=_digest(picked.parameters)))

    def iterated(self, iteration: Iteration) -> None:
        """An iteration of the one model is over."""
        self._add(_done(iteration))

    def errors(self, errors: StandardErrors) -> None:
        """There are standard errors."""
        self._add(ErrorsDone(records=errors.records, shift=errors.shift, errors=_digest(errors.errors)))


def _done(iteration: Iteration) -> IterationDone:
    return IterationDone(
        number=iteration.number,
        step=str(iteration.step),
        objective=iteration.objective,
        log_likelihood=iteration.log_likelihood,
        records=iteration.records,
        held=iteration.held,
        parameters=_digest(iteration.parameters),
    )


def _digest(arrays: Mapping[str, Vector]) -> bytes:
    return hashlib.sha256(encode(arrays, {})).digest()
