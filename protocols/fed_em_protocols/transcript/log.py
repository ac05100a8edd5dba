"""An append-only log: leaf hashes of its entries, signed checkpoints, and proofs about them (RFC 9162, section 2.1).

A checkpoint signs the root over all entries so far. Beside it stand the leaf hashes of the entries since the checkpoint before, so that
whoever finds an entry changed knows which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fed_em.errors import CallerError
from fed_em_protocols.hashing import DIGEST_BYTES, digest
from fed_em_protocols.keys import SIGNATURE_BYTES, SigningKey, verifies
from fed_em_protocols.merkle import EMPTY_ROOT, MerkleTree, node_hash
from fed_em_protocols.transcript.canonical_json import canonical_json, read_canonical_json
from fed_em_protocols.wire.fields import SESSION_BYTES

FORMAT = 1
_FIELDS = {"format", "session", "size", "root", "time", "leaves", "signature"}


@dataclass(frozen=True)
class Frontier:
    """The roots of the full subtrees of a growing tree, largest first: enough to append to it and to know its root.

    Attributes:
        size: How many leaves there are.
        roots: One for each bit that is set in `size`, the highest first.
    """

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def with_leaf(self, leaf: bytes) -> Frontier:
        """One leaf hash more."""
        roots, size, node = list(self.roots), self.size, leaf
        while size & 1:
            node, size = node_hash(roots.pop(), node), size >> 1
        return Frontier(self.size + 1, (*roots, node))

    @property
    def root(self) -> bytes:
        """MTH of all leaves; the hash of nothing for none."""
        if not self.roots:
            return EMPTY_ROOT
        *others, node = self.roots
        for left in reversed(others):
            node = node_hash(left, node)
        return node


@dataclass(frozen=True)
class Checkpoint:
    """A signed tree head.

    Attributes:
        session: 16 bytes.
        size: Number of entries.
        root: MTH of their leaf hashes.
        time: When it was signed, ISO 8601 UTC, by the server's clock.
        leaves: Leaf hashes of the entries since the checkpoint before; not signed, they follow from the entries.
        signature: The server's identity key over `digest`.
    """

    session: bytes
    size: int
    root: bytes
    time: str
    leaves: tuple[bytes, ...] = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def digest(self) -> bytes:
        """What the signature covers."""
        return _signed_digest(self.session, self.size, self.root, self.time)

    def is_signed_by(self, key: bytes) -> bool:
        """Whether `key` signed it."""
        return verifies(key, self.signature, self.digest)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            {
                "format": FORMAT,
                "session": self.session.hex(),
                "size": self.size,
                "root": self.root.hex(),
                "time": self.time,
                "leaves": [leaf.hex() for leaf in self.leaves],
                "signature": self.signature.hex(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> Checkpoint:
        """What `to_bytes` wrote. Its signature is *not* verified.

        Raises:
            CallerError: it is something else; names `what`.
        """
        found = read_canonical_json(data, what)
        if not isinstance(found, dict) or set(found) != _FIELDS or found["format"] != FORMAT:
            raise CallerError(f"{what} is no checkpoint of format {FORMAT}")
        if not (
            isinstance(found["size"], int) and isinstance(found["time"], str) and isinstance(found["leaves"], list)
        ):
            raise CallerError(f"{what} is no checkpoint: a field is of another type")
        return cls(
            _hex(found["session"], SESSION_BYTES, what),
            found["size"],
            _hex(found["root"], DIGEST_BYTES, what),
            found["time"],
            tuple(_hex(leaf, DIGEST_BYTES, what) for leaf in found["leaves"]),
            _hex(found["signature"], SIGNATURE_BYTES, what),
        )


def _signed_digest(session: bytes, size: int, root: bytes, time: str) -> bytes:
    return digest("checkpoint", session, size, root, time)


def _hex(text: object, length: int, what: str) -> bytes:
    try:
        data = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        data = b""
    if len(data) != length or data.hex() != text:
        raise CallerError(f"{what}: {length} bytes in hexadecimal are expected, not {str(text)[:80]!r}")
    return data


def signed_checkpoint(
    session: bytes, frontier: Frontier, leaves: Sequence[bytes], time: str, key: SigningKey
) -> Checkpoint:
    """Sign the head of a log.

    Args:
        session: 16 bytes.
        frontier: Of all entries.
        leaves: Of those since the last checkpoint.
        time: ISO 8601, UTC.
        key: The server's identity key.
    """
    signature = key.sign(_signed_digest(session, frontier.size, frontier.root, time))
    return Checkpoint(session, frontier.size, frontier.root, time, tuple(leaves), signature)


def consistency_path(earlier: int, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """The proof that the tree over `leaves` extends that over the first `earlier` of them (RFC 9162, section 2.1.4.1).

    Raises:
        ValueError: there are not so many leaves, or none are asked for.
    """
    if not 0 < earlier <= len(leaves):
        raise ValueError(f"a tree of {len(leaves)} leaves extends none of {earlier}")
    return _subproof(earlier, leaves, True)


def _subproof(earlier: int, leaves: Sequence[bytes], known: bool) -> tuple[bytes, ...]:
    """SUBPROOF; `known`: whoever verifies knows the root of these very leaves."""
    size = len(leaves)
    if earlier == size:
        return () if known else (MerkleTree.over(leaves).root,)
    split = 1 << (size - 1).bit_length() - 1
    left, right = leaves[:split], leaves[split:]
    if earlier <= split:
        return (*_subproof(earlier, left, known), MerkleTree.over(right).root)
    return (*_subproof(earlier - split, right, False), MerkleTree.over(left).root)


def is_consistent(earlier: int, earlier_root: bytes, later: int, later_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether `path` shows that the tree of `later` entries extends the one of `earlier` (RFC 9162, section 2.1.4.2)."""
    if not 0 < earlier <= later:
        return False
    if earlier == later:
        return not path and earlier_root == later_root
    hashes = list(path)
    if earlier & (earlier - 1) == 0:
        hashes.insert(0, earlier_root)
    if not hashes:
        return False
    fn, sn = earlier - 1, later - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = hashes[0]
    for node in hashes[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(node, fr), node_hash(node, sr)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == earlier_root and sr == later_root
