"""Sets of tenants as bitmaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em_protocols.members import from_bitmap, to_bitmap


@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 70))
    members = data.draw(st.frozensets(st.integers(0, n - 1)))
    bitmap = to_bitmap(members, n)
    assert len(bitmap) == -(-n // 8)
    assert from_bitmap(bitmap, n) == members


@given(st.integers(1, 70), st.binary(max_size=10))
def test_every_bitmap_is_canonical_or_refused(n: int, bitmap: bytes) -> None:
    try:
        members = from_bitmap(bitmap, n)
    except ValueError:
        beyond = len(bitmap) == -(-n // 8) and int.from_bytes(bitmap, "little") >> n
        assert len(bitmap) != -(-n // 8) or beyond
    else:
        assert to_bitmap(members, n) == bitmap


def test_the_least_significant_bit_comes_first() -> None:
    assert to_bitmap({0, 9}, 10) == b"\x01\x02"


@pytest.mark.parametrize("member", [-1, 8])
def test_strangers_are_refused(member: int) -> None:
    with pytest.raises(ValueError, match="not in a roster of 8"):
        to_bitmap([member], 8)


def test_a_bit_beyond_the_roster_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="names tenant 7"):
        from_bitmap(b"\x80", 7)
