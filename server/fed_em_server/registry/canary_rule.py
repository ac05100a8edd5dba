"""The rule by which a candidate is promoted, kept waiting or rolled back, as it stands in a session's file: `[canary]`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, FiniteFloat, model_validator

from fed_em_protocols.configuration import Table


class CanaryRule(Table):
    """When a candidate is good enough, and when it is not, by rows that neither model was fitted to."""

    min_records: Annotated[int, Field(ge=30)] = 1000
    """Of fewer, nothing follows. Differences of log-densities have long tails: of very few records their mean is not yet Gaussian."""
    min_gain: Annotated[FiniteFloat, Field(ge=0)] | None = None
    """Nats a record: by so much at least a candidate must be better. Without it and without `max_loss` it must be better at all."""
    max_loss: Annotated[FiniteFloat, Field(ge=0)] | None = None
    """Nats a record: by so much it may be worse, as where it is fresher, smaller or private."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    """Of each of the two decisions: a candidate exactly at its bound is promoted, or rolled back, with probability 1 − `confidence`."""
    max_missing: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """The share of tenants that may be missing from the measurement."""

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if self.min_gain is not None and self.max_loss is not None:
            raise ValueError("a candidate must be better (min_gain) or may be worse (max_loss): set one of them")
        return self

    @property
    def promotes_at(self) -> float:
        """Nats a record that a candidate's gain must be proved to reach."""
        return -self.max_loss if self.max_loss is not None else self.min_gain or 0.0

    @property
    def rolls_back_at(self) -> float:
        """Nats a record that a candidate's gain must be proved to stay below: it is worse, and by more than it may be."""
        return min(self.promotes_at, 0.0)
