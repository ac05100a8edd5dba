"""Where a server's model comes from."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em.model_file import MANIFEST_FILE, FittedModel, load_model
from fed_em_server.registry import Registry

# How often a folder is read again whose model was replaced meanwhile.
_TIMES = 3


class ModelSource(Protocol):
    """Gives the model that is to be served, which may be another one later."""

    def version(self) -> str | None:
        """The id of the model that is there now, at little cost; None if there is none.

        Raises:
            FedEmError: it cannot be told.
        """
        ...

    def current(self) -> tuple[str, FittedModel] | None:
        """The id and the model that are there now, proved whole.

        Raises:
            FedEmError: it cannot be read, or is damaged.
        """
        ...

    def made_at(self, version: str) -> float | None:
        """When a version that was given was made, in seconds since 1970; None if nobody knows. Raises nothing."""
        ...


class FolderSource:
    """The folder of one model, which may be written anew. A version's id is the SHA-256 of its manifest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def version(self) -> str | None:
        """As `ModelSource.version`."""
        path = self._folder / MANIFEST_FILE
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise EnvironmentFault(f"cannot read '{path}': {error.strerror}", remedy="check its rights") from None

    def current(self) -> tuple[str, FittedModel] | None:
        """As `ModelSource.current`."""
        before = self.version()
        for _ in range(_TIMES):
            if before is None:
                return None
            fitted = load_model(self._folder)
            after = self.version()
            if after == before:
                return before, fitted
            before = after
        raise CallerError(f"'{self._folder}' is written all the time", remedy="write a model once it is fitted")

    def made_at(self, version: str) -> float | None:  # noqa: ARG002  a folder has one
        """When the manifest was written: what a folder knows."""
        try:
            return (self._folder / MANIFEST_FILE).stat().st_mtime
        except OSError:
            return None


class RegistrySource:
    """A stage of a registry: whichever version is promoted to it."""

    def __init__(self, registry: Registry, stage: str) -> None:
        self._registry, self._stage = registry, stage

    def version(self) -> str | None:
        """As `ModelSource.version`."""
        current = self._registry.current(self._stage)
        return None if current is None else current.id

    def current(self) -> tuple[str, FittedModel] | None:
        """As `ModelSource.current`."""
        current = self._registry.current(self._stage)
        return None if current is None else (current.id, self._registry.load(current))

    def made_at(self, version: str) -> float | None:
        """When the fit of the version began, as its lineage has it."""
        try:
            created = datetime.fromisoformat(self._registry.version(version).manifest.lineage.created)
        except (FedEmError, ValueError):  # gone meanwhile; or without a date
            return None
        return (created if created.tzinfo else created.replace(tzinfo=UTC)).timestamp()
