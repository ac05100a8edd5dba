"""Which sessions have measured fitted models over a tenant's rows, and what the tenant's policy bounds of them.

A measurement opens counts of bins, and whoever asks for it chooses their edges. Those of one session say little; those of many, each a
little beside the last, take single values apart. So a tenant remembers at which *points* it was measured (the models, their parameters and
all edges, by hash: `fed_em_protocols.measured.Measured.point`), and joins no more sessions, and no more different points, than its policy
says, in any stretch of time of the policy's length. The same point again adds nothing but what the rows have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from fed_em.errors import EnvironmentFault
from fed_em.whole_files import write_whole
from fed_em_client.configuration import MeasuringTable
from fed_em_client.durable_files import disk_trouble
from fed_em_protocols.configuration import Table
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.policy_rules import PolicyRule

MEASURED_FILE = "measured.json"

_HexOf32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_HexOf16 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class MeasuredSession(Table):
    """One session that measured."""

    session: _HexOf16
    point: _HexOf32
    """SHA-256 of all that its one sum was asked at."""
    time: AwareDatetime
    """When it was joined, by the tenant's clock."""


class _File(Table):
    format: Literal[1] = 1
    sessions: tuple[MeasuredSession, ...] = ()


def within_period(
    sessions: Sequence[MeasuredSession], limits: MeasuringTable, now: datetime
) -> tuple[MeasuredSession, ...]:
    """Those of the period that ends now."""
    since = now - timedelta(days=limits.period_days)
    return tuple(each for each in sessions if each.time > since)


def excess_of(sessions: Sequence[MeasuredSession], limits: MeasuringTable) -> str:
    """What the sessions of a period have too many of, in words; empty if nothing."""
    points = {each.point for each in sessions}
    if len(sessions) > limits.sessions:
        return f"{len(sessions)} measurements in {limits.period_days} days, where sessions = {limits.sessions}"
    if len(points) > limits.points:
        return f"measurements of {len(points)} different models or edges in {limits.period_days} days, where points = {limits.points}"
    return ""


class MeasuredSessions:
    """What a tenant remembers of its measurements, for as long as this object lasts, or for ever in a file.

    A clock that was set back counts as standing still. No two processes may write at a time, for which the lock of the round marks stands.

    Args:
        limits: The policy's.
        clock: Time of day with its zone.
        path: The file; made with the first measurement. None for no file.

    Raises:
        EnvironmentFault: there is a file that cannot be read, or is none.
    """

    def __init__(self, limits: MeasuringTable, clock: Callable[[], datetime], path: Path | None = None) -> None:
        self._limits = limits
        self._clock = clock
        self._path = path
        self.sessions = () if path is None else read_measured(path)

    def admit(self, session: bytes, point: str) -> None:
        """Count a session before anything is answered in it; the same one again costs nothing.

        Raises:
            TermsRefused: it is more than the policy admits, or a session that is known asks at another point.
            EnvironmentFault: the disk does not take it; the session must not be joined.
        """
        known = next((each for each in self.sessions if each.session == session.hex()), None)
        if known is not None:
            if known.point != point:  # a number that is used again would be free of the bound
                raise TermsRefused(
                    f"session {session.hex()} measures other models or edges now than when it was first joined",
                    remedy="ask the server's operator; a session's description never changes",
                    rule=PolicyRule.MEASURING,
                )
            return
        now = max((self._clock(), *(each.time for each in self.sessions)))
        asked = MeasuredSession(session=session.hex(), point=point, time=now)
        excess = excess_of((*within_period(self.sessions, self._limits, now), asked), self._limits)
        if excess:
            raise TermsRefused(
                f"with this session there are {excess} in [policy.measuring]",
                remedy="wait until earlier ones leave the period, agree with the server's operator on fewer, or change the policy",
                rule=PolicyRule.MEASURING,
            )
        sessions = (*self.sessions, asked)
        if self._path is not None:
            with disk_trouble(self._path):
                write_whole(self._path, _File(sessions=sessions).model_dump_json(indent=1).encode() + b"\n")
        self.sessions = sessions


def read_measured(path: Path) -> tuple[MeasuredSession, ...]:
    """The sessions of a file, none if it is not there. Raises `EnvironmentFault` if it cannot be read, or is none."""
    try:
        return _File.model_validate_json(path.read_bytes()).sessions
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: {error.strerror}", remedy="the state folder must be on a disk that works"
        ) from None
    except ValidationError:
        raise EnvironmentFault(
            f"{path} is damaged: nobody knows which sessions measured models over these rows",
            remedy="put its newest copy back; without one, set measurements = false in [policy] for a period of [policy.measuring], then "
            "move the file away",
        ) from None
