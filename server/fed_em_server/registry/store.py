"""A registry: a folder of versions, and the history of what became of them.

    lock
    log.jsonl, head.json          see `history`
    versions/<id>/                see `version`

Whoever changes something holds the lock. A version's folder is written under another name and renamed, then its entry is written: until
then the version is not there. Nothing is ever overwritten, and nothing deleted but by `remove`: its entry is written first, then the
files go. What a process that died left half done is cleared away by the next change; a whole folder that the history does not know stays.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.model_file import FittedModel, load_model, model_files
from fed_em.whole_files import sync_folder
from fed_em_client.durable_files import disk_trouble, waiting_lock
from fed_em_protocols.clock import time_in_words
from fed_em_server.model_words import model_in_words
from fed_em_server.record import RECORD_FILE, SessionRecord
from fed_em_server.registry.history import (
    Added,
    Decided,
    Decision,
    Entry,
    History,
    Moved,
    Removed,
    StageName,
    append,
    read_history,
)
from fed_em_server.registry.lineage import Lineage
from fed_em_server.registry.version import MANIFEST_FILE, MODEL_FOLDER, SHORT, TENSORS, Version, VersionManifest

VERSIONS_FOLDER, LOCK_FILE = "versions", "lock"
PRODUCTION, CANARY = "production", "canary"

_STAGE: TypeAdapter[str] = TypeAdapter(StageName)
_LEAST_PREFIX = 6
_UNFINISHED, _GOING = ".new-", ".gone-"
_RESTORE = "restore the version's folder from a backup"


def whoever() -> str:
    """The user and the machine of this process, as entries name them."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


class Registry:
    """Versions of models, and which of them is in which stage.

    Args:
        folder: Where it is; made with the first version.
        clock: Gives the time of entries, ISO 8601 UTC.
        who: Who changes something here, as entries name them; the process's user and machine by default.
    """

    def __init__(self, folder: Path, clock: Callable[[], str] = time_in_words, who: str = "") -> None:
        self.folder = Path(folder)
        self._clock = clock
        self._who = who
        self._known = History()

    def read(self) -> History:
        """The history as it is now. Raises as `read_history`."""
        self._known = read_history(self.folder, self._known)
        return self._known

    def versions(self) -> tuple[Version, ...]:
        """All versions, in the order in which they were added. Raises as `version`."""
        history = self.read()
        return tuple(self._version(history, each) for each in history.numbers)

    def version(self, named: str) -> Version:
        """One version.

        Args:
            named: Its id or six first digits of it at least; its number (`7`, `v7`); or a stage that it is in (`@production`).

        Raises:
            CallerError: there is none, or several begin so, or its manifest is not the one that the id is of.
            EnvironmentFault: it cannot be read, or the history is damaged.
        """
        history = self.read()
        return self._version(history, _id_of(history, named))

    def current(self, stage: str = PRODUCTION) -> Version | None:
        """The version in a stage; None if there is none. Raises as `version`."""
        history = self.read()
        found = history.current(_stage(stage))
        return None if found is None else self._version(history, found)

    def before(self, stage: str = PRODUCTION) -> Version | None:
        """The version that a rollback would go back to; None if there is none. Raises as `version`."""
        history = self.read()
        versions = history.stages.get(_stage(stage), ())
        return self._version(history, versions[-2]) if len(versions) > 1 else None

    def history(self, stage: str = PRODUCTION) -> tuple[Moved | Decided, ...]:
        """What became of a stage, and what was decided about it, oldest first. Raises as `read_history`."""
        stage = _stage(stage)
        return tuple(
            entry for entry in self.read().entries if isinstance(entry, Moved | Decided) and entry.stage == stage
        )

    def path(self, version: Version) -> Path:
        """The folder of a version."""
        return self._path(version.id)

    def load(self, version: Version) -> FittedModel:
        """The model of a version, once all its files have proved to be those of its manifest.

        Raises:
            CallerError: a file is missing, or is not the one that the manifest names.
            EnvironmentFault: one cannot be read.
        """
        self.require_intact(version)
        return load_model(self.path(version) / MODEL_FOLDER)

    def record(self, version: Version) -> SessionRecord | None:
        """What happened in the session of a version; None if it has none. Raises as `load`."""
        if RECORD_FILE not in version.manifest.files:
            return None
        data = self._intact(version, RECORD_FILE)
        try:
            return SessionRecord.model_validate_json(data)
        except ValidationError:
            raise CallerError(
                f"{self.path(version) / RECORD_FILE} is no record that this version of fed-em reads",
                remedy="read it with the version that made it",
            ) from None

    def require_intact(self, version: Version) -> None:
        """Hold a version's files against its manifest. Raises as `load`."""
        for name in version.manifest.files:
            self._intact(version, name)

    def add(
        self,
        fitted: FittedModel,
        lineage: Lineage,
        parents: Iterable[Version] = (),
        record: SessionRecord | None = None,
        reason: str = "",
    ) -> Version:
        """Add a model. One that is there already, with the same lineage, is not added again.

        Args:
            fitted: The model.
            lineage: Where it comes from.
            parents: The versions that its fit began with; without any, those with the tensors that the lineage names, if they are there.
            record: What happened in its session.
            reason: Why it is added, for the history.

        Raises:
            CallerError: a parent is not in this registry.
            EnvironmentFault: the disk does not take it, or the history is damaged.
        """
        files = {f"{MODEL_FOLDER}/{name}": data for name, data in model_files(fitted).items()}
        if record is not None:
            files[RECORD_FILE] = (record.model_dump_json(indent=2) + "\n").encode()
        return self.add_files(fitted, files, lineage, parents, reason)

    def add_files(
        self,
        fitted: FittedModel,
        files: Mapping[str, bytes],
        lineage: Lineage,
        parents: Iterable[Version] = (),
        reason: str = "",
        source: str = "",
    ) -> Version:
        """As `add`, of the very files of a model by their paths in the version's folder, from a folder `source`."""
        begun_with = tuple(parent.id for parent in parents)
        with self._changing() as history:
            for each in begun_with:
                _require_there(history, each)
            hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
            manifest = VersionManifest(
                model=model_in_words(fitted.model),
                columns=fitted.columns,
                files=hashes,
                lineage=lineage,
                parents=begun_with,
            )
            if not begun_with:
                known = self._alike(history, manifest)
                manifest = known or manifest.model_copy(update={"parents": self._origin(history, lineage)})
            if manifest.id not in history.numbers:
                self._write(manifest, files)
                entry = Added.model_validate({**self._line(history, reason), "version": manifest.id, "source": source})
                append(self.folder, history, entry)
            return self._version(self.read(), manifest.id)

    def promote(
        self,
        version: Version,
        stage: str = PRODUCTION,
        reason: str = "",
        expecting: Version | None = None,
        decision: Decision | None = None,
    ) -> Version:
        """Put a version into a stage; nothing happens if it is there.

        Args:
            version: Which.
            stage: Where: `production`, `canary` or any name of small letters, digits, dots, dashes and underscores.
            reason: Why, for the history.
            expecting: The version that is there now, as far as the caller knows; None: whichever is.
            decision: By what rule, if it was one.

        Raises:
            CallerError: another version than the expected one is there; or the version is not, or its files are not those of its manifest.
            EnvironmentFault: the disk does not take it, or the history is damaged.
        """
        stage = _stage(stage)
        with self._changing() as history:
            _require_there(history, version.id)
            self.require_intact(version)
            before = history.current(stage)
            if expecting is not None and before != expecting.id:
                raise CallerError(
                    f"{stage} has no longer {expecting.name}: somebody changed it meanwhile",
                    remedy=f"see `fed-em registry history {stage}`, and decide again",
                )
            if before != version.id:
                self._move(history, "promoted", stage, version.id, reason, decision)
        return version

    def rollback(
        self,
        stage: str = PRODUCTION,
        reason: str = "",
        expecting: Version | None = None,
        decision: Decision | None = None,
    ) -> Version:
        """Go back to the version before, which is returned; one more time goes one further back. Arguments and errors as of `promote`.

        Raises:
            CallerError: there is no version before.
        """
        stage = _stage(stage)
        with self._changing() as history:
            versions = history.stages.get(stage, ())
            if len(versions) < 2:
                there = "has one version, and had none before it" if versions else "is empty"
                raise CallerError(f"{stage} {there}", remedy="promote a version instead")
            if expecting is not None and versions[-1] != expecting.id:
                raise CallerError(f"{stage} has no longer {expecting.name}: somebody changed it meanwhile")
            before = self._version(history, versions[-2])
            self.require_intact(before)
            self._move(history, "rolled-back", stage, before.id, reason, decision)
        return before

    def withdraw(self, stage: str, reason: str = "", decision: Decision | None = None) -> None:
        """Leave a stage empty. Raises `CallerError` if it is, and as `promote`."""
        stage = _stage(stage)
        with self._changing() as history:
            if history.current(stage) is None:
                raise CallerError(f"{stage} is empty")
            self._move(history, "withdrawn", stage, None, reason, decision)

    def decided(self, stage: str, decision: Decision, reason: str) -> None:
        """Keep a decision that moves nothing. Raises as `promote`."""
        with self._changing() as history:
            _require_there(history, decision.candidate)
            entry = Decided.model_validate(
                {**self._line(history, reason), "stage": _stage(stage), "decision": decision}
            )
            append(self.folder, history, entry)

    def remove(self, version: Version, reason: str = "") -> None:
        """Delete a version's files for good; that it was there stays in the history.

        Raises:
            CallerError: it is or was in a stage, or is the parent of another: it is part of their history.
            EnvironmentFault: the disk does not take it, or the history is damaged.
        """
        with self._changing() as history:
            _require_there(history, version.id)
            if version.id in history.seen:
                stages = [stage for stage in history.stages if self._was_in(history, version.id, stage)]
                raise CallerError(
                    f"{version.name} is or was in {', '.join(stages)}: the history of a stage must stay readable",
                    remedy="keep it; only versions that never were in a stage are removed",
                )
            children = [each for each in history.numbers if version.id in self._version(history, each).parents]
            if children:
                raise CallerError(
                    f"{self._version(history, children[0]).name} was fitted from {version.name}", remedy="keep it"
                )
            append(self.folder, history, Removed.model_validate({**self._line(history, reason), "version": version.id}))
            self._delete(version.id)

    @staticmethod
    def _was_in(history: History, version: str, stage: str) -> bool:
        moves = (each for each in history.entries if isinstance(each, Moved) and each.stage == stage)
        return any(move.after == version for move in moves)

    def leftovers(self, history: History) -> tuple[str, ...]:
        """Names in the folder of versions that are of no version: what a process that died left."""
        with disk_trouble(self.folder):
            folder = self.folder / VERSIONS_FOLDER
            return tuple(sorted(set(os.listdir(folder)) - set(history.numbers))) if folder.exists() else ()

    @contextmanager
    def _changing(self) -> Iterator[History]:
        """The history, under the lock, with what others left half done cleared away."""
        remedy = "the registry must be on a disk that works and has room"
        with disk_trouble(self.folder, remedy):
            (self.folder / VERSIONS_FOLDER).mkdir(parents=True, exist_ok=True)
        with waiting_lock(self.folder / LOCK_FILE):
            history = self.read()
            removed = {entry.version for entry in history.entries if isinstance(entry, Removed)}
            for name in self.leftovers(history):
                # A whole version that the history never knew may be one that an older copy of the history has forgotten.
                if name.startswith((_UNFINISHED, _GOING)) or name in removed:
                    self._delete(name)
            yield history

    def _delete(self, name: str) -> None:
        """Delete a folder of versions; under its own name it is whole or not there at all."""
        folder = self.folder / VERSIONS_FOLDER
        going = folder / f"{_GOING}{name}"
        with disk_trouble(folder):
            if not name.startswith((_UNFINISHED, _GOING)):
                os.rename(folder / name, going)
                sync_folder(folder)
            shutil.rmtree(going if going.exists() else folder / name)

    def _write(self, manifest: VersionManifest, files: Mapping[str, bytes]) -> None:
        """Write a version's folder, durably, so that it is whole or not there."""
        folder = self.folder / VERSIONS_FOLDER
        if (
            folder / manifest.id
        ).exists():  # written by a process that died before it wrote the entry, or by a damaged disk
            self._delete(manifest.id)
        unfinished = folder / f"{_UNFINISHED}{manifest.id}"
        with disk_trouble(folder, "the registry must be on a disk that works and has room"):
            unfinished.mkdir()
            for name, data in {**files, MANIFEST_FILE: manifest.to_bytes()}.items():
                path = unfinished / name
                path.parent.mkdir(exist_ok=True)
                with path.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            for each in {(unfinished / name).parent for name in files} | {unfinished}:
                sync_folder(each)
            os.rename(unfinished, folder / manifest.id)
            sync_folder(folder)

    def _line(self, history: History, reason: str) -> dict[str, str]:
        return {"previous": history.head, "time": self._clock(), "who": self._who or whoever(), "reason": reason}

    def _move(
        self, history: History, kind: str, stage: str, after: str | None, reason: str, decision: Decision | None
    ) -> None:
        entry: Entry = Moved.model_validate(
            {
                **self._line(history, reason),
                "kind": kind,
                "stage": stage,
                "before": history.current(stage),
                "after": after,
                "decision": decision,
            }
        )
        append(self.folder, history, entry)

    def _alike(self, history: History, manifest: VersionManifest) -> VersionManifest | None:
        """The version with the same files and lineage, whatever its parents."""
        for each in history.numbers:
            found = self._version(history, each).manifest
            if (found.files, found.lineage) == (manifest.files, manifest.lineage):
                return found
        return None

    def _origin(self, history: History, lineage: Lineage) -> tuple[str, ...]:
        """The first version with the tensors that a fit began with."""
        if lineage.started_from is None:
            return ()
        manifests = ((each, self._version(history, each).manifest) for each in history.numbers)
        return tuple(each for each, found in manifests if found.files.get(TENSORS) == lineage.started_from)[:1]

    def _path(self, version: str) -> Path:
        return self.folder / VERSIONS_FOLDER / version

    def _version(self, history: History, version: str) -> Version:
        path = self._path(version) / MANIFEST_FILE
        data = _read(path)
        if hashlib.sha256(data).hexdigest() != version:
            raise CallerError(f"{path} is not the manifest of the version whose folder it is in", remedy=_RESTORE)
        manifest = VersionManifest.from_bytes(data, str(path))
        added = history.additions[version]
        return Version(version, history.numbers[version], added.time, added.source, manifest)

    def _intact(self, version: Version, name: str) -> bytes:
        path = self.path(version) / name
        data = _read(path)
        if hashlib.sha256(data).hexdigest() != version.manifest.files[name]:
            raise CallerError(
                f"{path} is not the file that the manifest of {version.name} names: it was changed or damaged",
                remedy=_RESTORE,
            )
        return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise CallerError(f"there is no file {path}", remedy=_RESTORE) from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}", remedy="check its rights") from None


def _stage(name: str) -> str:
    try:
        return _STAGE.validate_python(name)
    except ValidationError:
        raise CallerError(
            f"{name!r} is no name of a stage", remedy="use small letters, digits, dots, dashes and underscores"
        ) from None


def _require_there(history: History, version: str) -> None:
    if version not in history.numbers:
        raise CallerError(
            f"version {version[:SHORT]} is not in this registry", remedy="`fed-em registry list` shows those that are"
        )


def _id_of(history: History, named: str) -> str:
    """The id of the version that somebody named."""
    if named.startswith("@"):
        current = history.current(_stage(named[1:]))
        if current is None:
            raise CallerError(f"no version is in {named[1:]}", remedy="`fed-em registry list` shows the stages")
        return current
    text = named.lower()
    if re.fullmatch(rf"v\d+|\d{{1,{_LEAST_PREFIX - 1}}}", text):
        found = [each for each, number in history.numbers.items() if number == int(text.removeprefix("v"))]
    elif len(text) < _LEAST_PREFIX:
        raise CallerError(
            f"'{named}' names no version",
            remedy=f"give a number, a stage as @production, or the first {_LEAST_PREFIX} digits of an id at least",
        )
    else:
        found = [each for each in history.numbers if each.startswith(text)]
    if len(found) == 1:
        return found[0]
    how_many = f"{len(found)} versions begin with" if found else "there is no version"
    raise CallerError(f"{how_many} '{named}'", remedy="`fed-em registry list` shows all versions with their ids")
