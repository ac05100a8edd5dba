"""Merkle trees: known answers of RFC 9162's reference implementation, and every proof of every small tree."""

from __future__ import annotations

import hashlib

import pytest

from fed_em_protocols.merkle import MerkleTree, includes, inclusion_path, leaf_hash, root

# Inputs and roots of the first 1 … 8 of them, from the test data of the certificate-transparency project.
ENTRIES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
SIZES = range(1, 41)


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(k.to_bytes(2, "little")) for k in range(size)]


def root_by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1: n leaves are parted at the largest power of two below n."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + root_by_definition(leaves[:k]) + root_by_definition(leaves[k:])).digest()


def path_by_definition(index: int, leaves: list[bytes]) -> tuple[bytes, ...]:
    """PATH of RFC 9162, section 2.1.3.1."""
    if len(leaves) == 1:
        return ()
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < k:
        return (*path_by_definition(index, leaves[:k]), root_by_definition(leaves[k:]))
    return (*path_by_definition(index - k, leaves[k:]), root_by_definition(leaves[:k]))


@pytest.mark.parametrize("size", range(1, 9))
def test_known_roots(size: int) -> None:
    assert root([leaf_hash(entry) for entry in ENTRIES[:size]]).hex() == ROOTS[size - 1]


def test_the_empty_tree_is_the_hash_of_nothing() -> None:
    assert root([]) == MerkleTree.over([]).root == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("size", [*SIZES, 63, 64, 65, 127, 128, 129, 400])
def test_level_by_level_is_the_tree_of_the_definition(size: int) -> None:
    leaves = leaves_of(size)
    tree = MerkleTree.over(leaves)
    assert tree.root == root(leaves) == root_by_definition(leaves)
    for index in range(0, size, 1 + size // 40):
        assert tree.path(index) == inclusion_path(index, leaves) == path_by_definition(index, leaves)


def test_a_kept_tree_hashes_nothing_for_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = leaves_of(128)
    tree = MerkleTree.over(leaves)
    monkeypatch.setattr("fed_em_protocols.merkle.hashlib", None)
    paths = [tree.path(index) for index in range(128)]
    monkeypatch.undo()
    assert all(includes(tree.root, 128, index, leaves[index], path) for index, path in enumerate(paths))
    assert repr(tree) == "MerkleTree(leaves=128)"


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_is_included_at_its_index_only(size: int) -> None:
    leaves = leaves_of(size)
    tree = root(leaves)
    for index, leaf in enumerate(leaves):
        path = inclusion_path(index, leaves)
        accepting = [other for other in range(-1, size + 1) if includes(tree, size, other, leaf, path)]
        assert accepting == [index]


@pytest.mark.parametrize("size", SIZES)
def test_wrong_leaves_and_paths_are_rejected(size: int) -> None:
    leaves = leaves_of(size)
    tree = root(leaves)
    for index, leaf in enumerate(leaves):
        path = inclusion_path(index, leaves)
        assert not includes(tree, size, index, leaf_hash(b"another"), path)
        assert not includes(leaf_hash(b"another"), size, index, leaf, path)
        assert not includes(tree, size, index, leaf, (*path, leaf))
        assert not path or not includes(tree, size, index, leaf, path[:-1])
        for step in range(len(path)):
            changed = (*path[:step], leaf_hash(path[step]), *path[step + 1 :])
            assert not includes(tree, size, index, leaf, changed)


def test_a_node_is_no_leaf() -> None:
    left, right = leaves_of(2)
    assert leaf_hash(left + right) != root([left, right])


@pytest.mark.parametrize("index", [-1, 3])
def test_no_path_to_a_leaf_that_is_not_there(index: int) -> None:
    with pytest.raises(ValueError, match="not in a tree of 3"):
        inclusion_path(index, leaves_of(3))
    with pytest.raises(ValueError, match="not in a tree of 0"):
        MerkleTree.over([]).path(index)
