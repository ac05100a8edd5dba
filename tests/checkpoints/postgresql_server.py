"""A real PostgreSQL server for tests, on a Unix socket. It does not run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fed_em.errors import EnvironmentFault
from fed_em_server.checkpoints.store import CheckpointStore, checkpoint_url


class PostgreSQL:
    """A server that is gone when this is left, with all that it holds.

    Args:
        program: Gives the path of a program by its name.

    Attributes:
        url: Of its database.
    """

    def __init__(self, program: Callable[[str], Path]) -> None:
        self._postgres = program("postgres")
        root = os.getuid() == 0
        user = "postgres" if root else pwd.getpwuid(os.getuid()).pw_name
        self._how: dict[str, Any] = {"user": user} if root else {}
        self._folder = Path(tempfile.mkdtemp(prefix="fed-em-pg-"))  # a socket's path must be short
        if root:
            shutil.chown(self._folder, user)
        subprocess.run(
            [program("initdb"), "-D", self._folder / "data", "-U", "fed", "--auth=trust", "--no-sync", "-E", "UTF8"],
            check=True, capture_output=True, cwd=self._folder, **self._how,
        )  # fmt: skip
        self.url = f"postgresql+psycopg://fed:secret@/postgres?host={self._folder}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [self._postgres, "-D", self._folder / "data", "-k", self._folder]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-c", "listen_addresses=", "-c", "fsync=off"],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **self._how,
            )
        for _ in range(600):
            try:
                CheckpointStore(checkpoint_url(self.url), "nobody's").__exit__(None, None, None)
            except EnvironmentFault as not_yet:
                last = not_yet
                time.sleep(0.1)
            else:
                return
        raise last

    def kill(self) -> None:
        """End it in the midst of whatever it does, as a crash does; what it has told clients to be kept is kept."""
        self._process.send_signal(signal.SIGQUIT)  # "immediate shutdown"
        self._process.wait(60)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._folder)
