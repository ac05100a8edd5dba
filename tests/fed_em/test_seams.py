"""Layouts, statistics and parameters: the currency."""

from __future__ import annotations

import numpy as np
import pytest

from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em.layout import Block, Layout
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics

LAYOUT = Layout((Block("count", (), 1.0), Block("first", (2, 3), 4.0, "column 'age'")))


def statistics(seed: int) -> Statistics:
    return Statistics(LAYOUT, np.random.default_rng(seed).normal(size=7))


class TestStatistics:
    def test_they_form_a_vector_space(self) -> None:
        a, b = statistics(0), statistics(1)
        np.testing.assert_array_equal((a + b).vector, a.vector + b.vector)
        np.testing.assert_array_equal((a - a).vector, Statistics.zero(LAYOUT).vector)
        np.testing.assert_array_equal((a + Statistics.zero(LAYOUT)).vector, a.vector)

    def test_parts_have_their_shapes(self) -> None:
        parts = {"count": 2.0, "first": np.arange(6.0).reshape(2, 3)}
        whole = Statistics.of(LAYOUT, parts)
        assert whole["count"].shape == ()
        np.testing.assert_array_equal(whole["first"], parts["first"])
        np.testing.assert_array_equal(whole.vector, [2, 0, 1, 2, 3, 4, 5])

    def test_what_does_not_fit_is_refused(self) -> None:
        with pytest.raises(CallerError, match="shape"):
            Statistics(LAYOUT, np.zeros(6))
        with pytest.raises(CallerError, match="layout"):
            Statistics.of(LAYOUT, {"count": 1.0})
        with pytest.raises(CallerError, match="'first'"):
            Statistics.of(LAYOUT, {"count": 1.0, "first": np.zeros((3, 2))})
        with pytest.raises(CallerError, match="different layouts"):
            statistics(0) + Statistics.zero(Layout((Block("count", (7,), 1.0),)))


class TestLayout:
    def test_blocks_stand_end_to_end(self) -> None:
        assert LAYOUT.size == 7
        assert LAYOUT.offsets == {"count": slice(0, 1), "first": slice(1, 7)}
        assert [block.size for block in LAYOUT] == [1, 6]

    def test_an_unknown_block_is_named(self) -> None:
        with pytest.raises(CallerError, match="'second'"):
            LAYOUT["second"]

    def test_a_name_stands_once(self) -> None:
        with pytest.raises(CallerError, match="twice"):
            Layout((Block("count", (), 1.0), Block("count", (), 1.0)))

    @pytest.mark.parametrize("bound", [0.0, -1.0, float("inf"), float("nan")])
    def test_a_bound_is_positive_and_finite(self, bound: float) -> None:
        with pytest.raises(CallerError, match="'count'"):
            Block("count", (), bound)


class TestParameters:
    def test_they_are_frozen_copies(self) -> None:
        array = np.ones(3)
        parameters = Parameters({"weights": array})
        array[0] = 5.0
        assert parameters["weights"][0] == 1.0
        with pytest.raises(ValueError, match="read-only"):
            parameters["weights"][0] = 2.0

    def test_distance_is_normwise_and_relative(self) -> None:
        a = Parameters({"x": [1.0, 100.0], "zero": [0.0]})
        b = Parameters({"x": [2.0, 100.0], "zero": [0.0]})
        assert a.distance(b) == pytest.approx(0.01)
        assert a.distance(Parameters({"x": [1.0, 100.0], "zero": [0.5]})) == pytest.approx(1.0)
        assert Parameters({"x": [0.5]}).distance(Parameters({"x": [0.0]})) == pytest.approx(0.5)

    def test_what_is_not_there_is_named(self) -> None:
        with pytest.raises(CallerError, match="'means'"):
            Parameters({"weights": [1.0]})["means"]
        with pytest.raises(CallerError, match="different models"):
            Parameters({"a": [1.0]}).distance(Parameters({"b": [1.0]}))


def test_errors_tell_people_the_remedy() -> None:
    error = CallerError("column 'age' has no bound", remedy="declare one")
    assert error.diagnostics() == "column 'age' has no bound\n  remedy: declare one"
    assert str(error) == "column 'age' has no bound (declare one)"
    assert isinstance(error, ValueError)
    assert isinstance(error, FedEmError)
    assert str(EnvironmentFault("disk full")) == "disk full"
