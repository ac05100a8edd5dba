"""What a tenant's process and its shards in other places say to each other, in the frames of `fed_em_client.shard_worker`:

    shard → tenant   hello       its number and its version
    tenant → shard   read        the session, and which of the rows are this shard's; answered by `held`
    tenant → shard   place       the coordinates and the ball that the next rounds are in
    tenant → shard   evaluate    answered by one frame a shard of records, as a local worker does
    tenant → shard   reach       answered by how many records expect a missing cell beyond their bounds
    tenant → shard   refuse      why it is not taken; it ends
    tenant → shard   end         the session is over; it ends

What could not be done is answered by `fault`. Everything here is of one tenant's own statistics: it never leaves the tenant's house.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em import tensors
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em.layout import Block, Layout
from fed_em.model import Summand
from fed_em.parameters import Parameters

HELLO, READ, HELD, PLACE, EVALUATE = "hello", "read", "held", "place", "evaluate"
REACH, BEYOND, REFUSE, END, FAULT = "reach", "beyond", "refuse", "end", "fault"

_BOUNDS, _AT = "column bounds", "parameters."


@dataclass(frozen=True)
class Reading:
    """What a shard is told to read.

    Attributes:
        description: The session's, JSON.
        data: URIs of the files.
        columns: Session column to data column, where the names differ.
        row_cap: The most rows of all shards together.
        index, count: Which of how many shards it is.
        shard_records: Records of one sum.
    """

    description: str
    data: tuple[str, ...]
    columns: Mapping[str, str]
    row_cap: int
    index: int
    count: int
    shard_records: int

    def to_frame(self) -> bytes:
        """As a frame."""
        return tensors.encode({}, {"kind": READ, **asdict(self)})

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Reading:
        """What `to_frame` wrote."""
        fields = {name: document[name] for name in cls.__dataclass_fields__}
        return cls(**{**fields, "data": tuple(fields["data"])})


@dataclass(frozen=True)
class Held:
    """What a shard says that it holds.

    Attributes:
        n_rows: Of all files together.
        shards: The numbers of the sums that it makes.
        fingerprint: Of its records, hexadecimal.
    """

    n_rows: int
    shards: tuple[int, ...]
    fingerprint: str

    def to_frame(self) -> bytes:
        """As a frame."""
        return tensors.encode({}, {"kind": HELD, **asdict(self)})


@dataclass(frozen=True, eq=False)
class Place:
    """Where the records are evaluated.

    Attributes:
        coordinates: Of the E-step.
        labels: Whether labels count; they are of components, and the first round has none.
        radius: Of the ball that records are scaled into; None for none.
    """

    coordinates: Coordinates
    labels: bool
    radius: float | None

    def to_frame(self) -> bytes:
        """As a frame."""
        arrays = {"location": self.coordinates.location, "scale": self.coordinates.scale}
        return tensors.encode(arrays, {"kind": PLACE, "labels": self.labels, "radius": self.radius})


def reach_frame(model: Summand, parameters: Parameters, bounds: NDArray[np.float64], layout: Layout) -> bytes:
    """The frame that asks how many records are beyond their reach."""
    arrays = {_BOUNDS: bounds, **{_AT + name: array for name, array in parameters.items()}}
    blocks = [asdict(block) for block in layout]
    return tensors.encode(arrays, {"kind": REACH, "model": model.describe(), "layout": blocks})


def read_reach(
    arrays: Mapping[str, NDArray[np.float64]], document: Mapping[str, Any]
) -> tuple[Parameters, NDArray[np.float64], Layout]:
    """What `reach_frame` wrote, but for the model."""
    parameters = {name.removeprefix(_AT): array for name, array in arrays.items() if name.startswith(_AT)}
    blocks = tuple(Block(**{**block, "shape": tuple(block["shape"])}) for block in document["layout"])
    return Parameters(parameters), arrays[_BOUNDS], Layout(blocks)


def word(kind: str, **fields: str | int) -> bytes:
    """A frame without arrays."""
    return tensors.encode({}, {"kind": kind, **fields})


def fault_frame(error: FedEmError) -> bytes:
    """What went wrong, and whose fault it is."""
    return word(FAULT, message=error.message, remedy=error.remedy, environment=isinstance(error, EnvironmentFault))


def read_frame(data: bytes, expected: Sequence[str], who: str) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
    """The arrays and the document of a frame of one of these kinds.

    Raises:
        CallerError: it is of another kind; or what a `fault` tells, which may be an `EnvironmentFault` as well.
    """
    arrays, document = tensors.decode(data, f"what {who} sends")
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind == FAULT and FAULT not in expected:
        raise (EnvironmentFault if document.get("environment") else CallerError)(
            document["message"], remedy=document["remedy"]
        )
    if kind not in expected:
        raise CallerError(f"{who} sends what was not asked for", remedy="run one version of fed-em in all places")
    return arrays, document
