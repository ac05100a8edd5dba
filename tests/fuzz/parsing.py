"""Fuzz targets for the parser: bytes from anywhere, and messages that are signed validly, whatever they say."""

from __future__ import annotations

from typing import Any

from fed_em_protocols.envelope import Sealed, seal, unquote, unseal
from fed_em_protocols.errors import MalformedMessage
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.messages import BULKY, Payload
from tests.fuzz.changes import signed_anew
from tests.fuzz.choices import Choices
from tests.fuzz.shapes import ORDERED_KINDS, example_of, obeys
from tests.fuzz.twists import Pool, damaged, twisted

SENDER = "t1"
KEY = SigningKey(b"fuzz" * 8)
_POOL = Pool()
_MOST_TWISTS = 4


def parse(data: bytes) -> None:
    """Any bytes: they are malformed, and name their sender, or say exactly what their serialisation says."""
    read = _read(data)
    if read is None:
        return
    assert obeys(read.content), f"{read.content} is beyond its limits"
    assert unseal(read.to_bytes(), SENDER) == read
    assert unquote(read.quoted(), type(read.content), SENDER).content == read.content
    anew = seal(read.content, KEY, read.attachment)
    assert unseal(anew.to_bytes(), SENDER).content == read.content
    assert len(anew.payload) == len(read.payload), "a payload holds more, or less, than what it says"


def messages(data: bytes) -> None:
    """A message of any kind with fields in and out of their rules, then with its payload damaged, signed validly each time."""
    choices = Choices(data)
    content: Any = example_of(choices.one(ORDERED_KINDS))
    for _ in range(choices.below(_MOST_TWISTS + 1)):
        content = twisted(content, choices, _POOL)
    sealed: Sealed[Any] = seal(content, KEY, choices.data(choices.below(8)))
    read = _read(sealed.to_bytes())
    lawful = obeys(content) and (type(content) in BULKY or not sealed.attachment)
    assert (read is not None) == lawful, f"{content}: {'within' if read is None else 'beyond'} its limits"
    if read is not None:
        assert read == sealed
        read.require_signature(KEY.public, SENDER)
    if choices:
        parse(signed_anew(sealed, damaged(sealed.payload, choices), KEY).to_bytes())


def _read(data: bytes) -> Sealed[Payload] | None:
    try:
        return unseal(data, SENDER)
    except MalformedMessage as fault:
        named = fault.peer == SENDER and fault.message.startswith(f"{SENDER}: ")
    assert named, "a malformed message does not name its sender"
    return None


def parsing_seeds() -> list[bytes]:
    """A valid message of every kind."""
    return [seal(example_of(kind), KEY, b"attached" if kind in BULKY else b"").to_bytes() for kind in ORDERED_KINDS]


def message_seeds() -> list[bytes]:
    """Scripts for `messages`: every kind as it is, and with one field changed."""
    return [bytes([place, twists, *range(8)]) for place in range(len(ORDERED_KINDS)) for twists in range(2)]
