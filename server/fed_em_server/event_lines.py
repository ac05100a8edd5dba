"""A session's events as JSON lines: what a live view in another process, or a supervisor, reads while the session runs.

    {"event": "session", "record": {…}}     once, before anybody is linked
    {"event": "notice", "kind": …, "round": …, "tenants": […], "text": …}
    {"event": "round", "record": {…}}

Names and numbers of messages only, as in a `Notice`; the records are those of `fed_em_server.record`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.record import RoundRecord, SessionRecord
from fed_em_server.session import Watcher

_GLANCE = 0.05


class EventLines(AbstractContextManager["EventLines"]):
    """A `fed_em_server.session.Watcher` that appends one line for each call to a file or a FIFO, and flushes it.

    Opening a FIFO waits for its reader. A reader that goes away is no reason to end a session: the rest is not written.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._heard = True

    def session_started(self, record: SessionRecord) -> None:
        """Write the terms."""
        self._write({"event": "session", "record": record.model_dump(mode="json")})

    def noticed(self, notice: Notice) -> None:
        """Write what happened."""
        told = {"kind": notice.kind.value, "round": notice.round, "tenants": notice.tenants, "text": notice.text}
        self._write({"event": "notice", **told})

    def round_opened(self, record: RoundRecord) -> None:
        """Write the round."""
        self._write({"event": "round", "record": record.model_dump(mode="json")})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except BrokenPipeError:
            return

    def _write(self, event: dict[str, Any]) -> None:
        if not self._heard:
            return
        try:
            self._file.write(json.dumps(event, ensure_ascii=False) + "\n")
            self._file.flush()
        except BrokenPipeError:
            self._heard = False


def replay(lines: Iterable[str], watcher: Watcher) -> None:
    """Tell a watcher what lines tell, in order."""
    for line in lines:
        event = json.loads(line)
        if event["event"] == "session":
            watcher.session_started(SessionRecord.model_validate(event["record"]))
        elif event["event"] == "round":
            watcher.round_opened(RoundRecord.model_validate(event["record"]))
        else:
            kind, tenants = NoticeKind(event["kind"]), tuple(event["tenants"])
            watcher.noticed(Notice(kind, event["round"], tenants, event["text"]))


def lines_of(path: Path, over: Callable[[], bool]) -> Iterator[str]:
    """The lines of a file as they are written, until `over` says that no more will come. The file may not be there yet."""
    while not path.exists():
        if over():
            return
        time.sleep(_GLANCE)
    unfinished = ""
    with path.open(encoding="utf-8") as file:
        while True:
            # Asked before the last read, so that nothing written before the end is missed.
            last = over()
            unfinished += file.read()
            *whole, unfinished = unfinished.split("\n")
            yield from whole
            if last:
                return
            if not whole:
                time.sleep(_GLANCE)
