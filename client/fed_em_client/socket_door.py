"""A tenant's door: the Unix socket at which Flower's ClientApp passes requests in.

Who may knock is a matter of file permissions. A folder that the door makes is its owner's alone (0700, the socket 0600): enough
where the SuperNode runs as the same user, in a simulation of trust only, since code of the same user can read the tenant's files
as well. A SuperNode with a user of its own shares a folder with the tenant by group (0750 or 2750): then the socket is 0660.
"""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client.door_frames import BadFrame, read_frame, write_frame
from fed_em_protocols.wire.grid_messages import Action, AnswerCode

Answerer = Callable[[Action, bytes], tuple[AnswerCode, bytes]]

# Both ends are on this machine: who has not written a request in this time never will.
_SECONDS_TO_READ = 10.0
_SECONDS_TO_WRITE = 30.0
# Connections that may wait while one is answered; a SuperNode makes one at a time.
_WAITING = 8


class SocketDoor(AbstractContextManager["SocketDoor"]):
    """Listens at `path` until closed.

    Raises:
        CallerError: the path is too long, is taken, or its folder is open to everybody.
        EnvironmentFault: the socket cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        mode = _prepare_folder(path.parent)
        _remove_remains(path)
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(str(path))
            # Nobody can connect before `listen`.
            path.chmod(mode)
            self._listener.listen(_WAITING)
        except OSError as error:
            self._listener.close()
            if "too long" in str(error):
                raise CallerError(f"{path} is too long for a socket's path", remedy="use about 100 bytes") from None
            raise EnvironmentFault(f"cannot listen at {path}: {error.strerror}") from None

    def answer_one(self, answer: Answerer, seconds: float) -> None:
        """Wait at most so many seconds for a request, and answer it. Whatever comes in, the door stays open."""
        self._listener.settimeout(seconds)
        try:
            connection, _ = self._listener.accept()
        except TimeoutError:
            return
        with connection:
            try:
                code, data = _answered(connection, answer)
                connection.settimeout(_SECONDS_TO_WRITE)
                write_frame(connection, code, data)
            except OSError:
                # The ClientApp hung up. Its server asks again, and is told the same.
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)


def _answered(connection: socket.socket, answer: Answerer) -> tuple[AnswerCode, bytes]:
    try:
        kind, data = read_frame(connection, _SECONDS_TO_READ)
    except BadFrame:
        return AnswerCode.REFUSED, b""
    if kind not in set(Action):
        return AnswerCode.REFUSED, b""
    return answer(Action(kind), data)


def _prepare_folder(folder: Path) -> int:
    """Make the folder if need be; the mode that a socket in it gets."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise EnvironmentFault(f"cannot make the folder {folder}: {error.strerror}") from None
    if mode & stat.S_IRWXO:
        raise CallerError(
            f"the folder {folder} is open to everybody (mode {stat.S_IMODE(mode):04o})",
            remedy="name a socket in a folder of its own, which is made with mode 0700; or chmod it 0700 or 0750",
        )
    return 0o660 if mode & stat.S_IXGRP else 0o600


def _remove_remains(path: Path) -> None:
    """Remove the socket of a process that was killed; one that is in use stays."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise CallerError(f"{path} exists and is no socket", remedy="name another path")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink()
        return
    raise CallerError(f"another process listens at {path}", remedy="stop it, or name another path")
