"""The messages as frozen types. The wire format, and who signs what, is told in `wire/messages.proto`.

Every field is checked against its declaration when a message comes in: lengths exactly, lists and integers within limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from fed_em_protocols.keys import KEY_BYTES, SIGNATURE_BYTES
from fed_em_protocols.limits import MAX_NAME_LENGTH, MAX_ROUND, MAX_TENANTS, MAX_VECTOR_LENGTH
from fed_em_protocols.masks import MASK_KEY_BYTES
from fed_em_protocols.shamir import SHARE_BYTES
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.wire.fields import DIGEST, ID, KEY, at_most, exactly, multiple_of

SALT_BYTES = 16
_BITMAP = at_most((MAX_TENANTS + 7) // 8)
_ROUND = at_most(MAX_ROUND)


class RefusalCode(IntEnum):
    """Why a tenant will not go on. Codes travel, texts never do: a text could carry data."""

    POLICY = 1
    SCHEMA = 2
    OUT_OF_BOUNDS = 3
    SERVER_FAULT = 4
    LOCAL_FAULT = 5


class Mode(IntEnum):
    """What a round sums: whole statistic vectors, increments on certified ones, or counts for the mass gate."""

    WHOLE = 1
    INCREMENT = 2
    COUNTS = 3


class Outcome(IntEnum):
    """How the previous round ended, as its successor's header tells."""

    NONE = 0
    OPENED = 1
    NOT_OPENED = 2


class CloseReason(IntEnum):
    """Why a session ends."""

    FINISHED = 1
    FAILED = 2


class SharedSecret(IntEnum):
    """Which of a dealer's two secrets of a round a share belongs to."""

    AGREEMENT = 0
    SELF_SEED = 1


@dataclass(frozen=True)
class Quoted:
    """A signed message without its attachment."""

    payload: bytes = field(repr=False)
    attachment_digest: bytes = field(metadata=DIGEST)
    signature: bytes = field(metadata=exactly(SIGNATURE_BYTES))


@dataclass(frozen=True)
class Hello:
    """A tenant introduces itself on a new link."""

    tenant: str = field(metadata=at_most(MAX_NAME_LENGTH))
    roster: bytes = field(metadata=DIGEST)
    boot: bytes = field(metadata=ID)
    software: str = field(metadata=at_most(64))


@dataclass(frozen=True)
class Join:
    """The tenant accepts the terms."""

    session: bytes = field(metadata=ID)
    terms: bytes = field(metadata=DIGEST)
    boot: bytes = field(metadata=ID)


@dataclass(frozen=True)
class Refusal:
    """The tenant leaves the session, having come as far as `round`."""

    session: bytes = field(metadata=ID)
    code: int
    round: int = field(metadata=_ROUND)


@dataclass(frozen=True)
class Advertise:
    """Public keys of one tenant for one window."""

    session: bytes = field(metadata=ID)
    window: bytes = field(metadata=DIGEST)
    boot: bytes = field(metadata=ID)
    channel_key: bytes = field(metadata=KEY)
    window_key: bytes = field(metadata=KEY)
    round_keys: bytes = field(metadata=multiple_of(KEY_BYTES))
    commitments: bytes = field(metadata=multiple_of(KEY_BYTES))


@dataclass(frozen=True)
class Deposit:
    """Commitments to the shares in the attached boxes."""

    session: bytes = field(metadata=ID)
    setup: bytes = field(metadata=DIGEST)
    roots: bytes = field(metadata=multiple_of(32))


@dataclass(frozen=True)
class Ready:
    """Which dealers' shares this tenant holds."""

    session: bytes = field(metadata=ID)
    setup: bytes = field(metadata=DIGEST)
    held: bytes = field(metadata=_BITMAP)


@dataclass(frozen=True)
class Upload:
    """The masked vector of one round is attached."""

    session: bytes = field(metadata=ID)
    round: int = field(metadata=_ROUND)
    context: bytes = field(metadata=DIGEST)


@dataclass(frozen=True)
class Opening:
    """A survivor releases its self seed and the keys of masks shared with the dropped."""

    session: bytes = field(metadata=ID)
    round: int = field(metadata=_ROUND)
    context: bytes = field(metadata=DIGEST)
    self_seed: bytes = field(metadata=KEY, repr=False)
    pair_keys: bytes = field(metadata=at_most(MASK_KEY_BYTES * MAX_TENANTS), repr=False)


@dataclass(frozen=True)
class ReleasedShare:
    """One share of one secret, with what ties it to the dealer's signed root."""

    dealer: int = field(metadata=at_most(MAX_TENANTS))
    secret: int = field(metadata=at_most(1))
    share: bytes = field(metadata=exactly(SHARE_BYTES), repr=False)
    salt: bytes = field(metadata=exactly(SALT_BYTES), repr=False)
    path: bytes = field(metadata=at_most(32 * 16), repr=False)


@dataclass(frozen=True)
class Shares:
    """A holder's shares for those who fell silent."""

    session: bytes = field(metadata=ID)
    round: int = field(metadata=_ROUND)
    context: bytes = field(metadata=DIGEST)
    released: tuple[ReleasedShare, ...] = field(metadata=at_most(2 * MAX_TENANTS))


@dataclass(frozen=True)
class OpenWindow:
    """The server opens a window of rounds starting at `first_round`."""

    session: bytes = field(metadata=ID)
    terms: bytes = field(metadata=DIGEST)
    number: int = field(metadata=_ROUND)
    first_round: int = field(metadata=_ROUND)


@dataclass(frozen=True)
class SetUp:
    """All advertisements of a window."""

    session: bytes = field(metadata=ID)
    window: bytes = field(metadata=DIGEST)
    members: bytes = field(metadata=_BITMAP)
    advertisements: tuple[Quoted, ...] = field(metadata=at_most(MAX_TENANTS))


@dataclass(frozen=True)
class Boxes:
    """The sealed shares for one holder are attached."""

    session: bytes = field(metadata=ID)
    setup: bytes = field(metadata=DIGEST)
    dealers: bytes = field(metadata=_BITMAP)
    deposits: tuple[Quoted, ...] = field(metadata=at_most(MAX_TENANTS))


@dataclass(frozen=True)
class Header:
    """One round. `ctx` is the digest of its signed bytes; the parameters are attached."""

    session: bytes = field(metadata=ID)
    terms: bytes = field(metadata=DIGEST)
    setup: bytes = field(metadata=DIGEST)
    round: int = field(metadata=_ROUND)
    mode: int
    parameters: bytes = field(metadata=DIGEST)
    encoding: bytes = field(metadata=DIGEST)
    length: int = field(metadata=at_most(MAX_VECTOR_LENGTH))
    participants: bytes = field(metadata=_BITMAP)
    previous_round: int = field(metadata=_ROUND)
    previous_outcome: int
    previous_certificate: bytes = field(metadata=DIGEST)
    previous_sum: bytes = field(metadata=DIGEST)
    base_rounds: tuple[int, ...] = field(metadata=at_most(MAX_TENANTS))


@dataclass(frozen=True)
class Certificate:
    """The survivors U of one round, once and for all."""

    session: bytes = field(metadata=ID)
    round: int = field(metadata=_ROUND)
    context: bytes = field(metadata=DIGEST)
    survivors: bytes = field(metadata=_BITMAP)
    root: bytes = field(metadata=at_most(32))
    signatures: tuple[bytes, ...] = field(metadata=at_most(MAX_TENANTS))


@dataclass(frozen=True)
class Recover:
    """The server asks holders for shares of the silent and, where needed, of the dropped."""

    session: bytes = field(metadata=ID)
    header: Quoted
    certificate: Quoted
    silent: bytes = field(metadata=_BITMAP)
    dropped: bytes = field(metadata=_BITMAP)


@dataclass(frozen=True)
class Close:
    """The session is over."""

    session: bytes = field(metadata=ID)
    reason: int
    rounds: int = field(metadata=_ROUND)


Payload = (
    Hello | Join | Refusal | Advertise | Deposit | Ready | Upload | Opening | Shares
    | SessionTerms | OpenWindow | SetUp | Boxes | Header | Certificate | Recover | Close
)  # fmt: skip

# The number of each kind on the wire; numbers are never used again for anything else.
KINDS: dict[type, int] = {
    Hello: 1, Join: 2, Refusal: 3, Advertise: 4, Deposit: 5, Ready: 6, Upload: 7, Opening: 8, Shares: 9,
    SessionTerms: 32, OpenWindow: 33, SetUp: 34, Boxes: 35, Header: 36, Certificate: 37, Recover: 38, Close: 39,
}  # fmt: skip
