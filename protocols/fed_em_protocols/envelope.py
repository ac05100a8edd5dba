"""Signed messages: from frozen types to bytes and back.

A message is signed once, over the exact bytes that travel, and verified over the exact bytes that came. Parsing is strict:
another version, an unknown kind or field, a wrong length or trailing bytes are the sender's fault, and name it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import DecodeError, Message

from fed_em_protocols import messages
from fed_em_protocols.errors import BadSignature, MalformedMessage
from fed_em_protocols.hashing import DIGEST_BYTES, digest, digests_of_rows
from fed_em_protocols.keys import SIGNATURE_BYTES, SigningKey, verifies
from fed_em_protocols.limits import MAX_MESSAGE_BYTES, PROTOCOL_VERSION
from fed_em_protocols.messages import BULKY, KINDS, Payload, Quoted, Upload
from fed_em_protocols.wire import messages_pb2
from fed_em_protocols.wire.entries import VARINT, WITH_LENGTH, FieldLimit, complaint_about_entries, varint

P = TypeVar("P", bound=Payload)
Q = TypeVar("Q", bound=Payload)

_BY_KIND = {number: kind for kind, number in KINDS.items()}
_LEAST_LIMIT = 2**63

# Field 4 of the envelope in the encoding of Protocol Buffers, and how many fields there are.
_ATTACHMENT_TAG = 4 << 3 | WITH_LENGTH
_FIELDS = 5

# However many entries a payload up to this size lists, they take little.
_SMALL = 1 << 16


@dataclass(frozen=True)
class Sealed(Generic[P]):
    """A message as it was signed: what it says, and the bytes it said it in.

    Attributes:
        content: The parsed payload.
        payload: Its exact bytes.
        attachment_digest: SHA-256 of the attachment.
        signature: 64 bytes.
        attached: The bulk bytes, or a view of them where they came in; empty in a quoted message, whatever its digest says.
    """

    content: P
    payload: bytes = field(repr=False)
    attachment_digest: bytes
    signature: bytes
    attached: bytes | memoryview = field(default=b"", repr=False)

    @property
    def attachment(self) -> bytes:
        """The bulk bytes."""
        return bytes(self.attached)

    @cached_property
    def digest(self) -> bytes:
        """The digest that the signature covers. Of a header, this is the round's context."""
        return _signed_digest(KINDS[type(self.content)], self.payload, self.attachment_digest)

    def quoted(self) -> Quoted:
        """The message without its attachment, for somebody else."""
        return Quoted(self.payload, self.attachment_digest, self.signature)

    def to_bytes(self) -> bytes:
        """The whole message as it travels."""
        return _on_the_wire(KINDS[type(self.content)], self.payload, self.attached, self.signature)

    def require_signature(self, key: bytes, sender: str) -> None:
        """Raise `BadSignature` naming `sender` unless `key` signed this message."""
        if not verifies(key, self.signature, self.digest):
            raise BadSignature(
                sender,
                f"its {type(self.content).__name__} message has a signature that does not verify",
                proves="nothing against the sender itself: whoever carries messages can change them",
            )


def _attachment_head(size: int) -> bytes:
    """What precedes an attachment of so many bytes on the wire: its tag and its length, seven bits a byte, the lowest first."""
    if size == 0:
        return b""
    words = [_ATTACHMENT_TAG]
    while size >= 0x80:
        words.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((*words, size))


def _payload_of(content: Payload) -> bytes:
    """The one serialisation that is signed."""
    return bytes(_to_protobuf(content).SerializeToString(deterministic=True))


def _signed_digest(kind: int, payload: bytes, attachment_digest: bytes) -> bytes:
    return digest("message", kind, payload, attachment_digest)


def _on_the_wire(kind: int, payload: bytes, attachment: bytes | memoryview, signature: bytes) -> bytes:
    # The fields before, of and behind the attachment, which may be long: the generated code would copy it twice.
    head = messages_pb2.Envelope(version=PROTOCOL_VERSION, kind=kind, payload=payload).SerializeToString()
    tail = messages_pb2.Envelope(signature=signature).SerializeToString()
    return b"".join((head, _attachment_head(len(attachment)), attachment, tail))


def seal(content: P, key: SigningKey, attachment: bytes = b"") -> Sealed[P]:
    """Sign a message."""
    payload, digest_of_attachment, signature = _signed(content, key, attachment)
    return Sealed(content, payload, digest_of_attachment, signature, attachment)


def seal_to_bytes(content: Payload, key: SigningKey, attachment: memoryview) -> bytes:
    """A signed message as it travels, for whoever need not keep it otherwise: a long attachment is copied once.

    Args:
        content, key: As of `seal`.
        attachment: A view of bytes.
    """
    payload, _, signature = _signed(content, key, attachment)
    return _on_the_wire(KINDS[type(content)], payload, attachment, signature)


def _signed(content: Payload, key: SigningKey, attachment: bytes | memoryview) -> tuple[bytes, bytes, bytes]:
    """Payload, digest of the attachment, signature."""
    payload = _payload_of(content)
    attachment_digest = hashlib.sha256(attachment).digest()
    return payload, attachment_digest, key.sign(_signed_digest(KINDS[type(content)], payload, attachment_digest))


def restored(content: P, attachment_digest: bytes, signature: bytes) -> Sealed[P]:
    """A signed message from its content: for kinds whose senders must use the one deterministic serialisation."""
    payload = _payload_of(content)
    return Sealed(content, payload, attachment_digest, signature)


def signed_digests(content: Payload, attachment_digests: bytes) -> list[bytes]:
    """What each of many senders of the same content signed, in less time than by `restored`.

    Args:
        content: Of a kind as of `restored`.
        attachment_digests: SHA-256 of each one's attachment, end to end.
    """
    payload = _payload_of(content)
    return digests_of_rows("message", (KINDS[type(content)], payload), ((attachment_digests, DIGEST_BYTES),))


def unseal(data: bytes, sender: str) -> Sealed[Payload]:
    """Parse a message. Its signature is *not* verified: only the reader knows with which key.

    Raises:
        MalformedMessage: names `sender` and what is wrong.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(sender, f"sent a message of {len(data)} bytes, the limit is {MAX_MESSAGE_BYTES}")
    attached, rest = _parted(data, sender)
    envelope = messages_pb2.Envelope()
    _parse(envelope, rest, sender)
    if envelope.version != PROTOCOL_VERSION:
        raise MalformedMessage(
            sender,
            f"speaks version {envelope.version} of the protocol, this side speaks version {PROTOCOL_VERSION}",
        )
    kind = _BY_KIND.get(envelope.kind)
    if kind is None:
        raise MalformedMessage(sender, f"sent a message of unknown kind {envelope.kind}")
    if len(envelope.signature) != SIGNATURE_BYTES:
        raise MalformedMessage(sender, f"sent a signature of {len(envelope.signature)} bytes")
    if envelope.attachment:
        raise MalformedMessage(sender, "sent two attachments")
    if attached and kind not in BULKY:
        raise MalformedMessage(sender, f"sent a {kind.__name__} with an attachment, which that kind has not")
    payload = envelope.payload
    return Sealed(
        content=cast(Payload, _read(kind, payload, sender)),
        payload=payload,
        attachment_digest=hashlib.sha256(attached).digest(),
        signature=envelope.signature,
        # A vector is read where it came in. What is kept for longer must not keep its message.
        attached=attached if kind is Upload else bytes(attached),
    )


def _parted(data: bytes, sender: str) -> tuple[memoryview, bytes]:
    """The attachment of a message, where it lies, and all its other fields: parsed with them it would be copied twice.

    Behind more fields than an envelope has nothing is looked for: the parser refuses such a message at once, millions of fields long.

    Raises:
        MalformedMessage: names `sender`.
    """
    place, whole = 0, memoryview(data)
    for _ in range(_FIELDS):
        if place >= len(data):
            break
        tag, start = varint(data, place)
        size = 0
        if tag & 7 == WITH_LENGTH:
            size, start = varint(data, start)
        elif tag & 7 == VARINT:
            _, start = varint(data, start)
        else:
            break  # no field of an envelope
        if tag == _ATTACHMENT_TAG:
            if data[place:start] != _attachment_head(size) or start + size > len(data):
                raise MalformedMessage(sender, "sent an attachment that is not as long as its head says")
            return whole[start : start + size], data[:place] + data[start + size :]
        place = start + size
    return whole[:0], data


def unquote(quoted: Quoted, kind: type[Q], sender: str) -> Sealed[Q]:
    """Parse a quoted message, of which `sender` is said to be the author. Its signature is *not* verified."""
    content = cast(Q, _read(kind, quoted.payload, sender))
    return Sealed(content, quoted.payload, quoted.attachment_digest, quoted.signature)


def _read(kind: type, payload: bytes, sender: str) -> object:
    complaint = complaint_about_entries(payload, _limits(kind)) if len(payload) > _SMALL else ""
    if complaint:
        raise MalformedMessage(sender, f"sent a {kind.__name__} {complaint}")
    wire = getattr(messages_pb2, kind.__name__)()
    _parse(wire, payload, sender)
    return _from_protobuf(kind, wire, sender)


@cache
def _limits(kind: type) -> Mapping[int, FieldLimit]:
    """How many entries each field of a kind may have, by field number."""
    rules = {name: rules for name, _, rules in _plan(kind)}
    return {
        each.number: FieldLimit(each.name, rules[each.name]["most"] if each.is_repeated else 1, each.is_packed)
        for each in getattr(messages_pb2, kind.__name__).DESCRIPTOR.fields
    }


def _parse(wire: Message, data: bytes, sender: str) -> None:
    try:
        wire.ParseFromString(data)
    except DecodeError:
        raise MalformedMessage(sender, f"sent bytes that are no {type(wire).__name__}: truncated or foreign") from None
    size = wire.ByteSize()
    # Also those of nested messages. A list of them would take fifty times the memory of the message.
    wire.DiscardUnknownFields()  # type: ignore[attr-defined]  # not in the stubs
    if wire.ByteSize() != size:
        raise MalformedMessage(sender, f"sent a {type(wire).__name__} with an unknown field")
    # Otherwise a field that is sent a million times would pass every limit, and whoever quotes the message would carry it.
    if size != len(data):
        raise MalformedMessage(sender, f"sent a {type(wire).__name__} that is longer than what it says")


def _to_protobuf(content: object) -> Message:
    kind: type = type(content)
    wire = getattr(messages_pb2, kind.__name__)()
    for name, nested, _ in _plan(kind):
        value = getattr(content, name)
        if isinstance(value, tuple):
            getattr(wire, name).extend([_to_protobuf(each) for each in value] if nested else value)
        elif nested:
            getattr(wire, name).CopyFrom(_to_protobuf(value))
        else:
            setattr(wire, name, value)
    return cast(Message, wire)


# The types of nested messages, which annotations (being text) do not give.
_NESTED: dict[tuple[str, str], type] = {
    ("OpenWindow", "last_certified"): messages.Quoted,
    ("SetUp", "advertisements"): messages.Quoted,
    ("Boxes", "deposits"): messages.Quoted,
    ("Recover", "header"): messages.Quoted,
    ("Recover", "certificate"): messages.Quoted,
    ("Neighbours", "advertisements"): messages.Quoted,
    ("Header", "previous"): messages.Quoted,
    ("Proposal", "header"): messages.Quoted,
    ("Counted", "certificate"): messages.Quoted,
    ("Base", "header"): messages.Quoted,
    ("Shares", "released"): messages.ReleasedShare,
}


@cache
def _plan(kind: type) -> tuple[tuple[str, type | None, Any], ...]:
    """Name, type of a nested message, and rules of each field of a kind."""
    return tuple((each.name, _NESTED.get((kind.__name__, each.name)), each.metadata) for each in fields(kind))


def _from_protobuf(kind: type, wire: Message, sender: str) -> object:
    values: dict[str, object] = {}
    for name, nested, rules in _plan(kind):
        raw = getattr(wire, name)
        value: object
        if type(raw) is bytes and len(raw) == rules.get("length"):  # as most fields are
            values[name] = raw
            continue
        if nested is not None and isinstance(raw, Message):
            value = _from_protobuf(nested, raw, sender)
        elif nested is not None:
            value = tuple(_from_protobuf(nested, entry, sender) for entry in raw)
        elif isinstance(raw, (bytes, str, int)):
            value = raw
        else:
            value = tuple(raw)
        complaint = _complaint(value, rules)
        if complaint:
            raise MalformedMessage(sender, f"sent a {kind.__name__} whose field '{name}' {complaint}")
        values[name] = value
    return kind(**values)


def _complaint(value: object, rules: Any) -> str:
    size = value if isinstance(value, int) else len(cast(bytes, value)) if isinstance(value, (bytes, str, tuple)) else 0
    if "length" in rules and size != rules["length"]:
        return f"has {size} bytes instead of {rules['length']}"
    if "multiple" in rules and (size == 0 or size % rules["multiple"]):
        return f"has {size} bytes, which is no positive multiple of {rules['multiple']}"
    if size > rules.get("most", _LEAST_LIMIT):
        return f"is beyond its limit of {rules['most']}"
    if "entry" in rules and any(len(entry) != rules["entry"] for entry in cast("tuple[bytes, ...]", value)):
        return f"has an entry that is not {rules['entry']} bytes long"
    return ""
