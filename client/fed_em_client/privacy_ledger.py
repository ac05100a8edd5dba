"""The privacy ledger on disk: an append-only file of what a tenant spent, and the head of its chain in a second place.

The ledger is a magic number and then entries of 96 bytes, each with its link

    link_n = H("privacy ledger", link_{n-1}, entry_n),    link_0 = H("privacy ledger", magic number)

so one wrong byte breaks the chain from there on. The head is a small file in another folder: how many entries there are, and the
last link. An entry is written and synced, then the head, and only then does it count for the caller. So
after a crash the ledger is one entry ahead of its head at most. That entry is kept if it is whole, since it may only count too
much, and cut off if it is not, since nobody relied on it. Whatever else the two files say against each other is an error and never
"nothing was spent": a damaged byte, a ledger that lacks entries which its head knows (an older copy was put back), a missing file.

A restored copy of *both* files, as of a whole machine, cannot be told from the past; docs/adr/0033 says what to do after one.
"""

from __future__ import annotations

import hashlib
import os
import struct
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Self

from fed_em.errors import EnvironmentFault
from fed_em.whole_files import write_whole
from fed_em_client.configuration import LEDGER_HEAD, TenantConfiguration
from fed_em_client.durable_files import disk_trouble, locked, sync, write_at
from fed_em_client.privacy_account import Clock, PrivacyAccount
from fed_em_client.privacy_spends import Entry, EntryKind, PrivacySpends
from fed_em_protocols.clock import time_of_day
from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.hashing import DIGEST_BYTES, digest
from fed_em_protocols.privacy.accounting import Spend
from fed_em_protocols.privacy.demands import NO_DEMANDS, PrivacyDemands
from fed_em_protocols.wire.fields import SESSION_BYTES

_LEDGER = "privacy.ledger"
_LOCK = "privacy.lock"
_DOMAIN = "privacy ledger"

_MAGIC = b"fedempl1"
_FIRST_LINK = digest(_DOMAIN, _MAGIC)
# Kind, session, round, noise multiplier, sums, slack, microseconds since 1970; then the link.
_ENTRY = struct.Struct(f"<Q{SESSION_BYTES}sQdQdQ")
_RECORD_BYTES = _ENTRY.size + DIGEST_BYTES

_HEAD_MAGIC = b"fedemlh1"
_HEAD = struct.Struct(f"<8sQ{DIGEST_BYTES}s")
_CHECKSUM_BYTES = 16

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class LedgerFiles:
    """Where a tenant's ledger lies, and where its head."""

    ledger: Path
    head: Path


def ledger_files(configuration: TenantConfiguration) -> LedgerFiles:
    """Those of a tenant."""
    return LedgerFiles(configuration.state / _LEDGER, configuration.ledger_head or configuration.keys / LEDGER_HEAD)


class _Unreadable(Enum):
    """Why there is no head to go by."""

    MISSING = auto()
    DAMAGED = auto()


@dataclass(frozen=True)
class _Head:
    """What the second place says: how many entries there are, and the last link."""

    count: int
    link: bytes


@dataclass(frozen=True)
class _Ledger:
    """What the ledger says, or is to say.

    Attributes:
        entries: Its intact entries.
        links: Theirs, after that of the magic number.
        spends: What the entries say together.
        rest: How many bytes follow them.
        there: Whether there is such a file.
    """

    entries: tuple[Entry, ...] = ()
    links: tuple[bytes, ...] = (_FIRST_LINK,)
    spends: PrivacySpends = field(default_factory=PrivacySpends)
    rest: int = 0
    there: bool = True

    @property
    def size(self) -> int:
        """Bytes of the magic number and the intact entries."""
        return len(_MAGIC) + len(self.entries) * _RECORD_BYTES

    @property
    def head(self) -> _Head:
        """Its own."""
        return _Head(len(self.entries), self.links[-1])

    def holds(self, head: _Head) -> bool:
        """Whether it has what a head knows of."""
        return head.count < len(self.links) and self.links[head.count] == head.link

    def after(self, entry: Entry) -> _Ledger:
        """With one more entry. Raises `IllegalStep` if it does not fit those before it."""
        link = digest(_DOMAIN, self.links[-1], _packed(entry))
        return _Ledger((*self.entries, entry), (*self.links, link), self.spends.after(entry))


class PrivacyLedger(PrivacyAccount, AbstractContextManager["PrivacyLedger"]):
    """A tenant's account, kept in its ledger. Locked until `close`, so that no second process of the same tenant can use it.

    Args:
        files: Made with the first entry; the ledger's folder at once if it is not there.
        demands: The tenant's own.
        clock: Time of day with its zone.

    Raises:
        CallerError: another process uses the ledger.
        EnvironmentFault: the ledger is damaged, or behind its head, or one of the two is missing or cannot be read and kept.
    """

    def __init__(self, files: LedgerFiles, demands: PrivacyDemands = NO_DEMANDS, clock: Clock = time_of_day) -> None:
        super().__init__(demands, clock)
        self._files = files
        self._ledger: _Ledger | None = None
        self._lock = locked(files.ledger.parent / _LOCK)
        try:
            self._current()
        except BaseException:
            self.close()
            raise

    @property
    def spends(self) -> PrivacySpends:
        """All that was spent. Raises as `PrivacyLedger`."""
        return self._current().spends

    def close(self) -> None:
        """Unlock the ledger; it cannot be used any more."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def _keep(self, entry: Entry) -> None:
        if self._lock < 0:
            raise IllegalStep("this ledger is closed")
        before = self._current()
        after = before.after(entry)
        # Until both files have it, only they know whether it counts: after a failure they are read again.
        self._ledger = None
        if not before.there:
            _create(self._files)
        _write_last(self._files.ledger, after)
        _write_head(self._files.head, after.head)
        self._ledger = after

    def _current(self) -> _Ledger:
        if self._ledger is None:
            ledger, head = _read_both(self._files)
            self._ledger = _settled(self._files, ledger, head)
        return self._ledger


def read_spends(files: LedgerFiles) -> PrivacySpends:
    """What a ledger says, also while another process uses it; nothing is changed. Raises as `PrivacyLedger`."""
    ledger, _ = _read_both(files)
    return ledger.spends


def mend_head(files: LedgerFiles) -> int:
    """Write a head that was lost, damaged or replaced by an older copy anew, after a ledger that its operator knows to be the newest copy.

    Returns:
        How many entries there are.

    Raises:
        CallerError: another process uses the ledger.
        EnvironmentFault: the ledger itself is missing or damaged, or lacks entries that its head knows.
    """
    lock = locked(files.ledger.parent / _LOCK)
    try:
        ledger = _read_ledger(files)
        if not ledger.there:
            raise _lost(files, f"there is no file {files.ledger}")
        if ledger.rest:
            raise _damaged(files, ledger)
        head = _read_head(files.head)
        if isinstance(head, _Head) and not ledger.holds(head):
            raise _behind(files, ledger, head)
        _write_head(files.head, ledger.head)
    finally:
        os.close(lock)
    return len(ledger.entries)


def _read_both(files: LedgerFiles) -> tuple[_Ledger, _Head | None]:
    """The ledger and its head, which agree but for one entry that was being written. The head first: another process may write."""
    head = _read_head(files.head)
    ledger = _read_ledger(files)
    if head is _Unreadable.DAMAGED:
        raise _no_head(files, f"{files.head} is damaged")
    if head is _Unreadable.MISSING:
        if ledger.there:
            raise _no_head(files, f"there is a ledger {files.ledger}, and its head {files.head} is missing")
        return ledger, None
    if not ledger.holds(head):
        raise _damaged(files, ledger) if ledger.rest else _behind(files, ledger, head)
    ahead = len(ledger.entries) - head.count
    if ledger.rest and (ahead or ledger.rest > _RECORD_BYTES):
        raise _damaged(files, ledger)
    if ahead > 1:
        raise _no_head(files, f"{files.head} is an older copy: it knows {head.count} of {len(ledger.entries)} entries")
    return ledger, head


def _settled(files: LedgerFiles, ledger: _Ledger, head: _Head | None) -> _Ledger:
    """The same on disk for certain, without an unfinished entry, and known to the head."""
    if ledger.rest:
        with disk_trouble(files.ledger), files.ledger.open("r+b") as file:
            file.truncate(ledger.size)
            os.fsync(file.fileno())
    if head not in {None, ledger.head}:
        # A process may end between a write and its sync, so it is written again.
        _write_last(files.ledger, ledger)
        _write_head(files.head, ledger.head)
    return replace(ledger, rest=0)


def _create(files: LedgerFiles) -> None:
    """An empty ledger. Its head comes first: a ledger without one is a ledger whose head was lost."""
    _write_head(files.head, _Ledger().head)
    with disk_trouble(files.ledger):
        write_whole(files.ledger, _MAGIC)


def _write_last(path: Path, ledger: _Ledger) -> None:
    """Write the last entry, durably."""
    with disk_trouble(path):
        descriptor = os.open(path, os.O_RDWR)
        try:
            write_at(descriptor, _packed(ledger.entries[-1]) + ledger.links[-1], ledger.size - _RECORD_BYTES)
            sync(descriptor)
        finally:
            os.close(descriptor)


def _write_head(path: Path, head: _Head) -> None:
    data = _HEAD.pack(_HEAD_MAGIC, head.count, head.link)
    with disk_trouble(
        path, "its folder must be there and writable; or name another file by ledger_head in the tenant's file"
    ):
        write_whole(path, data + _checksum(data))


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_CHECKSUM_BYTES]


def _read_head(path: Path) -> _Head | _Unreadable:
    data = _content(path)
    if data is None:
        return _Unreadable.MISSING
    packed, checksum = data[: _HEAD.size], data[_HEAD.size :]
    if len(packed) != _HEAD.size or checksum != _checksum(packed):
        return _Unreadable.DAMAGED
    magic, count, link = _HEAD.unpack(packed)
    return _Head(count, link) if magic == _HEAD_MAGIC else _Unreadable.DAMAGED


def _read_ledger(files: LedgerFiles) -> _Ledger:
    """The ledger up to the first byte that is wrong."""
    data = _content(files.ledger)
    if data is None:
        return _Ledger(there=False)
    if not data.startswith(_MAGIC):
        raise _lost(files, f"{files.ledger} is damaged, or of another version of fed-em: it does not begin as a ledger")
    entries: list[Entry] = []
    links, spends = [_FIRST_LINK], PrivacySpends()
    starts = range(len(_MAGIC), len(data) - _RECORD_BYTES + 1, _RECORD_BYTES)
    for packed in (data[start : start + _RECORD_BYTES] for start in starts):
        link = digest(_DOMAIN, links[-1], packed[: _ENTRY.size])
        if packed[_ENTRY.size :] != link:
            break
        try:
            entry = _unpacked(packed[: _ENTRY.size])
            spends = spends.after(entry)
        except (ValueError, OverflowError) as error:
            what = f"entry {len(entries) + 1} of {files.ledger} is intact, and does not fit those before it: {error}"
            raise _lost(files, what) from None
        entries.append(entry)
        links.append(link)
    ledger = _Ledger(tuple(entries), tuple(links), spends)
    return replace(ledger, rest=len(data) - ledger.size)


def _content(path: Path) -> bytes | None:
    """None if there is no such file."""
    with disk_trouble(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _packed(entry: Entry) -> bytes:
    spend = entry.spend
    time = (entry.time - _EPOCH) // _MICROSECOND
    return _ENTRY.pack(entry.kind, entry.session, entry.round, spend.noise_multiplier, spend.sums, spend.slack, time)


def _unpacked(data: bytes) -> Entry:
    kind, session, round_number, noise, sums, slack, time = _ENTRY.unpack(data)
    return Entry(EntryKind(kind), session, round_number, Spend(noise, sums, slack), _EPOCH + time * _MICROSECOND)


def _damaged(files: LedgerFiles, ledger: _Ledger) -> EnvironmentFault:
    return _lost(
        files, f"{files.ledger} is damaged: entry {len(ledger.entries) + 1}, at byte {ledger.size}, is not intact"
    )


def _behind(files: LedgerFiles, ledger: _Ledger, head: _Head) -> EnvironmentFault:
    if not ledger.there:
        return _lost(files, f"there is no file {files.ledger}, and {files.head} knows {head.count} of its entries")
    if head.count > len(ledger.entries):
        what = f"{files.ledger} is an older copy: it has {len(ledger.entries)} of the {head.count} entries that {files.head} knows"
    else:
        what = f"{files.ledger} and {files.head} do not belong together: entry {head.count} is another one"
    return _lost(files, what)


def _lost(files: LedgerFiles, what: str) -> EnvironmentFault:
    return EnvironmentFault(
        what,
        remedy=f"put the newest copy of {files.ledger.name} back; if there is none, nobody knows what is spent: take part in no session "
        "with privacy until a whole period of [policy.privacy] has gone by since the last upload, then move both files away",
    )


def _no_head(files: LedgerFiles, what: str) -> EnvironmentFault:
    return EnvironmentFault(
        what,
        remedy=f"put the newest copy of {files.head.name} back, or name its place by ledger_head in the tenant's file; if {files.ledger} "
        "was not restored from a copy, `fed-em privacy mend` writes the head anew",
    )
