"""A session's events, read in such a way that something can be done to the session while it is in a certain round."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from small_federation import Recorder

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.event_lines import replay
from fed_em_server.session import Watcher
from tests.flower.deployment import wait_until

_SET_PIPE_SIZE = 1031

# For a session to begin on a busy machine: Flower lets a SuperNode whose start was disturbed in again after some 80 seconds.
_LONG = 600


class Heard:
    """Tells a watcher a session's events from a FIFO, whose writer is at most some ten of them ahead, and waits for the watcher."""

    def __init__(self, path: Path, watcher: Watcher) -> None:
        # Of a test that failed.
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        self._path, self._watcher = path, watcher
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def over(self) -> None:
        """Wait until the writer is gone."""
        self._thread.join(_LONG)
        self._path.unlink(missing_ok=True)

    def ended(self) -> bool:
        """Whether there is no more to be told."""
        return not self._thread.is_alive()

    def _read(self) -> None:
        # Read ahead, they would be some rounds more.
        with self._path.open("rb", buffering=0) as lines:
            fcntl.fcntl(lines.fileno(), _SET_PIPE_SIZE, 4096)
            for line in lines:
                replay([line.decode()], self._watcher)


class Held(Recorder):
    """Hears of a session, and stops when a round begins."""

    def __init__(self, path: Path, in_round: int) -> None:
        super().__init__()
        self._round = in_round
        self._reached, self._onwards = threading.Event(), threading.Event()
        self._heard = Heard(path, self)

    @contextmanager
    def in_a_round(self, over: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """A block in which the session is in that round, or a few events further; it never gets there if `over` is true."""
        try:
            wait_until(
                lambda: self._reached.is_set() or over() or self._heard.ended(),
                "the session does not begin",
                _LONG,
            )
            assert self._reached.is_set(), "the session ended before it had begun"
            yield
        finally:
            self._onwards.set()

    def over(self) -> None:
        """Wait until the writer is gone."""
        self._heard.over()

    def noticed(self, notice: Notice) -> None:
        """Stop here, if it is the round."""
        super().noticed(notice)
        if notice.kind is NoticeKind.ROUND_STARTED and notice.round >= self._round:
            self._reached.set()
            self._onwards.wait()
