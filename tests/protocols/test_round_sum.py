"""The server's running sum of one round: whole units only, in any order of their uploads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em_protocols.masks import mask
from fed_em_protocols.ring import RING_64, RINGS, Ring
from fed_em_protocols.round_keys import self_mask_key
from fed_em_protocols.round_sum import RoundSum, unmasked

UNITS = (frozenset({0, 3, 6}), frozenset({1, 4}), frozenset({2}), frozenset({5, 7}))


def unit_of(index: int) -> frozenset[int]:
    return next(unit for unit in UNITS if index in unit)


@pytest.mark.parametrize("ring", RINGS.values(), ids=lambda ring: str(ring.bits))
@given(st.permutations(range(8)), st.integers(0, 8))
def test_the_sum_is_of_the_units_that_are_complete(ring: Ring, order: list[int], came: int) -> None:
    uploads = [np.arange(k, k + 3).astype(ring.dtype) - ring.zeros(3) - 7 * k for k in range(8)]
    total = RoundSum.zero(ring, 3)
    for index in order[:came]:
        total = total.with_upload(index, unit_of(index), uploads[index])
    whole = frozenset().union(*(unit for unit in UNITS if unit <= set(order[:came])))
    expected = ring.zeros(3)
    for index in whole:
        expected = expected + uploads[index]
    assert total.vector.dtype == ring.dtype and np.array_equal(total.vector, expected)
    assert frozenset().union(*total.incomplete) & whole == frozenset()


def test_masks_come_off_the_way_they_were_put_on() -> None:
    """Survivors 1 and 2; 0 and 3 dropped. The smaller index of a pair had added its mask, the larger subtracted it."""
    seeds = {1: b"a" * 32, 2: b"b" * 32}
    keys = {(1, 0): b"k" * 16, (1, 3): b"l" * 16, (2, 0): b"m" * 16, (2, 3): b"n" * 16}
    masked = RING_64.zeros(5)
    for seed in seeds.values():
        masked += mask(self_mask_key(seed, b"ctx"), 5)
    for (survivor, dropped), key in keys.items():
        masked = masked + mask(key, 5) if survivor < dropped else masked - mask(key, 5)
    before = masked.copy()
    assert not unmasked(masked, seeds.values(), keys, b"ctx").any()
    assert np.array_equal(masked, before)
