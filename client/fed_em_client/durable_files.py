"""Files that must outlive a crash: writes that are synced, locks between processes. Whole files are in `fed_em.whole_files`."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fed_em.errors import CallerError, EnvironmentFault

# Unlike fsync, fdatasync writes no time stamps; macOS has none.
sync = getattr(os, "fdatasync", os.fsync)


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of the data. Raises `OSError` if the disk takes a part of it only."""
    if os.pwrite(descriptor, data, offset) != len(data):
        raise OSError(0, "the disk took a part of the record only")


def locked(path: Path, complaint: CallerError | None = None) -> int:
    """Descriptor of a lock file, which no other process gets until it is closed. The folder is made if it is not there.

    Args:
        path: The file.
        complaint: Raised if another process holds it; by default one about a tenant's state folder.

    Raises:
        CallerError: another process holds it.
        EnvironmentFault: the file cannot be made.
    """
    folder = path.parent
    with disk_trouble(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if not isinstance(error, BlockingIOError):
            raise EnvironmentFault(f"{folder}: cannot be locked: {error.strerror}") from None
        raise (
            complaint
            or CallerError(
                f"another process of this tenant uses the state folder {folder}",
                remedy="stop it; a tenant must never run twice, whatever machine it runs on",
            )
        ) from None
    return lock


@contextmanager
def waiting_lock(path: Path, seconds: float = 60.0) -> Iterator[None]:
    """Hold a lock file, once no other process or thread does; its folder must be there.

    Raises:
        EnvironmentFault: another one has held it for so long, or the file cannot be made.
    """
    with disk_trouble(path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        last = time.monotonic() + seconds
        while not _lock(lock, path):
            if time.monotonic() > last:
                raise EnvironmentFault(
                    f"{path} has been locked by another process for {seconds:g} seconds",
                    remedy="wait until it is done; if it hangs, end it",
                )
            time.sleep(0.01)
        yield
    finally:
        os.close(lock)


def _lock(lock: int, path: Path) -> bool:
    with disk_trouble(path):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextmanager
def disk_trouble(
    path: Path, remedy: str = "the state folder must be on a disk that works and has room"
) -> Iterator[None]:
    """Make an `OSError` within an `EnvironmentFault` that names the path."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror}", remedy=remedy) from None
