"""Schemas of mixed columns: inferred, described, and from table to rows and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn, evidence_of
from fed_em.errors import CallerError

TABLE = {
    "height": [1.7, 1.6, None, 1.9],
    "ward": ["north", None, "south", "north"],
    "smoker": [True, False, None, True],
    "visits": [3, 0, 7, None],
    "insured": [1.0, float("nan"), 0.0, 1.0],
}
SCHEMA = ColumnSchema(
    (
        GaussianColumn("height"),
        CategoricalColumn("ward", ("north", "south")),
        BernoulliColumn("smoker"),
        PoissonColumn("visits", 7.0),
        BernoulliColumn("insured"),
    )
)
N = np.nan
ROWS = np.array([[1.7, 0, 1, 3, 1], [1.6, N, 0, 0, N], [N, 1, N, 7, 0], [1.9, 0, 1, N, 1]])


def test_a_schema_is_inferred_or_told() -> None:
    assert ColumnSchema.infer(TABLE) == SCHEMA
    assert ColumnSchema.infer(TABLE, {"visits": "gaussian"}).columns[3] == GaussianColumn("visits")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([0, 1, 1], "bernoulli"),
        ([True, None, False], "bernoulli"),
        ([1.0, 1.0], "bernoulli"),
        ([0, 3, 100], "poisson"),
        ([0.0, float("nan"), 2.0], "poisson"),
        ([0, 101], "gaussian"),
        ([-1, 0, 1], "gaussian"),
        ([0, 1, 1.5], "gaussian"),
        ([1, 2, 20], "categorical"),
        (list(range(1, 11)), "categorical"),
        (list(range(1, 12)), "gaussian"),
        ([1, 21], "gaussian"),
        (["a", "b", None], "categorical"),
        (["a", 1], "categorical"),
        (np.array([1, 2, 3], dtype=np.int8), "categorical"),
        (pd.Categorical(["x", "y", "x"]), "categorical"),
        (pd.Series([0, None, 7], dtype="Int64"), "poisson"),
    ],
)
def test_the_kind_of_a_column_follows_from_its_cells(cells: Any, kind: str) -> None:
    assert ColumnSchema.infer({"x": cells}).columns[0].kind == kind


@given(st.lists(st.none() | st.integers(-2, 120) | st.sampled_from([0.5, "a", "b", True])), st.data())
def test_evidence_of_parts_adds_up(cells: list[Any], data: st.DataObject) -> None:
    # A part that holds text makes numbers beside it labels of text, as the whole does.
    cut = data.draw(st.integers(0, len(cells)))
    whole, parts = (
        evidence_of({"x": cells})["x"],
        [evidence_of({"x": part})["x"] for part in (cells[:cut], cells[cut:])],
    )
    together = parts[0] + parts[1]
    assert (together.observed, together.missing, together.kind) == (whole.observed, whole.missing, whole.kind)
    assert together.levels == whole.levels


def test_a_column_of_names_is_no_kind() -> None:
    names = [f"name {i}" for i in range(1001)]
    assert len(ColumnSchema.infer({"x": names[:-1]}).columns[0].levels) == 1000  # type: ignore[union-attr]
    with pytest.raises(CallerError, match="'x' has more than 1000 levels"):
        ColumnSchema.infer({"x": names})
    with pytest.raises(CallerError, match="'x' holds values that are not numbers"):
        ColumnSchema.infer({"x": names}, {"x": "gaussian"})


def test_a_data_frame_is_a_table() -> None:
    frame = pd.DataFrame(TABLE).convert_dtypes()
    assert frame["visits"].isna().any()
    assert ColumnSchema.infer(frame) == SCHEMA
    np.testing.assert_array_equal(SCHEMA.encode(frame), ROWS)


def test_an_array_is_a_table_whose_columns_have_numbers() -> None:
    schema = ColumnSchema.infer(np.array([[0.5, 1.0], [np.nan, 0.0]]))
    assert schema.columns == (GaussianColumn("x0"), BernoulliColumn("x1"))
    np.testing.assert_array_equal(schema.encode(np.array([[np.nan, 1.0]])), [[np.nan, 1.0]])


def test_tables_become_rows_and_rows_tables() -> None:
    np.testing.assert_array_equal(SCHEMA.encode(TABLE), ROWS)
    decoded = SCHEMA.decode(ROWS)
    assert decoded["ward"] == TABLE["ward"]
    assert decoded["visits"] == TABLE["visits"]
    assert decoded["height"] == TABLE["height"]
    np.testing.assert_array_equal(SCHEMA.encode(decoded), ROWS)
    np.testing.assert_array_equal(SCHEMA.encode({**TABLE, "other": [1, 2, 3, 4]}), ROWS)


def test_levels_that_are_whole_numbers_have_one_label_and_their_order() -> None:
    schema = ColumnSchema.infer({"item": [2.0, 10.0, None, 1.0]}, {"item": "categorical"})
    assert schema.columns == (CategoricalColumn("item", ("1", "2", "10")),)
    np.testing.assert_array_equal(schema.encode({"item": [10, 1, 2]})[:, 0], [2, 0, 1])


def test_texts_of_whole_numbers_are_the_levels_that_are_called_so() -> None:
    schema = ColumnSchema((CategoricalColumn("item", ("1", "2", "1.0", "north")),))
    cells = ["1", "1.0", " 2 ", "2.0", "2e0", " north", None]
    np.testing.assert_array_equal(schema.encode({"item": cells})[:, 0], [0, 2, 1, 1, 1, 3, np.nan])
    for cell in ("2.5", "nan", "inf", "", "south"):
        with pytest.raises(CallerError, match="1 values of column 'item' are none of its 4 levels"):
            schema.encode({"item": [cell]})


def test_a_schema_survives_json() -> None:
    assert ColumnSchema.from_description(json.loads(json.dumps(SCHEMA.describe()))) == SCHEMA


def test_places_of_kinds() -> None:
    assert SCHEMA.gaussian.tolist() == [0]
    assert SCHEMA.categorical.tolist() == [1]
    assert SCHEMA.bernoulli.tolist() == [2, 4]
    assert SCHEMA.poisson.tolist() == [3]
    two = ColumnSchema((CategoricalColumn("a", ("x", "y")), CategoricalColumn("b", ("x", "y", "z"))))
    assert two.level_slices == (slice(0, 2), slice(2, 5))
    assert (two.n_levels, SCHEMA.n_levels, ColumnSchema((GaussianColumn("x"),)).n_levels) == (5, 2, 0)


@pytest.mark.parametrize(
    ("description", "named"),
    [
        ([], "at least one column"),
        ({"name": "x"}, "must be a list"),
        ("gaussian", "must be a list"),
        ([3], "no kind of columns 3"),
        ([{"name": "x", "kind": "gausian"}], "gausian"),
        ([{"name": "x", "kind": "gaussian", "levels": ["a", "b"]}], "levels"),
        ([{"name": "x", "kind": "categorical"}], "lacks 'levels'"),
        ([{"name": "x", "kind": "categorical", "levels": ["a"]}], "two distinct levels"),
        ([{"name": "x", "kind": "categorical", "levels": ["a", "a"]}], "two distinct levels"),
        ([{"name": "x", "kind": "categorical", "levels": "ab"}], "not a list"),
        ([{"name": "x", "kind": "categorical", "levels": [1, 2]}], "not a string"),
        ([{"name": "x", "kind": "poisson"}], "lacks 'upper'"),
        ([{"name": "x", "kind": "poisson", "upper": 0}], "upper end"),
        ([{"name": "", "kind": "gaussian"}], "non-empty"),
        ([{"name": 4, "kind": "gaussian"}], "non-empty"),
        ([{"name": "x", "kind": "gaussian"}, {"name": "x", "kind": "bernoulli"}], "same name"),
    ],
)
def test_a_wrong_description_is_named(description: object, named: str) -> None:
    with pytest.raises(CallerError, match=named):
        ColumnSchema.from_description(description)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ward": ["north", "east", "west", "south"]}, "2 values of column 'ward'"),
        ({"visits": [8, 9, 1.5, -1]}, "2 values of column 'visits' are not whole numbers from 0"),
        ({"visits": [8, 9, float("inf"), 0]}, "1 values of column 'visits'"),
        ({"height": ["tall", "short", 1.0, 2.0]}, "2 values of column 'height' are not numbers"),
        ({"smoker": [2, 0, 1, 1]}, "1 values of column 'smoker'"),
        ({"smoker": [0, 1, 1]}, "differ in length"),
    ],
)
def test_cells_that_do_not_fit_are_counted_and_never_quoted(change: dict[str, list[object]], named: str) -> None:
    with pytest.raises(CallerError, match=named) as caught:
        SCHEMA.encode({**TABLE, **change})
    assert not any(word in str(caught.value) for word in ("east", "tall", "1.5"))


def test_a_count_above_the_declared_largest_is_a_row_but_not_for_a_session() -> None:
    """`upper` is what layouts make room for: new rows may hold more, and what is encoded may not."""
    rows = SCHEMA.encode({**TABLE, "visits": [8, 9, None, 7]})
    assert SCHEMA.decode(rows)["visits"] == [8, 9, None, 7]
    with pytest.raises(CallerError, match="2 values of column 'visits' are above the declared largest count, 7"):
        SCHEMA.check_declared(rows)
    SCHEMA.check_declared(ROWS)


def test_what_cannot_be_inferred_is_named() -> None:
    with pytest.raises(CallerError, match="'empty' holds no value"):
        ColumnSchema.infer({"empty": [None, None]})
    with pytest.raises(CallerError, match="no column 'visit'"):
        ColumnSchema.infer(TABLE, {"visit": "poisson"})
    with pytest.raises(CallerError, match="'poison'"):
        ColumnSchema.infer(TABLE, {"visits": "poison"})
    with pytest.raises(CallerError, match="no column 'height'"):
        SCHEMA.encode({"hight": [1.0]})
    with pytest.raises(CallerError, match="4 columns, the schema 5"):
        SCHEMA.encode(ROWS[:, :4])
    with pytest.raises(CallerError, match="not a table"):
        ColumnSchema.infer(np.zeros(3))


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.none() | st.floats(-1e9, 1e9)), min_size=1))
def test_any_table_leads_back_to_itself(cells: list[tuple[str | None, float | None]]) -> None:
    schema = ColumnSchema((CategoricalColumn("letter", ("a", "b", "c")), GaussianColumn("number")))
    table = {"letter": [letter for letter, _ in cells], "number": [number for _, number in cells]}
    assert schema.decode(schema.encode(table)) == table
