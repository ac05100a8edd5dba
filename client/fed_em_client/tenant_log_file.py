"""A tenant's own log on disk, one file for all its sessions; see `fed_em_protocols.transcript.tenant_log`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from fed_em_client.durable_files import disk_trouble, sync

LOG_FILE = "log.jsonl"


class TenantLogFile(AbstractContextManager["TenantLogFile"]):
    """The lines of one tenant. Implements `fed_em_protocols.transcript.tenant_log.LineStore`.

    A process may end while it writes. The part of a line that is then at the end of the file is taken off: the message of that line never
    left. No two processes may write at a time, for which the lock of the round marks stands.

    Args:
        folder: The state folder; it must be there.

    Raises:
        EnvironmentFault: the disk does not take it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG_FILE
        with disk_trouble(self._path):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            data = self._path.read_bytes()
            whole = data.rfind(b"\n") + 1
            os.ftruncate(self._file, whole)
        lines = data[:whole].splitlines()
        self.last = lines[-1] if lines else None

    def append(self, lines: Sequence[bytes]) -> None:
        """See `LineStore`."""
        data = b"".join(line + b"\n" for line in lines)
        with disk_trouble(self._path):
            if os.write(self._file, data) != len(data):
                raise OSError(0, "the disk took a part of the line only")
            sync(self._file)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
