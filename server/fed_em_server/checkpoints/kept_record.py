"""What a session's record needs of the process before: where the tenants stood, who was asked, and how long it took."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from fed_em_protocols.configuration import Table
from fed_em_server.record import Happening, RoundRecord


class KeptRecord(Table):
    """Where the keeper of a record stands.

    Tenants stand by name; `members` are those of the window in use, `stood` is where they stood when the last round began.
    """

    started: str
    seconds: float = 0.0
    """Since the session began, the time between two processes left out."""
    since_sum: float = 0.0
    """Of these, since the last opened sum."""
    bytes_up: int = 0
    bytes_down: int = 0
    """Of messages since the last opened sum."""
    asked: tuple[str, ...] = ()
    recovered: tuple[str, ...] = ()
    uploaded: tuple[str, ...] = ()
    summed: tuple[int, ...] = ()
    in_sum: tuple[str, ...] = ()
    """Whose statistics are in the last opened sum."""
    bases: tuple[Annotated[int, Field(ge=0)], ...] = ()
    stand: dict[str, str] = Field(default_factory=dict)
    stood: dict[str, str] = Field(default_factory=dict)
    members: tuple[str, ...] = ()


class RecordLine(Table):
    """One line that a record grew by: an opened sum, before its M-step, or a happening."""

    opened: RoundRecord | None = None
    happened: Happening | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.opened is None) == (self.happened is None):
            raise ValueError("a line of a record is an opened sum or a happening")
        return self
