"""The key chain of one window, and every key that is made for one round.

    a_t ‖ b_t = HKDF(ck, "round" ‖ t);   ck ← HKDF(ck, "next")

a_t is the X25519 secret behind the pairwise masks of round t, b_t the seed of the tenant's own mask. A chain key gives all later
rounds and no earlier one. `context` is H(header): it binds every mask to one round, one set of participants and one set of
parameters, so a server that shows two tenants different parameters gets noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.hashing import digest
from fed_em_protocols.hkdf import extract
from fed_em_protocols.keys import KEY_BYTES, agree, agreement_key, derive, derive_from, derive_from_each
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


class PairSecret(NamedTuple):
    """What two tenants share in one round before its header is known: it gives the key of their mask in any context.

    As secret as a_t: whoever keeps some for later rounds forgets each of them with the keys of its round.

    Attributes:
        low, high: Roster indices.
        extracted: HKDF's extract of dh ‖ pk_low ‖ pk_high.

    A tuple as it is made for each pair and round: nobody may format, compare or store it as one, as it holds a secret.
    """

    low: int
    high: int
    extracted: bytes

    def __repr__(self) -> str:
        return f"PairSecret({self.low}, {self.high})"

    def mask_key(self, context: bytes) -> bytes:
        """The AES key of the pair's mask in the round of `context`."""
        return derive_from(self.extracted, "pair", MASK_KEY_BYTES, context, self.low, self.high)


@dataclass(frozen=True)
class AgreementKey:
    """One tenant's X25519 pair of one round: its roster index and a_t."""

    index: int
    secret: bytes

    def __repr__(self) -> str:
        return f"AgreementKey(index={self.index})"

    @cached_property
    def _key(self) -> X25519PrivateKey:
        return agreement_key(self.secret)

    @cached_property
    def public(self) -> bytes:
        """pk_t."""
        return self._key.public_key().public_bytes_raw()

    def pair_secret(self, peer: int, peer_public: bytes, peer_name: str) -> PairSecret:
        """What this tenant shares with tenant `peer` in the round of these keys. Nearly all the time that a pair key takes.

        Raises:
            PeerFault: `peer_public` is of small order; names `peer_name`.
        """
        shared = agree(self._key, peer_public, peer_name)
        if self.index < peer:
            return PairSecret(self.index, peer, extract(shared + self.public + peer_public))
        return PairSecret(peer, self.index, extract(shared + peer_public + self.public))

    def pair_mask_key(self, peer: int, peer_public: bytes, context: bytes, peer_name: str) -> bytes:
        """The AES key of the mask shared with tenant `peer` in the round of `context`.

        Raises:
            PeerFault: `peer_public` is of small order; names `peer_name`.
        """
        return self.pair_secret(peer, peer_public, peer_name).mask_key(context)


def pair_secrets(own: AgreementKey, peers: Mapping[int, tuple[bytes, str]]) -> dict[int, PairSecret]:
    """What a tenant shares with each of its neighbours in one round, by roster index, ascending.

    Needs no header: a member that is idle may compute those of the next round, here or in another process (an agreement keeps the
    interpreter to itself, so another thread gains nothing).

    Args:
        own: The tenant's pair of the round.
        peers: By roster index, the neighbour's public key of the round and its name.

    Raises:
        PeerFault: a neighbour's key is of small order; names the neighbour.
    """
    return {peer: own.pair_secret(peer, *peers[peer]) for peer in sorted(peers)}


def pair_mask_keys(own: AgreementKey, peers: Mapping[int, tuple[bytes, str]], context: bytes) -> dict[int, bytes]:
    """The AES keys of the masks that a tenant shares with its neighbours in the round of `context`: `pair_secrets` and keys of them."""
    return mask_keys(pair_secrets(own, peers), context)


def mask_keys(secrets: Mapping[int, PairSecret], context: bytes) -> dict[int, bytes]:
    """The AES keys that pair secrets give in the round of `context`, by roster index: the `mask_key` of each, in less time."""
    extracted = [pair.extracted for pair in secrets.values()]
    pairs = [(pair.low, pair.high) for pair in secrets.values()]
    return dict(zip(secrets, derive_from_each(extracted, "pair", MASK_KEY_BYTES, (context,), pairs), strict=True))
