"""Messages as bytes: what was signed comes back, and whatever else comes is a `MalformedMessage` that names its sender."""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import fields, replace
from typing import Any

import pytest
from google.protobuf.internal import encoder
from hypothesis import given
from hypothesis import strategies as st

from fed_em_protocols import envelope
from fed_em_protocols.envelope import Sealed, restored, seal, signed_digests, unquote, unseal
from fed_em_protocols.errors import BadSignature, MalformedMessage
from fed_em_protocols.limits import MAX_MESSAGE_BYTES, MAX_NEIGHBOURS, MAX_ROUND, MAX_TENANTS, PROTOCOL_VERSION
from fed_em_protocols.messages import BULKY, KINDS, Header, Payload, Quoted, Ready, ReleasedShare, Shares, Upload
from fed_em_protocols.wire import entries, messages_pb2
from fed_em_protocols.wire.entries import varint
from tests.protocols.examples import EXAMPLES, KEY, any_message

each_kind = pytest.mark.parametrize("content", EXAMPLES, ids=lambda content: type(content).__name__)
ATTACHMENT = b"attachment"


def unknown_field(number: int = 99) -> bytes:
    return bytes(encoder.TagBytes(number, 2)) + b"\x01x"


def attachment_of(content: Payload, attachment: bytes = ATTACHMENT) -> bytes:
    return attachment if type(content) in BULKY else b""


def envelope_of(content: Payload, **changes: Any) -> bytes:
    sealed = seal(content, KEY, attachment_of(content))
    parts = {
        "version": PROTOCOL_VERSION, "kind": KINDS[type(content)], "payload": sealed.payload,
        "attachment": sealed.attachment, "signature": sealed.signature,
    }  # fmt: skip
    return bytes(messages_pb2.Envelope(**{**parts, **changes}).SerializeToString())


def test_there_is_an_example_of_every_kind() -> None:
    assert {type(content) for content in EXAMPLES} == set(KINDS)
    assert len(set(KINDS.values())) == len(KINDS)


@each_kind
def test_a_message_comes_back_as_it_was_signed(content: Payload) -> None:
    sealed = seal(content, KEY, attachment_of(content))
    read = unseal(sealed.to_bytes(), "sender")
    assert read == sealed and read.digest == sealed.digest
    read.require_signature(KEY.public, "sender")
    quoted = unquote(sealed.quoted(), type(content), "author")
    assert quoted.content == content and quoted.digest == sealed.digest and quoted.attachment == b""
    quoted.require_signature(KEY.public, "author")


@given(any_message, st.binary(max_size=40))
def test_so_does_any_other_message(content: Payload, attachment: bytes) -> None:
    sealed = seal(content, KEY, attachment_of(content, attachment))
    assert unseal(sealed.to_bytes(), "sender") == sealed


@each_kind
def test_an_attachment_of_a_kind_that_has_none_is_refused(content: Payload) -> None:
    """Whoever quotes such a message would drop what its signature covers, and look like the culprit."""
    data = seal(content, KEY, ATTACHMENT).to_bytes()
    if type(content) in BULKY:
        unseal(data, "sender")
    else:
        with pytest.raises(MalformedMessage, match="which that kind has not"):
            unseal(data, "sender")


@each_kind
def test_truncated_messages_are_refused_at_every_byte(content: Payload) -> None:
    data = seal(content, KEY, attachment_of(content)).to_bytes()
    for length in range(len(data)):
        with pytest.raises(MalformedMessage, match=r"^sender: "):
            unseal(data[:length], "sender")


@each_kind
def test_truncated_payloads_never_pass_for_another_message_of_the_signer(content: Payload) -> None:
    sealed = seal(content, KEY)
    for length in range(len(sealed.payload)):
        quoted = replace(sealed.quoted(), payload=sealed.payload[:length])
        try:
            shorter = unquote(quoted, type(content), "sender")
        except MalformedMessage:
            continue
        with pytest.raises(BadSignature):
            shorter.require_signature(KEY.public, "sender")


@pytest.mark.slow
@each_kind
def test_every_flipped_bit_of_a_signed_message_is_noticed(content: Payload) -> None:
    data = seal(content, KEY, attachment_of(content)).to_bytes()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            read = unseal(bytes(changed), "sender")
        except MalformedMessage:
            continue
        with pytest.raises(BadSignature) as caught:
            read.require_signature(KEY.public, "sender")
        assert caught.value.peer == "sender"


@each_kind
def test_trailing_bytes_and_unknown_fields_are_refused_on_the_outside(content: Payload) -> None:
    data = seal(content, KEY).to_bytes()
    with pytest.raises(MalformedMessage):
        unseal(data + b"\0", "sender")
    with pytest.raises(MalformedMessage, match="Envelope with an unknown field"):
        unseal(data + unknown_field(), "sender")


@each_kind
def test_trailing_bytes_and_unknown_fields_are_refused_inside(content: Payload) -> None:
    payload = seal(content, KEY).payload
    name = type(content).__name__
    with pytest.raises(MalformedMessage, match=f"{name} with an unknown field"):
        unseal(envelope_of(content, payload=payload + unknown_field()), "sender")
    with pytest.raises(MalformedMessage):
        unseal(envelope_of(content, payload=payload + b"\0"), "sender")


def nested(content: Payload) -> list[str]:
    """Fields that hold messages, or lists of messages."""
    values = {f.name: getattr(content, f.name) for f in fields(content)}
    firsts = {name: value[0] if isinstance(value, tuple) else value for name, value in values.items()}
    return [name for name, first in firsts.items() if isinstance(first, (Quoted, ReleasedShare))]


NESTING = ["OpenWindow", "SetUp", "Neighbours", "Boxes", "Header", "Proposal", "Counted", "Base", "Recover", "Shares"]


def test_every_kind_that_nests_messages_is_known() -> None:
    holding = {type(content).__name__ for content in EXAMPLES if nested(content)}
    assert holding == set(NESTING)


@pytest.mark.parametrize("kind", NESTING)
def test_unknown_fields_are_refused_in_nested_messages(kind: str) -> None:
    content = next(example for example in EXAMPLES if type(example).__name__ == kind)
    for name in nested(content):
        wire = getattr(messages_pb2, kind)()
        wire.ParseFromString(seal(content, KEY).payload)
        inner = getattr(wire, name)
        inner = inner if isinstance(inner, messages_pb2.Quoted) else inner[0]
        inner.MergeFromString(unknown_field())
        with pytest.raises(MalformedMessage, match="unknown field"):
            unseal(envelope_of(content, payload=wire.SerializeToString()), "sender")


@each_kind
def test_a_field_sent_twice_is_refused(content: Payload) -> None:
    """Protobuf takes the last; a message could so be blown up beyond all its limits."""
    payload = seal(content, KEY).payload
    with pytest.raises(MalformedMessage):
        unseal(envelope_of(content, payload=payload + payload), "sender")
    data = seal(content, KEY).to_bytes()
    with pytest.raises(MalformedMessage, match="longer than what it says"):
        unseal(data + messages_pb2.Envelope(version=PROTOCOL_VERSION).SerializeToString(), "sender")


def test_another_version_is_refused_with_both_numbers() -> None:
    with pytest.raises(MalformedMessage, match="speaks version 1 of the protocol, this side speaks version 3"):
        unseal(envelope_of(EXAMPLES[0], version=1), "sender")


def test_a_version_beyond_32_bits_does_not_wrap_into_ours() -> None:
    padded = b"\x08\x83\x80\x80\x80\x10" + envelope_of(EXAMPLES[0])[2:]
    assert messages_pb2.Envelope.FromString(padded).version == PROTOCOL_VERSION
    with pytest.raises(MalformedMessage):
        unseal(padded, "sender")


@pytest.mark.parametrize("kind", [0, 13, 31, 44, 2**32 - 1])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(MalformedMessage, match=f"unknown kind {kind}"):
        unseal(envelope_of(EXAMPLES[0], kind=kind), "sender")


@each_kind
def test_a_message_of_one_kind_is_none_of_another(content: Payload) -> None:
    for kind, number in KINDS.items():
        if kind is type(content):
            continue
        try:
            read = unseal(envelope_of(content, kind=number), "sender")
        except MalformedMessage:
            continue
        with pytest.raises(BadSignature):
            read.require_signature(KEY.public, "sender")


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(MalformedMessage, match=f"signature of {length} bytes"):
        unseal(envelope_of(EXAMPLES[0], signature=bytes(length)), "sender")


def test_an_oversized_message_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(MalformedMessage, match=f"the limit is {MAX_MESSAGE_BYTES}"):
        unseal(bytes(MAX_MESSAGE_BYTES + 1), "sender")


def wrong_sizes(value: object, rules: Any) -> list[object]:
    """Values just outside the rules of a field."""
    wrong: list[object] = []
    if isinstance(value, bytes) and "length" in rules:
        wrong = [b"", bytes(rules["length"] - 1), bytes(rules["length"] + 1)]
    elif isinstance(value, bytes) and "multiple" in rules:
        wrong = [b"", bytes(rules["multiple"] - 1), bytes(rules["multiple"] + 1)]
    elif isinstance(value, bytes) and "most" in rules:
        wrong = [bytes(rules["most"] + 1)]
    elif isinstance(value, str) and "most" in rules:
        wrong = ["x" * (rules["most"] + 1)]
    elif isinstance(value, int) and "most" in rules and rules["most"] < 2**32 - 1:
        wrong = [rules["most"] + 1]
    elif isinstance(value, tuple) and "most" in rules:
        wrong = [(value[:1] or (b"x",)) * (rules["most"] + 1)]
        wrong += (
            [(*value, bytes(length)) for length in (0, rules["entry"] - 1, rules["entry"] + 1)]
            if "entry" in rules
            else []
        )
    return wrong


@each_kind
def test_every_limit_of_every_field_is_enforced(content: Payload) -> None:
    tried = 0
    for field in fields(content):
        for wrong in wrong_sizes(getattr(content, field.name), field.metadata):
            data = seal(replace(content, **{field.name: wrong}), KEY).to_bytes()
            with pytest.raises(MalformedMessage, match=f"field '{field.name}'"):
                unseal(data, "sender")
            tried += 1
    assert tried


def test_round_numbers_are_limited() -> None:
    header = next(content for content in EXAMPLES if isinstance(content, Header))
    unseal(seal(replace(header, round=MAX_ROUND), KEY).to_bytes(), "sender")
    with pytest.raises(MalformedMessage, match="field 'round'"):
        unseal(seal(replace(header, round=MAX_ROUND + 1), KEY).to_bytes(), "sender")


@given(st.binary(max_size=300))
def test_noise_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        unseal(data, "sender")


@given(any_message, st.data())
def test_whatever_comes_only_malformed_message_escapes(content: Payload, data: st.DataObject) -> None:
    sent = bytearray(seal(content, KEY, attachment_of(content)).to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(sent) - 1))
        sent[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        if not sent:
            break
    with contextlib.suppress(MalformedMessage):
        unseal(bytes(sent), "sender")


@given(st.sampled_from(sorted(KINDS, key=lambda kind: KINDS[kind])), st.binary(max_size=200))
def test_payloads_of_noise_are_malformed_or_parse(kind: type, payload: bytes) -> None:
    envelope = messages_pb2.Envelope(version=PROTOCOL_VERSION, kind=KINDS[kind], payload=payload, signature=bytes(64))
    try:
        read = unseal(envelope.SerializeToString(), "sender")
    except MalformedMessage:
        return
    assert type(read.content) is kind


def test_the_digest_is_that_of_the_specification() -> None:
    """SHA-256 over the frame of ("message", kind, payload, SHA-256(attachment)): the payload's bytes, never a re-serialisation."""
    sealed = seal(Ready(b"i" * 16, b"d" * 32, b"\x05"), KEY, ATTACHMENT)
    tag = b"fed-em/1/message"
    parts = [(6).to_bytes(8, "little"), sealed.payload, hashlib.sha256(ATTACHMENT).digest()]
    frame = len(tag).to_bytes(8, "little") + tag + (3).to_bytes(8, "little")
    frame += b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    assert sealed.digest == hashlib.sha256(frame).digest()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_many_signed_alike_is_hashed_at_once_as_one_by_one(count: int) -> None:
    content = Upload(b"s" * 16, 7, b"c" * 32)
    attachments = [hashlib.sha256(bytes(k)).digest() for k in range(count)]
    assert signed_digests(content, b"".join(attachments)) == [restored(content, a, b"").digest for a in attachments]


def test_the_signature_covers_the_attachment_and_the_kind() -> None:
    upload = next(content for content in EXAMPLES if isinstance(content, Upload))
    sealed = seal(upload, KEY, ATTACHMENT)
    other: Sealed[Any] = unseal(envelope_of(upload, attachment=b"another"), "sender")
    assert other.digest != sealed.digest
    with pytest.raises(BadSignature):
        other.require_signature(KEY.public, "sender")


class TestWhereAnAttachmentLies:
    """It is read where it came in, in front of a strict parser of all the rest."""

    UPLOAD = next(content for content in EXAMPLES if isinstance(content, Upload))
    TAG = b"\x22"  # field 4, with a length

    def parts(self, attachment: bytes = ATTACHMENT) -> tuple[bytes, bytes, bytes]:
        """What comes before an attachment, its field, and what comes behind."""
        data = seal(self.UPLOAD, KEY, attachment).to_bytes()
        start = data.index(self.TAG + bytes([len(attachment)]) + attachment)
        stop = start + 2 + len(attachment)
        return data[:start], data[start:stop], data[stop:]

    @pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (0, 2, 1)])
    def test_it_is_found_before_between_and_behind_the_other_fields(self, order: tuple[int, ...]) -> None:
        parts = self.parts()
        read = unseal(b"".join(parts[k] for k in order), "sender")
        assert read == seal(self.UPLOAD, KEY, ATTACHMENT) and bytes(read.attached) == ATTACHMENT

    def test_a_vector_is_not_copied(self) -> None:
        data = b"".join(self.parts())
        view = unseal(data, "sender").attached
        assert isinstance(view, memoryview) and view.obj is data

    @pytest.mark.parametrize(
        "field",
        [
            TAG + b"\x00",
            TAG + b"\x8a\x00" + ATTACHMENT,
            b"\xa2\x00\x0a" + ATTACHMENT,
            TAG + b"\x8b\x00" + ATTACHMENT,
            TAG + b"\xff" * 9 + b"\x01" + ATTACHMENT,
            TAG + b"\x0a" + ATTACHMENT + TAG + b"\x0a" + ATTACHMENT,
        ],
        ids=["empty", "a long length", "a long tag", "a length that is too great", "a length of 2^64 - 1", "twice"],
    )
    @pytest.mark.parametrize("behind", [False, True])
    def test_what_is_no_attachment_is_refused(self, field: bytes, behind: bool) -> None:
        before, _, after = self.parts()
        with pytest.raises(MalformedMessage):
            unseal(before + after + field if behind else before + field + after, "sender")

    @pytest.mark.parametrize("tag", [b"\x08", TAG, b""])
    def test_a_number_without_an_end_costs_nothing(self, tag: bytes) -> None:
        with pytest.raises(MalformedMessage):
            unseal(tag + b"\xff" * 5_000_000, "sender")

    def test_fields_without_end_cost_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two bytes each, 16 million of them are a message: walked through one by one they would take half a minute."""
        read: list[int] = []
        monkeypatch.setattr(envelope, "varint", lambda data, place: read.append(place) or varint(data, place))
        with pytest.raises(MalformedMessage):
            unseal(b"\x08\x02" * 1_000_000, "sender")
        assert len(read) <= 2 * 5

    @pytest.mark.parametrize("payload", [False, True], ids=["outside", "inside"])
    def test_unknown_fields_without_end_cost_nothing(self, payload: bool) -> None:
        """They are not listed: at two bytes each a list takes fifty times the memory of the message."""
        many = unknown_field() * 200_000
        data = envelope_of(self.UPLOAD, payload=many) if payload else many
        costs = []
        for _ in range(3):  # of which one may fall together with a collection of garbage
            began = time.process_time()
            with pytest.raises(MalformedMessage, match="unknown field"):
                unseal(data, "sender")
            costs.append(time.process_time() - began)
        assert min(costs) < 0.1


LISTS = [
    (kind, each.name, each.number, each.is_packed, each.type == each.TYPE_UINT64)
    for kind in KINDS
    for each in getattr(messages_pb2, kind.__name__).DESCRIPTOR.fields
    if each.is_repeated
]


class TestListsWithoutEnd:
    """They are refused before they are parsed: empty entries, at two bytes each, would take forty times the memory of the message."""

    def refused(self, kind: type, payload: bytes, monkeypatch: pytest.MonkeyPatch) -> int:
        """How many numbers were read of a payload that is refused, none of it by the parser."""
        read: list[int] = []
        content = next(content for content in EXAMPLES if type(content) is kind)
        data = envelope_of(content, payload=payload)
        parse = envelope._parse
        with monkeypatch.context() as patch:
            patch.setattr(entries, "varint", lambda data, place: read.append(place) or varint(data, place))
            patch.setattr(
                envelope, "_parse", lambda wire, *rest: parse(wire, *rest) if len(read) == 0 else pytest.fail("parsed")
            )
            with pytest.raises(MalformedMessage, match=f"sent a {kind.__name__} "):
                unseal(data, "sender")
        return len(read)

    @pytest.mark.parametrize(("kind", "name", "number", "packed", "integers"), LISTS, ids=str)
    def test_steps_are_as_many_as_entries_are_admitted(
        self, kind: type, name: str, number: int, packed: bool, integers: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        most = next(field.metadata["most"] for field in fields(kind) if field.name == name)
        empty = bytes([*self.tag(number, 0 if integers else 2), 0])
        assert self.refused(kind, empty * 200_000, monkeypatch) <= 2 * (most + 1)
        if packed:
            whole = bytes([*self.tag(number, 2), *self.number(200_000)]) + bytes(200_000)
            assert self.refused(kind, whole, monkeypatch) == 2

    def test_nor_do_other_fields_hide_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        many = b"\x22\x00" * 200_000
        for before in (unknown_field(), b"\x25" + bytes(4), b"\x10\x05" * 2, b"\x0a\x00" * 2, b"\x23"):
            assert self.refused(Shares, before + many, monkeypatch) <= 4

    def test_a_list_as_long_as_it_may_be_is_read(self) -> None:
        share = ReleasedShare(1, 1, bytes(33), bytes(16), bytes(32 * 16))
        shares = Shares(bytes(16), 1, bytes(32), (share,) * (2 * MAX_NEIGHBOURS))
        assert unseal(seal(shares, KEY).to_bytes(), "sender").content == shares
        with pytest.raises(MalformedMessage, match=r"released.*limit of 1024"):
            unseal(seal(replace(shares, released=(*shares.released, share)), KEY).to_bytes(), "sender")
        example = next(content for content in EXAMPLES if isinstance(content, Header))
        header = replace(example, base_rounds=(MAX_ROUND,) * MAX_TENANTS, base_contexts=bytes(32 * MAX_TENANTS))
        assert len(seal(header, KEY).payload) > envelope._SMALL
        assert unseal(seal(header, KEY).to_bytes(), "sender").content == header

    @staticmethod
    def tag(number: int, wire_type: int) -> list[int]:
        return TestListsWithoutEnd.number(number << 3 | wire_type)

    @staticmethod
    def number(value: int) -> list[int]:
        found = []
        while value >= 0x80:
            found.append(value & 0x7F | 0x80)
            value >>= 7
        return [*found, value]
