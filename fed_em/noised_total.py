"""The `Total` of a fit whose sums have noise: what is released of them, as statistics that records can have.

Noise is fresh in every sum and parameters soon change little, so sums are averaged, as in stepwise EM (`fed_em.stepwise`): s̄_t =
(1 − γ_t) s̄_{t−1} + γ_t s_t, in which about a part γ_t/(2 − γ_t) of the variance of one sum's noise is left. They are not taken a record
first: how many there are has noise too, and may be negative. All of it reads nothing but what was released, and costs no privacy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from fed_em.admissible import admissible
from fed_em.em import Summed, Total
from fed_em.free_energy import with_log_likelihood
from fed_em.model import Summand
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics
from fed_em.step_size import DecayingStep, StepSize

# A slower decay forgets the first sums later, at parameters that were poor; a faster one leaves more noise.
AVERAGING = DecayingStep(exponent=0.7)


class NoisedTotal:
    """Implements `fed_em.em.Total`; use a new one for each fit.

    Args:
        total: Sums with noise.
        model: What it sums.
        radius: Of the ball that records are in, in its coordinates.
        projected: Told, of each sum, how many components had to be moved to where an M-step can use them.
        averaging: γ_t; None if each sum stands for itself.
        noise: The standard deviation of the noise of each entry of a block of one sum, by the block's name.
    """

    def __init__(
        self,
        total: Total,
        model: Summand,
        radius: float,
        projected: Callable[[int], None],
        averaging: StepSize | None = None,
        noise: Mapping[str, float] | None = None,
    ) -> None:
        self._total = total
        self._model = model
        self._radius = radius
        self._projected = projected
        self._averaging = averaging
        self._noise = dict(noise or {})
        self._average: Statistics | None = None
        self._variance = 1.0
        self._sums = 0

    def __call__(self, parameters: Parameters) -> Summed:
        """The sum at some parameters, or the average up to it, admissible, with the free energy there as log-likelihood.

        Raises:
            FedEmError: as the total.
        """
        summed = self._total(parameters)
        average = self._averaged(summed.statistics)
        left = {name: sigma * math.sqrt(self._variance) for name, sigma in self._noise.items()}
        statistics, wrong = admissible(self._model, average, self._radius, left)
        self._projected(wrong)
        return replace(summed, statistics=with_log_likelihood(self._model, statistics, parameters))

    def _averaged(self, newest: Statistics) -> Statistics:
        self._sums += 1
        if self._average is None or self._averaging is None:
            self._average = newest
        else:
            share = self._averaging.at(self._sums)
            vector = (1.0 - share) * self._average.vector + share * newest.vector
            self._average = Statistics(newest.layout, vector)
            self._variance = (1.0 - share) ** 2 * self._variance + share**2
        return self._average
