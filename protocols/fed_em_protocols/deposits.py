"""Deposits: shares of every secret of a window, one sealed box a holder, tied to one signed Merkle root a holder.

A box holds a salt seed and, for each round, the shares of a_t and b_t. Leaf (t, secret) of a holder's tree is the hash of
(set-up, dealer, holder, t, secret, salt, share); salts are the keystream of a key of the salt seed, 16 bytes each, so releasing one
share says nothing on another leaf. At recovery a hash that does not fit the root names the holder; all hashes right and the secret
wrong names the dealer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from fed_em_protocols.boxes import TAG_BYTES, Route
from fed_em_protocols.envelope import Sealed
from fed_em_protocols.errors import MalformedMessage
from fed_em_protocols.hashing import DIGEST_BYTES, digest, digests_of_rows
from fed_em_protocols.keys import KEY_BYTES, derive
from fed_em_protocols.masks import MASK_KEY_BYTES, keystream
from fed_em_protocols.merkle import includes, inclusion_path, leaf_hash, leaf_hashes, root
from fed_em_protocols.messages import SALT_BYTES, Deposit, ReleasedShare, SharedSecret
from fed_em_protocols.shamir import SHARE_BYTES, split_many
from fed_em_protocols.window import Randomness, WindowSecrets, WindowSetUp

_ROUND_BYTES = 2 * SHARE_BYTES


def box_bytes(setup: WindowSetUp) -> int:
    """Length of every sealed box of a window."""
    return KEY_BYTES + setup.rounds * _ROUND_BYTES + TAG_BYTES


class HeldShares(NamedTuple):
    """One dealer's shares at one holder: by round, those still held; and the hashes of all of them.

    Attributes:
        dealer, holder: Roster indices.
        salt_seed: 32 bytes, from the box.
        first_round: The first round whose shares are still held; earlier ones are dropped.
        shares: The pairs of shares (of a_t, of b_t) from that round on, end to end.
        leaves: Leaf hashes of the whole window, end to end.

    A tuple as it is made anew for each neighbour and round: nobody may format, compare or store it as one, as it holds secrets.
    """

    dealer: int
    holder: int
    salt_seed: bytes
    first_round: int
    shares: bytes
    leaves: bytes

    def __repr__(self) -> str:
        return f"HeldShares(dealer={self.dealer}, holder={self.holder}, first_round={self.first_round})"

    def from_round(self, round_number: int) -> HeldShares:
        """The same without the shares of earlier rounds."""
        passed = (round_number - self.first_round) * _ROUND_BYTES
        return HeldShares(self.dealer, self.holder, self.salt_seed, round_number, self.shares[passed:], self.leaves)

    def share(self, round_number: int, secret: SharedSecret) -> bytes:
        """The share of one secret of a round that is still held."""
        start = (round_number - self.first_round) * _ROUND_BYTES + int(secret) * SHARE_BYTES
        return self.shares[start : start + SHARE_BYTES]

    def release(self, setup: WindowSetUp, round_number: int, secret: SharedSecret) -> ReleasedShare:
        """The share of one secret of one round, with its salt and its path to the dealer's root."""
        leaf = _leaf_index(setup, round_number, secret)
        leaves = [self.leaves[k : k + DIGEST_BYTES] for k in range(0, len(self.leaves), DIGEST_BYTES)]
        return ReleasedShare(
            dealer=self.dealer,
            secret=int(secret),
            share=self.share(round_number, secret),
            salt=_salts(self.salt_seed, leaf + 1)[-SALT_BYTES:],
            path=b"".join(inclusion_path(leaf, leaves)),
        )


def deal(
    setup: WindowSetUp, index: int, secrets: WindowSecrets, names: Mapping[int, str], randomness: Randomness
) -> tuple[bytes, bytes]:
    """Share all secrets of the window with the other members.

    Args:
        setup: The window; `index` is the dealer's roster index in it.
        secrets: The dealer's fresh window secrets, their chain still at the first round.
        names: Roster names, for naming a member whose channel key is of small order.
        randomness: Fresh bytes; must never be reused.

    Returns:
        The roots (32 bytes a holder) and the sealed boxes, both end to end in the order of `setup.neighbours(index)`.
    """
    holders = setup.neighbours(index)
    rounds = secrets.chain.secrets(setup.rounds)
    shared = [secret for each in rounds for secret in (each.agreement, each.self_seed)]
    roots, boxes = [], []
    for holder, table in zip(holders, split_many(shared, setup.threshold, holders, randomness), strict=True):
        salt_seed = randomness(KEY_BYTES)
        roots.append(root(_leaves(setup.digest, index, holder, salt_seed, table)))
        channel_key = setup.advertisements[holder].content.channel_key
        box = Route(setup.digest, index, holder).seal(salt_seed + table, secrets.channel, channel_key, names[holder])
        boxes.append(box)
    return b"".join(roots), b"".join(boxes)


def check_deposit(sealed: Sealed[Deposit], setup: WindowSetUp, dealer: int, name: str) -> None:
    """Check the outside of a deposit: signature, set-up, number of roots.

    Raises:
        PeerFault: names the dealer.
    """
    sealed.require_signature(setup.window_key(dealer), name)
    if sealed.content.setup != setup.digest:
        raise MalformedMessage(name, "made a deposit for another set-up")
    if len(sealed.content.roots) != DIGEST_BYTES * len(setup.neighbours(dealer)):
        raise MalformedMessage(name, "signed another number of roots than it has neighbours")


def split_boxes(sealed: Sealed[Deposit], setup: WindowSetUp, dealer: int, name: str) -> Mapping[int, bytes]:
    """The boxes of a deposit by holder. Raises `MalformedMessage` naming the dealer if they are not of the right length."""
    size, holders = box_bytes(setup), setup.neighbours(dealer)
    if len(sealed.attachment) != size * len(holders):
        raise MalformedMessage(name, "made a deposit whose boxes have the wrong length")
    return {holder: sealed.attachment[k * size : (k + 1) * size] for k, holder in enumerate(holders)}


def box_for(sealed: Sealed[Deposit], setup: WindowSetUp, dealer: int, holder: int) -> bytes:
    """One holder's box out of a deposit that `split_boxes` has checked."""
    place = setup.neighbours(dealer).index(holder) * box_bytes(setup)
    return sealed.attachment[place : place + box_bytes(setup)]


def open_box(
    setup: WindowSetUp,
    deposit: Sealed[Deposit],
    dealer: int,
    holder: int,
    secrets: WindowSecrets,
    box: bytes,
    name: str,
) -> HeldShares | None:
    """Open one dealer's box; None if it does not open or does not fit the root that the dealer signed."""
    channel_key = setup.advertisements[dealer].content.channel_key
    plaintext = Route(setup.digest, dealer, holder).open(box, secrets.channel, channel_key, name)
    if plaintext is None or len(plaintext) != KEY_BYTES + setup.rounds * _ROUND_BYTES:
        return None
    salt_seed, table = plaintext[:KEY_BYTES], plaintext[KEY_BYTES:]
    leaves = _leaves(setup.digest, dealer, holder, salt_seed, table)
    if root(leaves) != root_for(setup, deposit, dealer, holder):
        return None
    return HeldShares(dealer, holder, salt_seed, setup.first_round, table, b"".join(leaves))


def root_for(setup: WindowSetUp, deposit: Sealed[Deposit], dealer: int, holder: int) -> bytes:
    """The root that a dealer signed over one holder's shares."""
    place = setup.neighbours(dealer).index(holder) * DIGEST_BYTES
    return deposit.content.roots[place : place + DIGEST_BYTES]


def share_is_dealt(
    setup: WindowSetUp, deposit: Sealed[Deposit], holder: int, released: ReleasedShare, round_number: int
) -> bool:
    """Whether a released share is the very one that its dealer committed to for this holder."""
    secret = SharedSecret(released.secret)
    index = _leaf_index(setup, round_number, secret)
    fields = (setup.digest, released.dealer, holder, index, released.salt, released.share)
    leaf = leaf_hash(digest("share", *fields))
    path = [released.path[k : k + DIGEST_BYTES] for k in range(0, len(released.path), DIGEST_BYTES)]
    tree_root = root_for(setup, deposit, released.dealer, holder)
    return includes(tree_root, 2 * setup.rounds, index, leaf, path)


def _leaf_index(setup: WindowSetUp, round_number: int, secret: SharedSecret) -> int:
    return 2 * (round_number - setup.first_round) + int(secret)


def _salts(salt_seed: bytes, count: int) -> bytes:
    """The salts of the first leaves, end to end."""
    return keystream(derive("salts", salt_seed, MASK_KEY_BYTES), SALT_BYTES * count)


def _leaves(setup: bytes, dealer: int, holder: int, salt_seed: bytes, table: bytes) -> tuple[bytes, ...]:
    """The hash of (set-up, dealer, holder, leaf, salt, share) for each share in turn."""
    count = len(table) // SHARE_BYTES
    columns = ((_places(count), 8), (_salts(salt_seed, count), SALT_BYTES), (table, SHARE_BYTES))
    return leaf_hashes(digests_of_rows("share", (setup, dealer, holder), columns))


@cache
def _places(count: int) -> bytes:
    return b"".join(place.to_bytes(8, "little") for place in range(count))
