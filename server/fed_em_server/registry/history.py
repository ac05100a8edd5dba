"""What became of the versions: an append-only history in which every line holds the hash of the line before it.

    log.jsonl      one entry a line, canonical JSON
    head.json      how many entries there are, and the hash of the last

The line is written first, then the head. Whoever writes holds the registry's lock, and settles first what a writer that died left: a line
without its end is cut off, a line that the head does not know is a whole one and stays. A history that lacks a line its head knows, or in
which a line was changed, is found out by whoever reads it. One that was put back together with its head is not: `fed-em registry verify`
prints the head, to be noted elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.whole_files import sync_folder, write_whole
from fed_em_client.durable_files import disk_trouble, sync, write_at
from fed_em_protocols.configuration import complaint_of
from fed_em_protocols.hashing import digest
from fed_em_protocols.transcript.canonical_json import canonical_json, read_canonical_json
from fed_em_protocols.transcript.entries import HexFloat, LineTable, Number
from fed_em_server.registry.lineage import Sha256

LOG_FILE, HEAD_FILE = "log.jsonl", "head.json"

StageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]

# Before the first entry.
NO_LINK = digest("registry").hex()


class _Line(LineTable):
    """What every entry has."""

    format: Literal[1] = 1
    previous: Sha256
    """The link of the entry before."""
    time: str
    """ISO 8601, UTC, by the writer's clock."""
    who: str
    reason: str = ""


class Added(_Line):
    """A version is there."""

    kind: Literal["added"] = "added"
    version: Sha256
    source: str = ""
    """The folder that it came from, on the writer's machine; empty if it came from none."""


class Removed(_Line):
    """A version's files are gone."""

    kind: Literal["removed"] = "removed"
    version: Sha256


class Decision(LineTable):
    """What a canary's rule made of a measurement."""

    candidate: Sha256
    baseline: Sha256
    """What it was compared with."""
    outcome: Literal["promote", "keep", "roll back"]
    numbers: Mapping[str, HexFloat]
    """What the decision follows from, by name."""


class Moved(_Line):
    """A stage has another version now, or none."""

    kind: Literal["promoted", "rolled-back", "withdrawn"]
    stage: StageName
    before: Sha256 | None
    after: Sha256 | None
    decision: Decision | None = None
    """By what rule, if it was one."""


class Decided(_Line):
    """A rule was applied and moved nothing in the stage."""

    kind: Literal["decided"] = "decided"
    stage: StageName
    decision: Decision


Entry = Added | Removed | Moved | Decided
_ENTRIES: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


class _Head(LineTable):
    format: Literal[1] = 1
    entries: Number
    link: Sha256


@dataclass(frozen=True)
class History:
    """All entries, and what follows from them.

    Attributes:
        entries: In order.
        links: The hash of each; the last is the head.
        numbers: Numbers of the versions that are there, by id, in the order in which they were added.
        additions: The entry by which each of them was added.
        stages: By name: the versions that were promoted and not rolled back, the newest last; empty of a stage that was emptied.
        seen: The versions that are or were in any stage.
        data: The bytes of the entries.
        rest: Bytes behind them: of a line that was not written to its end.
        ahead: How many of the entries the head does not know yet.
    """

    entries: tuple[Entry, ...] = ()
    links: tuple[str, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    additions: Mapping[str, Added] = field(default_factory=dict)
    stages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    data: bytes = field(default=b"", repr=False)
    rest: int = 0
    ahead: int = 0

    @property
    def head(self) -> str:
        """The link of the last entry."""
        return self.links[-1] if self.links else NO_LINK

    def current(self, stage: str) -> str | None:
        """The id of the version in a stage; None if there is none."""
        versions = self.stages.get(stage, ())
        return versions[-1] if versions else None

    def after(self, entry: Entry) -> History:
        """With one entry more.

        Raises:
            ValueError: it does not fit those before it; says why.
        """
        line = entry.model_dump(mode="json")
        if entry.previous != self.head:
            raise ValueError("it does not follow the entry before it")
        data = canonical_json(line)
        grown = replace(
            self,
            entries=(*self.entries, entry),
            links=(*self.links, digest("registry entry", data).hex()),
            data=self.data + data + b"\n",
        )
        match entry:
            case Added(version=version):
                if version in self.numbers:
                    raise ValueError("a version that is there is added")
                number = 1 + sum(isinstance(each, Added) for each in self.entries)
                return replace(
                    grown, numbers={**self.numbers, version: number}, additions={**self.additions, version: entry}
                )
            case Removed(version=version):
                self._require_there(version)
                if version in self.seen:
                    raise ValueError("a version that is or was in a stage is removed")
                numbers = {each: number for each, number in self.numbers.items() if each != version}
                return replace(grown, numbers=numbers)
            case Moved():
                return self._moved(grown, entry)
            case Decided(decision=decision):
                self._require_there(decision.candidate)
                return grown

    def _moved(self, grown: History, entry: Moved) -> History:
        versions = self.stages.get(entry.stage, ())
        if entry.before != self.current(entry.stage):
            raise ValueError("another version was in the stage")
        match entry.kind:
            case "promoted":
                if entry.after is None or entry.after == entry.before:
                    raise ValueError("it promotes no other version")
                self._require_there(entry.after)
                versions = (*versions, entry.after)
            case "rolled-back":
                versions = versions[:-1]
                if not versions or entry.after != versions[-1]:
                    raise ValueError("it goes back to another version than the one before")
            case "withdrawn":
                if not versions or entry.after is not None:
                    raise ValueError("it empties no stage")
                versions = ()
        seen = self.seen | ({entry.after} if entry.after else set())
        return replace(grown, stages={**self.stages, entry.stage: versions}, seen=seen)

    def _require_there(self, version: str) -> None:
        if version not in self.numbers:
            raise ValueError("it names a version that is not there")


def read_history(folder: Path, known: History = History()) -> History:
    """The history in a registry's folder, also while another process writes; empty if there is none.

    Args:
        folder: Of the registry.
        known: As it was read before: what it goes on with is parsed and verified, what is the same to the byte is not again.

    Raises:
        EnvironmentFault: a line was changed or is missing, or a file cannot be read.
        CallerError: it is of a newer version of fed-em.
    """
    head = _read_head(folder / HEAD_FILE)  # the head first: the other only grows
    data = _content(folder / LOG_FILE)
    history = _parsed(folder / LOG_FILE, b"" if data is None else data, known)
    if head is None:
        if len(history.entries) > 1:
            raise _damaged(folder / HEAD_FILE, f"{folder / LOG_FILE} is there, and its head {HEAD_FILE} is missing")
        return replace(history, ahead=len(history.entries))
    if len(history.entries) < head.entries:
        found = f"it has {len(history.entries)} of the {head.entries} entries that {HEAD_FILE} knows"
        raise _damaged(folder / LOG_FILE, found)
    if head.entries and history.links[head.entries - 1] != head.link:
        raise _damaged(folder / LOG_FILE, f"entry {head.entries} is not the one {HEAD_FILE} knows")
    return replace(history, ahead=len(history.entries) - head.entries)


def append(folder: Path, history: History, entry: Entry) -> History:
    """Add one entry, durably. The caller holds the registry's lock, and has read the history under it.

    Raises:
        EnvironmentFault: the disk does not take it; then it counts if its line is whole. Or the head is an older copy.
    """
    log = folder / LOG_FILE
    if history.ahead > 1:
        raise _damaged(folder / HEAD_FILE, f"it is an older copy, and does not know the last {history.ahead} entries")
    after = history.after(entry)
    with disk_trouble(log, "the registry must be on a disk that works and has room"):
        descriptor = os.open(log, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if history.rest:
                os.ftruncate(descriptor, len(history.data))
            if history.rest or history.ahead:  # a writer may have died before it synced
                sync(descriptor)
                _write_head(folder, history)
            write_at(descriptor, canonical_json(entry.model_dump(mode="json")) + b"\n", len(history.data))
            sync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(folder)
        _write_head(folder, after)
    return replace(after, rest=0, ahead=0)


def _write_head(folder: Path, history: History) -> None:
    head = _Head(entries=len(history.entries), link=history.head)
    write_whole(folder / HEAD_FILE, canonical_json(head.model_dump(mode="json")))


def _parsed(path: Path, data: bytes, known: History) -> History:
    """The entries of whole lines, of which the first are known."""
    history = known if data.startswith(known.data) else History()
    *lines, rest = data[len(history.data) :].split(b"\n")
    for number, line in enumerate(lines, 1 + len(history.entries)):
        try:
            document = read_canonical_json(line, f"entry {number} of {path}")
            _require_readable(document, f"entry {number} of {path}")
            history = history.after(_ENTRIES.validate_python(document))
        except ValidationError as error:
            raise _damaged(path, f"entry {number}: {complaint_of(error)}") from None
        except (CallerError, ValueError) as error:
            if isinstance(error, _NewerFormat):
                raise
            raise _damaged(path, f"entry {number}: {error}") from None
    return replace(history, rest=len(rest))


class _NewerFormat(CallerError):
    """A file that only a later version reads."""


def _require_readable(document: object, what: str) -> None:
    number = document.get("format") if isinstance(document, dict) else None
    if type(number) is int and number > 1:
        raise _NewerFormat(
            f"{what} has format {number}, this version reads format 1", remedy="update fed-em on this machine"
        )


def _read_head(path: Path) -> _Head | None:
    data = _content(path)
    if data is None:
        return None
    try:
        document = read_canonical_json(data, str(path))
        _require_readable(document, str(path))
        return _Head.model_validate(document)
    except _NewerFormat:
        raise
    except ValidationError as error:
        raise _damaged(path, complaint_of(error)) from None
    except CallerError as error:
        raise _damaged(path, error.message) from None


def _content(path: Path) -> bytes | None:
    """None if there is no such file."""
    with disk_trouble(path, "check the rights of the registry's folder"):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None


def _damaged(path: Path, what: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} is damaged: {what}", remedy="put the newest copies of log.jsonl and head.json back, both of them"
    )
