"""What a tenant has spent of its rows' privacy: entries, and what follows from them. Knows no file and no clock.

A session's plan is *reserved* as a whole before its first upload; each of its sums is *charged* before it is uploaded, and never
refunded; what is reserved and was not charged is *released* at the end. Within a period, a session counts with the sums charged
in it and, while its reservation stands, with the sums that it may still charge. So whatever is uploaded was counted when the last
reservation before it was made, and a check there bounds every stretch of time of a period's length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum

from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.privacy.accounting import Spend
from fed_em_protocols.wire.fields import SESSION_BYTES


class EntryKind(IntEnum):
    """What an entry does."""

    RESERVE = 1
    CHARGE = 2
    RELEASE = 3


@dataclass(frozen=True)
class Entry:
    """One line of a tenant's ledger.

    Attributes:
        kind: What it does.
        session: 16 bytes.
        round: Of a charge; else 0.
        spend: What is reserved (the session's whole plan), charged (one sum of it) or given back (what was left of it).
        time: Of day, with its zone.
    """

    kind: EntryKind
    session: bytes
    round: int
    spend: Spend
    time: datetime

    def __post_init__(self) -> None:
        if len(self.session) != SESSION_BYTES or not 0 <= self.round < 2**64:
            raise IllegalStep(f"no session of {SESSION_BYTES} bytes, or no round: {self.session.hex()}, {self.round}")


@dataclass(frozen=True)
class SessionSpends:
    """What one session has spent and may still spend.

    Attributes:
        plan: All of its sums.
        reserved: When the sums that are left were reserved; None if they were released.
        charged: Round to the time at which its sum was charged last; again, after a crash or for a message sent again, is no more.
    """

    plan: Spend
    reserved: datetime | None
    charged: Mapping[int, datetime] = field(default_factory=dict)

    @property
    def rest(self) -> int:
        """How many sums of the plan are not charged."""
        return self.plan.sums - len(self.charged)

    def of(self, sums: int) -> Spend:
        """Some sums of the plan, with their share of its slack."""
        return replace(self.plan, sums=sums, slack=self.plan.slack * sums / self.plan.sums)

    def stands(self, now: datetime, period: timedelta | None) -> bool:
        """Whether its reservation stands: not released, and not older than a period (None: of any age)."""
        return self.reserved is not None and (period is None or self.reserved > now - period)

    def charges_since(self, start: datetime | None) -> int:
        """How many sums were charged after a time (None: ever)."""
        return sum(start is None or time > start for time in self.charged.values())


@dataclass(frozen=True)
class PrivacySpends:
    """What a tenant's entries say together. Start without any, and take one after another with `after`.

    Attributes:
        sessions: By session number, in the order in which they were first reserved.
        latest: The time of the last entry; None without one.
    """

    sessions: Mapping[bytes, SessionSpends] = field(default_factory=dict)
    latest: datetime | None = None

    def after(self, entry: Entry) -> PrivacySpends:
        """With one more entry. Raises `IllegalStep` if it does not fit those before it."""
        if self.latest is not None and entry.time < self.latest:
            raise IllegalStep("an entry is older than the one before it")
        found = _AFTER[entry.kind](self.sessions.get(entry.session), entry)
        return PrivacySpends({**self.sessions, entry.session: found}, entry.time)

    def charged(self, now: datetime, period: timedelta | None) -> tuple[Spend, ...]:
        """What was charged within a period (None: ever), one spend for each session that has any."""
        start = None if period is None else now - period
        counted = ((session, session.charges_since(start)) for session in self.sessions.values())
        return tuple(session.of(sums) for session, sums in counted if sums)

    def reserved(self, now: datetime, period: timedelta | None) -> tuple[Spend, ...]:
        """What is reserved and not charged, one spend for each session that has any."""
        return tuple(spend for _, spend in self.standing(now, period))

    def standing(self, now: datetime, period: timedelta | None) -> Iterator[tuple[bytes, Spend]]:
        """The sessions whose reservations stand, with what is left of them."""
        for number, session in self.sessions.items():
            if session.stands(now, period) and session.rest:
                yield number, session.of(session.rest)


def _after_reserve(session: SessionSpends | None, entry: Entry) -> SessionSpends:
    if session is None:
        return SessionSpends(entry.spend, entry.time)
    if session.plan != entry.spend:
        raise IllegalStep("a session has one plan")
    return replace(session, reserved=entry.time)


def _after_charge(session: SessionSpends | None, entry: Entry) -> SessionSpends:
    if session is None or session.reserved is None:
        raise IllegalStep("nothing is reserved for the session")
    if (not session.rest and entry.round not in session.charged) or entry.spend != session.of(1):
        raise IllegalStep(f"the session's plan has no sum of round {entry.round} left to charge")
    return replace(session, charged={**session.charged, entry.round: entry.time})


def _after_release(session: SessionSpends | None, entry: Entry) -> SessionSpends:
    if session is None or session.reserved is None or not session.rest or entry.spend != session.of(session.rest):
        raise IllegalStep("nothing of this is reserved for the session")
    return replace(session, reserved=None)


_AFTER = {
    EntryKind.RESERVE: _after_reserve,
    EntryKind.CHARGE: _after_charge,
    EntryKind.RELEASE: _after_release,
}
