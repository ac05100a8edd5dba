"""How much differential privacy a tenant gives away: its own demand, never an option of the server's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class EpsilonBudget:
    """What all sessions of a period may spend together.

    Attributes:
        epsilon: ε, positive and finite.
        delta: δ at which it holds, in (0, 1).
        period_days: Length of the period: any stretch of so many times 24 hours.
    """

    epsilon: float
    delta: float
    period_days: int

    @property
    def period(self) -> timedelta:
        """Its length."""
        return timedelta(days=self.period_days)


@dataclass(frozen=True)
class PrivacyDemands:
    """What a tenant demands of sessions.

    Attributes:
        required: Whether sessions without differential privacy are refused.
        budget: None: what is spent is recorded, and bounded by nothing.
    """

    required: bool = False
    budget: EpsilonBudget | None = None


NO_DEMANDS = PrivacyDemands()
