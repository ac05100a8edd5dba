"""Rows scaled into a ball."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from fed_em.ball import into_ball
from fed_em.errors import CallerError
from tests.fed_em.summands import DISCRETE, SCHEMA

FINITE = st.floats(allow_nan=False, allow_infinity=False)
ROWS = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=FINITE)
RADII = st.floats(1e-6, 1e6)


@given(rows=ROWS, radius=RADII)
def test_rows_end_up_in_the_ball_and_those_inside_are_untouched(rows: NDArray[np.float64], radius: float) -> None:
    before = rows.copy()
    scaled = into_ball(rows, radius)
    assert (np.linalg.norm(scaled, axis=1) <= radius).all()
    with np.errstate(over="ignore"):
        inside = np.linalg.norm(rows, axis=1) <= radius * (1 - 1e-14)
    assert scaled[inside].tobytes() == rows[inside].tobytes()
    assert into_ball(scaled, radius).tobytes() == scaled.tobytes()
    assert rows.tobytes() == before.tobytes()


@given(seed=st.integers(0, 2**32 - 1), radius=st.floats(0.1, 3.0))
def test_rows_keep_their_direction_and_go_no_further_in_than_the_boundary(seed: int, radius: float) -> None:
    rows = 5 * np.random.default_rng(seed).standard_normal((20, 4))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    expected = rows * np.minimum(1.0, radius / lengths)
    np.testing.assert_allclose(into_ball(rows, radius), expected, rtol=1e-13)


def test_discrete_columns_stay_as_they_are() -> None:
    rows = np.array([[3.0, 1.0, 0.0, 4.0, 7.0, np.nan, 1.0, 3.0], [0.3, np.nan, np.nan, 0.4, np.nan, 1.0, 0.0, 0.0]])
    scaled = into_ball(rows, 1.0, SCHEMA)
    np.testing.assert_allclose(scaled[0, SCHEMA.gaussian], [0.6, 0.8], rtol=1e-13)
    others = np.setdiff1d(np.arange(8), SCHEMA.gaussian)
    np.testing.assert_array_equal(scaled[:, others], rows[:, others])
    np.testing.assert_array_equal(scaled[1], rows[1])
    np.testing.assert_array_equal(into_ball(rows[:, others], 1.0, DISCRETE), rows[:, others])


def test_no_rows_are_in_any_ball() -> None:
    assert into_ball(np.empty((0, 3)), 1.0).shape == (0, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_the_column(value: float) -> None:
    rows = np.zeros((3, 8))
    rows[1, 3] = value
    with pytest.raises(CallerError, match="column 3"):
        into_ball(rows, 1.0)
    with pytest.raises(CallerError, match="column 'mass'"):
        into_ball(rows, 1.0, SCHEMA)


@pytest.mark.parametrize("radius", [0.0, -1.0, np.nan, np.inf])
def test_a_radius_out_of_range_is_refused(radius: float) -> None:
    with pytest.raises(CallerError, match="radius"):
        into_ball(np.zeros((1, 1)), radius)
