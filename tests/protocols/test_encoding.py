"""The fixed-point encoding: its range is proved, its precision the best that the range admits, and it never clips."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fed_em.errors import CallerError
from fed_em.layout import Block, Layout
from fed_em.statistics import Statistics
from fed_em_protocols.encoding import (
    MAX_FRACTION_BITS,
    MIN_FRACTION_BITS,
    Encoding,
    fraction_bits,
)
from fed_em_protocols.ring import RING_64

SLACK = 1 + 2.0**-20
caps = st.lists(st.integers(1, 2**30), min_size=1, max_size=8)
bounds = st.floats(2.0**-30, 2.0**30)


def one(bound: float, name: str = "s", shape: tuple[int, ...] = ()) -> Layout:
    return Layout((Block(name, shape, bound, "column 'age'"),))


def worst_total(row_caps: Sequence[int], bound: float, f: int) -> int:
    """The largest sum of integers that `encode` lets through, exactly: each tenant sends the most that it may."""
    return sum(round(Fraction(cap * bound * SLACK) * 2**f) for cap in row_caps)


def just_above(bound: float, steps: int) -> float:
    for _ in range(steps):
        bound = math.nextafter(bound, math.inf)
    return bound


@given(caps, bounds)
def test_the_worst_total_does_not_wrap_and_one_more_bit_would(row_caps: list[int], bound: float) -> None:
    try:
        f = fraction_bits(Block("s", (), bound), row_caps)
    except CallerError:
        assert worst_total(row_caps, bound, MIN_FRACTION_BITS) >= 2**63
        return
    assert worst_total(row_caps, bound, f) < 2**63
    assert f == MAX_FRACTION_BITS or worst_total(row_caps, bound, f + 1) >= 2**63


@pytest.mark.parametrize("row_caps", [(1, 1, 1), (3, 5, 7), (100,) * 10, (1, 2**30), (999_983,) * 64])
def test_bounds_next_to_the_edge_do_not_wrap(row_caps: tuple[int, ...]) -> None:
    """Every float near the bound at which f changes, where rounding could go either way."""
    for f in (20, 30, 40, 51):
        edge = 2.0 ** (63 - f) / (math.fsum(row_caps) * SLACK)
        low = edge * (1 - 2.0**-49)
        for bound in (just_above(low, k) for k in range(40)):
            try:
                found = fraction_bits(Block("s", (), bound), row_caps)
            except CallerError:
                found = None
                assert f == MIN_FRACTION_BITS and worst_total(row_caps, bound, f) >= 2**63
            if found is not None:
                assert found in {f, f - 1}
                assert worst_total(row_caps, bound, found) < 2**63 <= worst_total(row_caps, bound, found + 1)


@pytest.mark.parametrize("signs", list(itertools.product((1.0, -1.0), repeat=3)))
def test_extreme_tenants_of_every_sign_sum_exactly(signs: tuple[float, ...]) -> None:
    layout, row_caps = one(3.7, shape=(2,)), (1000, 17, 123_456)
    encoding = Encoding.proved(layout, row_caps)
    reached = [sign * cap * 3.7 for sign, cap in zip(signs, row_caps, strict=True)]
    total = np.zeros(encoding.length, dtype=np.uint64)
    for tenant, value in enumerate(reached):
        total = total + encoding.encode(Statistics(layout, np.full(2, value)), tenant)
    assert RING_64.is_sum(total)
    # Near the edge of the range a float64 has fewer digits than the ring.
    assert np.allclose(
        encoding.decode(total).vector, math.fsum(reached), rtol=2.0**-52, atol=3 * 2.0 ** -encoding.bits[0]
    )


@given(st.data())
def test_round_trip_of_a_sum(data: st.DataObject) -> None:
    row_caps = data.draw(st.lists(st.integers(1, 1000), min_size=1, max_size=6))
    layout = Layout((Block("a", (), data.draw(bounds)), Block("b", (2,), data.draw(bounds))))
    encoding = Encoding.proved(layout, row_caps)
    exact, total = [Fraction(0)] * 3, np.zeros(encoding.length, dtype=np.uint64)
    for tenant, cap in enumerate(row_caps):
        limits = [cap * block.bound for block in layout for _ in range(block.size)]
        values = [data.draw(st.floats(-limit, limit)) for limit in limits]
        exact = [left + Fraction(right) for left, right in zip(exact, values, strict=True)]
        total = total + encoding.encode(Statistics(layout, np.array(values)), tenant)
    decoded = encoding.decode(total).vector
    bits = [f for block, f in zip(layout, encoding.bits, strict=True) for _ in range(block.size)]
    for sum_, found, f in zip(exact, decoded, bits, strict=True):
        tolerance = Fraction(len(row_caps), 2) / 2**f + abs(sum_) / 2**52
        assert abs(Fraction(float(found)) - sum_) <= tolerance


def test_too_few_bits_name_the_column_the_bound_and_the_remedy() -> None:
    with pytest.raises(CallerError) as caught:
        Encoding.proved(one(2.0**40, "moments"), (1000, 1000))
    text = str(caught.value)
    assert "'moments'" in text and "column 'age'" in text and "1.1e+12" in text and "2000 rows" in text
    assert "narrower" in caught.value.remedy


@pytest.mark.parametrize("value", [10.01, -10.01, math.inf, -math.inf, math.nan])
def test_a_value_beyond_its_bound_is_refused_and_not_told(value: float) -> None:
    layout = one(1.0, "age")
    encoding = Encoding.proved(layout, (10, 1000))
    with pytest.raises(
        CallerError, match="'age' is beyond its declared bound of 1 a record over at most 10 rows"
    ) as caught:
        encoding.encode(Statistics(layout, np.array([value])), 0)
    assert "10.01" not in caught.value.diagnostics()
    assert (
        math.isnan(value)
        or math.isinf(value)
        or encoding.encode(Statistics(layout, np.array([value])), 1).size == encoding.length
    )


def test_another_layout_is_refused() -> None:
    encoding = Encoding.proved(one(1.0), (1, 1))
    with pytest.raises(CallerError, match="another layout"):
        encoding.encode(Statistics.zero(one(2.0)), 0)


def test_the_digest_depends_on_everything() -> None:
    base = Encoding.proved(one(1.0, "a", (2, 3)), (5, 6))
    others = [
        Encoding.proved(one(1.0, "b", (2, 3)), (5, 6)),
        Encoding.proved(one(1.0, "a", (3, 2)), (5, 6)),
        Encoding.proved(one(1.0, "a", (6,)), (5, 6)),
        Encoding.proved(one(math.nextafter(1.0, 2), "a", (2, 3)), (5, 6)),
        Encoding.proved(one(1.0, "a", (2, 3)), (6, 5)),
        Encoding.proved(one(1.0, "a", (2, 3)), (5, 6, 1)),
        Encoding(base.layout, base.row_caps, (base.bits[0] - 1,)),
        Encoding.proved(Layout((*base.layout.blocks, Block("z", (), 1.0))), (5, 6)),
    ]
    assert len({encoding.digest for encoding in [base, *others]}) == len(others) + 1
    assert base.digest == Encoding.proved(one(1.0, "a", (2, 3)), [5, 6]).digest


@given(st.integers(1, 5), st.integers(0, 4), st.integers(1, 2**64 - 1))
def test_check_words_notice_any_other_value(size: int, place: int, value: int) -> None:
    ring = np.zeros(size + RING_64.check_words, dtype=np.uint64)
    ring[min(place, size - 1)] = value
    assert RING_64.is_sum(ring)
    ring[size + place % RING_64.check_words] = value
    assert not RING_64.is_sum(ring)


@given(caps, bounds, st.floats(-1, 1))
def test_encoded_values_are_the_nearest_integers(row_caps: list[int], bound: float, part: float) -> None:
    layout = one(bound)
    value = part * bound
    try:
        encoding = Encoding.proved(layout, row_caps)
    except CallerError:
        assume(False)
    integer = int(encoding.encode(Statistics(layout, np.array([value])), 0)[:1].view(np.int64)[0])
    assert abs(integer - Fraction(value) * 2 ** encoding.bits[0]) <= Fraction(1, 2)
