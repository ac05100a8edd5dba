"""A session as JSON lines of closed fields: for log collectors. What `PlainLog` says in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import IO

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.log_events import MOST_NAMES, EventLog, Value, sentence
from fed_em_server.observability.refusals import code_of
from fed_em_server.plain_log import ORDINARY
from fed_em_server.record import RoundRecord, SessionRecord

_REASONED = frozenset(
    {NoticeKind.WINDOW_ABANDONED, NoticeKind.PAUSED, NoticeKind.ROUND_FAILED, NoticeKind.NOT_COMPUTED, NoticeKind.FAULT}
)


class JsonLog(AbstractContextManager["JsonLog"]):
    """A `fed_em_server.session.Watcher` that writes one event for each round and each happening.

    Args:
        stream: Where to; standard output if None.
        log: Instead of the stream.
    """

    def __init__(self, stream: IO[str] | None = None, log: EventLog | None = None) -> None:
        self._log = log or EventLog(sys.stdout if stream is None else stream)
        self._session = ""

    def session_started(self, record: SessionRecord) -> None:
        """Write the terms."""
        self._session = record.session
        self._write(
            "session_started",
            federation=record.federation,
            title=record.title,
            trust=record.trust,
            count=len(record.tenants),
        )

    def noticed(self, notice: Notice) -> None:
        """Write it, unless it is the ordinary course of a round."""
        if notice.kind in ORDINARY:
            return
        fields: dict[str, Value] = {"tenants": notice.tenants[:MOST_NAMES], "count": len(notice.tenants)}
        if notice.kind in _REASONED:
            fields["reason"] = sentence(notice.text)
        more = _MORE.get(notice.kind)
        fields |= more(notice) if more else {}
        self._write(notice.kind.value.replace("-", "_"), notice.round, **fields)

    def round_opened(self, record: RoundRecord) -> None:
        """Write the round."""
        fields: dict[str, Value] = {} if record.log_likelihood is None else {"log_likelihood": record.log_likelihood}
        self._write(
            "round_opened",
            record.round,
            iteration=record.iteration,
            summed=record.summed,
            stale=record.stale,
            seconds=record.seconds,
            bytes_up=record.bytes_up,
            bytes_down=record.bytes_down,
            **fields,
        )

    def finished(self, record: SessionRecord) -> None:
        """Write how it ended."""
        outcome = "converged" if record.converged else "ended"
        self._write("session_finished", outcome=outcome, rounds=len(record.rounds), seconds=record.seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._write("session_failed", error=kind.__name__.lstrip("_"))

    def _write(self, event: str, round_number: int = 0, **fields: Value) -> None:
        self._log.write(event, self._session, round_number, **fields)


_MORE: Mapping[NoticeKind, Callable[[Notice], dict[str, Value]]] = {
    NoticeKind.LINKED: lambda notice: {"again": "yes" if notice.text == "again" else "no"},
    NoticeKind.REFUSED: lambda notice: {"code": code_of(notice)},
}
