"""Round marks on disk: the highest round that this tenant ever uploaded for, one small file a session.

A file has two slots of two sectors, and both sectors of a slot hold the same record: magic, session, round, checksum.
A new mark goes to the slot that holds the *lower* round, so a write that is torn by a crash costs the new mark, which
nobody relied on yet, and never the old one; the second sector of a slot keeps one bad sector from lowering the mark.
The highest intact record counts; a file without one is an error, never "no round yet".
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.wire.fields import SESSION_BYTES

_LOCK = "lock"
_SUFFIX = ".round"

_MAGIC = b"fedemrm1"
_RECORD = struct.Struct(f"<8s{SESSION_BYTES}sQ")
_CHECKSUM_BYTES = 16
_SECTOR = 512
_SLOT = 2 * _SECTOR
_SLOTS = 2

# Unlike fsync, fdatasync writes no time stamps; macOS has none.
_sync = getattr(os, "fdatasync", os.fsync)


@dataclass
class _OpenMark:
    """A session's file: its descriptor, its highest round, and the slot that holds it."""

    descriptor: int
    highest: int
    slot: int


class FileRoundMarks(AbstractContextManager["FileRoundMarks"]):
    """The round marks of one tenant in its state folder. Implements `fed_em_protocols.tenant.RoundMarks`.

    The folder is locked until `close`, so that no second process of the same tenant can use it.

    Args:
        folder: Made if it is not there.

    Raises:
        CallerError: another process uses the folder.
        EnvironmentFault: the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[bytes, _OpenMark] = {}
        with _disk_trouble(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            if not isinstance(error, BlockingIOError):
                raise EnvironmentFault(f"{folder}: cannot be locked: {error.strerror}") from None
            raise CallerError(
                f"another process of this tenant uses the state folder {folder}",
                remedy="stop it; a tenant must never run twice, whatever machine it runs on",
            ) from None

    def highest(self, session: bytes) -> int:
        """The highest round ever recorded for a session (16 bytes); 0 if none.

        Raises:
            EnvironmentFault: the session's file is damaged or cannot be read.
        """
        mark = self._mark(session)
        return 0 if mark is None else mark.highest

    def record(self, session: bytes, round_number: int) -> None:
        """Record a round durably before returning.

        Raises:
            IllegalStep: the round is not above the highest.
            EnvironmentFault: the disk does not take it; the round must not be uploaded.
        """
        mark = self._mark(session) or self._create(session)
        if round_number <= mark.highest:
            raise IllegalStep(f"round {round_number} is not above round {mark.highest}, which is recorded already")
        slot = (mark.slot + 1) % _SLOTS
        with _disk_trouble(self._path(session)):
            _write(mark.descriptor, _slot_bytes(session, round_number), slot * _SLOT)
            _sync(mark.descriptor)
        mark.highest, mark.slot = round_number, slot

    def close(self) -> None:
        """Close all files and unlock the folder."""
        for mark in self._open.values():
            os.close(mark.descriptor)
        self._open.clear()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def _path(self, session: bytes) -> Path:
        return self._folder / f"{session.hex()}{_SUFFIX}"

    def _mark(self, session: bytes) -> _OpenMark | None:
        if session not in self._open:
            path = self._path(session)
            with _disk_trouble(path):
                try:
                    self._open[session] = _open_mark(path, session)
                except FileNotFoundError:
                    return None
        return self._open[session]

    def _create(self, session: bytes) -> _OpenMark:
        path = self._path(session)
        with _disk_trouble(path):
            _write_whole(path, _SLOTS * _slot_bytes(session, 0))
            self._open[session] = mark = _open_mark(path, session)
        return mark


def _slot_bytes(session: bytes, round_number: int) -> bytes:
    record = _RECORD.pack(_MAGIC, session, round_number)
    checksum = hashlib.sha256(record).digest()[:_CHECKSUM_BYTES]
    return 2 * (record + checksum).ljust(_SECTOR, b"\0")


def _open_mark(path: Path, session: bytes) -> _OpenMark:
    descriptor = os.open(path, os.O_RDWR)
    try:
        return _OpenMark(descriptor, *_read_mark(path, descriptor, session))
    except (OSError, EnvironmentFault):
        os.close(descriptor)
        raise


def _read_mark(path: Path, descriptor: int, session: bytes) -> tuple[int, int]:
    """The highest round of an intact record, and its slot."""
    data = os.pread(descriptor, _SLOTS * _SLOT, 0)
    slots = [data[start : start + _SLOT] for start in range(0, _SLOTS * _SLOT, _SLOT)]
    found = [(round_number, slot) for slot, part in enumerate(slots) for round_number in _rounds_in(part, session)]
    if not found:
        raise EnvironmentFault(
            f"{path} is damaged: no record of the session's highest round is intact",
            remedy="this tenant must not go on in that session: start a new session, keep the file and check the disk",
        )
    return max(found)


def _rounds_in(slot: bytes, session: bytes) -> Iterator[int]:
    for sector in (slot[:_SECTOR], slot[_SECTOR:]):
        record, checksum = sector[: _RECORD.size], sector[_RECORD.size : _RECORD.size + _CHECKSUM_BYTES]
        if len(record) == _RECORD.size and checksum == hashlib.sha256(record).digest()[:_CHECKSUM_BYTES]:
            magic, owner, round_number = _RECORD.unpack(record)
            if (magic, owner) == (_MAGIC, session):
                yield round_number


def _write(descriptor: int, data: bytes, offset: int) -> None:
    if os.pwrite(descriptor, data, offset) != len(data):
        raise OSError(0, "the disk took a part of the record only")


def _write_whole(path: Path, data: bytes) -> None:
    """Write a new file that is complete under its name, or not there at all."""
    unfinished = path.with_suffix(".new")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _disk_trouble(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: {error.strerror}", remedy="the state folder must be on a disk that works and has room"
        ) from None
