"""A version of a model: its manifest, by whose hash it is known.

    version.json                  the manifest: canonical JSON; its SHA-256 is the version's id
    model/                        as `fed_em.model_file` has it
    record.json                   what happened in the session, if there was one

The manifest names every file with its SHA-256, and the versions that this one began with. So an id stands for the model, for everything
that it follows from, and for all its ancestors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, ValidationError

from fed_em.errors import CallerError
from fed_em.model_file import TENSORS_FILE
from fed_em_protocols.configuration import complaint_of
from fed_em_protocols.transcript.canonical_json import canonical_json, read_canonical_json
from fed_em_protocols.transcript.entries import LineTable
from fed_em_server.registry.lineage import Lineage, Sha256

FORMAT = 1
MANIFEST_FILE = "version.json"
MODEL_FOLDER = "model"
TENSORS = f"{MODEL_FOLDER}/{TENSORS_FILE}"

# Of an id, where people read it: enough to tell versions apart, and to name them.
SHORT = 12


class VersionManifest(LineTable):
    """What a version is."""

    format: Literal[1] = 1
    model: str
    """The model in words."""
    columns: tuple[str, ...]
    files: Mapping[str, Sha256] = Field(min_length=1)
    """SHA-256 of every file, by its path from the version's folder, with slashes."""
    lineage: Lineage
    parents: tuple[Sha256, ...] = ()
    """The ids of the versions that the fit began with."""

    def to_bytes(self) -> bytes:
        """The one form in which it is written."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def id(self) -> str:
        """SHA-256 of `to_bytes`, hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> VersionManifest:
        """What `to_bytes` wrote.

        Raises:
            CallerError: it is something else, or of a newer format; names `what`.
        """
        document = read_canonical_json(data, what)
        number = document.get("format") if isinstance(document, dict) else None
        if type(number) is int and number > FORMAT:
            raise CallerError(
                f"{what} has format {number}, this version reads format {FORMAT}",
                remedy="update fed-em on this machine",
            )
        try:
            found = cls.model_validate(document)
        except ValidationError as error:
            raise CallerError(f"{what}: {complaint_of(error)}") from None
        if found.to_bytes() != data:
            raise CallerError(f"{what}: a field is written in another way than the only one")
        return found


@dataclass(frozen=True)
class Version:
    """A version as a registry has it.

    Attributes:
        id: SHA-256 of its manifest, 64 hexadecimal digits.
        number: Its number in this registry, counted from 1 in the order in which versions were added.
        added: When it was added, ISO 8601 UTC.
        source: The folder that it came from; empty if it came from none.
        manifest: What it is.
    """

    id: str
    number: int
    added: str
    source: str
    manifest: VersionManifest

    @property
    def lineage(self) -> Lineage:
        """Where the model comes from."""
        return self.manifest.lineage

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of the versions that its fit began with."""
        return self.manifest.parents

    @property
    def name(self) -> str:
        """`version 7 (3f62a0…)`."""
        return f"version {self.number} ({self.id[:SHORT]})"
