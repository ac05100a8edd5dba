"""What a session is about, in words that both sides check: columns with their ranges, and the model.

The server sends it as JSON with the terms, which name its hash. From it, the roster and a broadcast every encoding of
the session follows by rule (`encoding_of`, `counts_encoding_of`), on either side alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from fed_em.broadcast import Broadcast
from fed_em.component_counts import counts_layout
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError
from fed_em.families import build_model
from fed_em.initialisation import moments_model
from fed_em.model import ComponentModel, Model
from fed_em_protocols.configuration import Table, complaint_of
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.roster import Name


class Column(Table):
    """One column of every tenant's rows: a finite number in each, within `[low, high]`, or nothing where it may be missing."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    low: FiniteFloat
    high: FiniteFloat
    missing: bool = False
    """Whether a cell may be empty. Declared and not seen, as all tenants sum the same statistics, also one without a hole."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"column '{self.name}': low must be below high")
        return self

    @model_serializer(mode="wrap")
    def _said_where_it_holds(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Complete columns are described as they were before there were others: the bytes, and so their hash, stay the same."""
        described: dict[str, Any] = fields(self)
        return described if self.missing else {name: value for name, value in described.items() if name != "missing"}


class SessionDescription(Table):
    """The columns and the model of one session.

    `model` is a model's own description without its number of columns and whether cells may be missing (which the columns
    give).
    """

    title: Name
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=4096)]
    model: dict[str, Any]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [column.name for column in self.columns]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"column '{twice}' stands twice")
        if "missing" in self.model:
            raise ValueError(
                "whether cells may be missing is said of columns: set `missing = true` in their [[columns]]"
            )
        # Building it validates the description. Moments alone are a family too, and nothing to start EM from.
        if not isinstance(self.fitted_model, ComponentModel):
            raise ValueError(f"a model of the family '{self.fitted_model.family}' is no mixture to fit")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def low(self) -> NDArray[np.float64]:
        """Least admissible value of each column, `(D,)`."""
        return np.array([column.low for column in self.columns])

    @cached_property
    def high(self) -> NDArray[np.float64]:
        """Largest admissible value of each column, `(D,)`."""
        return np.array([column.high for column in self.columns])

    @cached_property
    def fitted_model(self) -> Model:
        """The model that the session fits."""
        may_be_missing = {"missing": True} if self.has_missing else {}
        return build_model({**self.model, "n_columns": len(self.columns), **may_be_missing})

    @cached_property
    def moments_model(self) -> Model:
        """The model of the first round, whose moments standardise the columns."""
        return moments_model(len(self.columns), self.has_missing)

    @property
    def has_missing(self) -> bool:
        """Whether cells of any column may be missing."""
        return any(column.missing for column in self.columns)

    def to_json(self) -> bytes:
        """The bytes whose SHA-256 the terms name."""
        return self.model_dump_json().encode()

    @classmethod
    def from_json(cls, data: bytes) -> SessionDescription:
        """Parse what a server sent. Raises `CallerError` naming the field."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise CallerError(f"the session's description: {complaint_of(error)}") from None

    def asks_for_moments(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast asks for the moments that standardise the columns."""
        ranges = Coordinates.of_ranges(self.low, self.high)
        return broadcast.model.describe() == self.moments_model.describe() and broadcast.coordinates == ranges

    def asks_for_the_model(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast is about this session's model."""
        return broadcast.model.describe() == self.fitted_model.describe()


def encoding_of(description: SessionDescription, broadcast: Broadcast, row_caps: Sequence[int]) -> Encoding:
    """The encoding of the statistics that a broadcast asks for, with its range proved.

    Raises:
        CallerError: the declared ranges and row caps leave too few fraction bits; names the column.
    """
    bounds = broadcast.coordinates.bounds(description.low, description.high)
    layout = broadcast.model.layout(bounds)
    try:
        return Encoding.proved(layout, row_caps)
    except CallerError as error:
        widest = description.names[int(np.argmax(bounds))]
        raise CallerError(f"{error.message}; the widest column is '{widest}'", remedy=error.remedy) from None


def counts_encoding_of(model: Model, row_caps: Sequence[int]) -> Encoding:
    """The encoding of a model's component counts (`fed_em.component_counts`), with its range proved: in the small ring if they fit.

    Raises:
        CallerError: the model has no components, or the row caps leave too few fraction bits.
    """
    if not isinstance(model, ComponentModel):
        raise CallerError(
            f"a model of the family '{model.family}' has no components for a mass gate to count",
            remedy="set no mass floor in this session",
        )
    return Encoding.of_counts(counts_layout(model), row_caps)
