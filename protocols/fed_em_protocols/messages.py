"""The messages as frozen types. The wire format, and who signs what, is told in `wire/messages.proto`.

Every field is checked against its declaration when a message comes in: lengths exactly, lists and integers within limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

from fed_em_protocols.keys import KEY_BYTES, SIGNATURE_BYTES
from fed_em_protocols.limits import (
    MAX_COMPONENTS,
    MAX_NAME_LENGTH,
    MAX_NEIGHBOURS,
    MAX_PAYLOAD_BYTES,
    MAX_ROUND,
    MAX_TENANTS,
    MAX_VECTOR_LENGTH,
)
from fed_em_protocols.masks import MASK_KEY_BYTES
from fed_em_protocols.shamir import SHARE_BYTES
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.wire.fields import DIGEST, ID, KEY, at_most, exactly, list_of, multiple_of

SALT_BYTES = 16
_BITMAP = at_most((MAX_TENANTS + 7) // 8)
_ROUND = at_most(MAX_ROUND)


class RefusalCode(IntEnum):
    """Why a tenant will not go on. Codes travel, texts never do: a text could carry data."""

    POLICY = 1
    SCHEMA = 2
    SERVER_FAULT = 4
    LOCAL_FAULT = 5


class Mode(IntEnum):
    """What a round sums: whole statistic vectors, increments on certified ones, or counts for the mass gate."""

    WHOLE = 1
    INCREMENT = 2
    COUNTS = 3


class Outcome(IntEnum):
    """How the previous round ended, as its successor's header tells. It has a certificate either way (see `certification`)."""

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

    payload: bytes = field(repr=False, metadata=at_most(MAX_PAYLOAD_BYTES))
    attachment_digest: bytes = field(metadata=DIGEST)
    signature: bytes = field(metadata=exactly(SIGNATURE_BYTES))


@dataclass(frozen=True)
class Hello:
    """A tenant introduces itself on a new link. `policy` is its commitment (`policy.commitment_to`), as of the three that follow."""

    tenant: str = field(metadata=at_most(MAX_NAME_LENGTH))
    roster: bytes = field(metadata=DIGEST)
    boot: bytes = field(metadata=ID)
    software: str = field(metadata=at_most(64))
    policy: bytes = field(metadata=DIGEST)


@dataclass(frozen=True)
class Join:
    """The tenant accepts the terms. `changed`: 1 if its rows or its code are not those of an earlier process in this session."""

    session: bytes = field(metadata=ID)
    terms: bytes = field(metadata=DIGEST)
    boot: bytes = field(metadata=ID)
    changed: int = field(metadata=at_most(1))
    policy: bytes = field(metadata=DIGEST)


@dataclass(frozen=True)
class Refusal:
    """The tenant leaves the session, having come as far as `round`."""

    session: bytes = field(metadata=ID)
    code: int
    round: int = field(metadata=_ROUND)
    policy: bytes = field(metadata=DIGEST)


@dataclass(frozen=True)
class Advertise:
    """Public keys of one tenant for one window. Those of its rounds are attached: all pk_t, then all H(b_t)."""

    session: bytes = field(metadata=ID)
    window: bytes = field(metadata=DIGEST)
    boot: bytes = field(metadata=ID)
    channel_key: bytes = field(metadata=KEY)
    window_key: bytes = field(metadata=KEY)
    nonce_commitment: bytes = field(metadata=DIGEST)
    policy: bytes = field(metadata=DIGEST)


@dataclass(frozen=True)
class Reveal:
    """A witness shows the nonce that it committed to, now that the set-up is fixed."""

    session: bytes = field(metadata=ID)
    setup: bytes = field(metadata=DIGEST)
    nonce: bytes = field(metadata=KEY)


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
class Endorsement:
    """A witness signs the one outcome of a round: the survivors U and the root over their uploads, or nobody and no root (void).

    It is signed with the witness's key of the window `setup`.
    """

    session: bytes = field(metadata=ID)
    round: int = field(metadata=_ROUND)
    context: bytes = field(metadata=DIGEST)
    survivors: bytes = field(metadata=_BITMAP)
    root: bytes = field(metadata=DIGEST)
    setup: bytes = field(metadata=DIGEST)


@dataclass(frozen=True)
class AskBase:
    """A tenant that has lost the statistics that its increment in the round of `context` starts from asks for the round they belong to."""

    session: bytes = field(metadata=ID)
    round: int = field(metadata=_ROUND)
    base: bytes = field(metadata=DIGEST)
    context: bytes = field(metadata=DIGEST)


@dataclass(frozen=True)
class Opening:
    """A survivor releases its self seed and the keys of masks shared with the dropped."""

    session: bytes = field(metadata=ID)
    round: int = field(metadata=_ROUND)
    context: bytes = field(metadata=DIGEST)
    self_seed: bytes = field(metadata=KEY, repr=False)
    pair_keys: bytes = field(metadata=at_most(MASK_KEY_BYTES * MAX_NEIGHBOURS), repr=False)


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
    released: tuple[ReleasedShare, ...] = field(metadata=at_most(2 * MAX_NEIGHBOURS))


@dataclass(frozen=True)
class OpenWindow:
    """The server opens a window of rounds starting at `first_round`.

    Attributes:
        excused: Witnesses that failed to reveal a nonce before.
        last_certified: Header and certificate of the last round that was certified, for survivors and with keys of its own window;
            none before the first. Members who had no part in it learn from it which window is in use.
    """

    session: bytes = field(metadata=ID)
    terms: bytes = field(metadata=DIGEST)
    number: int = field(metadata=_ROUND)
    first_round: int = field(metadata=_ROUND)
    excused: bytes = field(metadata=_BITMAP)
    last_certified: tuple[Quoted, ...] = field(default=(), metadata=at_most(2))


@dataclass(frozen=True)
class SetUp:
    """A window's members, the digests of their advertisements (attached), and the advertisements of its witnesses."""

    session: bytes = field(metadata=ID)
    window: bytes = field(metadata=DIGEST)
    members: bytes = field(metadata=_BITMAP)
    advertisements: tuple[Quoted, ...] = field(metadata=at_most(MAX_TENANTS))


@dataclass(frozen=True)
class Neighbours:
    """The graph's nonces, advertisements of `quoted`, and the round keys of the recipient's neighbours (attached)."""

    session: bytes = field(metadata=ID)
    setup: bytes = field(metadata=DIGEST)
    nonces: tuple[bytes, ...] = field(metadata=list_of(MAX_TENANTS, KEY_BYTES))
    quoted: bytes = field(metadata=_BITMAP)
    advertisements: tuple[Quoted, ...] = field(metadata=at_most(MAX_TENANTS))


@dataclass(frozen=True)
class Boxes:
    """The sealed shares for one holder are attached."""

    session: bytes = field(metadata=ID)
    setup: bytes = field(metadata=DIGEST)
    dealers: bytes = field(metadata=_BITMAP)
    deposits: tuple[Quoted, ...] = field(metadata=at_most(MAX_NEIGHBOURS))


@dataclass(frozen=True)
class Header:
    """One round. `ctx` is the digest of its signed bytes; the parameters are attached.

    Attributes:
        setup, witnesses: The window that serves it, and who certifies in it.
        held: Bitmap of the components that the mass gate keeps shut, over bytes of the model's components; empty: no gate.
        participants: P.
        previous_round, previous_outcome, previous, previous_sum: How the round before ended, its certificate if it has one, and
            the digest of the running total after it.
        base_rounds: In a round of increments, the base of each unit of the difference guard; 0: it joins whole.
        base_contexts: Contexts of the distinct base rounds (not 0), ascending, 32 bytes each.
        ring: Bits of the ring, 64 or 32; `length` counts its words.
    """

    session: bytes = field(metadata=ID)
    terms: bytes = field(metadata=DIGEST)
    setup: bytes = field(metadata=DIGEST)
    witnesses: bytes = field(metadata=_BITMAP)
    round: int = field(metadata=_ROUND)
    mode: int
    parameters: bytes = field(metadata=DIGEST)
    encoding: bytes = field(metadata=DIGEST)
    length: int = field(metadata=at_most(MAX_VECTOR_LENGTH))
    held: bytes = field(metadata=at_most(MAX_COMPONENTS // 8))
    participants: bytes = field(metadata=_BITMAP)
    previous_round: int = field(metadata=_ROUND)
    previous_outcome: int
    previous: tuple[Quoted, ...] = field(metadata=at_most(1))
    previous_sum: bytes = field(metadata=DIGEST)
    base_rounds: tuple[int, ...] = field(metadata=at_most(MAX_TENANTS))
    base_contexts: bytes = field(metadata=at_most(32 * MAX_TENANTS))
    ring: int = field(default=64, metadata=at_most(64))

    @cached_property
    def distinct_bases(self) -> tuple[int, ...]:
        """The base rounds that `base_contexts` are of."""
        return tuple(sorted(set(self.base_rounds) - {0}))


@dataclass(frozen=True)
class Proposal:
    """The server asks witnesses to endorse the outcome of a round. Attached: H(y_i) and the upload's signature of each survivor.

    `setup` is the window whose keys endorse: the round's own, or a later one that can only close the round.
    """

    session: bytes = field(metadata=ID)
    header: Quoted
    survivors: bytes = field(metadata=_BITMAP)
    setup: bytes = field(metadata=DIGEST)


@dataclass(frozen=True)
class Certificate:
    """The outcome of one round, once and for all. Asks survivors to open it, if it has any.

    Under malicious-server trust `signatures` are those of the `endorsers` on their `Endorsement` of the same fields; under
    semi-honest trust there are none.
    """

    session: bytes = field(metadata=ID)
    round: int = field(metadata=_ROUND)
    context: bytes = field(metadata=DIGEST)
    survivors: bytes = field(metadata=_BITMAP)
    root: bytes = field(metadata=DIGEST)
    setup: bytes = field(metadata=DIGEST)
    endorsers: bytes = field(metadata=_BITMAP)
    signatures: tuple[bytes, ...] = field(metadata=list_of(MAX_TENANTS, SIGNATURE_BYTES))


@dataclass(frozen=True)
class Counted:
    """The evidence of an opened sum of counts: attached are, for each survivor, upload, upload signature and self-mask key.

    `pair_keys` are those of the masks between survivors and dropped neighbours, by survivor, then by dropped.
    """

    session: bytes = field(metadata=ID)
    round: int = field(metadata=_ROUND)
    certificate: Quoted
    pair_keys: bytes = field(metadata=at_most(MASK_KEY_BYTES * MAX_TENANTS * 64))


@dataclass(frozen=True)
class Base:
    """The header of a base round; its parameters are attached."""

    session: bytes = field(metadata=ID)
    header: Quoted


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
    Hello | Join | Refusal | Advertise | Reveal | Deposit | Ready | Upload | Endorsement | AskBase | Opening | Shares
    | SessionTerms | OpenWindow | SetUp | Neighbours | Boxes | Header | Proposal | Certificate | Counted | Base | Recover | Close
)  # fmt: skip

# The number of each kind on the wire; numbers are never used again for anything else.
KINDS: dict[type, int] = {
    Hello: 1, Join: 2, Refusal: 3, Advertise: 4, Deposit: 5, Ready: 6, Upload: 7, Opening: 8, Shares: 9,
    Reveal: 10, Endorsement: 11, AskBase: 12,
    SessionTerms: 32, OpenWindow: 33, SetUp: 34, Boxes: 35, Header: 36, Certificate: 37, Recover: 38, Close: 39,
    Neighbours: 40, Proposal: 41, Counted: 42, Base: 43,
}  # fmt: skip

# Kinds that have an attachment. What others quote of the rest is rebuilt without one.
BULKY: frozenset[type] = frozenset(
    {Advertise, Deposit, Upload, SessionTerms, SetUp, Boxes, Header, Close, Neighbours, Proposal, Counted, Base}
)
