"""The key chain of one window, and every key that is made for one round.

    a_t ‖ b_t = HKDF(ck, "round" ‖ t);   ck ← HKDF(ck, "next")

a_t is the X25519 secret behind the pairwise masks of round t, b_t the seed of the tenant's own mask. A chain key gives all later
rounds and no earlier one. `context` is H(header): it binds every mask to one round, one set of participants and one set of
parameters, so a server that shows two tenants different parameters gets noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import KEY_BYTES, agree, derive
from fed_em_protocols.masks import MASK_KEY_BYTES


@dataclass(frozen=True)
class RoundSecrets:
    """The two secrets of one round: `agreement` (a_t) and `self_seed` (b_t), 32 bytes each."""

    agreement: bytes
    self_seed: bytes

    def __repr__(self) -> str:
        return "RoundSecrets(…)"


@dataclass(frozen=True)
class KeyChain:
    """The chain key that yields the secrets of `round` and of all later rounds of its window."""

    key: bytes
    round: int

    def __repr__(self) -> str:
        return f"KeyChain(round={self.round})"

    def current(self) -> RoundSecrets:
        """The secrets of `self.round`."""
        both = derive("round", self.key, 2 * KEY_BYTES, self.round)
        return RoundSecrets(both[:KEY_BYTES], both[KEY_BYTES:])

    def advanced(self, round_number: int) -> KeyChain:
        """The chain at a later round; what it could have said about the rounds between is gone."""
        if round_number < self.round:
            raise IllegalStep(f"round {round_number} is behind this key chain, which stands at round {self.round}")
        key = self.key
        for _ in range(self.round, round_number):
            key = derive("next", key, KEY_BYTES)
        return KeyChain(key, round_number)

    def secrets(self, rounds: int) -> tuple[RoundSecrets, ...]:
        """The secrets of the next `rounds` rounds, for advertising and sharing."""
        chain, found = self, []
        for _ in range(rounds):
            found.append(chain.current())
            chain = chain.advanced(chain.round + 1)
        return tuple(found)


def commitment(self_seed: bytes) -> bytes:
    """H(b_t), advertised before any round: what is opened later is checked against it."""
    return digest("self seed", self_seed)


def self_mask_key(self_seed: bytes, context: bytes) -> bytes:
    """The AES key of a tenant's own mask in one round."""
    return derive("self", self_seed, MASK_KEY_BYTES, context)


@dataclass(frozen=True)
class AgreementKey:
    """One tenant's X25519 pair of one round: its roster index and a_t."""

    index: int
    secret: bytes

    def __repr__(self) -> str:
        return f"AgreementKey(index={self.index})"

    @cached_property
    def _key(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.secret)

    @cached_property
    def public(self) -> bytes:
        """pk_t."""
        return self._key.public_key().public_bytes_raw()

    def pair_mask_key(self, peer: int, peer_public: bytes, context: bytes, peer_name: str) -> bytes:
        """The AES key of the mask shared with tenant `peer` in the round of `context`.

        Raises:
            PeerFault: `peer_public` is of small order; names `peer_name`.
        """
        shared = self._shared(peer_public, peer_name)
        publics = {self.index: self.public, peer: peer_public}
        low, high = sorted(publics)
        return derive("pair", shared + publics[low] + publics[high], MASK_KEY_BYTES, context, low, high)

    def _shared(self, peer_public: bytes, peer_name: str) -> bytes:
        return agree(self._key, peer_public, peer_name)
