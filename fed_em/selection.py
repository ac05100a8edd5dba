"""Picking one of several models: all are fitted together, and one sum at their final parameters says which is best.

    fits    = fit_together(all models)              one payload a round (`fed_em.lock_step`)
    picked  = argmin of a criterion                 from the last of these sums (`fed_em.criteria`)

With a held-out share, all of this is of the other rows. The picked model then goes on over all rows, from where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from fed_em.candidates import Candidates
from fed_em.criteria import BIC, HELD_OUT, Evidence, best_of, check_criterion
from fed_em.description import check_whole_number
from fed_em.em import Fit, Stopping, Total
from fed_em.errors import CallerError
from fed_em.held_out import HeldOut
from fed_em.lock_step import FitsTogether, RoundOfFits, fit_together
from fed_em.model import COUNT, Model
from fed_em.optimiser import EM
from fed_em.parameters import Parameters


@dataclass(frozen=True)
class Choice:
    """What there is to pick from, and by what.

    Attributes:
        models: Distinct mixtures over the same columns.
        criterion: One of `fed_em.criteria.CRITERIA`.
        held_out: Which rows are only scored; None if none.
        max_iterations: Of each fit, before one is picked; at least 1.

    Raises:
        CallerError: a number is out of its range, there is no such criterion, it needs held-out rows and there are none, two models are
            equal, or they are no candidates of one payload.
    """

    models: tuple[Model, ...]
    criterion: str = BIC
    held_out: HeldOut | None = None
    max_iterations: int = 100

    def __post_init__(self) -> None:
        check_criterion(self.criterion)
        check_whole_number("max_iterations", self.max_iterations, 1)
        if self.criterion == HELD_OUT and self.held_out is None:
            raise CallerError(f"criterion '{HELD_OUT}' needs rows that are held out", remedy="hold out a share of them")
        if len(set(self.models)) < len(self.models):
            raise CallerError("two models to pick from are the same", remedy="name each once")
        _ = self.candidates

    @cached_property
    def candidates(self) -> Candidates:
        """All of them in one payload."""
        return Candidates(self.models, self.held_out)


@dataclass(frozen=True)
class Picked:
    """One of several models, and why.

    Attributes:
        choice: What there was to pick from.
        number: Which of its models was picked.
        evidence: Of each model; None where a component collapsed.
        converged: Whether each had converged.
        parameters: Of the picked one.
        complete: Whether the evidence is of everybody's rows at the final parameters.
    """

    choice: Choice
    number: int
    evidence: tuple[Evidence | None, ...]
    converged: tuple[bool, ...]
    parameters: Parameters
    complete: bool

    @property
    def model(self) -> Model:
        """The picked one."""
        return self.choice.models[self.number]


def pick(
    choice: Choice,
    total: Total,
    starts: Sequence[Parameters],
    tolerance: float,
    observe: Callable[[RoundOfFits], None] = lambda _: None,
    optimiser: str = EM,
) -> Picked:
    """Fit all models and pick one.

    Args:
        choice: The models and the criterion.
        total: Of `choice.candidates`.
        starts: Of each model.
        tolerance: Of each fit (`fed_em.em.Stopping`).
        observe: Called after every round but the last, from which the evidence is.
        optimiser: One of `fed_em.optimiser.OPTIMISERS`.

    Raises:
        CallerError: every model collapsed, or no rows were drawn to be held out, or none to fit to.
        FedEmError: as `fit_together`.
    """
    stopping = Stopping(tolerance, choice.max_iterations)
    fits = fit_together(choice.candidates, total, starts, stopping, observe, optimiser)
    evidence = _evidence(choice, fits)
    number = best_of(choice.criterion, evidence)
    converged = tuple(isinstance(outcome, Fit) and outcome.converged for outcome in fits.outcomes)
    return Picked(choice, number, evidence, converged, fits.parameters[number], fits.summed.whole)


def _evidence(choice: Choice, fits: FitsTogether) -> tuple[Evidence | None, ...]:
    statistics = fits.summed.statistics
    if float(statistics[COUNT]) <= 0:
        raise CallerError(
            "the last round of models to pick from summed no records at all", remedy="give at least one row"
        )
    apart = choice.candidates.statistics_of(statistics)
    scores: Sequence[float | None] = (None,) * len(apart)
    if choice.held_out is not None:
        n, summed = choice.candidates.held_out_of(statistics)
        if n <= 0:
            raise CallerError("no rows were drawn to be held out", remedy="hold out a larger share")
        scores = [score / n for score in summed]
    return tuple(
        Evidence.of(model, own, score) if isinstance(outcome, Fit) else None
        for model, own, score, outcome in zip(choice.models, apart, scores, fits.outcomes, strict=True)
    )
