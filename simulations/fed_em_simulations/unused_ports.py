"""Ports for programs that must be told where to listen before they run, and whose port must still be free when they get there."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

# Below the range from which Linux gives ports to whoever asks for any.
_PORTS = range(20_000, 32_000)
# Processes of this machine that look at the same time begin so far apart.
_STRIDE = 50


def unused_ports(count: int) -> tuple[int, ...]:
    """Ports of the loopback interface that nobody listens on, and that nobody gets who asks for any port."""
    found: list[int] = []
    start = os.getpid() * _STRIDE % len(_PORTS)
    for port in (*_PORTS[start:], *_PORTS[:start]):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            break
    return tuple(found)
