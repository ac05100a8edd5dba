"""The `Total` of a fit whose sums have noise: what is released of them, as statistics that records can have.

Noise is fresh in every sum and parameters soon change little, so sums are averaged as in stepwise EM (`fed_em.stepwise`): after t of them,
of the noise of one about a part γ_t/(2 − γ_t) is left. That reads nothing but what was released, and costs no privacy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fed_em.admissible import admissible
from fed_em.em import Summed, Total
from fed_em.free_energy import with_log_likelihood
from fed_em.model import Summand
from fed_em.parameters import Parameters
from fed_em.step_size import DecayingStep
from fed_em.stepwise import StepwiseTotal

# A slower decay forgets the first sums later, at parameters that were poor; a faster one leaves more noise.
AVERAGING = DecayingStep(exponent=0.7)


@dataclass(frozen=True)
class NoisedTotal:
    """Implements `fed_em.em.Total`; use a new one for each fit.

    Attributes:
        total: Sums with noise, or their average.
        model: What it sums.
        radius: Of the ball that records are in, in its coordinates.
        projected: Told, of each sum, how many components had to be moved to where an M-step can use them.
    """

    total: Total
    model: Summand
    radius: float
    projected: Callable[[int], None]

    def __call__(self, parameters: Parameters) -> Summed:
        """The sum at some parameters, admissible, with the log-likelihood that follows from it. Raises as the total."""
        summed = self.total(parameters)
        statistics, wrong = admissible(self.model, summed.statistics, self.radius)
        self.projected(wrong)
        # Of an average, the free energy at these parameters is the objective; the newest sum alone is noisier.
        return replace(summed, statistics=with_log_likelihood(self.model, statistics, parameters), newest=None)


def averaged(total: Total) -> Total:
    """The average of what a total sums, round by round."""
    return StepwiseTotal(total, AVERAGING)
