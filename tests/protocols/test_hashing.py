"""The encoding of everything hashed: framing, domains, and what it does not accept."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fed_em_protocols.hashing import digest, digests_of_pairs, digests_of_rows

fields = st.lists(st.binary(max_size=12), max_size=5)


def framed(domain: str, *parts: bytes) -> bytes:
    """The framing as its specification says it, written apart from the code."""
    tag = b"fed-em/1/" + domain.encode()
    out = len(tag).to_bytes(8, "little") + tag + len(parts).to_bytes(8, "little")
    return out + b"".join(len(part).to_bytes(8, "little") + part for part in parts)


@given(st.text(max_size=5), fields)
def test_it_is_sha256_of_the_specified_frame(domain: str, parts: list[bytes]) -> None:
    assert digest(domain, *parts) == hashlib.sha256(framed(domain, *parts)).digest()


@given(st.text(max_size=3), fields, st.text(max_size=3), fields)
def test_different_inputs_have_different_digests(a: str, left: list[bytes], b: str, right: list[bytes]) -> None:
    assume((a, left) != (b, right))
    assert digest(a, *left) != digest(b, *right)


def test_bytes_move_between_fields_only_with_the_digest() -> None:
    splits = [(b"abc",), (b"ab", b"c"), (b"a", b"bc"), (b"", b"abc"), (b"abc", b""), (b"a", b"b", b"c")]
    assert len({digest("d", *parts) for parts in splits}) == len(splits)
    assert digest("da", b"b") != digest("d", b"ab")


def test_text_and_integers_have_one_form() -> None:
    assert digest("d", "ä") == digest("d", "ä".encode())
    assert digest("d", 258) == digest("d", b"\x02\x01" + bytes(6))
    assert digest("d", memoryview(b"xy")) == digest("d", b"xy")


@pytest.mark.parametrize("integer", [-1, 2**64])
def test_integers_beyond_64_bits_are_refused(integer: int) -> None:
    with pytest.raises(OverflowError):
        digest("d", integer)


@given(st.data(), st.lists(st.binary(max_size=12) | st.integers(0, 2**64 - 1), max_size=3), st.integers(0, 5))
def test_digests_of_rows_are_those_of_each_row(data: st.DataObject, same: list[bytes | int], n: int) -> None:
    widths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    table = [[data.draw(st.binary(min_size=width, max_size=width)) for width in widths] for _ in range(n)]
    columns = [(b"".join(row[place] for row in table), width) for place, width in enumerate(widths)]
    assert digests_of_rows("rows", same, columns) == [digest("rows", *same, *row) for row in table]


@given(
    st.lists(st.binary(max_size=12) | st.integers(0, 2**64 - 1), max_size=3),
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=5),
)
def test_digests_of_pairs_are_those_of_each_pair(same: list[bytes | int], pairs: list[tuple[int, int]]) -> None:
    assert digests_of_pairs("pairs", same, pairs) == [digest("pairs", *same, *pair) for pair in pairs]


def test_columns_of_rows_are_of_one_length() -> None:
    with pytest.raises(ValueError, match="2, 3 entries"):
        digests_of_rows("rows", (), ((b"1234", 2), (b"123456", 2)))
    with pytest.raises(ValueError, match="reshape"):
        digests_of_rows("rows", (), ((b"123", 2),))
