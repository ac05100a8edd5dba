"""Files that are whole under their names: as they were, or as they are to be, also after a crash at any point."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, or put it in the place of another, whose mode it keeps; durable when this returns.

    Two processes may do so at a time: one of both files is there then. What a process that dies leaves beside it has a name that begins
    with a point.

    Raises:
        OSError: the disk does not take it; what was there is as it was.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, partial)
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises `OSError` if the disk does not."""
    if os.name != "posix":  # elsewhere a folder cannot be opened to be synced
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
