"""What an adversary who reads all of a session sees of one opened sum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fed_em.broadcast import Broadcast
from fed_em.statistics import Statistics


@dataclass(frozen=True, eq=False)
class ReleasedSum:
    """One opened sum, decoded.

    Attributes:
        session: The session's number, 16 bytes.
        round: t.
        kind: "counts" before a mass gate, "whole" vectors, or "increment": the running total after one.
        bases: By roster index: the round at whose parameters this tenant's term in the total was computed; 0: no term.
        broadcast: Model, coordinates and parameters of this round.
        statistics: The decoded total.
    """

    session: bytes
    round: int
    kind: Literal["counts", "whole", "increment"]
    bases: tuple[int, ...]
    broadcast: Broadcast = field(repr=False)
    statistics: Statistics = field(repr=False)
