"""HKDF: known answers of RFC 5869, and the same bytes as the cryptographic library for every secret, info and length."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from fed_em_protocols.hkdf import expand, expand_each, extract


def test_known_answer_without_salt() -> None:
    """RFC 5869, test case 3."""
    key = extract(b"\x0b" * 22)
    assert key.hex() == "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04"
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert expand(key, b"", 42).hex() == expected


def test_known_answer_of_the_second_step() -> None:
    """RFC 5869, test case 1: its pseudorandom key was extracted with a salt, what follows does not depend on that."""
    key = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert expand(key, bytes(range(0xF0, 0xFA)), 42).hex() == expected


@given(st.binary(max_size=200), st.binary(max_size=100), st.integers(1, 300))
def test_it_gives_the_same_bytes_as_the_library(secret: bytes, info: bytes, length: int) -> None:
    assert expand(extract(secret), info, length) == HKDF(SHA256(), length, None, info).derive(secret)


def test_the_longest_output_and_none_beyond() -> None:
    longest = 255 * 32
    assert expand(bytes(32), b"i", longest) == expand(bytes(32), b"i", longest)[:longest]
    assert len(expand(bytes(32), b"i", longest)) == longest and expand(bytes(32), b"i", 0) == b""
    for length in (longest + 1, -1):
        with pytest.raises(ValueError, match="at most 8160"):
            expand(bytes(32), b"i", length)


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.binary(max_size=40)), max_size=4), st.integers(0, 32))
def test_many_keys_are_expanded_as_each(pairs: list[tuple[bytes, bytes]], length: int) -> None:
    keys, infos = [key for key, _ in pairs], [info for _, info in pairs]
    assert expand_each(keys, infos, length) == [expand(key, info, length) for key, info in pairs]


def test_many_keys_are_expanded_to_one_hash_each_and_to_an_info_each() -> None:
    with pytest.raises(ValueError, match="not 33"):
        expand_each([bytes(32)], [b""], 33)
    with pytest.raises(ValueError, match="shorter"):
        expand_each([bytes(32)] * 2, [b""], 16)
