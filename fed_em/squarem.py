"""SQUAREM: every third step goes on along the last two, as far as their lengths suggest.

Varadhan and Roland (2008), "Simple and globally convergent methods for accelerating the convergence of any EM algorithm",
Scandinavian Journal of Statistics 35, scheme S3: with r = θ₁ − θ₀ and v = (θ₂ − θ₁) − r in a chart about θ₀, θ₁ and θ₂ its EM points,

    θ' = θ₀ − 2αr + α²v,   α = −‖r‖ / ‖v‖,   at least 1 in absolute value (α = −1 is θ₂).

θ₂ needs no sum of its own, as the sum at θ₁ gives it: a cycle of two EM steps and one leap takes three sums.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fed_em.chart import ChartedModel
from fed_em.errors import FedEmError
from fed_em.evaluation import Evaluation
from fed_em.parameters import Parameters


@dataclass(frozen=True, eq=False)
class Squarem:
    """Implements `fed_em.optimiser.Optimiser`.

    Attributes:
        model: What is fitted.
        first: What was seen at θ₀; None while none is.
        proposal: θ', once θ₁ has been seen.
    """

    model: ChartedModel
    first: Evaluation | None = None
    proposal: Parameters | None = None

    def risen(self, seen: Evaluation) -> Squarem:
        """After θ₀ wait for θ₁; after θ₁ leap; after a leap take one EM step, whose end is the next θ₀."""
        if self.proposal is not None:
            return replace(self, first=None, proposal=None)
        if self.first is None:
            return replace(self, first=seen)
        leap = _leap(self.model, self.first, seen)
        # Without a leap θ₁ is as good a θ₀ as any.
        return replace(self, first=seen if leap is None else None, proposal=leap)

    def fallen(self, seen: Evaluation | None) -> Squarem:  # noqa: ARG002  what is seen beyond is of no use to the next cycle
        """Begin anew at θ₂."""
        return replace(self, first=None, proposal=None)


def _leap(model: ChartedModel, first: Evaluation, second: Evaluation) -> Parameters | None:
    try:
        chart = model.chart(first.parameters)
        start, one, two = (chart.vector(p) for p in (first.parameters, second.parameters, second.updated))
        r = one - start
        v = two - one - r
        bend = float(np.linalg.norm(v))
        length = float(np.linalg.norm(r)) / bend if bend > 0 else 0.0
        if not length > 1:
            return None
        proposal = chart.parameters(start + 2 * length * r + length**2 * v)
        model.validate(proposal)
    except FedEmError:
        return None
    return proposal
