"""Masks are AES-128-CTR keystreams over the integers modulo 2^64 or 2^32, whatever the length, the pieces and the threads."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from hypothesis import given
from hypothesis import strategies as st

from fed_em.compilation import compiler_admitted
from fed_em.errors import CallerError
from fed_em_protocols import masks
from fed_em_protocols.masks import RingVector, add_masks, mask

PIECE = masks._PIECE_BYTES // 8  # 64-bit integers a piece, at most
LENGTHS = (0, 1, 2, 3, 16, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5)
RINGS = (np.uint64, np.uint32)
Ring = type[np.uint64 | np.uint32]
KEYS = [bytes([k] * 16) for k in range(6)]

keys_of_masks = st.lists(st.binary(min_size=16, max_size=16), max_size=4)


def counter_mode(key: bytes, blocks: int) -> bytes:
    """AES in counter mode from a zero counter, block by block from the bare cipher."""
    encryptor = Cipher(AES(key), ECB()).encryptor()
    return b"".join(encryptor.update(counter.to_bytes(16, "big")) for counter in range(blocks))


def plain_mask(key: bytes, length: int, ring: Ring) -> list[int]:
    """A mask by definition: words of the keystream, little-endian."""
    size = np.dtype(ring).itemsize
    stream = counter_mode(key, size * length // 16 + 1)
    return [int.from_bytes(stream[size * k : size * (k + 1)], "little") for k in range(length)]


def plain_sum(vector: RingVector, added: list[bytes], subtracted: list[bytes], ring: Ring) -> list[int]:
    """What masking must give, in Python's integers."""
    total = [int(value) for value in vector]
    for keys, sign in ((added, 1), (subtracted, -1)):
        for key in keys:
            total = [value + sign * word for value, word in zip(total, plain_mask(key, len(total), ring), strict=True)]
    return [value % 2 ** (8 * np.dtype(ring).itemsize) for value in total]


def random_vector(length: int, ring: Ring) -> RingVector:
    return np.random.default_rng(1).integers(0, np.iinfo(ring).max, size=length, dtype=ring, endpoint=True)


def test_known_answer() -> None:
    """E(0, 0), E(0, 1) and E(0, 2) of AES-128, from the test vectors of GCM."""
    stream = "66e94bd4ef8a2c3b884cfa59ca342b2e58e2fccefa7e3061367f1d57a4e7455a0388dace60b6a392f328c2b971b2fe78"
    assert mask(bytes(16), 6).astype("<u8").tobytes().hex() == stream
    assert mask(bytes(16), 12, np.uint32).astype("<u4").tobytes().hex() == stream


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_is_a_prefix_of_counter_mode(length: int, ring: Ring) -> None:
    key, size = bytes(range(16)), np.dtype(ring).itemsize
    found = mask(key, length, ring)
    assert found.dtype == ring
    assert found.astype(f"<u{size}").tobytes() == counter_mode(key, size * length // 16 + 1)[: size * length]


@pytest.mark.parametrize("ring", RINGS)
def test_it_is_the_keystream_of_a_cipher_that_counts(ring: Ring) -> None:
    """Of the library's own counter mode, far enough for three bytes of the counter, where pieces begin and where they are long."""
    key, length = bytes(range(16)), 1_100_003 * 8 // np.dtype(ring).itemsize
    stream = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(length * np.dtype(ring).itemsize))
    assert mask(key, length, ring).tobytes() == stream
    twice = np.zeros(length, dtype=ring)
    add_masks(twice, [key, key], threads=2)
    assert np.array_equal(twice, 2 * np.frombuffer(stream, dtype=ring))


@pytest.mark.parametrize("length", LENGTHS)
def test_masks_cancel(length: int) -> None:
    vector = random_vector(length, np.uint64)
    masked = vector.copy()
    add_masks(masked, added=KEYS[:2], subtracted=KEYS[2:])
    assert length == 0 or not np.array_equal(masked, vector)
    add_masks(masked, added=KEYS[2:], subtracted=KEYS[:2])
    assert np.array_equal(masked, vector)


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize(("plus", "minus"), [*itertools.product(range(4), range(3))])
def test_any_number_added_and_subtracted_is_the_plain_sum(plus: int, minus: int, ring: Ring) -> None:
    vector = random_vector(9, ring)
    added, subtracted = KEYS[:plus], KEYS[plus : plus + minus]
    expected = plain_sum(vector, added, subtracted, ring)
    add_masks(vector, added, subtracted)
    assert [int(value) for value in vector] == expected


@given(
    added=keys_of_masks,
    subtracted=keys_of_masks,
    length=st.integers(0, 100),
    ring=st.sampled_from(RINGS),
    threads=st.integers(1, 5),
    piece_bytes=st.sampled_from([64, 128, 192, 448]),
    most_streams=st.integers(1, 9),
    least_compiled=st.sampled_from([0, masks._LEAST_BYTES_COMPILED]),
    in_place=st.booleans(),
)
def test_it_is_the_plain_sum_however_it_is_computed(
    added: list[bytes],
    subtracted: list[bytes],
    length: int,
    ring: Ring,
    threads: int,
    piece_bytes: int,
    most_streams: int,
    least_compiled: int,
    in_place: bool,
) -> None:
    vector = random_vector(length, ring)
    out = vector if in_place else np.empty_like(vector)
    expected = plain_sum(vector, added, subtracted, ring)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "_PIECE_BYTES", piece_bytes)
        patch.setattr(masks, "_ROOMS_OF_THREADS", 20 * piece_bytes)
        patch.setattr(masks, "_LEAST_BYTES_A_THREAD", 1)
        patch.setattr(masks, "_MOST_STREAMS", most_streams)
        patch.setattr(masks, "_LEAST_BYTES_COMPILED", least_compiled)
        add_masks(vector, iter(added), iter(subtracted), threads, out)
    assert out.dtype == ring
    assert [int(value) for value in out] == expected
    assert in_place or np.array_equal(vector, random_vector(length, ring))


@pytest.mark.skipif(not compiler_admitted() or masks._compiled_loop() is None, reason="needs numba")
@pytest.mark.parametrize("ring", RINGS)
def test_the_compiled_loop_is_the_plain_sum(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of four keys with signs of both kinds in each, and one key that is left over."""
    vector = random_vector(101, ring)
    expected = plain_sum(vector, KEYS[:3], KEYS[:1:-1] + KEYS[:2], ring)
    monkeypatch.setattr(masks, "_LEAST_BYTES_COMPILED", 0)
    loop, calls = masks._compiled_loop(), itertools.count()
    assert loop is not None
    monkeypatch.setattr(masks, "_compiled_loop", lambda: lambda *given: (next(calls), loop(*given))[1])
    add_masks(vector, KEYS[:3], KEYS[:1:-1] + KEYS[:2])
    assert [int(value) for value in vector] == expected
    assert next(calls) == 2


def test_words_in_the_other_byte_order_are_masked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba knows those of the machine only."""
    monkeypatch.setattr(masks, "_LEAST_BYTES_COMPILED", 0)
    plain = random_vector(33, np.uint64)
    swapped = plain.astype(plain.dtype.newbyteorder())
    add_masks(plain, KEYS)
    add_masks(swapped, KEYS)
    assert np.array_equal(swapped, plain)


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("length", [100_003, 3 * PIECE])
def test_threads_change_nothing(length: int, ring: Ring) -> None:
    keys = [bytes([k, *range(15)]) for k in range(23)]
    alone, together = random_vector(length, ring), random_vector(length, ring)
    add_masks(alone, keys[:9], keys[9:])
    for _ in range(5):
        add_masks(together, keys[:9], keys[9:], threads=3)
        assert np.array_equal(together, alone)
        add_masks(together, keys[9:], keys[:9], threads=2)
    assert np.array_equal(together, random_vector(length, ring))


def test_threads_that_finish_pieces_at_the_same_time_lose_nothing() -> None:
    """A key a thread: they meet at every piece."""
    alone, together = np.zeros(1_000_000, dtype=np.uint64), np.zeros(1_000_000, dtype=np.uint64)
    add_masks(alone, KEYS[:4])
    for _ in range(10):
        add_masks(together, KEYS[:4], threads=4)
    assert np.array_equal(together, 10 * alone)


def test_rooms_are_kept_and_no_keystream_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(masks, "_unused", kept)
    for length in (9, 1000, 9):
        add_masks(np.zeros(length, dtype=np.uint64), KEYS)
        (room,) = kept
        assert room.size > 8 * length and not room.any()


def test_small_masks_start_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "ThreadPoolExecutor", None)
    add_masks(np.zeros(1000, dtype=np.uint64), KEYS, threads=8)
    add_masks(np.zeros(2_000_000, dtype=np.uint64), KEYS[:1], threads=8)


def test_a_view_with_gaps_is_masked_in_place() -> None:
    whole = np.zeros(50, dtype=np.uint64)
    add_masks(whole[::2], KEYS)
    assert np.array_equal(whole[::2], sum((mask(key, 25) for key in KEYS), np.zeros(25, dtype=np.uint64)))
    assert not whole[1::2].any()


@pytest.mark.parametrize("wrong", [b"", bytes(15), bytes(17), bytes(32)])
def test_keys_of_another_length_are_refused_and_nothing_is_added(wrong: bytes) -> None:
    """An AES-256 key too."""
    vector = np.zeros(9, dtype=np.uint64)
    with pytest.raises(ValueError, match="mask key has 16 bytes"):
        add_masks(vector, KEYS, [wrong])
    assert not vector.any()


@pytest.mark.parametrize(
    "vector",
    [np.zeros(3), np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.uint16), np.zeros((3, 3), dtype=np.uint64)],
    ids=["float64", "int64", "uint16", "matrix"],
)
def test_what_is_no_ring_vector_is_refused(vector: Any) -> None:
    with pytest.raises(CallerError, match="uint64 or uint32"):
        add_masks(vector, KEYS)


@pytest.mark.parametrize(
    "out", [np.zeros(9, dtype=np.uint32), np.zeros(1, dtype=np.uint64), np.zeros((9, 9), dtype=np.uint64)]
)
def test_a_result_of_another_type_or_shape_is_refused(out: Any) -> None:
    with pytest.raises(ValueError, match="do not go into"):
        add_masks(np.zeros(9, dtype=np.uint64), KEYS, out=out)
