"""A transcript on disk: `entries.jsonl`, `checkpoints.jsonl`, and `uploads/` if masked vectors are kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from io import FileIO
from pathlib import Path
from types import TracebackType

from fed_em.errors import CallerError
from fed_em.whole_files import sync_folder
from fed_em_client.durable_files import disk_trouble, sync
from fed_em_protocols.roster import Roster
from fed_em_protocols.transcript.log import Checkpoint
from fed_em_protocols.transcript.reading import TranscriptFiles, kept_entries, verified_entries
from fed_em_protocols.transcript.walk import WalkedSession, walked

TRANSCRIPT_FOLDER = "transcript"
ENTRIES_FILE, CHECKPOINTS_FILE, UPLOADS_FOLDER = "entries.jsonl", "checkpoints.jsonl", "uploads"


class KeptInFolder:
    """Masked vectors beside a transcript. Implements `fed_em_protocols.transcript.reading.KeptUploads`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, round_number: int, tenant: int) -> Path:
        """The file of one."""
        return self._folder / f"{round_number}-{tenant}.bin"

    def upload(self, round_number: int, tenant: int) -> bytes | None:
        """One of them; None if it was not kept. Raises `EnvironmentFault` if it cannot be read."""
        path = self.path(round_number, tenant)
        with disk_trouble(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None


class TranscriptFolder(AbstractContextManager["TranscriptFolder"]):
    """A new transcript. Implements `fed_em_protocols.transcript.recorder.TranscriptStore`.

    Nothing is ever overwritten: beside the transcript of an earlier session, which failed, the next is `transcript-2`. The folder is made
    for the first entry, so a session that does not begin leaves none.

    Args:
        output: The folder that it goes into.
        keeps_uploads: Whether masked vectors are kept.
        name: Of the folder in it where a session that goes on has its transcript; None for a new one.
    """

    def __init__(self, output: Path, keeps_uploads: bool = False, name: str | None = None) -> None:
        self.keeps_uploads = keeps_uploads
        self._output = output
        self._name = name
        self._named = name is not None
        self._files = ExitStack()

    @cached_property
    def folder(self) -> Path:
        """Where it is. Raises `EnvironmentFault` if the disk does not take it."""
        with disk_trouble(self._output):
            folder = _new_folder(self._output) if self._name is None else self._output / self._name
            if self.keeps_uploads:
                (folder / UPLOADS_FOLDER).mkdir(exist_ok=True)
            return folder

    @property
    def name(self) -> str:
        """See `TranscriptStore`: of its folder."""
        return self.folder.name

    @cached_property
    def _entries(self) -> FileIO:
        return self._new_file(ENTRIES_FILE)

    @cached_property
    def _checkpoints(self) -> FileIO:
        return self._new_file(CHECKPOINTS_FILE)

    def _new_file(self, name: str) -> FileIO:
        with disk_trouble(self.folder):
            return self._files.enter_context(FileIO(self.folder / name, "xb" if self._name is None else "ab"))

    def append(self, line: bytes) -> None:
        """See `TranscriptStore`."""
        self._write(self._entries, line)

    def checkpoint(self, line: bytes) -> None:
        """See `TranscriptStore`."""
        with disk_trouble(self.folder):
            sync(self._entries.fileno())
        self._write(self._checkpoints, line)
        with disk_trouble(self.folder):
            sync(self._checkpoints.fileno())

    def sync(self) -> None:
        """See `TranscriptStore`."""
        with disk_trouble(self.folder):
            sync(self._entries.fileno())
            if not self._named:
                for folder in (self.folder, self._output):
                    sync_folder(folder)
                self._named = True

    def cut(self, entries: int) -> tuple[Sequence[bytes], int]:
        """See `TranscriptStore`."""
        opened = self._entries, self._checkpoints  # a server that stopped early had no second file yet
        files = read_transcript(self.folder)
        lines, signed, checkpoints = kept_entries(files, entries)
        whole = files.checkpoints.split(b"\n")[:checkpoints]
        with disk_trouble(self.folder):
            for file, kept in zip(opened, (lines, whole), strict=True):
                file.truncate(sum(len(line) + 1 for line in kept))
        return lines, signed

    def keep_upload(self, round_number: int, tenant: int, vector: bytes) -> None:
        """See `TranscriptStore`."""
        with disk_trouble(self.folder):
            KeptInFolder(self.folder / UPLOADS_FOLDER).path(round_number, tenant).write_bytes(vector)

    def _write(self, file: FileIO, line: bytes) -> None:
        with disk_trouble(self.folder):
            if file.write(line + b"\n") != len(line) + 1:
                raise OSError(0, "the disk took a part of the line only")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()


def _new_folder(output: Path) -> Path:
    number = 1
    while True:
        folder = output / (TRANSCRIPT_FOLDER if number == 1 else f"{TRANSCRIPT_FOLDER}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _newest_folder(output: Path) -> Path:
    """Whose number is the highest: that of the session which the rest of the folder is of."""
    number = 1
    while (output / f"{TRANSCRIPT_FOLDER}-{number + 1}").exists():
        number += 1
    return output / (TRANSCRIPT_FOLDER if number == 1 else f"{TRANSCRIPT_FOLDER}-{number}")


def read_transcript(path: Path) -> TranscriptFiles:
    """The transcript in a folder, or the newest in the output folder of a session.

    Raises:
        CallerError: there is none.
        EnvironmentFault: it cannot be read.
    """
    folder = path if (path / ENTRIES_FILE).exists() else _newest_folder(path)
    with disk_trouble(folder):
        try:
            entries, checkpoints = ((folder / name).read_bytes() for name in (ENTRIES_FILE, CHECKPOINTS_FILE))
        except (FileNotFoundError, NotADirectoryError):
            raise CallerError(
                f"there is no transcript in {path}",
                remedy=f"name the folder with {ENTRIES_FILE} and {CHECKPOINTS_FILE}",
            ) from None
    return TranscriptFiles(entries, checkpoints, KeptInFolder(folder / UPLOADS_FOLDER))


def read_session(path: Path, roster: Roster) -> WalkedSession:
    """The session of the transcript in a folder, verified but for its fit; its sums are not unmasked again.

    Raises:
        TranscriptFault: it does not hold.
        FedEmError: as `read_transcript`.
    """
    return walked(verified_entries(read_transcript(path), roster), roster)


def read_log(path: Path) -> bytes:
    """A tenant's own log.

    Raises:
        CallerError: there is none.
        EnvironmentFault: it cannot be read.
    """
    with disk_trouble(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise CallerError(f"there is no log {path}") from None


def read_checkpoints(path: Path) -> list[Checkpoint]:
    """Checkpoints that were kept elsewhere, one a line.

    Raises:
        CallerError: there are none, or a line is no checkpoint.
        EnvironmentFault: the file cannot be read.
    """
    return [Checkpoint.from_bytes(line, f"a line of {path}") for line in read_log(path).splitlines()]
