"""Several fits in step: each round is one sum of all of them (`fed_em.candidates`), whatever each is about to try.

Every fit is a run of the one loop (`fed_em.em.steps`) with an optimiser of its own, takes and refuses steps by itself, and comes to what
it would come to alone. Whoever has ended waits: it is evaluated again and again at its final parameters, so that all payloads have one
layout and the terms of earlier rounds can stand in for those who do not answer. The last sum is of all final parameters at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from fed_em.candidates import CandidateNotEvaluated, Candidates
from fed_em.em import GONE_AFTER, Fit, Iteration, Point, Stopping, Summed, Total, steps
from fed_em.errors import NotEvaluated
from fed_em.model import Model
from fed_em.optimiser import EM, Optimiser, optimiser_for
from fed_em.parameters import Parameters

# The iterations that one round gave, by candidate: of those that still ran.
RoundOfFits = Mapping[int, Iteration]


@dataclass(frozen=True)
class FitsTogether:
    """What `fit_together` gives.

    Attributes:
        parameters: Of each candidate: final ones, or the last that could be evaluated.
        outcomes: The fit of each, or what it ended with.
        summed: The sum of all candidates at these parameters.
    """

    parameters: tuple[Parameters, ...]
    outcomes: tuple[Fit | NotEvaluated, ...]
    summed: Summed


def fit_together(
    candidates: Candidates,
    total: Total,
    starts: Sequence[Parameters],
    stopping: Stopping,
    observe: Callable[[RoundOfFits], None] = lambda _: None,
    optimiser: str = EM,
) -> FitsTogether:
    """Fit every candidate from its own start, all by the same sums.

    Where the last sum holds terms of earlier parameters, it is taken again until everybody answered, at most `GONE_AFTER` times.

    Args:
        candidates: What to fit.
        total: Of the candidates.
        starts: Of each.
        stopping: When each of them stops.
        observe: Called after every round but the last, with the iterations of those that still ran.
        optimiser: One of `fed_em.optimiser.OPTIMISERS`; each has its own.

    Raises:
        FedEmError: as `fed_em.em.fit`; a candidate that cannot be evaluated at its very start.
    """
    pairs = zip(candidates.models, starts, strict=True)
    runs = [Run(model, start, stopping, optimiser_for(optimiser, model)) for model, start in pairs]
    waited = 0
    while True:
        summed = sum_of_all(candidates, total, runs)
        if any(run.outcome is None for run in runs):
            observe(_advanced(candidates, runs, summed))
        elif summed.whole or waited == GONE_AFTER:
            break
        else:
            observe({})
            waited += 1
    return FitsTogether(
        tuple(run.parameters for run in runs), tuple(cast(Fit | NotEvaluated, run.outcome) for run in runs), summed
    )


def sum_of_all(candidates: Candidates, total: Total, runs: Sequence[Run]) -> Summed:
    """The sum at what all of them try; whoever cannot be evaluated there tries something else.

    Where nobody knows whose parameters it was, all that leap go back to EM points, which are known, and all starts but the best are out.
    """
    while True:
        try:
            return total(candidates.joined([run.parameters for run in runs]))
        except CandidateNotEvaluated as error:
            runs[error.candidate].failed(error)
        except NotEvaluated as error:
            leaping = [run for run in runs if run.leaps]
            if not leaping:
                raise
            for run in leaping:
                run.failed(error)


def _advanced(candidates: Candidates, runs: Sequence[Run], summed: Summed) -> RoundOfFits:
    """Every run one step further, and the iterations that came of it."""
    iterations: dict[int, Iteration] = {}
    for r, (run, own) in enumerate(zip(runs, candidates.statistics_of(summed.statistics), strict=True)):
        iteration = run.advanced(replace(summed, statistics=own))
        if iteration is not None:
            iterations[r] = iteration
    return iterations


class Run:
    """One fit, as far as it has come; it takes sums of its own statistics, and raises as `fed_em.em.steps`.

    Args:
        model, start, stopping, optimiser: As of `fed_em.em.steps`.
        instead: Where it waits if it cannot be evaluated at its very start; None where all others end with it.

    Attributes:
        parameters: What to evaluate next; once it has ended, the final ones.
        leaps: Whether these are a proposal that it can do without, or a start that all others can.
        outcome: None while it runs.
    """

    def __init__(
        self,
        model: Model,
        start: Parameters,
        stopping: Stopping,
        optimiser: Optimiser,
        instead: Parameters | None = None,
    ) -> None:
        self._loop = steps(model, start, stopping, self._observe, optimiser=optimiser)
        self._evaluated = instead
        self._iteration: Iteration | None = None
        self.outcome: Fit | NotEvaluated | None = None
        self._go_to(Point(next(self._loop).parameters, leap=instead is not None))

    def _go_to(self, point: Point) -> None:
        self.parameters, self.leaps = point.parameters, point.leap

    def _observe(self, iteration: Iteration) -> None:
        self._iteration = iteration

    def advanced(self, summed: Summed) -> Iteration | None:
        """Go on from the sum at the parameters; the iteration that came of it, if any did."""
        self._evaluated, self._iteration = self.parameters, None
        if self.outcome is None:
            self._go_on(lambda: self._loop.send(summed))
        return self._iteration

    def failed(self, error: NotEvaluated) -> None:
        """Go on from parameters that could not be evaluated. Raises the error if there are no others."""
        if self.parameters is self._evaluated:
            raise error
        if self.outcome is None:
            self._go_on(lambda: self._loop.throw(error))
        else:
            self._end(error)

    def _go_on(self, advance: Callable[[], Point]) -> None:
        try:
            self._go_to(advance())
        except StopIteration as end:
            self.outcome = cast(Fit, end.value)
            self._go_to(Point(self.outcome.parameters, leap=False))
        except NotEvaluated as error:
            self._end(error)

    def _end(self, error: NotEvaluated) -> None:
        if self._evaluated is None:
            raise error
        self.outcome = error
        self._go_to(Point(self._evaluated, leap=False))
