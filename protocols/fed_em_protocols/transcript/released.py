"""What an adversary who reads all of a session sees: every opened sum, decoded, and whose terms of which round are in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fed_em.broadcast import Broadcast
from fed_em.statistics import Statistics
from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.messages import Mode
from fed_em_protocols.transcript.walk import WalkedSession, encoding_asked

KINDS = {Mode.COUNTS: "counts", Mode.WHOLE: "whole", Mode.INCREMENT: "increment"}


@dataclass(frozen=True, eq=False)
class ReleasedSum:
    """One opened sum.

    Attributes:
        session: 16 bytes.
        round: t.
        kind: "counts", "whole" or "increment".
        bases: By roster index: the round at whose parameters this tenant's term in the total was computed; 0: no term.
        broadcast: Model, coordinates and parameters of this round.
        statistics: The decoded total.
    """

    session: bytes
    round: int
    kind: str
    bases: tuple[int, ...]
    broadcast: Broadcast = field(repr=False)
    statistics: Statistics = field(repr=False)


def released_sums(session: WalkedSession) -> tuple[ReleasedSum, ...]:
    """All opened sums of a verified transcript, in order."""
    found = []
    for attempt in session.attempts:
        header, opened = attempt.header, attempt.outcome
        if header is None or not isinstance(opened, SumOpened):
            continue
        broadcast, mode = attempt.broadcast, Mode(header.content.mode)
        encoding = encoding_asked(session.description, mode, broadcast, session.roster)
        statistics = encoding.decode(opened.vector)
        number = header.content.round
        found.append(
            ReleasedSum(session.terms.content.session, number, KINDS[mode], attempt.bases, broadcast, statistics)
        )
    return tuple(found)
