"""Coordinates: there and back, and how densities and bounds change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.parameters import Parameters

Vector = NDArray[np.float64]

locations = st.floats(-1e6, 1e6)
scales = st.floats(1e-3, 1e6)


def moments_of(rows: Vector) -> Parameters:
    model, start = moments_model(rows.shape[1]), standard_gaussian(rows.shape[1])
    return model.m_step(model.e_step(start, rows), start)


@given(st.lists(st.tuples(locations, scales, st.floats(-1e6, 1e6)), min_size=1, max_size=6))
def test_restore_undoes_apply(columns: list[tuple[float, float, float]]) -> None:
    location, scale, row = (np.array(values) for values in zip(*columns, strict=True))
    coordinates = Coordinates(location, scale)
    back = coordinates.restore(coordinates.apply(row[np.newaxis]))[0]
    np.testing.assert_allclose(back, row, rtol=1e-12, atol=1e-9)


@given(
    st.lists(st.tuples(locations, scales, st.floats(0, 1)), min_size=1, max_size=6),
    st.lists(st.tuples(locations, scales), min_size=6, max_size=6),
)
def test_no_row_within_its_ranges_exceeds_the_bounds(
    columns: list[tuple[float, float, float]], others: list[tuple[float, float]]
) -> None:
    low, width, share = (np.array(values) for values in zip(*columns, strict=True))
    high = low + width
    row = np.clip(low + share * width, low, high)
    location, scale = (np.array(values) for values in zip(*others[: len(columns)], strict=True))
    for coordinates in (Coordinates(location, scale), Coordinates.of_ranges(low, high)):
        assert (np.abs(coordinates.apply(row[np.newaxis])[0]) <= coordinates.bounds(low, high)).all()


def test_ranges_become_minus_one_to_one() -> None:
    coordinates = Coordinates.of_ranges(np.array([0.0, -10.0]), np.array([4.0, -5.0]))
    ends = coordinates.apply(np.array([[0.0, -10.0], [4.0, -5.0], [2.0, -7.5]]))
    np.testing.assert_array_equal(ends, [[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]])


def test_standardised_rows_have_mean_zero_and_variance_one() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3)) * [1.0, 50.0, 0.01] + [1e3, 0.0, -2.0]
    previous = Coordinates.of_ranges(rows.min(axis=0), rows.max(axis=0))
    coordinates = Coordinates.standardising(moments_of(previous.apply(rows)), previous)
    standard = coordinates.apply(rows)
    np.testing.assert_allclose(standard.mean(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(standard.var(axis=0), 1.0, rtol=1e-10)


@pytest.mark.parametrize("constant", [0.0, 3.0, 1e5])
def test_a_constant_column_is_named(constant: float) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3))
    rows[:, 2] = constant
    covariance = np.cov(rows.T, bias=True)
    covariance[2, 2] = 1e-14 * constant**2  # what raw second moments can leave of it
    moments = Parameters({"weights": [1.0], "means": [rows.mean(axis=0)], "covariances": [covariance]})
    with pytest.raises(CallerError, match="column 2 is constant") as caught:
        Coordinates.standardising(moments, Coordinates.identity(3))
    assert "leave the column out" in caught.value.remedy


def test_densities_transform_with_the_jacobian() -> None:
    coordinates = Coordinates(np.array([3.0, -1.0]), np.array([2.0, 0.1]))
    rows = np.random.default_rng(1).normal(size=(5, 2))
    inner = multivariate_normal(np.zeros(2), np.eye(2)).logpdf(coordinates.apply(rows))
    outer = multivariate_normal(coordinates.location, np.diag(coordinates.scale**2)).logpdf(rows)
    np.testing.assert_allclose(inner + coordinates.log_jacobian, outer)


def test_equality_is_by_value_and_arrays_are_frozen() -> None:
    location = np.array([1.0, 2.0])
    coordinates = Coordinates(location, np.ones(2))
    location[0] = 7.0
    assert coordinates == Coordinates(np.array([1.0, 2.0]), np.ones(2))
    assert hash(coordinates) == hash(Coordinates(np.array([1.0, 2.0]), np.ones(2)))
    assert coordinates != Coordinates.identity(2)
    assert coordinates != "coordinates"
    with pytest.raises(ValueError, match="read-only"):
        coordinates.scale[0] = 2.0


@pytest.mark.parametrize(
    ("location", "scale", "named"),
    [
        ([0.0, np.nan], [1.0, 1.0], "location of column 1"),
        ([0.0, 0.0], [1.0, 0.0], "scale of column 1"),
        ([0.0, 0.0], [-1.0, 1.0], "scale of column 0"),
        ([0.0, 0.0], [1.0, np.inf], "scale of column 1"),
        ([0.0, 0.0], [1.0], "shapes"),
        ([[0.0]], [[1.0]], "shapes"),
    ],
)
def test_impossible_coordinates_are_refused(location: object, scale: object, named: str) -> None:
    with pytest.raises(CallerError, match=named):
        Coordinates(np.array(location), np.array(scale))


@pytest.mark.parametrize(
    ("low", "high", "named"),
    [
        ([0.0, 1.0], [1.0, 1.0], "range of column 1"),
        ([0.0, 2.0], [1.0, 1.0], "range of column 1"),
        ([-np.inf, 0.0], [1.0, 1.0], "range of column 0"),
        ([-1.7e308, 0.0], [1.7e308, 1.0], "range of column 0"),
        ([0.0], [1.0, 1.0], "shapes"),
    ],
)
def test_impossible_ranges_are_refused(low: list[float], high: list[float], named: str) -> None:
    with pytest.raises(CallerError, match=named):
        Coordinates.of_ranges(np.array(low), np.array(high))


def test_bounds_of_a_reversed_range_are_refused() -> None:
    with pytest.raises(CallerError, match="range of column 1"):
        Coordinates.identity(2).bounds(np.array([0.0, 2.0]), np.array([0.0, 1.0]))


def test_rows_of_another_width_are_refused() -> None:
    for change in (Coordinates.identity(2).apply, Coordinates.identity(2).restore):
        with pytest.raises(CallerError, match="2 columns"):
            change(np.zeros((4, 3)))
