"""What a tenant's ledger says at one time: by session, and as ε over the period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fed_em_client.privacy_spends import PrivacySpends
from fed_em_protocols.privacy.accounting import Spend, epsilon_of


@dataclass(frozen=True)
class SessionLine:
    """One session that counts in the period.

    Attributes:
        session: Its number.
        plan: All that it may take.
        charged: How many of its sums were charged within the period.
        reserved: How many more it may charge.
        last: When it was charged last; None if it never was.
        leaves: When the last of what counts leaves the period; None without a period.
        epsilon: ε of what was charged.
    """

    session: bytes
    plan: Spend
    charged: int
    reserved: int
    last: datetime | None
    leaves: datetime | None
    epsilon: float


@dataclass(frozen=True)
class PrivacyStatement:
    """Everything that counts at one time, at one δ.

    Attributes:
        sessions: In the order in which they were first joined.
        charged, reserved: ε of what was charged, and of what is reserved.
        together: ε of both.
    """

    sessions: tuple[SessionLine, ...]
    charged: float
    reserved: float
    together: float


def statement(spends: PrivacySpends, now: datetime, period: timedelta | None, delta: float) -> PrivacyStatement:
    """What counts at a time of day.

    Args:
        spends: Of the ledger.
        now: Time of day with its zone.
        period: How far back; None: all that ever was.
        delta: δ in (0, 1).
    """
    charged, reserved = spends.charged(now, period), spends.reserved(now, period)
    return PrivacyStatement(
        _lines(spends, now, period, delta),
        _epsilon(charged, delta),
        _epsilon(reserved, delta),
        _epsilon((*charged, *reserved), delta),
    )


def _lines(spends: PrivacySpends, now: datetime, period: timedelta | None, delta: float) -> tuple[SessionLine, ...]:
    start = None if period is None else now - period
    lines = []
    for number, session in spends.sessions.items():
        charged = session.charges_since(start)
        reserved = session.rest if session.stands(now, period) else 0
        if not charged and not reserved:
            continue
        last = max(session.charged.values(), default=None)
        counting = [time for time in (last if charged else None, session.reserved if reserved else None) if time]
        leaves = None if period is None else max(counting) + period
        epsilon = _epsilon((session.of(charged),) if charged else (), delta)
        lines.append(SessionLine(number, session.plan, charged, reserved, last, leaves, epsilon))
    return tuple(lines)


def _epsilon(spends: Sequence[Spend], delta: float) -> float:
    return epsilon_of(spends, delta) if spends else 0.0
