"""One drill: a trouble, the sign by which it is told, the remedy of its runbook, and whether that helps."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

from fed_em_protocols.coordinator_state import Notice
from fed_em_server.plain_log import PlainLog
from fed_em_server.record import RoundRecord, SessionRecord


@dataclass(frozen=True)
class Finding:
    """What a drill came to.

    Attributes:
        shown: Whether the symptom that the runbook names was there.
        before: Its figure, in words.
        helped: Whether it is gone once the remedy is applied.
        after: Its figure then, in words.
        log: Lines that the server wrote, or that the program said, while the trouble was there; nothing of time or chance in them.
    """

    shown: bool
    before: str
    helped: bool
    after: str
    log: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Drill:
    """A drill.

    Attributes:
        name: Its runbook's: `docs/runbooks/NAME.md`.
        symptom: What shows, in a sentence.
        metrics: Where it shows, by the names of metrics.
        remedy: What is changed, in a sentence.
        run: Provokes, looks, mends, and looks again.
    """

    name: str
    symptom: str
    metrics: tuple[str, ...]
    remedy: str
    run: Callable[[], Finding] = field(repr=False)


class DrillLog:
    """A watcher that keeps what the server's log says, without the seconds at the head of each line."""

    def __init__(self) -> None:
        self._written = io.StringIO()
        self._log = PlainLog(self._written, lambda: 0.0)

    @property
    def lines(self) -> tuple[str, ...]:
        """So far."""
        return tuple(line.partition("s  ")[2] for line in self._written.getvalue().splitlines())

    def session_started(self, record: SessionRecord) -> None:
        """See `fed_em_server.session.Watcher`."""
        self._log.session_started(record)

    def noticed(self, notice: Notice) -> None:
        """See `fed_em_server.session.Watcher`."""
        self._log.noticed(notice)

    def round_opened(self, record: RoundRecord) -> None:
        """See `fed_em_server.session.Watcher`."""
        self._log.round_opened(record)
