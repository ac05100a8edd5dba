"""Step sizes of stepwise EM: the share that the newest batch takes in the running statistics (`fed_em.stepwise`).

    decaying   γ_t = (t + t0)^−κ,  1/2 < κ ≤ 1     converges: Σ γ_t = ∞ and Σ γ_t² < ∞ (Robbins and Monro 1951)
    constant   γ_t = γ,            0 < γ ≤ 1       forgets at one rate, so it follows what changes

Cappé and Moulines (2009), "On-line expectation-maximization algorithm for latent data models", Journal of the Royal Statistical
Society B 71, section 3; Liang and Klein (2009), "Online EM for unsupervised models", section 3.2, where a κ near 1/2 and large
batches did best.
"""

from __future__ import annotations

from dataclasses import dataclass

from fed_em.description import check_real
from fed_em.errors import CallerError


@dataclass(frozen=True)
class DecayingStep:
    """γ_t = (t + t0)^−κ. With κ = 1, t0 = 0 and equal batches, every batch counts as much as any other.

    Attributes:
        exponent: κ, in (1/2, 1]; the smaller, the sooner early batches, of poor parameters, are forgotten.
        offset: t0 ≥ 0, which makes the first steps smaller.

    Raises:
        CallerError: a value is out of its range.
    """

    exponent: float = 0.7
    offset: float = 0.0

    def __post_init__(self) -> None:
        check_real("the step size's exponent", self.exponent, 0.5, strict=True)
        check_real("the step size's offset", self.offset, 0.0)
        if self.exponent > 1:
            raise CallerError(
                f"the step size's exponent must be at most 1, not {self.exponent!r}",
                remedy="steps that shrink faster come to rest before they arrive; give 0.6 to 1",
            )

    def at(self, step: int) -> float:
        """γ_t of step t, 1 for the first: in (0, 1]."""
        return float((step + self.offset) ** -self.exponent)


@dataclass(frozen=True)
class ConstantStep:
    """γ_t = γ. In the long run a batch of n records counts like n (2 − γ)/γ of them.

    Attributes:
        size: γ, in (0, 1]; 1 forgets all but the newest batch.

    Raises:
        CallerError: it is out of its range.
    """

    size: float

    def __post_init__(self) -> None:
        check_real("the step size", self.size, 0.0, strict=True)
        if self.size > 1:
            raise CallerError(f"the step size must be at most 1, not {self.size!r}")

    def at(self, step: int) -> float:  # noqa: ARG002  the same at all
        """γ, whatever the step."""
        return float(self.size)


StepSize = DecayingStep | ConstantStep


def step_size_of(value: object) -> StepSize:
    """A step size itself, a number as a constant one, None as the default `DecayingStep`.

    Raises:
        CallerError: it is none of these, or out of its range.
    """
    if value is None:
        return DecayingStep()
    if isinstance(value, DecayingStep | ConstantStep):
        return value
    check_real("the step size", value, 0.0, strict=True)
    assert isinstance(value, int | float)
    return ConstantStep(value)
