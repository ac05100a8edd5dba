"""The one EM loop. Everything that sums, in memory or across organisations, is hidden behind `total`.

    while not converged:
        statistics = total(parameters)
        parameters = model.m_step(statistics, parameters)

Dempster, Laird and Rubin (1977); the objective is the log-likelihood, or the log posterior under a prior.

Not everybody need answer every time. If the sum keeps the last terms of those who do not, at the parameters that they
were computed at, this is incremental EM (Neal and Hinton 1998): with r_i the responsibilities behind the terms of
tenant i, the negative free energy

    F(θ, {r_i}) = Σ_i ( E_{r_i}[log p(x_i, z | θ)] + H(r_i) )  ≤  log-likelihood at θ       (plus the log prior)

never falls, whoever answers and whenever: a fresh E-step maximises it over the r_i of those who answer, the M-step
over θ. With everybody fresh F is the log-likelihood and the loop is batch EM. A sum over whoever happens to answer has
no such objective, and its parameters follow the last to answer.

The log-likelihoods in a sum with stale terms are of different parameters, and say nothing about any. F follows from the
same sum exactly (`Model.free_energy`), and is the objective then. It stands still as soon as the same few answer twice,
whatever the others would add, so the loop has converged when F rose by less than the tolerance over a span of iterations
in which everybody answered: if everybody always does, between two. Whoever has been stale for `GONE_AFTER` iterations
is not waited for: F then stands still over θ and the r_i of all others, so with somebody gone for good this is its optimum
for the terms that they left. In 30 runs each of 4 to 20 parties that answered at random, with probability 0.5 to 0.95,
one more step of batch EM would have gained 1.2 tolerances at most where the loop stopped (up to 1 where batch EM stops).

An optimiser (`fed_em.optimiser`) may have the sum evaluated elsewhere than at the EM point. It needs whole sums: of
everybody at one θ, with all moments. A proposal at which the objective fell, or that could not be evaluated, is refused,
and the loop goes on from the best parameters, at worst to their EM point, which is known. Where a sum is not whole the loop
takes an EM step, and the optimiser begins anew after it; if what was evaluated is a proposal, the sum can neither
confirm nor refuse it, and the loop returns to the EM point before.

Components may be held (`fed_em.silence`): they keep what their moments would move and the M-step maximises over the
rest, which is a conditional M-step (Meng and Rubin 1993): the objective still never falls. F above needs terms that are
all whole, as terms without the moments of a component are of no set of responsibilities. So iterations that have both
stale terms and held components are no evidence of convergence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, cast

from fed_em.errors import CallerError, NotEvaluated
from fed_em.evaluation import Evaluation
from fed_em.model import COUNT, LOCAL_LOG_PRIOR, LOG_LIKELIHOOD, ComponentModel, Model
from fed_em.optimiser import Optimiser, PlainEM
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics

# Iterations in a row without an answer after which nobody is waited for. Random participation hardly gets there: one who
# answers half the time is silent ten times in a row once in a thousand iterations.
GONE_AFTER = 10

# By how much an objective may fall for no other reason than rounding, relative to it.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Summed:
    """What one evaluation of `total` gave.

    Attributes:
        statistics: The sum over everybody but the missing.
        missing: Names of those who are absent from the sum altogether; empty for rows in memory. The objectives
            of sums over different rows are not comparable, so convergence is never declared where any are missing.
        stale: Names of those whose terms in the sum are of earlier parameters.
        held: Components whose moments were not opened, ascending; the model must have components. What the
            statistics say of them is not read.
        newest: The newest terms alone, where `statistics` are an average of them and of terms at earlier parameters
            (`fed_em.stepwise`); else None.
    """

    statistics: Statistics
    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    held: tuple[int, ...] = ()
    newest: Statistics | None = None

    @property
    def whole(self) -> bool:
        """Whether it is of everybody at one θ, with all moments: without that no optimiser knows objective or gradient."""
        return not (self.missing or self.stale or self.held) and self.newest is None


class Total(Protocol):
    """Sums the E-step statistics at `parameters` over all rows, wherever they are."""

    def __call__(self, parameters: Parameters) -> Summed: ...


@dataclass(frozen=True)
class Stopping:
    """When to stop.

    Attributes:
        tolerance: Converged when the objective per record changes by less than this (nats a record) between two
            iterations that can be compared, see `converged`; scikit-learn's `tol`.
        max_iterations: M-steps at most, complete or not; at least 1.
    """

    tolerance: float = 1e-3
    max_iterations: int = 100

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise CallerError(f"tolerance must be a finite number of at least 0, not {self.tolerance}")
        if self.max_iterations < 1:
            raise CallerError(f"max_iterations must be at least 1, not {self.max_iterations}")


class Step(StrEnum):
    """How the loop came to the parameters of a sum, and what became of them."""

    EM = "em"
    """The start or an EM point."""
    LEAP = "leap"
    """A proposal of the optimiser, at which the objective has not fallen."""
    REFUSED = "refused"
    """A proposal at which it has."""
    PAUSED = "paused"
    """An EM point; the optimiser is off in this round, as the sum is not whole."""
    ABANDONED = "abandoned"
    """A proposal; the sum is not whole and says nothing on it."""

    @property
    def is_gone_on_from(self) -> bool:
        """Whether the next step starts here."""
        return self not in (Step.REFUSED, Step.ABANDONED)


@dataclass(frozen=True, eq=False)
class Point:
    """Where the loop wants a sum.

    Attributes:
        parameters: There.
        leap: Whether they are a proposal, which the loop can do without; else they are the start or an EM point.
    """

    parameters: Parameters
    leap: bool


@dataclass(frozen=True)
class Iteration:
    """One turn of the loop, for the convergence record and for anyone who watches.

    Attributes:
        number: 1 for the first.
        objective: (log-likelihood + log prior) / records at the parameters *before* this M-step, nats a
            record; with stale or averaged terms, F in place of the log-likelihood (unless components are held).
        log_likelihood: Log-likelihood a record at the same parameters; stale terms count with that at theirs. Of averaged
            statistics it is that of the newest terms.
        records: Number of records summed.
        missing: Who was missing from the sum.
        stale: Whose terms in the sum were of earlier parameters.
        held: Components whose moments this M-step did without.
        parameters: The parameters after this M-step; after a proposal that is not gone on from, those of the M-step before.
        step: How the loop came to the parameters before this M-step.
        averaged: Whether the statistics were an average with those of earlier iterations.
    """

    number: int
    objective: float
    log_likelihood: float
    records: float
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    held: tuple[int, ...]
    parameters: Parameters
    step: Step = Step.EM
    averaged: bool = False

    @property
    def complete(self) -> bool:
        """Whether everybody answered, at these parameters."""
        return not (self.missing or self.stale)


@dataclass(frozen=True)
class Fit:
    """The outcome of `fit`: final parameters, whether they converged, and the record of every iteration.

    Parameters that stood still because every component was held have not converged. If only some were held in the
    last iteration, the others converged around them. With stale terms in the last iteration, the parameters converged
    around those. A proposal that could not be evaluated leaves no iteration, and its number is missing.

    `ends` are of a fit from several starts (`fed_em.tracks`): the objective that each of them led to; empty of one start.
    """

    parameters: Parameters
    converged: bool
    iterations: tuple[Iteration, ...]
    ends: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class _Course:
    """Where the loop stands.

    Attributes:
        parameters: What to evaluate next.
        optimiser: In the state that proposed them.
        fresh: In the state of a beginning.
        best: What the loop goes on from; None at the beginning and after a sum that is not whole.
    """

    parameters: Parameters
    optimiser: Optimiser
    fresh: Optimiser
    best: Evaluation | None = None

    @property
    def on_leap(self) -> bool:
        """Whether the parameters are a proposal and no EM point."""
        return self.optimiser.proposal is not None

    def refuses(self, objective: float) -> bool:
        """Whether an objective at the parameters is a fall. EM points are never refused: with a covariance floor they may fall a little."""
        if not self.on_leap or self.best is None:
            return False
        return objective < self.best.objective - _ROUNDING * max(1.0, abs(self.best.objective))

    def risen(self, seen: Evaluation) -> _Course:
        """Go on from here."""
        return self._to(replace(self, optimiser=self.optimiser.risen(seen), best=seen), seen)

    def fallen(self, seen: Evaluation | None) -> _Course:
        """Go on from the best, elsewhere."""
        assert self.best is not None
        return self._to(replace(self, optimiser=self.optimiser.fallen(seen)), self.best)

    @staticmethod
    def _to(course: _Course, best: Evaluation) -> _Course:
        proposal = course.optimiser.proposal
        return replace(course, parameters=best.updated if proposal is None else proposal)

    def paused(self, updated: Parameters) -> _Course:
        """Go on from `updated`, with nothing known."""
        return replace(self, parameters=updated, optimiser=self.fresh, best=None)


def fit(
    model: Model,
    total: Total,
    start: Parameters,
    stopping: Stopping,
    observe: Callable[[Iteration], None] = lambda _: None,
    *,
    previous: Iteration | None = None,
    optimiser: Optimiser | None = None,
) -> Fit:
    """Run EM from `start` until it converges or `stopping.max_iterations` is reached.

    Args:
        model: The model.
        total: Where the sums come from.
        start: Parameters to start from.
        stopping: When to stop.
        observe: Called with every iteration, before the next one.
        previous: The last iteration of an earlier run that ended at `start`, so that a continued run
            converges when the uninterrupted one would have; its iterations count from 1 again.
        optimiser: A fresh one of this model; by default plain EM.

    Raises:
        FedEmError: the sum holds no records, or the objective is not finite (naming the iteration).
        CallerError: components are held and the model has none.
    """
    run = steps(model, start, stopping, observe, previous=previous, optimiser=optimiser)
    try:
        point = next(run)
        while True:
            try:
                summed = total(point.parameters)
            except NotEvaluated as error:
                point = run.throw(error)
            else:
                point = run.send(summed)
    except StopIteration as end:
        return cast(Fit, end.value)


def steps(
    model: Model,
    start: Parameters,
    stopping: Stopping,
    observe: Callable[[Iteration], None] = lambda _: None,
    *,
    previous: Iteration | None = None,
    optimiser: Optimiser | None = None,
) -> Generator[Point, Summed, Fit]:
    """The loop of `fit`, with the sums left to whoever drives it; several can be driven in step (`fed_em.lock_step`).

    It yields what to evaluate next and is sent what the sum there gave, or thrown the `NotEvaluated` that it raised.
    Arguments, outcome and errors are those of `fit`.
    """
    model.validate(start)
    fresh = PlainEM() if optimiser is None else optimiser
    course = _Course(start, fresh, fresh)
    before = () if previous is None else (previous,)
    iterations: list[Iteration] = []
    parameters = start
    for number in range(1, stopping.max_iterations + 1):
        try:
            summed = yield Point(course.parameters, course.on_leap)
            updated = _m_step(model, summed, course.parameters)
            iteration = iteration_of(number, model, summed, course.parameters, updated)
        except NotEvaluated:
            if not course.on_leap:
                raise
            course = course.fallen(None)
            continue
        course, iteration = _disposed(course, summed, iteration)
        iterations.append(iteration)
        observe(iteration)
        parameters = iteration.parameters
        if converged((*before, *iterations), stopping.tolerance):
            return Fit(parameters, not _all_held(model, summed), tuple(iterations))
    return Fit(parameters, False, tuple(iterations))


def _disposed(course: _Course, summed: Summed, iteration: Iteration) -> tuple[_Course, Iteration]:
    """Where to go on from, and the iteration as it then counts."""
    if not summed.whole:
        if course.on_leap and course.best is not None:
            known = course.best.updated
            return course.paused(known), replace(iteration, parameters=known, step=Step.ABANDONED)
        step = Step.EM if isinstance(course.fresh, PlainEM) else Step.PAUSED
        return course.paused(iteration.parameters), replace(iteration, step=step)
    seen = Evaluation(course.parameters, summed.statistics, iteration.objective, iteration.parameters)
    if course.refuses(iteration.objective):
        assert course.best is not None
        return course.fallen(seen), replace(iteration, parameters=course.best.updated, step=Step.REFUSED)
    return course.risen(seen), replace(iteration, step=Step.LEAP if course.on_leap else Step.EM)


def converged(iterations: Sequence[Iteration], tolerance: float) -> bool:
    """Whether the objective stood still over the shortest span of iterations, up to the last, in which everybody answered.

    Whoever was stale throughout the last `GONE_AFTER` iterations is not waited for. Where any are missing, statistics are
    averaged over batches, or some are stale and components are held, objectives cannot be compared, and nothing has converged.
    Proposals that are not gone on from do not count. A leap may be small because it was cut short: after one the objective must
    have stood still over two steps.
    """
    if not iterations or not iterations[-1].step.is_gone_on_from:
        return False
    counted = [iteration for iteration in iterations if iteration.step.is_gone_on_from]
    if not _stands_still(counted, tolerance):
        return False
    return counted[-1].step is not Step.LEAP or _stands_still(counted[:-1], tolerance)


def _stands_still(iterations: Sequence[Iteration], tolerance: float) -> bool:
    if not iterations or not _comparable(iterations[-1]):
        return False
    last, recent = iterations[-1], iterations[-GONE_AFTER:]
    gone = frozenset(last.stale).intersection(*(i.stale for i in recent)) if len(recent) == GONE_AFTER else frozenset()
    waited_for = frozenset(last.stale) - gone
    for before in reversed(iterations[:-1]):
        if not _comparable(before):
            return False
        if not waited_for:
            return abs(last.objective - before.objective) < tolerance
        waited_for = waited_for.intersection(before.stale)
    return False


def _comparable(iteration: Iteration) -> bool:
    return not iteration.missing and not iteration.averaged and not (iteration.stale and iteration.held)


def _m_step(model: Model, summed: Summed, parameters: Parameters) -> Parameters:
    if not summed.held:
        return model.m_step(summed.statistics, parameters)
    if not isinstance(model, ComponentModel):
        raise CallerError(f"a model of the family '{model.family}' has no components to hold")
    return model.m_step(summed.statistics, parameters, summed.held)


def _all_held(model: Model, summed: Summed) -> bool:
    return isinstance(model, ComponentModel) and len(summed.held) == model.n_components


def iteration_of(number: int, model: Model, summed: Summed, before: Parameters, after: Parameters) -> Iteration:
    """What a sum at the parameters `before` says of them, as an EM step to `after`.

    Raises:
        CallerError: the sum holds no records.
        NotEvaluated: the objective is not finite.
    """
    records = float(summed.statistics[COUNT])
    if records <= 0:
        raise CallerError(f"iteration {number} summed no records at all", remedy="give at least one row")
    newest = summed.statistics if summed.newest is None else summed.newest
    log_likelihood = float(newest[LOG_LIKELIHOOD])
    averaged = summed.newest is not None
    mixed_in_time = (summed.stale or averaged) and not summed.held
    bound = model.free_energy(summed.statistics, before) if mixed_in_time else log_likelihood
    local = float(summed.statistics[LOCAL_LOG_PRIOR]) if LOCAL_LOG_PRIOR in summed.statistics.layout.offsets else 0.0
    objective = (bound + model.log_prior(before) + local) / records
    if not math.isfinite(objective):
        raise NotEvaluated(
            f"the objective became {objective} in iteration {number}",
            remedy="raise the covariance floor, use a prior, or start elsewhere",
        )
    each = log_likelihood / float(newest[COUNT])
    return Iteration(
        number, objective, each, records, summed.missing, summed.stale, summed.held, after, averaged=averaged
    )
