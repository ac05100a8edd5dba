"""Merkle tree hashing of RFC 9162, section 2.1: roots and inclusion proofs over a list of leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """MTH of one entry: SHA-256(0x00 ‖ data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def leaf_hashes(entries: Sequence[bytes]) -> tuple[bytes, ...]:
    """`leaf_hash` of each entry."""
    sha256 = hashlib.sha256  # as below
    return tuple([sha256(b"\x00" + entry).digest() for entry in entries])


def node_hash(left: bytes, right: bytes) -> bytes:
    """MTH of two subtrees: SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def _level_above(level: Sequence[bytes]) -> tuple[bytes, ...]:
    """The parents of neighbours; a last node without a neighbour stands for itself one level up.

    The largest power of two below n, where RFC 9162 parts n leaves, is a multiple of every smaller one: so pairs from the left
    make the same tree.
    """
    # Most of a window's set-up: hence the hash of a node written out.
    sha256 = hashlib.sha256
    parents = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
    return tuple(parents) if len(level) % 2 == 0 else (*parents, level[-1])


@dataclass(frozen=True)
class MerkleTree:
    """A tree over leaf hashes with all its nodes: the leaves, then each level above, up to the root alone."""

    levels: tuple[tuple[bytes, ...], ...]

    def __repr__(self) -> str:
        return f"MerkleTree(leaves={len(self.levels[0])})"

    @classmethod
    def over(cls, leaves: Sequence[bytes]) -> MerkleTree:
        """The tree over leaf hashes; over none it is the hash of nothing."""
        levels = [tuple(leaves)]
        while len(levels[-1]) > 1:
            levels.append(_level_above(levels[-1]))
        return cls(tuple(levels))

    @property
    def root(self) -> bytes:
        """MTH of the leaves."""
        return self.levels[-1][0] if self.levels[0] else EMPTY_ROOT

    def path(self, index: int) -> tuple[bytes, ...]:
        """Audit path of leaf `index`, from the leaf upwards (RFC 9162, section 2.1.3.1).

        Raises:
            ValueError: there is no such leaf.
        """
        if not 0 <= index < len(self.levels[0]):
            raise ValueError(f"leaf {index} is not in a tree of {len(self.levels[0])}")
        siblings = ((level, index >> height ^ 1) for height, level in enumerate(self.levels))
        return tuple(level[place] for level, place in siblings if place < len(level))


def root(leaves: Sequence[bytes]) -> bytes:
    """Root of a tree over leaf hashes; the hash of nothing for an empty list."""
    level = tuple(leaves)
    while len(level) > 1:
        level = _level_above(level)
    return level[0] if level else EMPTY_ROOT


def inclusion_path(index: int, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """Audit path of leaf `index`, from the leaf upwards. For several leaves of one tree, or a tree that is kept: `MerkleTree`."""
    return MerkleTree.over(leaves).path(index)


def includes(tree_root: bytes, size: int, index: int, leaf: bytes, path: Sequence[bytes]) -> bool:
    """Whether `path` shows that `leaf` (a leaf hash) is entry `index` of the tree of `size` entries with this root.

    RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        return False
    fn, sn, current = index, size - 1, leaf
    for sibling in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            current = node_hash(sibling, current)
            while not fn & 1 and fn != 0:
                fn >>= 1
                sn >>= 1
        else:
            current = node_hash(current, sibling)
        fn >>= 1
        sn >>= 1
    return sn == 0 and current == tree_root
