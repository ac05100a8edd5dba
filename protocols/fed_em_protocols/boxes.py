"""Sealed boxes from one tenant to another through the server: ChaCha20-Poly1305, one key a direction, one box a key.

The key comes from the two channel keys, the set-up and the direction, and is used once: hence the zero nonce. The associated
data (session, window, H(set-up), from, to) make a box worthless anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import agree, derive

TAG_BYTES = 16
_NONCE = bytes(12)

# A channel secret: 32 bytes, or the `keys.agreement_key` made of them once for all boxes of a member.
ChannelSecret = bytes | X25519PrivateKey


@dataclass(frozen=True)
class Route:
    """Where a box goes: the set-up it belongs to (32-byte digest), and the roster indices of sender and recipient."""

    setup: bytes
    sender: int
    recipient: int

    def _key(self, channel_secret: ChannelSecret, channel_public: bytes, peer: str) -> ChaCha20Poly1305:
        shared = agree(channel_secret, channel_public, peer)
        return ChaCha20Poly1305(derive("box", shared, 32, self.setup, self.sender, self.recipient))

    def _associated(self) -> bytes:
        return digest("box", self.setup, self.sender, self.recipient)

    def seal(
        self, plaintext: bytes, channel_secret: ChannelSecret, recipient_channel_key: bytes, recipient: str
    ) -> bytes:
        """The box: as long as the plaintext plus `TAG_BYTES`. Must be called once a route: the key admits one box."""
        return self._key(channel_secret, recipient_channel_key, recipient).encrypt(
            _NONCE, plaintext, self._associated()
        )

    def open(self, box: bytes, channel_secret: ChannelSecret, sender_channel_key: bytes, sender: str) -> bytes | None:
        """The plaintext, or None if the box was not sealed for this route by this sender, or was changed on the way."""
        try:
            return self._key(channel_secret, sender_channel_key, sender).decrypt(_NONCE, box, self._associated())
        except InvalidTag:
            return None
