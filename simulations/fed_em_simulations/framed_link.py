"""Frames of bytes both ways between two processes of one machine, over a pair of sockets.

An end that waits to send takes in what has come meanwhile, so two ends that both have much to say never wait for each other. Frames
leave some at a time, or each would wake the other end: what was sent leaves at the latest when its end waits to receive.
"""

from __future__ import annotations

import select
import socket
import struct
from contextlib import suppress

_LENGTH = struct.Struct("<Q")
# How many frames leave together, and what may wait at an end before its `send` waits too; what is read at a time.
_TOGETHER = 16
_MOST_WAITING = 4 * 1024 * 1024
_READ = 64 * 1024


class FramedLink:
    """One end of a link.

    Every call raises `ConnectionError` once the other end is gone, another `OSError` once this one is closed.

    Args:
        end: A stream socket; this object's own from now on.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._poll = select.poll()
        self._leaving, self._come = bytearray(), bytearray()
        self._sent = 0
        self._room = memoryview(bytearray(_READ))

    def send(self, frame: bytes) -> None:
        """Send a frame, by and by."""
        self._leaving += _LENGTH.pack(len(frame))
        self._leaving += frame
        self._sent += 1
        if self._sent % _TOGETHER == 0:
            self._exchange()
        while len(self._leaving) > _MOST_WAITING:
            self._wait()
            self._exchange()

    def receive(self) -> bytes:
        """The next frame; waits for it, and sends meanwhile what has not left."""
        while (frame := self._frame()) is None:
            self._wait()
            self._exchange()
        return frame

    def close(self) -> None:
        """Close this end. What the link has no room for now is lost."""
        with suppress(OSError):
            self._exchange()
        self._socket.close()

    def _frame(self) -> bytes | None:
        """The first whole frame of what has come."""
        if len(self._come) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._come)[0]
        if len(self._come) < end:
            return None
        frame = bytes(self._come[_LENGTH.size : end])
        del self._come[:end]
        return frame

    def _exchange(self) -> None:
        """Send and take in as much as the link admits now."""
        try:
            while self._leaving:
                del self._leaving[: self._socket.send(self._leaving)]
        except BlockingIOError:
            pass
        try:
            size = self._socket.recv_into(self._room)
        except BlockingIOError:
            return
        if not size:
            raise ConnectionError("the other end of the link is closed")
        self._come += self._room[:size]

    def _wait(self) -> None:
        """Until the link admits anything."""
        self._poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._leaving else 0))
        self._poll.poll()
