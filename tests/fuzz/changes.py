"""Whole messages that were changed on purpose: by somebody who holds a key of the federation, or by the network, which holds none."""

from __future__ import annotations

import hashlib
from typing import Any

from fed_em_protocols.envelope import Sealed, seal, unseal
from fed_em_protocols.errors import PeerFault
from fed_em_protocols.keys import SigningKey
from tests.fuzz.choices import Choices
from tests.fuzz.shapes import ORDERED_KINDS, example_of
from tests.fuzz.twists import Pool, damaged, twisted

# How many fields change.
_TWISTS = (1, 1, 1, 2, 2, 3)


def examples(key: SigningKey) -> list[bytes]:
    """A message of every kind, signed by one key: whoever it is, most are not its to send."""
    return [seal(example_of(kind), key).to_bytes() for kind in ORDERED_KINDS]


def changed(message: bytes, key: SigningKey, choices: Choices, pool: Pool) -> bytes:
    """The message with other fields, another attachment or damage, mostly under a valid signature of `key`."""
    try:
        sealed: Sealed[Any] = unseal(message, "sender")
    except PeerFault:
        return damaged(message, choices)
    way = choices.below(5)
    if way == 4:
        return damaged(message, choices)
    if way == 3:
        return signed_anew(sealed, damaged(sealed.payload, choices), key).to_bytes()
    attachment = damaged(sealed.attachment, choices) if way == 2 else sealed.attachment
    pool.add(hashlib.sha256(attachment).digest())
    content = sealed.content
    for _ in range(choices.one(_TWISTS)):
        content = twisted(content, choices, pool)
    anew = seal(content, key, attachment)
    pool.learn_sealed(anew)
    return anew.to_bytes()


def signed_anew(sealed: Sealed[Any], payload: bytes, key: SigningKey) -> Sealed[Any]:
    """A message with another payload, whatever it says, under a signature that verifies."""
    unsigned = Sealed(sealed.content, payload, sealed.attachment_digest, b"", sealed.attachment)
    return Sealed(sealed.content, payload, sealed.attachment_digest, key.sign(unsigned.digest), sealed.attachment)
