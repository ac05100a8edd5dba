"""Sealed boxes from one tenant to another through the server: ChaCha20-Poly1305, one key a direction, one box a key.

The key comes from the two channel keys, the set-up and the direction, and is used once: hence the zero nonce. The associated
data (session, window, H(set-up), from, to) make a box worthless anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import agree, agreement_key, derive

TAG_BYTES = 16
_NONCE = bytes(12)


@dataclass(frozen=True)
class Channel:
    """A member's end of its boxes to and from all others: one agreement a pair serves both directions, whose keys differ.

    Attributes:
        secret: X25519 secret, 32 bytes.
    """

    secret: bytes

    def __repr__(self) -> str:
        return "Channel(…)"

    @cached_property
    def _key(self) -> X25519PrivateKey:
        return agreement_key(self.secret)

    @cached_property
    def public(self) -> bytes:
        """The channel key that the others are told."""
        return self._key.public_key().public_bytes_raw()

    @cached_property
    def _agreed(self) -> dict[bytes, bytes]:
        """With the channel keys so far."""
        return {}

    def agreed(self, public: bytes, peer: str) -> bytes:
        """The secret shared with the owner of a channel key. Raises `PeerFault` naming `peer` if that is of small order."""
        found = self._agreed.get(public)
        if found is None:
            found = self._agreed[public] = agree(self._key, public, peer)
        return found


# A member's end, or its secret alone for a single box.
ChannelSecret = bytes | Channel


@dataclass(frozen=True)
class Route:
    """Where a box goes: the set-up it belongs to (32-byte digest), and the roster indices of sender and recipient."""

    setup: bytes
    sender: int
    recipient: int

    def _key(self, channel_secret: ChannelSecret, channel_public: bytes, peer: str) -> ChaCha20Poly1305:
        channel = Channel(channel_secret) if isinstance(channel_secret, bytes) else channel_secret
        shared = channel.agreed(channel_public, peer)
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
