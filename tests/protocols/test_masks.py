"""Masks are AES-128-CTR keystreams over the integers modulo 2^64, for every length and whatever the chunking."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from fed_em_protocols import masks
from fed_em_protocols.masks import add_masks, mask

CHUNK = 16_384  # integers a chunk
LENGTHS = (0, 1, 2, 3, 16, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5)


def counter_mode(key: bytes, blocks: int) -> bytes:
    """AES in counter mode from a zero counter, block by block from the bare cipher."""
    encryptor = Cipher(AES(key), ECB()).encryptor()
    return b"".join(encryptor.update(counter.to_bytes(16, "big")) for counter in range(blocks))


def test_known_answer() -> None:
    """E(0, 0), E(0, 1) and E(0, 2) of AES-128, from the test vectors of GCM."""
    stream = "66e94bd4ef8a2c3b884cfa59ca342b2e58e2fccefa7e3061367f1d57a4e7455a0388dace60b6a392f328c2b971b2fe78"
    assert mask(bytes(16), 6).astype("<u8").tobytes().hex() == stream


@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_is_a_prefix_of_counter_mode(length: int) -> None:
    key = bytes(range(16))
    assert mask(key, length).astype("<u8").tobytes() == counter_mode(key, length // 2 + 1)[: 8 * length]


@pytest.mark.parametrize("length", LENGTHS)
def test_masks_cancel(length: int) -> None:
    vector = np.random.default_rng(1).integers(0, 2**64, size=length, dtype=np.uint64)
    keys = [bytes([k] * 16) for k in range(3)]
    masked = vector.copy()
    add_masks(masked, added=keys[:2], subtracted=keys[2:])
    assert length == 0 or not np.array_equal(masked, vector)
    add_masks(masked, added=keys[2:], subtracted=keys[:2])
    assert np.array_equal(masked, vector)


@given(
    st.lists(st.binary(min_size=16, max_size=16), max_size=4), st.lists(st.binary(min_size=16, max_size=16), max_size=4)
)
def test_adding_many_at_once_is_adding_one_by_one(added: list[bytes], subtracted: list[bytes]) -> None:
    together = np.zeros(33, dtype=np.uint64)
    add_masks(together, added, subtracted)
    apart = np.zeros(33, dtype=np.uint64)
    for key in added:
        apart = apart + mask(key, 33)
    for key in subtracted:
        apart = apart - mask(key, 33)
    assert np.array_equal(together, apart)


def test_the_chunk_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = mask(b"k" * 16, 1000)
    monkeypatch.setattr(masks, "_CHUNK_BYTES", 48)
    monkeypatch.setattr(masks, "_ZEROS", bytes(48))
    assert np.array_equal(mask(b"k" * 16, 1000), expected)


def test_keys_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="key"):
        mask(bytes(15), 1)
