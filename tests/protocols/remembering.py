"""A protocol that remembers: within one session many parties verify the same signatures, agree on the same keys and read the same bytes.

Each is a function of its inputs, so it is computed once; nothing is left out, and nothing is replaced by a stand-in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, wraps
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fed_em_protocols import certification, deposits, envelope, hkdf, keys, members, records, round_keys
from fed_em_protocols.errors import MalformedMessage
from fed_em_simulations.substitution import substituted

_ROOMS = ("fed_em_protocols.", "tests.protocols.", "tests.faults.")
_KEYS = 1 << 17
# A message is read by all its recipients soon after it was sent.
_MESSAGES = 1 << 10

# What each of several parties hashes, or derives from the same secret.
_HASHES: tuple[Callable[..., Any], ...] = (
    certification.outcome_digest, envelope._signed_digest, hkdf.extract, keys.derive
)  # fmt: skip


@contextmanager
def remembered_protocol() -> Iterator[None]:
    """Verify, sign, agree, hash shares and parse by memory, wherever the protocol or an auditor does, while the context lasts."""
    key = round_keys.AgreementKey
    sign, verifies = _signatures()
    agreement_key, agreement_public = lru_cache(_KEYS)(keys.agreement_key), lru_cache(_KEYS)(keys.agreement_public)
    agree = _agreements(agreement_public)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:

        def everywhere(function: Callable[..., Any], remembering: Callable[..., Any]) -> None:
            stack.enter_context(substituted(function, remembering, _ROOMS))

        patch.setattr(keys.SigningKey, "sign", sign)
        patch.setattr(key, "_key", property(lambda self: self.secret))
        patch.setattr(key, "public", property(lambda self: agreement_public(self.secret)))
        patch.setattr(round_keys.KeyChain, "secrets", lru_cache(_MESSAGES)(round_keys.KeyChain.secrets))
        everywhere(keys.verifies, verifies)
        everywhere(keys.agree, agree)
        everywhere(keys.agreement_key, agreement_key)
        everywhere(keys.agreement_public, agreement_public)
        patch.setattr(deposits, "root", lru_cache(_MESSAGES)(deposits.root))
        for function in (*_HASHES, deposits._leaves, envelope.restored, members.from_bitmap):
            everywhere(function, lru_cache(_MESSAGES)(function))
        everywhere(dataclasses.replace, records.replace)
        for function in (envelope.unseal, envelope.unquote):
            everywhere(function, _whoever_sent_it(function))
        yield


def _signatures() -> tuple[Callable[..., bytes], Callable[[bytes, bytes, bytes], bool]]:
    """`sign` and `verifies` by memory: a signature that was made here verifies, every other one is looked at once."""
    really_sign, verified = keys.SigningKey.sign, lru_cache(_KEYS)(keys.verifies)
    made: dict[tuple[bytes, bytes], bytes] = {}

    def sign(self: keys.SigningKey, message: bytes) -> bytes:
        found = made.get((self.public, message))
        if found is None:
            found = made[self.public, message] = really_sign(self, message)
        return found

    def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
        return made.get((public, message)) == signature or verified(public, signature, message)

    return sign, verifies


def _agreements(public_of: Callable[[bytes], bytes]) -> Callable[[Any, bytes, str], bytes]:
    """`agree` by memory: the two ends of an agreement come to the same secret."""
    really_agree = keys.agree
    known: dict[frozenset[bytes], bytes] = {}

    def agree(secret: bytes | X25519PrivateKey, public: bytes, peer: str) -> bytes:
        own = public_of(secret) if isinstance(secret, bytes) else secret.public_key().public_bytes_raw()
        both = frozenset((own, public))
        if both not in known:
            known[both] = really_agree(secret, public, peer)
        return known[both]

    return agree


def _whoever_sent_it(read: Callable[..., Any]) -> Callable[..., Any]:
    """`read` by memory. Its last argument only says whom to blame, so it is asked anew for what it refuses."""

    @lru_cache(_MESSAGES)
    def read_from_somebody(*message: Any) -> Any:
        return read(*message, "somebody")

    @wraps(read)
    def reading(*message_and_sender: Any) -> Any:
        try:
            return read_from_somebody(*message_and_sender[:-1])
        except MalformedMessage:
            return read(*message_and_sender)

    return reading
