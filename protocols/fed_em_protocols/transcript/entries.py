"""The entries of a transcript, in the order in which they come, as frozen types; one line of canonical JSON each.

    opened                                  terms, description, how the fit goes, what it is computed on
    joined, refused                         a tenant accepts the terms, or leaves
    window                                  keys that serve rounds
    round, uploads, certificate, sum        one round; `failed` in place of what is missing
    restarted                               the server's process ended, and another went on: a round that was in progress is over
    start, fitted-together, picked, iteration     what the fit made of the sums so far
    standard-errors
    closed                                  the final parameters

Bytes are hexadecimal, long ones base64; floats are `float.hex`. Messages are kept as the signed bytes that travelled, without attachments;
what was attached stands beside them where a verifier needs it. Uploads are kept as hashes.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError

from fed_em.errors import CallerError
from fed_em_protocols.configuration import complaint_of
from fed_em_protocols.envelope import Sealed
from fed_em_protocols.hashing import DIGEST_BYTES
from fed_em_protocols.keys import SIGNATURE_BYTES
from fed_em_protocols.messages import Quoted
from fed_em_protocols.transcript.canonical_json import MOST, canonical_json, read_canonical_json


def _from_hex(value: object) -> object:
    return bytes.fromhex(value) if isinstance(value, str) else value


def _from_base64(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _float_from_hex(value: object) -> object:
    try:
        return float.fromhex(value) if isinstance(value, str) else value
    except OverflowError as error:
        raise ValueError(str(error)) from None


def _int_from_hex(value: object) -> object:
    return int(value, 16) if isinstance(value, str) else value


Hex = Annotated[bytes, BeforeValidator(_from_hex), PlainSerializer(bytes.hex, return_type=str)]
Digest = Annotated[Hex, Field(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
Signature = Annotated[Hex, Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Base64 = Annotated[bytes, BeforeValidator(_from_base64), PlainSerializer(_in_base64, return_type=str)]
HexFloat = Annotated[float, BeforeValidator(_float_from_hex), PlainSerializer(float.hex, return_type=str)]
HexInt = Annotated[int, BeforeValidator(_int_from_hex), PlainSerializer(hex, return_type=str), Field(ge=0)]
Number = Annotated[int, Field(ge=0, le=MOST)]
"""A round, a tenant's roster index, or another small number."""


class LineTable(BaseModel):
    """A line, or a part of one: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Signed(LineTable):
    """A message as it was signed, without its attachment."""

    payload: Base64 = Field(repr=False)
    attachment: Digest
    """SHA-256 of the attachment."""
    signature: Signature = Field(repr=False)

    @classmethod
    def of(cls, sealed: Sealed[Any]) -> Signed:
        """From the message."""
        return cls(payload=sealed.payload, attachment=sealed.attachment_digest, signature=sealed.signature)

    @property
    def quoted(self) -> Quoted:
        """As messages quote each other."""
        return Quoted(self.payload, self.attachment, self.signature)

    def is_of(self, sealed: Sealed[Any]) -> bool:
        """Whether it is this very message."""
        return self.quoted == sealed.quoted()


class OneDrawBegins(LineTable):
    """See `fed_em.beginnings.OneDraw`."""

    kind: Literal["one-draw"] = "one-draw"


class BestOfBegins(LineTable):
    """See `fed_em.beginnings.BestOf`."""

    kind: Literal["best-of"] = "best-of"
    n_starts: Number


class CentresBegin(LineTable):
    """See `fed_em.beginnings.BestCentres`."""

    kind: Literal["best-centres"] = "best-centres"
    n_starts: Number
    radius: HexFloat


class LabelsBegin(LineTable):
    """See `fed_em.beginnings.FromLabels`."""

    kind: Literal["from-labels"] = "from-labels"


class ModelBegins(LineTable):
    """See `fed_em.beginnings.FromModel`."""

    kind: Literal["from-model"] = "from-model"
    fitted: Base64 = Field(repr=False)
    """The model as a broadcast (`Broadcast.to_bytes`)."""
    columns: tuple[str, ...]
    """The names of its columns."""


class FitPlanned(LineTable):
    """All that a fit follows from besides the description and the sums."""

    tolerance: HexFloat
    max_iterations: Number
    seed: HexInt
    optimiser: str
    beginning: Annotated[
        OneDrawBegins | BestOfBegins | CentresBegin | LabelsBegin | ModelBegins, Field(discriminator="kind")
    ]


class Opened(LineTable):
    """The first entry."""

    kind: Literal["opened"] = "opened"
    format: Literal[1, 2] = 2
    """1 knows no `restarted`."""
    time: str
    """ISO 8601, UTC, by the server's clock."""
    roster: Digest
    terms: Signed
    description: Base64 = Field(repr=False)
    """What is attached to the terms: JSON."""
    fit: FitPlanned
    computed_on: dict[str, str]
    """Platform and versions that the results of floating-point arithmetic depend on (`fed_em.arithmetic`)."""


class Joined(LineTable):
    """A tenant accepted the terms."""

    kind: Literal["joined"] = "joined"
    tenant: Number
    message: Signed


class Refused(LineTable):
    """A tenant left the session for a reason of its own."""

    kind: Literal["refused"] = "refused"
    tenant: Number
    message: Signed


class Advertised(LineTable):
    """One member's keys for a window."""

    tenant: Number
    message: Signed
    table: Base64 = Field(repr=False)
    """What is attached: round keys and commitments."""


class WindowOpened(LineTable):
    """A window is in use: all members' keys, and the nonces that its graph was drawn by."""

    kind: Literal["window"] = "window"
    opening: Signed
    advertisements: tuple[Advertised, ...] = Field(repr=False)
    nonces: tuple[Digest, ...] = ()


class RoundStarted(LineTable):
    """The server asks for the statistics at some parameters."""

    kind: Literal["round"] = "round"
    header: Signed
    parameters: Base64 = Field(repr=False)
    """What is attached: a broadcast (`fed_em.broadcast`)."""


class UploadSeen(LineTable):
    """What shows that a tenant uploaded: H(y_i) and its signature."""

    tenant: Number
    digest: Digest
    signature: Signature = Field(repr=False)


class RoundUploads(LineTable):
    """All uploads of a round that came before its cut-off."""

    kind: Literal["uploads"] = "uploads"
    round: Number
    uploads: tuple[UploadSeen, ...] = Field(repr=False)
    spends: HexFloat | None = None
    """Of a private session: the noise multiplier of this one sum, which each of these tenants spent; None without noise."""


class RoundCertified(LineTable):
    """The survivors are fixed; nothing is released before."""

    kind: Literal["certificate"] = "certificate"
    certificate: Signed


class SurvivorOpened(LineTable):
    """What took one survivor's masks off.

    `pair_keys` are of the masks with its dropped neighbours, ascending, end to end. Without a message it fell silent, and both were
    recovered from shares.
    """

    tenant: Number
    message: Signed | None = None
    self_seed: Hex = Field(repr=False)
    pair_keys: Hex = Field(repr=False)


class RoundSummed(LineTable):
    """The sum over the survivors."""

    kind: Literal["sum"] = "sum"
    round: Number
    openings: tuple[SurvivorOpened, ...] = Field(repr=False)
    vector: Base64 = Field(repr=False)
    """Σ of what they encoded in this round, little-endian words of the ring, its tail included. Of increments: Σ of the increments."""


class SumFailed(LineTable):
    """An attempt came to no sum."""

    kind: Literal["failed"] = "failed"
    round: Number
    """The last round that was begun, in this attempt or before."""
    reason: str
    final: bool


class ServerRestarted(LineTable):
    """The server went on in another process: an attempt at a sum that nobody failed, and that counts for nothing."""

    kind: Literal["restarted"] = "restarted"
    round: Number
    """The last round that was begun before."""
    time: str
    """ISO 8601, UTC, by the server's clock."""


class StartDone(LineTable):
    """One sum of the starts."""

    kind: Literal["start"] = "start"
    number: Number
    objectives: tuple[HexFloat, ...]


class IterationDone(LineTable):
    """One turn of the loop: the M-step's record."""

    kind: Literal["iteration"] = "iteration"
    number: Number
    step: str
    objective: HexFloat
    log_likelihood: HexFloat
    records: HexFloat
    held: tuple[Number, ...]
    parameters: Digest
    """SHA-256 of the parameters after the M-step (`fed_em.tensors.encode`)."""


class CandidateDone(LineTable):
    """The iteration of one of several models that are fitted together."""

    candidate: Number
    iteration: IterationDone


class FittedTogether(LineTable):
    """One round of several models."""

    kind: Literal["fitted-together"] = "fitted-together"
    iterations: tuple[CandidateDone, ...]


class ModelPicked(LineTable):
    """One of several models was picked."""

    kind: Literal["picked"] = "picked"
    number: Number
    complete: bool
    parameters: Digest


class ErrorsDone(LineTable):
    """The sums after the fit gave standard errors."""

    kind: Literal["standard-errors"] = "standard-errors"
    records: HexFloat
    shift: HexFloat
    errors: Digest


class Closed(LineTable):
    """The last entry."""

    kind: Literal["closed"] = "closed"
    message: Signed
    parameters: Base64 = Field(repr=False)
    """What is attached: the final model as a broadcast; empty if there is none."""


FitEntry = StartDone | IterationDone | FittedTogether | ModelPicked | ErrorsDone
Entry = (
    Opened | Joined | Refused | WindowOpened | RoundStarted | RoundUploads | RoundCertified | RoundSummed | SumFailed
    | ServerRestarted | FitEntry | Closed
)  # fmt: skip

_ENTRIES: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def entry_to_bytes(entry: Entry) -> bytes:
    """One line of a transcript, without its end."""
    return canonical_json(entry.model_dump(mode="json"))


def entry_from_bytes(data: bytes, what: str) -> Entry:
    """The entry of a line.

    Raises:
        CallerError: it is none, or not in the one form in which `entry_to_bytes` writes it; names `what` and the field.
    """
    try:
        entry: Entry = _ENTRIES.validate_python(read_canonical_json(data, what))
    except ValidationError as error:
        raise CallerError(f"{what}: {complaint_of(error)}") from None
    if entry_to_bytes(entry) != data:
        raise CallerError(f"{what}: a field is written in another way than the only one")
    return entry
