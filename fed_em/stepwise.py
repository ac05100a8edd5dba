"""Stepwise (online) EM: M-steps of running statistics, into which every batch is averaged by a step size.

    s̄_t = (1 − γ_t) s̄_{t−1} + γ_t s(batch_t; θ_{t−1}) / n_t        statistics a record

Cappé and Moulines (2009); Liang and Klein (2009); see `fed_em.step_size`. It is one more `Total` around another, so the loop is
that of `fed_em.em`: the inner one sums a batch, wherever it is, and the M-step is given s̄_t.

**How many records s̄_t is worth** matters to a prior, and to nothing else. If batch j has n_j records and weight w_j in the
average, Σ w_j = 1, its variance is that of

    N_t = 1 / Σ_j w_j² / n_j,     1 / N_t = (1 − γ_t)² / N_{t−1} + γ_t² / n_t

records of equal weight (Kish 1965, "Survey Sampling", section 11.7). What is kept is T_t = N_t s̄_t, whose count is N_t: with γ_t = 1/t and
equal batches it is the plain sum of all of them, with γ = 1 the newest one itself.

The terms in T are posterior expectations at earlier parameters, weighted, so the free energy of `fed_em.em` follows from it as
from any sum with stale terms, and is the objective. A step raises it over θ; the next batch is of other rows, so there is nothing to
compare it with, and a stream never converges: it goes on for as many iterations as it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fed_em.em import Summed, Total
from fed_em.errors import CallerError
from fed_em.model import COUNT
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics
from fed_em.step_size import StepSize


@dataclass(frozen=True)
class RunningStatistics:
    """What stepwise EM remembers between two batches, besides the parameters.

    Attributes:
        total: T_t, as the statistics of N_t records; None before the first batch.
        steps: t, the number of batches so far.
    """

    total: Statistics | None = None
    steps: int = 0

    def after(self, batch: Statistics, step_size: StepSize) -> RunningStatistics:
        """With one more batch averaged in. The first batch is taken whole, whatever the step size.

        Args:
            batch: Statistics of at least one record, of the same layout.
            step_size: γ.

        Raises:
            CallerError: the batch holds no record, or is of another layout.
        """
        steps = self.steps + 1
        fresh = float(batch[COUNT])
        if not fresh > 0:
            raise CallerError(f"batch {steps} holds no records", remedy="give at least one row in every batch")
        gamma = step_size.at(steps)
        if self.total is None or gamma == 1.0:
            return RunningStatistics(batch, steps)
        before = float(self.total[COUNT])
        records = 1.0 / ((1.0 - gamma) ** 2 / before + gamma**2 / fresh)
        kept = Statistics(self.total.layout, self.total.vector * (records * (1.0 - gamma) / before))
        return RunningStatistics(kept + Statistics(batch.layout, batch.vector * (records * gamma / fresh)), steps)


class StepwiseTotal:
    """Averages what another total sums into running statistics. Implements `fed_em.em.Total`; use a new one for each fit.

    Args:
        total: Sums a batch: fresh rows each time, or other ones of the same.
        step_size: γ_t.
        running: What an earlier fit has left behind; nothing by default.

    Attributes:
        running: The statistics up to the last batch.
    """

    def __init__(self, total: Total, step_size: StepSize, running: RunningStatistics | None = None) -> None:
        self._total = total
        self._step_size = step_size
        self.running = RunningStatistics() if running is None else running

    def __call__(self, parameters: Parameters) -> Summed:
        """The running statistics after one more batch at `parameters`; those missing from the batch are `missing`.

        Raises:
            CallerError: the batch holds no records; components are held, or terms stale, which an average would count again.
        """
        batch = self._total(parameters)
        for refused, what in ((batch.held, "held components"), (batch.stale, "stale terms")):
            if refused:
                raise CallerError(
                    f"a batch of stepwise EM has {what}", remedy="sum whole batches, without a mass gate or increments"
                )
        self.running = self.running.after(batch.statistics, self._step_size)
        assert self.running.total is not None
        return replace(batch, statistics=self.running.total, newest=batch.statistics)
