"""Which signatures were really made: whatever else seems to verify was forged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fed_em_protocols.envelope import unseal
from fed_em_protocols.errors import PeerFault
from fed_em_protocols.keys import SigningKey

# For each signature: the key, and the digest that it covers.
Signatures = dict[bytes, tuple[SigningKey, bytes]]


@contextmanager
def noted_signatures(signatures: Signatures) -> Iterator[None]:
    """Whatever is signed meanwhile is noted."""
    sign = SigningKey.sign

    def noted(key: SigningKey, message: bytes) -> bytes:
        signature = sign(key, message)
        signatures[signature] = key, message
        return signature

    SigningKey.sign = noted  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        SigningKey.sign = sign  # type: ignore[method-assign]


def signer_of(data: bytes, signatures: Signatures) -> SigningKey | None:
    """The key that signed a message, if any did."""
    try:
        return signatures[unseal(data, "somebody").signature][0]
    except (PeerFault, KeyError):
        return None


def is_signed(data: bytes, public: bytes, signatures: Signatures) -> bool:
    """Whether the holder of a public key signed a message, as far as `signatures` tell."""
    sealed = unseal(data, "somebody")
    key, digest = signatures.get(sealed.signature, (None, b""))
    return key is not None and key.public == public and digest == sealed.digest
