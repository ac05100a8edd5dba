"""Structured logs: all events there are, their fields, and what a field may hold. One JSON object a line:

    {"time": …, "level": …, "event": …, "session": …, "round": …, "fields": {…}}

Redaction is by construction: what is not in this list is not written. No field holds bytes, an array, a table's text or a long value, so
no row, no statistic of one tenant and no secret fits into one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import IO

from fed_em_protocols.clock import time_of_day
from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.limits import MAX_NAME_LENGTH
from fed_em_protocols.messages import RefusalCode
from fed_em_protocols.policy_rules import PolicyRule

LONGEST_SENTENCE = 300
MOST_NAMES = 64

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 1}}}")
_NUMBER_OF_SESSION = re.compile(r"[0-9a-f]{32}")

Value = int | float | str | tuple[str, ...]


class Level(Enum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Holds(Enum):
    """What a field may hold."""

    COUNT = "a whole number from 0 to 2^63 - 1"
    NUMBER = "a finite number"
    NAME = "a name, as in rosters"
    NAMES = f"at most {MOST_NAMES} names"
    SENTENCE = f"one of the program's own sentences, of one line and at most {LONGEST_SENTENCE} characters"


Words = frozenset[str]
"""A field that holds one word of a closed set."""

Field = Holds | Words


@dataclass(frozen=True)
class Event:
    """One kind of event."""

    level: Level
    fields: Mapping[str, Field]


_WHO: Mapping[str, Field] = {"tenants": Holds.NAMES, "count": Holds.COUNT}
_WHY: Mapping[str, Field] = {**_WHO, "reason": Holds.SENTENCE}
_CODES = frozenset({*(code.name.lower().replace("_", "-") for code in RefusalCode), "unknown"})

EVENTS: Mapping[str, Event] = {
    # The server's.
    "session_started": Event(
        Level.INFO,
        {
            "federation": Holds.NAME,
            "title": Holds.NAME,
            "trust": frozenset({"malicious-server", "semi-honest"}),
            "count": Holds.COUNT,
        },
    ),
    "round_opened": Event(
        Level.INFO,
        {
            "iteration": Holds.COUNT,
            "summed": Holds.COUNT,
            "stale": Holds.COUNT,
            "log_likelihood": Holds.NUMBER,
            "seconds": Holds.NUMBER,
            "bytes_up": Holds.COUNT,
            "bytes_down": Holds.COUNT,
        },
    ),
    "session_finished": Event(
        Level.INFO,
        {"outcome": frozenset({"converged", "ended"}), "rounds": Holds.COUNT, "seconds": Holds.NUMBER},
    ),
    "session_failed": Event(Level.ERROR, {"error": Holds.NAME}),
    "linked": Event(Level.INFO, {**_WHO, "again": frozenset({"yes", "no"})}),
    "left": Event(Level.WARNING, _WHO),
    "joined": Event(Level.INFO, _WHO),
    "refused": Event(Level.WARNING, {**_WHO, "code": _CODES}),
    "window_opened": Event(Level.INFO, _WHO),
    "window_abandoned": Event(Level.WARNING, _WHY),
    "late": Event(Level.WARNING, _WHO),
    "recovering": Event(Level.WARNING, _WHO),
    "paused": Event(Level.ERROR, _WHY),
    "restarted": Event(Level.WARNING, _WHO),
    "round_failed": Event(Level.WARNING, _WHY),
    "not_computed": Event(Level.WARNING, _WHY),
    "fault": Event(Level.ERROR, _WHY),
    # A tenant's.
    "link_up": Event(Level.INFO, {}),
    "link_down": Event(Level.WARNING, {}),
    "session_joined": Event(Level.INFO, {}),
    "uploaded": Event(Level.INFO, {"e_step_seconds": Holds.NUMBER, "masking_seconds": Holds.NUMBER}),
    "session_refused": Event(Level.ERROR, {"rule": frozenset(rule.value for rule in PolicyRule)}),
    "session_closed": Event(Level.INFO, {"reason": frozenset({"finished", "failed"})}),
}


class EventLog:
    """Writes events of the list as JSON lines, and flushes each.

    Args:
        stream: Where to.
        clock: Time of day with its zone.
    """

    def __init__(self, stream: IO[str], clock: Callable[[], datetime] = time_of_day) -> None:
        self._stream = stream
        self._clock = clock

    def write(self, name: str, session: str = "", round_number: int = 0, **fields: Value) -> None:
        """Write one event.

        Args:
            name: Of the list.
            session: 32 hexadecimal digits; empty before there is one.
            round_number: 0 outside of rounds.
            fields: Some of the event's own.

        Raises:
            IllegalStep: the event, a field or its value is not in the list; nothing was written.
        """
        event = EVENTS.get(name)
        if event is None:
            raise IllegalStep(f"no event '{name}' is logged")
        if session and not _NUMBER_OF_SESSION.fullmatch(session):
            raise IllegalStep(f"{name}: the session's number is none")
        require_loggable("round", round_number, Holds.COUNT)
        for field, value in fields.items():
            if field not in event.fields:
                raise IllegalStep(f"{name}: no field '{field}' is logged")
            require_loggable(field, value, event.fields[field])
        time = self._clock().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {
            "time": time,
            "level": event.level.value,
            "event": name,
            "session": session,
            "round": round_number,
            "fields": fields,
        }
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._stream.flush()


def require_loggable(field: str, value: object, holds: Field) -> None:
    """Raise `IllegalStep`, which does not quote the value, unless a field may hold it."""
    allowed = _is_one_of(value, holds) if isinstance(holds, frozenset) else _CHECKS[holds](value)
    if not allowed:
        what = "a word of its list" if isinstance(holds, frozenset) else holds.value
        raise IllegalStep(f"the field '{field}' of a log holds {what}, and no other {type(value).__name__}")


def sentence(text: str) -> str:
    """A sentence of the program's own as a field may hold it: cut off where it is too long, without what is not printable."""
    line = "".join(each if each.isprintable() else " " for each in text)
    return line if len(line) <= LONGEST_SENTENCE else line[: LONGEST_SENTENCE - 1] + "…"


def _is_one_of(value: object, words: Words) -> bool:
    return type(value) is str and value in words


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e18


def _is_name(value: object) -> bool:
    return type(value) is str and _NAME.fullmatch(value) is not None


def _are_names(value: object) -> bool:
    return type(value) is tuple and len(value) <= MOST_NAMES and all(map(_is_name, value))


def _is_sentence(value: object) -> bool:
    return type(value) is str and len(value) <= LONGEST_SENTENCE and value.isprintable()


_CHECKS: Mapping[Holds, Callable[[object], bool]] = {
    Holds.COUNT: _is_count,
    Holds.NUMBER: _is_number,
    Holds.NAME: _is_name,
    Holds.NAMES: _are_names,
    Holds.SENTENCE: _is_sentence,
}
