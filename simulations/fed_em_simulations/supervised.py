"""A process that is started again whenever it ends, as a supervisor does: systemd with `Restart=always`, say."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress


class Supervised:
    """Runs until `stop`. Whatever a process ends with, the next is started after a pause.

    Args:
        start: Starts the process, as the leader of a group of its own.
        pause: Seconds.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]], pause: float = 2.0) -> None:
        self.statuses: list[int] = []
        """How the processes ended so far."""
        self._start = start
        self._pause = pause
        self._stopped = threading.Event()
        self._changing = threading.Lock()
        self._process = start()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()

    def kill(self, again: bool = True) -> None:
        """As after a power cut: the process that runs now, at once, and not what it has started. The next one comes by itself, or none."""
        with self._changing:
            if not again:
                self._stopped.set()
            self._process.kill()
            self._process.wait()

    def stop(self, seconds: float = 0.0) -> None:
        """End it for good, with its whole group: by asking, and after so many seconds by force."""
        with self._changing:
            self._stopped.set()
        if seconds:
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self._signal(signal.SIGKILL)
        self._thread.join()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _supervise(self) -> None:
        while True:
            self.statuses.append(self._process.wait())
            self._stopped.wait(self._pause)
            with self._changing:
                if self._stopped.is_set():
                    return
                self._process = self._start()
