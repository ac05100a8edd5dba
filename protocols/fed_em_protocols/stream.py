"""The `[stream]` of a session: stepwise EM, in which a round sums a part of every tenant's rows and the server averages the sums.

Both sides know it from the session's description. A tenant evaluates one minibatch a round (`fed_em.minibatches`), one after the other,
drawn from a secret of its own; a sum that is asked for anew, as its round failed, is over the same one. The server averages opened sums,
whole vectors over all who answered, and never sees less (`fed_em.stepwise`).
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, FiniteFloat, model_validator

from fed_em.minibatches import Minibatches
from fed_em.step_size import ConstantStep, DecayingStep, StepSize
from fed_em_protocols.configuration import Table

MAX_BATCHES = 2**20


class Stream(Table):
    """How a session's rows are divided, and how its sums are averaged. The step size is constant or decays; by default as t^−0.7."""

    batches: Annotated[int, Field(ge=1, le=MAX_BATCHES)]
    """B: each round takes one of B parts of every tenant's rows, by turns, in an order that is drawn anew for each pass."""
    step_size: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    """γ, constant: older rounds are forgotten at one rate."""
    decay: Annotated[FiniteFloat, Field(gt=0.5, le=1)] | None = None
    """κ of γ_t = (t + offset)^−κ."""
    offset: Annotated[FiniteFloat, Field(ge=0)] | None = None
    """0 by default."""

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if self.step_size is not None and (self.decay is not None or self.offset is not None):
            raise ValueError("a step size is constant (step_size) or decays (decay, offset): give one of them")
        return self

    @property
    def schedule(self) -> StepSize:
        """γ_t."""
        if self.step_size is not None:
            return ConstantStep(self.step_size)
        default = DecayingStep()
        return DecayingStep(default.exponent if self.decay is None else self.decay, self.offset or default.offset)

    def minibatches(self, key: bytes) -> Minibatches:
        """The parts of one tenant's rows, drawn from its key."""
        return Minibatches(self.batches, key)
