"""A connection as a raw stream whose other side has one deadline for all that it is to send or to take, however it divides that.

A timeout of a socket begins anew with every byte: whoever sends one now and then holds a connection, and its thread, for ever.
"""

from __future__ import annotations

import io
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class TimedConnection(io.RawIOBase):
    """Reads and writes until its time is up, which `allow` sets.

    Args:
        connection: Stays the caller's to close.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._until = 0.0

    def allow(self, seconds: float) -> None:
        """From now on there are so many seconds."""
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As `socket.recv_into`. Raises `TimeoutError` when the time is up."""
        self._limit()
        return self._connection.recv_into(buffer)

    def write(self, data: ReadableBuffer, /) -> int:
        """As `socket.send`. Raises `TimeoutError` when the time is up."""
        self._limit()
        return self._connection.send(data)

    def _limit(self) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the other side is too slow")
        self._connection.settimeout(left)
