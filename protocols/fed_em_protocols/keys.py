"""Keys and what is done with them: Ed25519 signatures, X25519 agreement, HKDF-SHA-256 derivation (RFC 8032, 7748, 5869).

Private keys are carried as 32 raw bytes inside objects whose `repr` shows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fed_em_protocols import hkdf
from fed_em_protocols.errors import PeerFault
from fed_em_protocols.hashing import Field, digest, digests_of_pairs

KEY_BYTES = 32
SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 private key. Never logged, never sent."""

    seed: bytes

    def __repr__(self) -> str:
        return "SigningKey(…)"

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @cached_property
    def public(self) -> bytes:
        """The 32-byte verifying key."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """A 64-byte deterministic signature."""
        return self._key.sign(message)


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is `public`'s over `message`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def agreement_key(secret: bytes) -> X25519PrivateKey:
    """The X25519 key of a 32-byte secret, for many agreements with it: making it costs as much as one of them."""
    return X25519PrivateKey.from_private_bytes(secret)


def agreement_public_key(public: bytes) -> X25519PublicKey:
    """The public key of 32 bytes. Raises `ValueError` if they are no key."""
    return X25519PublicKey.from_public_bytes(public)


def agreement_public(secret: bytes) -> bytes:
    """The X25519 public key of a 32-byte secret."""
    return agreement_key(secret).public_key().public_bytes_raw()


# The u-coordinates, modulo p, of all points of small order on the curve and on its twist.
_P = 2**255 - 19
_SMALL_ORDER = frozenset(
    {
        0,
        1,
        _P - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)


def is_of_small_order(public: bytes) -> bool:
    """Whether every agreement with this X25519 key is refused: its result would be zero, whatever the secret."""
    coordinate = int.from_bytes(public, "little") & (2**255 - 1)
    return coordinate % _P in _SMALL_ORDER


def agree(secret: bytes | X25519PrivateKey, public: bytes, peer: str) -> bytes:
    """The X25519 shared secret.

    Args:
        secret: 32 bytes, or the `agreement_key` made of them.
        public: 32 bytes.
        peer: Whose public key it is.

    Raises:
        PeerFault: `peer`'s key is of small order (the result would be zero, known to everybody).
    """
    key = agreement_key(secret) if isinstance(secret, bytes) else secret
    try:
        return key.exchange(agreement_public_key(public))
    except ValueError:
        raise PeerFault(
            peer,
            "advertised a key of small order",
            proves="its key generation is broken or it wants its masks known",
        ) from None


def derive(label: str, secret: bytes, length: int, *context: Field) -> bytes:
    """`length` bytes from `secret`, bound to `label` and `context` (HKDF, no salt, info = digest(label, context))."""
    return derive_from(hkdf.extract(secret), label, length, *context)


def derive_from(extracted: bytes, label: str, length: int, *context: Field) -> bytes:
    """The same as `derive` from `hkdf.extract(secret)`, for many keys of one secret."""
    return hkdf.expand(extracted, digest("derive/" + label, *context), length)


def derive_from_each(
    extracted: Sequence[bytes], label: str, length: int, context: Sequence[Field], pairs: Sequence[tuple[int, int]]
) -> list[bytes]:
    """`derive_from` of each of many secrets, in less time: the context of each ends with its own pair of integers.

    Args:
        extracted, label: As of `derive_from`.
        length: At most 32.
        context: What all have in common.
        pairs: One a secret.

    Raises:
        ValueError: there are not as many pairs as secrets.
    """
    return hkdf.expand_each(extracted, digests_of_pairs("derive/" + label, context, pairs), length)
