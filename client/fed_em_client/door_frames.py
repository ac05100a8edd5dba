"""Frames at a tenant's Unix socket: one request and one answer a connection.

    request    action (1 byte)    length (4 bytes, big-endian)    bytes
    answer     code (1 byte)      length (4 bytes, big-endian)    bytes

Both sides of the socket distrust each other: lengths are limited, and a slow writer has a deadline for the whole frame.
"""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path

from fed_em_protocols.wire.grid_messages import MAX_REQUEST_BYTES, Action, AnswerCode

_HEAD = struct.Struct(">BI")
_CHUNK = 1 << 20


class BadFrame(Exception):
    """What came is no frame, is too long, or did not come in time."""


def ask(path: Path, action: Action, data: bytes, seconds: float) -> tuple[AnswerCode, bytes]:
    """Pass a request to the tenant at a socket, and wait at most so many seconds for its answer.

    Raises:
        BadFrame: what answers is no tenant.
        OSError: the connection broke, or no answer came in time.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, PermissionError):
            return AnswerCode.NO_TENANT, b""
        write_frame(connection, action, data)
        kind, answer = read_frame(connection, seconds)
    if kind not in set(AnswerCode):
        raise BadFrame(f"an answer with code {kind}")
    return AnswerCode(kind), answer


def write_frame(connection: socket.socket, kind: int, data: bytes) -> None:
    """Write one frame. Raises `OSError` as the socket does."""
    connection.sendall(_HEAD.pack(kind, len(data)))
    # Who has read a frame without bytes may have answered and gone by now: even sending nothing would fail then.
    if data:
        connection.sendall(data)


def read_frame(connection: socket.socket, seconds: float) -> tuple[int, bytes]:
    """Read one frame: its kind and its bytes.

    Raises:
        BadFrame: it is too long, ends early, or does not come within so many seconds.
        OSError: the connection broke.
    """
    deadline = time.monotonic() + seconds
    kind, length = _HEAD.unpack(_read_exactly(connection, _HEAD.size, deadline))
    if length > MAX_REQUEST_BYTES:
        raise BadFrame(f"a frame of {length} bytes, the limit is {MAX_REQUEST_BYTES}")
    return kind, _read_exactly(connection, length, deadline)


def _read_exactly(connection: socket.socket, length: int, deadline: float) -> bytes:
    # Memory grows with what has come, not with what was announced.
    data = bytearray()
    while len(data) < length:
        left = deadline - time.monotonic()
        if left <= 0:
            raise BadFrame("a frame that does not come to its end in time")
        connection.settimeout(left)
        try:
            part = connection.recv(min(length - len(data), _CHUNK))
        except TimeoutError:
            continue
        if not part:
            raise BadFrame(f"a frame that ends after {len(data)} of {length} bytes")
        data += part
    return bytes(data)
