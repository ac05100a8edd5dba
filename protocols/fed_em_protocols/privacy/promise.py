"""What a session with differential privacy promises, in public numbers that every tenant checks for itself before it takes part."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from fed_em.errors import CallerError
from fed_em.moderate import MOST_RADIUS
from fed_em_protocols.configuration import Table
from fed_em_protocols.privacy.accounting import Spend, epsilon_of

Unit = Literal["record", "tenant"]

# What the samplers of one sum err by, generously: 2^22 entries of 2^14 tenants, 2^-111 each.
SAMPLING_SLACK = 2.0**-74

# Of the noise multiplier; nothing is left of any sum long before.
MOST_NOISE = 1e9

# What rounding may do to a computed ε.
_TOLERANCE = 1e-6


class Privacy(Table):
    """(ε, δ)-differential privacy of everything that a session opens, by noise inside its sums (ADR 31).

    Neighbours differ in one record of one tenant, which is there or counts for nothing; with the unit "tenant", in all records of one
    tenant. That a tenant takes part is no secret.
    """

    unit: Unit = "record"
    epsilon: Annotated[FiniteFloat, Field(gt=0)]
    """ε of all sums of the session together."""
    delta: Annotated[FiniteFloat, Field(gt=0, lt=0.01)]
    radius: Annotated[FiniteFloat, Field(gt=0, le=MOST_RADIUS)]
    """R: the Gaussian columns of every record are scaled into the ball ‖z‖ ≤ R of the session's coordinates."""
    noise_multiplier: Annotated[FiniteFloat, Field(gt=0, le=MOST_NOISE)]
    """z: the noise of each sum in units of what one neighbour can change."""
    sums: Annotated[int, Field(ge=1, le=1_000_000)]
    """The most sums that a tenant answers with noise; it answers no more."""

    @property
    def spend(self) -> Spend:
        """What the whole session costs a tenant's budget."""
        return Spend(self.noise_multiplier, self.sums, SAMPLING_SLACK * self.sums)

    @property
    def spend_of_a_sum(self) -> Spend:
        """What each sum costs."""
        return Spend(self.noise_multiplier, 1, SAMPLING_SLACK)

    @property
    def in_words(self) -> str:
        """The promise in a sentence."""
        whose = "each record" if self.unit == "record" else "each tenant, with all its records,"
        return (
            f"(ε = {self.epsilon:g}, δ = {self.delta:g})-differential privacy of {whose} in all of at most {self.sums} sums, by noise of "
            f"{self.noise_multiplier:.3g} times what one of them can change"
        )

    def require_kept(self) -> None:
        """Check that noise and number of sums keep what ε and δ promise.

        Raises:
            CallerError: they do not, or the accounting is not installed.
        """
        found = epsilon_of([self.spend], self.delta)
        if not found <= self.epsilon * (1 + _TOLERANCE):
            raise CallerError(
                f"the session promises ε = {self.epsilon:g} at δ = {self.delta:g}, and its {self.sums} sums with noise multiplier "
                f"{self.noise_multiplier:g} keep ε = {found:.4g} only",
                remedy="ask the server's operator; `fed-em privacy plan` shows what a session needs",
            )
