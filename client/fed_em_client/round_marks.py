"""Round marks on disk: what a tenant remembers of a session for ever, one small file a session.

A file has two slots of two sectors, and both sectors of a slot hold the same record: magic, session, sequence number, highest
round uploaded for, last round endorsed, its outcome, fingerprint of the work, checksum. A new record goes to the slot that holds
the *older* one, so a write that is torn by a crash costs the new record, which nobody relied on yet, and never the old one; the
second sector of a slot keeps one bad sector from bringing the older record back. The intact record of the highest sequence number
counts; a file without one is an error, never "no round yet".

A process may end between a write and its sync. So the record that counts is made durable once more before it is believed.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from fed_em.errors import EnvironmentFault
from fed_em.whole_files import sync_folder, write_whole
from fed_em_client.durable_files import disk_trouble, locked, sync, write_at
from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.hashing import DIGEST_BYTES
from fed_em_protocols.wire.fields import SESSION_BYTES

_LOCK = "lock"
_SUFFIX = ".round"

_MAGIC = b"fedemrm2"
_EARLIER_MAGIC = b"fedemrm1"
_RECORD = struct.Struct(f"<8s{SESSION_BYTES}s3Q{DIGEST_BYTES}s{DIGEST_BYTES}s")
_CHECKSUM_BYTES = 16
_SECTOR = 512
_SLOT = 2 * _SECTOR
_SLOTS = 2


@dataclass(frozen=True)
class SessionMarks:
    """What a tenant remembers of one session. Every `with_…` raises `IllegalStep` if the marks do not admit it.

    Attributes:
        highest: The highest round uploaded for; 0 if none.
        endorsed: The last round endorsed; 0 if none.
        outcome: Outcome digest of that endorsement; empty if none.
        work: Fingerprint of the rows and code that the tenant takes part with; None if there is none.
    """

    highest: int = 0
    endorsed: int = 0
    outcome: bytes = b""
    work: bytes | None = None

    def with_upload(self, round_number: int) -> SessionMarks:
        """After an upload."""
        if round_number <= self.highest:
            raise IllegalStep(f"round {round_number} is not above round {self.highest}, which is recorded already")
        return replace(self, highest=round_number)

    def with_endorsement(self, round_number: int, outcome: bytes) -> SessionMarks:
        """After an endorsement; the same one again changes nothing."""
        if len(outcome) != DIGEST_BYTES:
            raise IllegalStep(f"an outcome digest has {DIGEST_BYTES} bytes, not {len(outcome)}")
        if round_number < self.endorsed:
            raise IllegalStep(f"round {round_number} is below round {self.endorsed}, which is endorsed already")
        if round_number < 1:
            raise IllegalStep(f"there is no round {round_number} to endorse")
        if round_number == self.endorsed and outcome != self.outcome:
            raise IllegalStep(f"another outcome of round {round_number} is endorsed already")
        return replace(self, endorsed=round_number, outcome=outcome)

    def with_work(self, fingerprint: bytes) -> SessionMarks:
        """With another fingerprint of the work, in place of an earlier one."""
        if len(fingerprint) != DIGEST_BYTES or not any(fingerprint):
            raise IllegalStep(f"a fingerprint has {DIGEST_BYTES} bytes, not all zero")
        return replace(self, work=fingerprint)


_NO_MARKS = SessionMarks()


@dataclass
class _OpenFile:
    """A session's file: its descriptor, the marks that count, the slot that holds them, the highest sequence number used."""

    descriptor: int
    sequence: int
    slot: int
    marks: SessionMarks


class FileRoundMarks(AbstractContextManager["FileRoundMarks"]):
    """The round marks of one tenant in its state folder. Implements `fed_em_protocols.tenant_state.RoundMarks`.

    The folder is locked until `close`, so that no second process of the same tenant can use it.

    Args:
        folder: Made if it is not there.

    Raises:
        CallerError: another process uses the folder.
        EnvironmentFault: the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[bytes, _OpenFile] = {}
        self._lock = locked(folder / _LOCK)

    def highest(self, session: bytes) -> int:
        """The highest round ever recorded for a session (16 bytes); 0 if none.

        Raises:
            EnvironmentFault: the session's file is damaged, of an earlier format, or cannot be read and kept.
        """
        return self._marks(session).highest

    def record(self, session: bytes, round_number: int) -> None:
        """Record a round durably before returning.

        Raises:
            IllegalStep: the round is not above the highest.
            EnvironmentFault: the disk does not take it; the round must not be uploaded.
        """
        self._keep(session, self._marks(session).with_upload(round_number))

    def endorsed(self, session: bytes) -> tuple[int, bytes]:
        """The last round endorsed in a session, and its outcome digest; (0, b"") if none. Raises as `highest`."""
        marks = self._marks(session)
        return marks.endorsed, marks.outcome

    def endorse(self, session: bytes, round_number: int, outcome: bytes) -> None:
        """Record an endorsement durably before returning; the same one again costs nothing.

        Raises:
            IllegalStep: the round is below the last one endorsed, or has another outcome.
            EnvironmentFault: the disk does not take it; the endorsement must not be sent.
        """
        self._keep(session, self._marks(session).with_endorsement(round_number, outcome))

    def work(self, session: bytes) -> bytes | None:
        """Fingerprint of the rows and code recorded for a session; None if there is none. Raises as `highest`."""
        return self._marks(session).work

    def record_work(self, session: bytes, fingerprint: bytes) -> None:
        """Record a fingerprint (32 bytes) durably before returning, in place of an earlier one; the same again costs nothing.

        Raises:
            IllegalStep: it is no fingerprint.
            EnvironmentFault: the disk does not take it; the tenant must not take part.
        """
        self._keep(session, self._marks(session).with_work(fingerprint))

    def close(self) -> None:
        """Close all files and unlock the folder."""
        for file in self._open.values():
            os.close(file.descriptor)
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

    def _marks(self, session: bytes) -> SessionMarks:
        file = self._file(session)
        return _NO_MARKS if file is None else file.marks

    def _keep(self, session: bytes, marks: SessionMarks) -> None:
        file = self._file(session) or self._create(session)
        if marks == file.marks:
            return
        slot = (file.slot + 1) % _SLOTS
        # Used up even if the disk refuses: what it refused may be there all the same, and must not tie with a later record.
        file.sequence += 1
        with disk_trouble(self._path(session)):
            write_at(file.descriptor, _slot_bytes(session, file.sequence, marks), slot * _SLOT)
            sync(file.descriptor)
        file.slot, file.marks = slot, marks

    def _file(self, session: bytes) -> _OpenFile | None:
        file = self._open.get(session)
        if file is None:
            path = self._path(session)
            with disk_trouble(path):
                try:
                    descriptor = os.open(path, os.O_RDWR)
                except FileNotFoundError:
                    return None
                self._open[session] = file = _read_file(path, descriptor, session)
        return file

    def _create(self, session: bytes) -> _OpenFile:
        path = self._path(session)
        with disk_trouble(path):
            write_whole(path, _SLOTS * _slot_bytes(session, 0, _NO_MARKS))
            self._open[session] = file = _read_file(path, os.open(path, os.O_RDWR), session, durable=True)
        return file


def _slot_bytes(session: bytes, sequence: int, marks: SessionMarks) -> bytes:
    record = _RECORD.pack(_MAGIC, session, sequence, marks.highest, marks.endorsed, marks.outcome, marks.work or b"")
    return 2 * (record + _checksum(record)).ljust(_SECTOR, b"\0")


def _checksum(record: bytes) -> bytes:
    return hashlib.sha256(record).digest()[:_CHECKSUM_BYTES]


def _read_file(path: Path, descriptor: int, session: bytes, durable: bool = False) -> _OpenFile:
    """A file with its newest record, which is written and synced again unless it is known to be durable."""
    try:
        sequence, slot, marks = _newest(path, descriptor, session)
        if not durable:
            write_at(descriptor, _slot_bytes(session, sequence, marks), slot * _SLOT)
            sync(descriptor)
            sync_folder(path.parent)
    except BaseException:
        os.close(descriptor)
        raise
    return _OpenFile(descriptor, sequence, slot, marks)


def _newest(path: Path, descriptor: int, session: bytes) -> tuple[int, int, SessionMarks]:
    """Sequence number, slot and marks of the newest intact record."""
    data = os.pread(descriptor, _SLOTS * _SLOT, 0)
    sectors = [data[start : start + _SECTOR] for start in range(0, _SLOTS * _SLOT, _SECTOR)]
    found = [
        (sequence, number * _SECTOR // _SLOT, marks)
        for number, sector in enumerate(sectors)
        for sequence, marks in _record_in(sector, session)
    ]
    if found:
        return max(found, key=lambda record: record[:2])
    if any(sector.startswith(_EARLIER_MAGIC) for sector in sectors):
        raise EnvironmentFault(
            f"{path} is of an earlier version of fed-em",
            remedy="end that session with the version it was begun with, or start a new session; keep the file",
        )
    raise EnvironmentFault(
        f"{path} is damaged: no record of the session's rounds is intact",
        remedy="this tenant must not go on in that session: start a new session, keep the file and check the disk",
    )


def _record_in(sector: bytes, session: bytes) -> Iterator[tuple[int, SessionMarks]]:
    """Sequence number and marks, if the sector holds an intact record of the session."""
    record, checksum = sector[: _RECORD.size], sector[_RECORD.size : _RECORD.size + _CHECKSUM_BYTES]
    if len(record) == _RECORD.size and checksum == _checksum(record):
        magic, owner, sequence, highest, endorsed, outcome, work = _RECORD.unpack(record)
        if (magic, owner) == (_MAGIC, session):
            yield sequence, SessionMarks(highest, endorsed, outcome if endorsed else b"", work if any(work) else None)
