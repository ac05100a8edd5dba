"""What a session measures, in the words of its description: models, edges, and the hash of all that its one sum is asked at."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from fed_em.broadcast import Broadcast
from fed_em.errors import CallerError
from fed_em.families import build_summand
from fed_em.measured_models import MeasuredModels
from fed_em_protocols.configuration import Table


class Measured(Table):
    """One sum of fitted models over fresh rows, fixed before the session begins: tenants answer it, and nothing else."""

    models: dict[str, Any]
    """The description of the sum (`fed_em.measured_models.MeasuredModels.describe`): models, and the edges of the reference."""
    point: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the one broadcast that is answered: of these models at their parameters."""

    @model_validator(mode="after")
    def _describes_models(self) -> Self:
        try:
            _ = self.summand
        except CallerError as error:
            raise ValueError(str(error)) from None
        return self

    @classmethod
    def of(cls, broadcast: Broadcast) -> Measured:
        """Of what is to be asked."""
        return cls(models=dict(broadcast.model.describe()), point=hashlib.sha256(broadcast.to_bytes()).hexdigest())

    @cached_property
    def summand(self) -> MeasuredModels:
        """What is summed. Raises `CallerError` if it is no measurement."""
        found = build_summand(self.models)
        if not isinstance(found, MeasuredModels):
            raise CallerError(f"a '{found.family}' is no measurement")
        return found

    def is_of(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast is the one."""
        return hashlib.sha256(broadcast.to_bytes()).hexdigest() == self.point and broadcast.model == self.summand
