"""The one EM loop. Everything that sums, in memory or across organisations, is hidden behind `total`.

    while not converged:
        statistics = total(parameters)
        parameters = model.m_step(statistics, parameters)

Dempster, Laird and Rubin (1977); the objective is the log-likelihood, or the log posterior under a prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fed_em.errors import CallerError, FedEmError
from fed_em.model import COUNT, LOG_LIKELIHOOD, Model
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics


@dataclass(frozen=True)
class Summed:
    """What one evaluation of `total` gave.

    Attributes:
        statistics: The sum over everybody who answered.
        missing: Names of those who should have answered and did not; empty for rows in memory. The objectives
            of two partial sums are not comparable, so convergence is only ever declared between two complete
            ones.
    """

    statistics: Statistics
    missing: tuple[str, ...] = ()


class Total(Protocol):
    """Sums the E-step statistics at `parameters` over all rows, wherever they are."""

    def __call__(self, parameters: Parameters) -> Summed: ...


@dataclass(frozen=True)
class Stopping:
    """When to stop.

    Attributes:
        tolerance: Converged when the objective per record changes by less than this (nats a record) between
            two complete iterations; scikit-learn's `tol`.
        max_iterations: M-steps at most, complete or not; at least 1.
    """

    tolerance: float = 1e-3
    max_iterations: int = 100

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise CallerError(f"tolerance must be a finite number of at least 0, not {self.tolerance}")
        if self.max_iterations < 1:
            raise CallerError(f"max_iterations must be at least 1, not {self.max_iterations}")


@dataclass(frozen=True)
class Iteration:
    """One turn of the loop, for the convergence record and for anyone who watches.

    Attributes:
        number: 1 for the first.
        objective: (log-likelihood + log prior) / records at the parameters *before* this M-step, nats a
            record.
        log_likelihood: Log-likelihood a record at the same parameters.
        records: Number of records summed.
        missing: Who was missing from the sum.
        parameters: The parameters after this M-step.
    """

    number: int
    objective: float
    log_likelihood: float
    records: float
    missing: tuple[str, ...]
    parameters: Parameters

    @property
    def complete(self) -> bool:
        """Whether everybody answered."""
        return not self.missing


@dataclass(frozen=True)
class Fit:
    """The outcome of `fit`: final parameters, whether they converged, and the record of every iteration."""

    parameters: Parameters
    converged: bool
    iterations: tuple[Iteration, ...]


def fit(
    model: Model,
    total: Total,
    start: Parameters,
    stopping: Stopping,
    observe: Callable[[Iteration], None] = lambda _: None,
    *,
    previous: Iteration | None = None,
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

    Raises:
        FedEmError: the sum holds no records, or the objective is not finite (naming the iteration).
    """
    model.validate(start)
    parameters = start
    iterations: list[Iteration] = []
    for number in range(1, stopping.max_iterations + 1):
        summed = total(parameters)
        updated = model.m_step(summed.statistics, parameters)
        iteration = _record(number, model, summed, parameters, updated)
        iterations.append(iteration)
        observe(iteration)
        parameters = updated
        if converged(previous, iteration, stopping.tolerance):
            return Fit(parameters, True, tuple(iterations))
        previous = iteration
    return Fit(parameters, False, tuple(iterations))


def converged(previous: Iteration | None, current: Iteration, tolerance: float) -> bool:
    """Whether the objective stood still between two consecutive complete iterations."""
    if previous is None or not (previous.complete and current.complete):
        return False
    return abs(current.objective - previous.objective) < tolerance


def _record(number: int, model: Model, summed: Summed, before: Parameters, after: Parameters) -> Iteration:
    records = float(summed.statistics[COUNT])
    if records <= 0:
        raise CallerError(f"iteration {number} summed no records at all", remedy="give at least one row")
    log_likelihood = float(summed.statistics[LOG_LIKELIHOOD])
    objective = (log_likelihood + model.log_prior(before)) / records
    if not math.isfinite(objective):
        raise FedEmError(
            f"the objective became {objective} in iteration {number}",
            remedy="raise the covariance floor, use a prior, or start elsewhere",
        )
    return Iteration(number, objective, log_likelihood / records, records, summed.missing, after)
