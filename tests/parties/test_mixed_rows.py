"""Records of mixed columns, labels and weights from every kind of file, and every way in which a column can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.columns import CategoricalColumn, PoissonColumn
from fed_em.errors import CallerError
from fed_em.records import Records
from fed_em_client.cells import admissible_of, complaints_of_counts, complaints_of_weights, numbers_of
from fed_em_client.fingerprint import fingerprint_of
from fed_em_client.rows import read_columns, read_records
from fed_em_protocols.description import READ_AS_MISSING, SessionDescription, encoding_of
from tests.parties.test_rows import NAMED, SECRET, Columns, Write, write_csv, write_npz, write_parquet

CAP = 100

AGE: dict[str, Any] = {"name": "age", "low": 0, "high": 120, "missing": True}
WARD: dict[str, Any] = {"name": "ward", "kind": "categorical", "levels": ["north", "south", "7"], "missing": True}
VISITS: dict[str, Any] = {"name": "visits", "kind": "poisson", "upper": 30, "missing": True}
SMOKER: dict[str, Any] = {"name": "smoker", "kind": "bernoulli", "missing": True}


def declared(*columns: dict[str, Any], **more: Any) -> SessionDescription:
    model = {"family": "mixed-mixture", "n_components": 3}
    given = {"title": "wards", "model": model, "columns": columns or (AGE, WARD, VISITS, SMOKER)}
    return SessionDescription.from_json(json.dumps({**given, **more}).encode())


def read(path: Path, description: SessionDescription) -> Records:
    return read_records(path, description, {}, CAP)


def refusal(path: Path, description: SessionDescription) -> CallerError:
    with pytest.raises(CallerError) as caught:
        read(path, description)
    assert caught.value.remedy and str(path) in caught.value.message
    assert str(SECRET)[:5] not in caught.value.diagnostics()
    return caught.value


class TestReading:
    @NAMED
    def test_every_kind_from_every_file(self, tmp_path: Path, write: Write) -> None:
        table: Columns = {
            "smoker": [1, 0, 1],
            "ward": ["south", "7", "north"],
            "age": [30.5, 41.0, 52.0],
            "visits": [3, 0, 30],
        }
        assert read(write(tmp_path, table), declared()).rows.tolist() == [
            [30.5, 1, 3, 1],
            [41, 2, 0, 0],
            [52, 0, 30, 1],
        ]

    @pytest.mark.parametrize("write", [write_csv, write_parquet])
    def test_missing_cells_of_every_kind(self, tmp_path: Path, write: Write) -> None:
        table: Columns = {
            "age": [None, 41.0, 5.0],
            "ward": ["south", None, "7"],
            "visits": [None, 2, 3],
            "smoker": [1, 0, None],
        }
        rows = read(write(tmp_path, table), declared()).rows
        assert np.array_equal(rows, [[np.nan, 1, np.nan, 1], [41, np.nan, 2, 0], [5, 2, 3, np.nan]], equal_nan=True)

    @pytest.mark.parametrize(
        "smoker", [["true", "FALSE"], ["1", "0"], ["1.0", "0.0"], pa.array([True, False]), pa.array([1.0, 0.0])]
    )
    def test_spellings_of_yes_and_no(self, tmp_path: Path, smoker: Any) -> None:
        path = write_parquet(tmp_path, {"smoker": smoker})
        assert read(path, declared(SMOKER)).rows[:, 0].tolist() == [1, 0]

    @pytest.mark.parametrize("ward", [["1", "2"], [1, 2], [1.0, 2.0], ["1.0", " 2 "], np.array(["1", "2"])])
    def test_whole_numbers_are_one_level_however_they_are_written(self, tmp_path: Path, ward: Any) -> None:
        numbered = declared({**WARD, "levels": [1, 2, 3]})
        assert read(write_parquet(tmp_path, {"ward": pa.array(ward)}), numbered).rows[:, 0].tolist() == [0, 1]

    def test_levels_of_a_csv_file_are_read_as_they_are_written(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path, {"ward": ["01", "1", "2020-01-01"]})
        dated = declared({**WARD, "levels": ["1", "01", "2020-01-01"]})
        assert read(path, dated).rows[:, 0].tolist() == [1, 0, 2]

    def test_dictionaries_and_bytes_hold_labels_too(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path, {"ward": pa.array(["south", "north"]).dictionary_encode()})
        assert read(path, declared(WARD)).rows[:, 0].tolist() == [1, 0]
        path = write_npz(tmp_path, {"ward": np.array([b"south", b"north"])})
        assert read(path, declared(WARD)).rows[:, 0].tolist() == [1, 0]

    def test_a_matrix_has_numbers_for_labels(self, tmp_path: Path) -> None:
        np.save(tmp_path / "rows.npy", np.array([[30.0, 7.0, 3.0, 1.0], [np.nan, np.nan, 0.0, 0.0]]))
        rows = read(tmp_path / "rows.npy", declared()).rows
        assert np.array_equal(rows, [[30, 2, 3, 1], [np.nan, np.nan, 0, 0]], equal_nan=True)

    def test_columns_for_a_fitted_model(self, tmp_path: Path) -> None:
        description = declared()
        path = write_csv(tmp_path, {"age": [500.0], "ward": [""], "visits": [2], "smoker": [1]})
        rows = read_columns(path, description.names, {}, description.names, description.schema_of_columns)
        assert np.array_equal(rows, [[500, np.nan, 2, 1]], equal_nan=True)


class TestWrongCells:
    @NAMED
    def test_levels_that_are_not_declared(self, tmp_path: Path, write: Write) -> None:
        path = write(tmp_path, {"ward": ["south", f"east{SECRET}", "west", "7"]})
        error = refusal(path, declared(WARD))
        assert (
            "column 'ward' has 2 values that are none of the session's 3 levels, the first in row 2 of 4"
            in error.message
        )
        assert "declare all levels" in error.remedy

    @pytest.mark.parametrize(
        ("column", "cells", "complaint"),
        [
            (SMOKER, ["1", "2"], "1 values that are neither 0 nor 1, the first in row 2 of 2"),
            (SMOKER, ["yes", "no"], "2 values that are neither 0 nor 1, the first in row 1 of 2"),
            (VISITS, [SECRET, -1.0], "2 values that are no counts, the first in row 1 of 2"),
            (VISITS, [3.0, 31.0], "1 values that are counts above the session's largest, 30, the first in row 2 of 2"),
            (VISITS, ["3", "many"], "is of type string, not numeric"),
            (VISITS, [3.0, float("inf")], "1 values that are counts above the session's largest"),
            (AGE, [-1.0, 30.0], r"is outside the session's range [0, 120] in 1 of 2 rows"),
        ],
    )
    def test_cells_that_do_not_fit_their_kind(
        self, tmp_path: Path, column: dict[str, Any], cells: list[Any], complaint: str
    ) -> None:
        path = write_parquet(tmp_path, {column["name"]: cells})
        assert complaint in refusal(path, declared(column)).message

    @pytest.mark.parametrize("column", [AGE, WARD, VISITS, SMOKER])
    def test_missing_cells_where_none_may_be(self, tmp_path: Path, column: dict[str, Any]) -> None:
        cells = {"age": 30.0, "ward": "south", "visits": 3, "smoker": 1}
        path = write_parquet(tmp_path, {column["name"]: [cells[column["name"]], None]})
        complete = declared({**column, "missing": False})
        assert "1 values that are missing or not finite, the first in row 2 of 2" in refusal(path, complete).message


class TestLabelsAndWeights:
    LABELLED = declared(AGE, labels={"column": "subtype"})
    WEIGHTED = declared(AGE, weights={"column": "counts", "upper": 8})

    @NAMED
    def test_labels_name_what_is_admissible(self, tmp_path: Path, write: Write) -> None:
        path = write(tmp_path, {"age": [30.0, 40.0, 50.0], "subtype": ["1", "0|2", ""]})
        records = read(path, self.LABELLED)
        assert records.admissible is not None and records.weights is None
        assert records.admissible.tolist() == [[False, True, False], [True, False, True], [True, True, True]]

    def test_numbers_are_labels(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path, {"age": [30.0, 40.0], "subtype": [2, None]})
        records = read(path, self.LABELLED)
        assert records.admissible is not None
        assert records.admissible.tolist() == [[False, False, True], [True, True, True]]

    @pytest.mark.parametrize("label", ["3", "-1", "0|3", "a", "0|", "0,1", "1.5"])
    def test_labels_of_no_component(self, tmp_path: Path, label: str) -> None:
        path = write_parquet(tmp_path, {"age": [30.0, 40.0], "subtype": ["0", label]})
        error = refusal(path, self.LABELLED)
        assert (
            "column 'subtype' has 1 values that are no components from 0 to 2, the first in row 2 of 2" in error.message
        )
        assert '"0|1"' in error.remedy

    def test_weights_are_read_with_their_bound(self, tmp_path: Path) -> None:
        records = read(write_csv(tmp_path, {"age": [30, 40, 50], "counts": [0, 2.5, 8]}), self.WEIGHTED)
        assert records.weights is not None and records.admissible is None
        assert (records.weights.tolist(), records.weight_bound) == ([0, 2.5, 8], 8)

    @pytest.mark.parametrize(
        ("weight", "complaint"), [(8.5, "no weights from 0 to 8"), (-0.5, "no weights from 0 to 8"), (None, "missing")]
    )
    def test_weights_that_are_none(self, tmp_path: Path, weight: float | None, complaint: str) -> None:
        path = write_parquet(tmp_path, {"age": [30.0, 40.0], "counts": [1.0, weight]})
        assert f"column 'counts' has 1 values that are {complaint}, the first in row 2 of 2" in (
            refusal(path, self.WEIGHTED).message
        )

    def test_a_column_of_labels_can_be_mapped(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path, {"age": [30], "kind of tumour": ["1"]})
        records = read_records(path, self.LABELLED, {"subtype": "kind of tumour"}, CAP)
        assert records.admissible is not None and records.admissible.tolist() == [[False, True, False]]

    def test_a_file_without_them(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path, {"age": [30]})
        assert "column 'subtype' is missing" in refusal(path, self.LABELLED).message

    def test_a_fingerprint_is_of_labels_and_weights_too(self) -> None:
        rows = np.ones((2, 1))
        some, all_of_them = np.array([[True, False], [True, True]]), np.ones((2, 2), dtype=np.bool_)
        kinds = [
            Records(rows),
            Records(rows, np.ones(2)),
            Records(rows, np.array([1.0, 0.5])),
            Records(rows, None, some),
            Records(rows, None, all_of_them),
            Records(rows, np.ones(2), some),
        ]
        assert len({fingerprint_of(records, ["age"]) for records in kinds}) == len(kinds)


class TestCells:
    @given(st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "2", "2.0", " b"]), st.text(max_size=4))))
    def test_every_text_is_a_level_missing_or_wrong(self, texts: list[str | None]) -> None:
        cells, complaint = numbers_of(CategoricalColumn("x", ("a", "b", "2")), texts)
        missing = np.array([text is None for text in texts], dtype=np.bool_)
        assert np.array_equal(np.isnan(cells), missing | complaint.wrong)
        assert not (missing & complaint.wrong).any() and set(cells[~np.isnan(cells)]) <= {0, 1, 2}

    @given(st.lists(st.one_of(st.none(), st.text("012|. ", max_size=5))))
    def test_labels_leave_something_open(self, texts: list[str | None]) -> None:
        admissible, complaint = admissible_of(texts, 3)
        assert admissible.shape == (len(texts), 3) and admissible.any(axis=1).all()
        assert all(admissible[i].all() for i, text in enumerate(texts) if text is None)
        assert not any(complaint.wrong[i] for i, text in enumerate(texts) if text in {None, "0", "1|2", "0|1|2"})

    @given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20))
    def test_what_nobody_complains_about_is_admissible(self, numbers: list[float]) -> None:
        cells = np.array(numbers, dtype=np.float64)
        wrong = np.any([c.wrong for c in complaints_of_counts(PoissonColumn("x", 5), cells)], axis=0)
        assert np.isin(cells[~wrong & ~np.isnan(cells)], np.arange(6)).all()
        wrong = np.any([c.wrong for c in complaints_of_weights(cells, 5.0)], axis=0)
        assert ((cells[~wrong] >= 0) & (cells[~wrong] <= 5)).all()


class TestDeclarations:
    @pytest.mark.parametrize(
        ("column", "complaint"),
        [
            ({"name": "x"}, "column 'x': a gaussian column needs `low`"),
            ({"name": "x", "low": 0}, "column 'x': a gaussian column needs `high`"),
            ({"name": "x", "low": 1, "high": 1}, "column 'x': low must be below high"),
            ({**AGE, "levels": ["a", "b"]}, "column 'age': a gaussian column has no `levels`"),
            ({"name": "x", "kind": "categorical"}, "column 'x': a categorical column needs `levels`"),
            ({**WARD, "levels": ["a"]}, "column 'ward' needs at least two distinct levels"),
            ({**WARD, "levels": ["a", "a"]}, "column 'ward' needs at least two distinct levels"),
            ({**WARD, "upper": 3}, "column 'ward': a categorical column has no `upper`"),
            ({"name": "x", "kind": "poisson"}, "column 'x': a poisson column needs `upper`"),
            ({**VISITS, "upper": 0}, "upper"),
            ({**VISITS, "upper": 2.5}, "upper"),
            ({**SMOKER, "low": 0}, "column 'smoker': a bernoulli column has no `low`"),
            ({"name": "x", "kind": "count"}, "'gaussian', 'categorical', 'bernoulli' or 'poisson'"),
        ],
    )
    def test_columns_that_are_none(self, column: dict[str, Any], complaint: str) -> None:
        with pytest.raises(CallerError, match="session's description") as caught:
            declared(column)
        assert complaint in caught.value.message

    @pytest.mark.parametrize(
        ("more", "complaint"),
        [
            ({"model": {"family": "gaussian-mixture", "n_components": 2}}, "column 'ward' is categorical"),
            ({"model": {"family": "mixed-mixture", "n_components": 2, "columns": []}}, "declare each column in"),
            ({"model": {"family": "mixed-mixture", "n_components": 2, "missing": True}}, "missing = true"),
            ({"model": {"family": "mixed-moments"}}, 'set family = "mixed-mixture"'),
            ({"labels": {"column": "ward"}}, "column 'ward' stands twice"),
            ({"labels": {"column": "x"}, "weights": {"column": "x", "upper": 1}}, "column 'x' stands twice"),
            ({"weights": {"column": "x"}}, "weights.upper"),
            ({"weights": {"column": "x", "upper": 0}}, "weights.upper"),
        ],
    )
    def test_sessions_that_are_none(self, more: dict[str, Any], complaint: str) -> None:
        with pytest.raises(CallerError) as caught:
            declared(**more)
        assert complaint in caught.value.message

    def test_what_is_not_declared_is_not_described(self) -> None:
        plain = declared({"name": "age", "low": 0.0, "high": 1.0}).to_json()
        assert b'"columns":[{"name":"age","low":0.0,"high":1.0}]' in plain
        assert b"null" not in plain and b"labels" not in plain and b"kind" not in plain
        assert declared(labels={"column": "x"}, weights={"column": "y", "upper": 2}).to_json() != declared().to_json()

    def test_a_description_survives_json(self) -> None:
        one = declared(labels={"column": "x"}, weights={"column": "y", "upper": 2})
        assert SessionDescription.from_json(one.to_json()) == one
        assert one.file_columns == ("age", "ward", "visits", "smoker", "x", "y")

    def test_bounds_of_an_encoding_are_of_the_heaviest_record(self) -> None:
        plain, heavy = declared(), declared(weights={"column": "y", "upper": 8})
        one, eight = (encoding_of(session, session.first_round, [50]).layout for session in (plain, heavy))
        assert all(b.bound == 8 * a.bound for a, b in zip(one, eight, strict=True))

    def test_counts_too_large_to_encode_are_named(self) -> None:
        huge = declared({**VISITS, "upper": 2**31})
        with pytest.raises(CallerError, match="declared bound of a log-density"):
            encoding_of(huge, huge.first_round, [10**6])


def test_the_tenants_doctor_counts_missing_labels(tmp_path: Path) -> None:
    from fed_em_client.data_files import read_data_file

    pq.write_table(pa.table({"ward": ["a", None, None], "age": [1.0, None, 2.0]}), tmp_path / "rows.parquet")
    file = read_data_file(tmp_path / "rows.parquet", lambda names: names)
    assert {name: column.n_missing for name, column in file.columns.items()} == {"ward": 2, "age": 1}


@pytest.mark.parametrize("level", ["NA", "null", "#N/A", " north", "south ", " "])
def test_levels_that_a_csv_file_cannot_hold_are_refused(level: str) -> None:
    """`NA` of Namibia would be a missing cell there, silently, and a level in Parquet."""
    with pytest.raises(CallerError, match=f"no cell of a CSV file reads as the level '{level}'"):
        declared({**WARD, "levels": ["north", level]})


def test_what_csv_files_read_as_missing_is_known() -> None:
    assert {"", *READ_AS_MISSING} == set(pyarrow.csv.ConvertOptions().null_values)
