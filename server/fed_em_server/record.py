"""The record of a session: what happened in every round, as the report and the live view show it.

It holds sums, names and timings: nothing that belongs to one tenant but whether it took part.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fed_em_protocols.configuration import Table

RECORD_FILE = "record.json"


class Participation(Enum):
    """A tenant's part in one round."""

    SUMMED = "summed"
    """In the sum, and opened its own mask."""
    RECOVERED = "recovered"
    """In the sum, fell silent after its upload; its mask was taken off with shares that others held."""
    LATE = "late"
    """Asked, but its upload did not come before the cut-off."""
    AWAY = "away"
    """Not linked, or waiting for the next window."""

    @property
    def in_sum(self) -> bool:
        """Whether the tenant's statistics are in the sum."""
        return self in {Participation.SUMMED, Participation.RECOVERED}


class RoundRecord(Table):
    """One opened round."""

    round: int
    iteration: Annotated[int, Field(ge=0)]
    """The EM iteration it served; 0 for the moments that standardise the columns."""
    participation: tuple[Participation, ...]
    """By roster index."""
    seconds: float
    """From the last opened sum to this one: gathering, a window's set-up and failed attempts included."""
    bytes_up: int
    bytes_down: int
    """Bytes of messages to and from the server, all tenants together."""
    log_likelihood: float | None = None
    """Nats a row of standardised columns, at the parameters that were broadcast; None for the moments."""
    weights: tuple[float, ...] = ()
    """Mixing weights after the M-step."""

    @property
    def complete(self) -> bool:
        """Whether everybody is in the sum."""
        return all(part.in_sum for part in self.participation)


class Happening(Table):
    """Something worth telling apart from the rounds: a window, a fault, a tenant that left or came back."""

    second: float
    round: int
    kind: str
    tenants: tuple[str, ...]
    text: str


class Comparison(Table):
    """One line of the table that compares models by their held-out rows."""

    name: str
    rows: int
    """Rows it was trained on."""
    held_out_log_likelihood: float
    """Nats a row, in original units."""


class SessionRecord(Table):
    """A whole session."""

    title: str
    federation: str
    session: str
    started: str
    """ISO 8601, UTC."""
    transport: str
    trust: str
    banner: str
    """What a reader must know about the trust of this session, in one sentence."""
    tenants: tuple[str, ...]
    columns: tuple[str, ...]
    model: str
    """The model in words."""
    colluders: int
    minimum_survivors: int
    rounds: tuple[RoundRecord, ...] = ()
    happenings: tuple[Happening, ...] = ()
    converged: bool = False
    seconds: float = 0.0
    comparison: tuple[Comparison, ...] = ()


def write_record(folder: Path, record: SessionRecord) -> None:
    """Write `record.json` into a folder that is there. Raises `OSError` as the disk does."""
    (folder / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
