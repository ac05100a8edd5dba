"""Frontiers, checkpoints and consistency proofs: known answers, the definition of RFC 9162, and every proof of small trees."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from fed_em.errors import CallerError
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.merkle import includes, inclusion_path, leaf_hash, root
from fed_em_protocols.transcript.log import (
    Checkpoint,
    Frontier,
    consistency_path,
    is_consistent,
    signed_checkpoint,
)

# The inputs and the proofs of the test data of the certificate-transparency project.
ENTRIES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
KNOWN = {
    (1, 1): (),
    (1, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
LEAVES = [leaf_hash(k.to_bytes(2, "little")) for k in range(34)]
KEY = SigningKey(bytes(32))


@pytest.mark.parametrize(("sizes", "proof"), KNOWN.items())
def test_known_consistency_proofs(sizes: tuple[int, int], proof: tuple[str, ...]) -> None:
    earlier, later = sizes
    leaves = [leaf_hash(entry) for entry in ENTRIES[:later]]
    assert tuple(node.hex() for node in consistency_path(earlier, leaves)) == proof
    assert is_consistent(earlier, root(leaves[:earlier]), later, root(leaves), consistency_path(earlier, leaves))


def test_a_frontier_has_the_root_of_its_tree_at_every_size() -> None:
    frontier = Frontier()
    assert frontier.root == hashlib.sha256(b"").digest()
    for size, leaf in enumerate(LEAVES, 1):
        frontier = frontier.with_leaf(leaf)
        assert (frontier.size, frontier.root) == (size, root(LEAVES[:size]))


@pytest.mark.parametrize("later", range(1, len(LEAVES) + 1))
def test_every_prefix_is_consistent_and_nothing_else_is(later: int) -> None:
    leaves = LEAVES[:later]
    whole = root(leaves)
    for earlier in range(1, later + 1):
        path, before = consistency_path(earlier, leaves), root(leaves[:earlier])
        assert is_consistent(earlier, before, later, whole, path)
        other = leaf_hash(b"another")
        assert not is_consistent(earlier, other, later, whole, path)
        assert not is_consistent(earlier, before, later, other, path)
        assert not is_consistent(earlier, before, later, whole, (*path, other))
        assert not path or not is_consistent(earlier, before, later, whole, path[:-1])
        for step in range(len(path)):
            assert not is_consistent(earlier, before, later, whole, (*path[:step], other, *path[step + 1 :]))
        assert not is_consistent(0, before, later, whole, path)
        assert not is_consistent(later + 1, before, later, whole, path)


@pytest.mark.parametrize("earlier", [0, 4])
def test_there_is_no_proof_of_what_is_no_prefix(earlier: int) -> None:
    with pytest.raises(ValueError, match="extends none"):
        consistency_path(earlier, LEAVES[:3])


def a_checkpoint() -> Checkpoint:
    frontier = Frontier()
    for leaf in LEAVES[:5]:
        frontier = frontier.with_leaf(leaf)
    return signed_checkpoint(bytes(16), frontier, LEAVES[3:5], "2026-01-01T00:00:00+00:00", KEY)


def test_a_checkpoint_is_signed_over_all_that_it_says_of_the_tree() -> None:
    signed = a_checkpoint()
    assert signed.is_signed_by(KEY.public)
    assert Checkpoint.from_bytes(signed.to_bytes(), "it") == signed
    path = inclusion_path(2, LEAVES[:5])
    assert includes(signed.root, signed.size, 2, LEAVES[2], path)
    for changed in (
        replace(signed, size=6),
        replace(signed, root=LEAVES[0]),
        replace(signed, session=bytes(15) + b"\1"),
        replace(signed, time="2026-01-01T00:00:01+00:00"),
    ):
        assert not changed.is_signed_by(KEY.public)


@pytest.mark.parametrize(
    "change",
    [
        (b'"format":1', b'"format":2'),
        (b'"size":5', b'"size":"5"'),
        (b'"root":"', b'"root":"0'),
        (b'"leaves":[', b'"leaves":[1,'),
    ],
)
def test_what_is_no_checkpoint_is_refused(change: tuple[bytes, bytes]) -> None:
    with pytest.raises(CallerError, match="it"):
        Checkpoint.from_bytes(a_checkpoint().to_bytes().replace(*change), "it")
