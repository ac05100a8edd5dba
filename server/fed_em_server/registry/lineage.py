"""Where a model comes from: hashes of all that it follows from, who took part, and how well it fits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from pydantic import Field

from fed_em.model_file import FittedModel
from fed_em.strict_json import canonical_json
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.transcript.entries import HexFloat, LineTable, Number

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TranscriptHead(LineTable):
    """The last checkpoint of a session's transcript."""

    root: Sha256
    """The Merkle root over all entries, which the server has signed."""
    entries: Number
    time: str
    """When it was signed, ISO 8601 UTC, by the server's clock."""


class Metrics(LineTable):
    """How a fit went."""

    log_likelihood: HexFloat | None = None
    """Of the last sum, nats a row of standardised columns."""
    records: HexFloat | None = None
    """How many records it is of, weights counted; with noise in a private session."""
    rounds: Number = 0
    """Opened sums."""
    iterations: Number = 0
    converged: bool | None = None
    epsilon: HexFloat | None = None
    """What the session promised; None without differential privacy."""
    delta: HexFloat | None = None


class Lineage(LineTable):
    """Where a model comes from. Everything about a session is empty, or None, of a model that was fitted in one place.

    Hashes are SHA-256 in hexadecimal.
    """

    created: str
    """When its fit began, ISO 8601."""
    package: str
    """The version of fed-em that made it."""
    data_schema: Sha256
    """Of the columns, their kinds and declared ranges, and of the columns of labels and weights: what is read of anybody's rows."""
    title: str = ""
    federation: str = ""
    session: str = ""
    """The session's number, 32 hexadecimal digits."""
    description: Sha256 | None = None
    """Of all that tenants were told of the session, which its terms name as H(schema)."""
    terms: Sha256 | None = None
    """Of the terms that the server signed."""
    roster: Sha256 | None = None
    tenants: tuple[str, ...] = ()
    """In the order of the roster."""
    policies: Mapping[str, tuple[Sha256, ...]] = {}
    """By tenant: the commitments to its policies that it signed with; salted, so they tell nobody what a policy says."""
    transcript: TranscriptHead | None = None
    started_from: Sha256 | None = None
    """Of the tensors of the model that the fit began with; None if it began with none."""
    metrics: Metrics = Metrics()

    @classmethod
    def of_model(cls, fitted: FittedModel, created: str, metrics: Metrics = Metrics()) -> Lineage:  # noqa: B008  frozen
        """Of a model without a session.

        Args:
            fitted: The model.
            created: When it was made, ISO 8601.
            metrics: How its fit went, if that is known.
        """
        columns = {"columns": fitted.schema.describe(), "names": list(fitted.columns)}
        return cls(created=created, package=package_version(), data_schema=sha256_of(columns), metrics=metrics)


def data_schema_of(description: SessionDescription) -> str:
    """SHA-256 of what a session reads of anybody's rows."""
    read = {"columns", "labels", "weights"}
    return sha256_of(description.model_dump(mode="json", include=read))


def sha256_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of a document as canonical JSON (`fed_em.strict_json`), in hexadecimal."""
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def package_version() -> str:
    """Of fed-em, as it is installed."""
    try:
        return version("fed-em")
    except PackageNotFoundError:  # run from a checkout
        return "not installed"
