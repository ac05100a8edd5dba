"""One address for servers that come and go: tenants dial it and reach whichever server listens at present, unless the line is disturbed."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(eq=False)
class _Line:
    """One connection through the relay. Once it is `dead`, it takes whatever comes and passes nothing on, and neither end is told."""

    ends: tuple[socket.socket, ...]
    dead: bool = False


class Relay:
    """Carries TCP connections from a port of its own to the server's present one; refuses them while there is none.

    Attributes:
        target: The server's port; None while there is none.
        dead: Whether new connections are accepted and then come to nothing, as behind a firewall that forgot them.
        delay: Seconds that each piece of data is late.
    """

    def __init__(self) -> None:
        self.target: int | None = None
        self.dead = False
        self.delay = 0.0
        self._lines: list[_Line] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """End all connections, as both ends are told."""
        for line in self._lines:
            _hang_up(*line.ends)

    def half_open(self) -> None:
        """All connections are dead from now on, and nobody is told."""
        for line in self._lines:
            line.dead = True

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                tenant, _ = self._listening.accept()
                try:
                    if self.target is None:
                        raise ConnectionRefusedError
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    tenant.close()
                    continue
                self._lines.append(line := _Line((tenant, server), self.dead))
                for source, sink in ((tenant, server), (server, tenant)):
                    threading.Thread(target=self._carry, args=(line, source, sink), daemon=True).start()

    def _carry(self, line: _Line, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                time.sleep(self.delay)
                if not line.dead:
                    sink.sendall(data)
        if not line.dead:
            _hang_up(source, sink)


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
