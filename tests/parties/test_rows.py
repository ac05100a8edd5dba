"""Rows from every kind of file, and every way in which a file can be wrong."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.model import Rows
from fed_em_client import data_files
from fed_em_client.rows import read_columns, read_records
from fed_em_protocols.description import SessionDescription

CAP = 100

# A value that must not be found in any message.
SECRET = 54.321987

Columns = Mapping[str, Sequence[object]]
Write = Callable[[Path, Columns], Path]


def write_csv(folder: Path, columns: Columns) -> Path:
    path = folder / "rows.csv"
    lines = [",".join(columns)]
    table: list[Sequence[object]] = list(zip(*columns.values(), strict=True))
    lines += [",".join("" if value is None else str(value) for value in row) for row in table]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_parquet(folder: Path, columns: Columns) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(pa.table(dict(columns)), path)
    return path


def write_npz(folder: Path, columns: Columns) -> Path:
    path = folder / "rows.npz"
    np.savez(path, **{name: np.asarray(values) for name, values in columns.items()})
    return path


def write_structured_npy(folder: Path, columns: Columns) -> Path:
    path = folder / "rows.npy"
    vectors = {name: np.asarray(values) for name, values in columns.items()}
    array = np.empty(
        len(next(iter(vectors.values()))), dtype=[(name, vector.dtype) for name, vector in vectors.items()]
    )
    for name, vector in vectors.items():
        array[name] = vector
    np.save(path, array)
    return path


NAMED = pytest.mark.parametrize("write", [write_csv, write_parquet, write_npz, write_structured_npy])
ARROW = pytest.mark.parametrize("write", [write_csv, write_parquet])


def read_rows(path: Path, description: SessionDescription, columns: Mapping[str, str], row_cap: int) -> Rows:
    records = read_records(path, description, columns, row_cap)
    assert records.bare and records.weight_bound == 1
    return records.rows


def refusal(path: Path, description: SessionDescription, columns: Mapping[str, str] | None = None) -> CallerError:
    """The complaint about a file, which must name the file and have a remedy, and must not show a value."""
    with pytest.raises(CallerError) as caught:
        read_rows(path, description, columns or {}, CAP)
    error = caught.value
    assert error.remedy
    assert str(path) in error.message
    assert str(SECRET)[:5] not in error.diagnostics()
    return error


class TestReading:
    @NAMED
    def test_columns_come_in_the_order_of_the_session(
        self, tmp_path: Path, description: SessionDescription, write: Write
    ) -> None:
        path = write(tmp_path, {"weight": [70.5, 80.25], "extra": [1.0, 2.0], "age": [30.0, 41.0]})
        rows = read_rows(path, description, {}, CAP)
        assert rows.tolist() == [[30.0, 70.5], [41.0, 80.25]]
        assert rows.dtype == np.float64

    @NAMED
    def test_a_mapping_gives_columns_their_session_names(
        self, tmp_path: Path, description: SessionDescription, write: Write
    ) -> None:
        path = write(tmp_path, {"age": [70.5, 80.25], "Age at visit": [30, 41]})
        rows = read_rows(path, description, {"age": "Age at visit", "weight": "age"}, CAP)
        assert rows.tolist() == [[30.0, 70.5], [41.0, 80.25]]

    @NAMED
    @given(st.data())
    def test_every_value_survives(
        self, tmp_path_factory: pytest.TempPathFactory, write: Write, data: st.DataObject
    ) -> None:
        names = data.draw(st.permutations(["p", "q.r", "s t"]))
        finite = st.floats(allow_nan=False, allow_infinity=False)
        values = data.draw(arrays(np.float64, st.tuples(st.integers(1, 5), st.just(3)), elements=finite))
        path = write(tmp_path_factory.mktemp("rows"), {name: values[:, k].tolist() for k, name in enumerate(names)})
        wanted = ("q.r", "s t", "p")
        expected = values[:, [names.index(name) for name in wanted]]
        assert np.array_equal(read_columns(path, wanted, {}), expected)

    def test_a_matrix_by_position(self, tmp_path: Path, description: SessionDescription, rows: Rows) -> None:
        np.save(tmp_path / "rows.npy", rows)
        assert np.array_equal(read_rows(tmp_path / "rows.npy", description, {}, CAP), rows)

    @pytest.mark.parametrize("kind", [np.float32, np.int8, np.uint64, ">f8", np.float16])
    def test_a_matrix_of_another_numeric_type(self, tmp_path: Path, description: SessionDescription, kind: str) -> None:
        np.save(tmp_path / "rows.npy", np.array([[30, 70], [41, 80]], dtype=kind))
        assert read_rows(tmp_path / "rows.npy", description, {}, CAP).tolist() == [[30, 70], [41, 80]]

    def test_a_fortran_ordered_matrix(self, tmp_path: Path, description: SessionDescription, rows: Rows) -> None:
        np.save(tmp_path / "rows.npy", np.asfortranarray(rows))
        assert np.array_equal(read_rows(tmp_path / "rows.npy", description, {}, CAP), rows)

    @pytest.mark.parametrize(
        "column",
        [
            pa.array([30, 41], pa.int8()),
            pa.array([Decimal("30.00"), Decimal("41.00")]),
            pa.array([30, 41], pa.float32()),
        ],
    )
    def test_numeric_types_of_parquet(self, tmp_path: Path, description: SessionDescription, column: pa.Array) -> None:
        path = write_parquet(tmp_path, {"age": column, "weight": [70.0, 80.0]})
        assert read_rows(path, description, {}, CAP)[:, 0].tolist() == [30, 41]

    def test_rows_are_read_only(self, tmp_path: Path, description: SessionDescription) -> None:
        path = write_csv(tmp_path, {"age": [30], "weight": [70]})
        with pytest.raises(ValueError, match="read-only"):
            read_rows(path, description, {}, CAP)[0, 0] = 1

    def test_suffixes_in_capitals(self, tmp_path: Path, description: SessionDescription) -> None:
        path = write_csv(tmp_path, {"age": [30], "weight": [70]}).rename(tmp_path / "ROWS.CSV")
        assert len(read_rows(path, description, {}, CAP)) == 1

    @pytest.mark.parametrize(
        "text",
        [
            "\ufeffage,weight\n30,70\n",
            "age,weight\r\n30,70\r\n",
            '"age","weight"\n"30","70"\n',
            "age,weight\n\n30,70\n\n",
            "age,weight\n30,70",
            "age,weight,name\n30,70,Jörg\n",
        ],
    )
    def test_csv_as_programs_write_it(self, tmp_path: Path, description: SessionDescription, text: str) -> None:
        (tmp_path / "rows.csv").write_text(text, encoding="utf-8", newline="")
        assert read_rows(tmp_path / "rows.csv", description, {}, CAP).tolist() == [[30, 70]]

    def test_text_of_another_encoding_in_another_column(self, tmp_path: Path, description: SessionDescription) -> None:
        (tmp_path / "rows.csv").write_bytes("age,weight,name\n30,70,Jörg\n".encode("latin-1"))
        assert len(read_rows(tmp_path / "rows.csv", description, {}, CAP)) == 1

    def test_the_ends_of_a_range_belong_to_it(self, tmp_path: Path, description: SessionDescription) -> None:
        path = write_csv(tmp_path, {"age": [0, 120], "weight": [300, 0]})
        assert len(read_rows(path, description, {}, CAP)) == 2

    def test_as_many_rows_as_the_cap(self, tmp_path: Path, description: SessionDescription) -> None:
        path = write_csv(tmp_path, {"age": [30] * CAP, "weight": [70] * CAP})
        assert len(read_rows(path, description, {}, CAP)) == CAP

    def test_values_of_any_size_where_no_session_says_otherwise(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path, {"age": [-1e300] * (2 * CAP)})
        assert len(read_columns(path, ["age"], {})) == 2 * CAP


class TestFiles:
    @pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.npy", "rows.npz"])
    def test_a_missing_file(self, tmp_path: Path, description: SessionDescription, name: str) -> None:
        error = refusal(tmp_path / name, description)
        assert "there is no data file" in error.message
        assert "`data`" in error.remedy

    @pytest.mark.parametrize("name", ["rows.xlsx", "rows", "rows.csv.gz"])
    def test_an_unknown_suffix(self, tmp_path: Path, description: SessionDescription, name: str) -> None:
        (tmp_path / name).write_text("age,weight\n30,70\n")
        error = refusal(tmp_path / name, description)
        assert "no reader for files ending in" in error.message
        assert ".csv, .parquet, .npy, .npz" in error.remedy

    @pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.npy", "rows.npz"])
    def test_a_folder(self, tmp_path: Path, description: SessionDescription, name: str) -> None:
        (tmp_path / name).mkdir()
        with pytest.raises((CallerError, EnvironmentFault), match=re.escape(name)):
            read_rows(tmp_path / name, description, {}, CAP)

    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy", ".npz"])
    @pytest.mark.parametrize(
        "content", [b"", b"\x00" * 100, b"PAR1", bytes(range(256)) * 8, b"PK\x03\x04 not a zip", b"\x93NUMPY\x01"]
    )
    def test_bytes_of_no_kind(
        self, tmp_path: Path, description: SessionDescription, suffix: str, content: bytes
    ) -> None:
        (tmp_path / f"rows{suffix}").write_bytes(content)
        refusal(tmp_path / f"rows{suffix}", description)

    @pytest.mark.parametrize("write", [write_parquet, write_npz, write_structured_npy])
    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
    def test_a_truncated_file(self, tmp_path: Path, description: SessionDescription, write: Write, part: float) -> None:
        path = write(tmp_path, {"age": [SECRET] * 50, "weight": [SECRET] * 50})
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
        assert "is no readable" in refusal(path, description).message

    def test_a_truncated_csv_line(self, tmp_path: Path, description: SessionDescription) -> None:
        (tmp_path / "rows.csv").write_text(f"age,weight\n30,70\n\n{SECRET}")
        error = refusal(tmp_path / "rows.csv", description)
        assert "line 3 has 1 values instead of 2" in error.message

    def test_a_csv_line_too_long(self, tmp_path: Path, description: SessionDescription) -> None:
        (tmp_path / "rows.csv").write_text(f"age,weight\n30,70\n31,70,{SECRET}\n30,70\n")
        assert "line 3 has 3 values instead of 2" in refusal(tmp_path / "rows.csv", description).message

    def test_a_parquet_page_that_does_not_decompress(self, tmp_path: Path, description: SessionDescription) -> None:
        generator = np.random.default_rng(0)
        table = pa.table({name: generator.integers(1, 5, 1000) for name in ("age", "weight")})
        pq.write_table(table, tmp_path / "rows.parquet", compression="gzip")
        content = bytearray((tmp_path / "rows.parquet").read_bytes())
        content[60:200] = bytes(140)
        (tmp_path / "rows.parquet").write_bytes(content)
        assert "is no readable .parquet file" in refusal(tmp_path / "rows.parquet", description).message

    def test_a_bad_checksum_in_an_archive(self, tmp_path: Path, description: SessionDescription) -> None:
        path = write_npz(tmp_path, {"age": [SECRET] * 50, "weight": [SECRET] * 50})
        content = bytearray(path.read_bytes())
        content[250] ^= 1
        path.write_bytes(content)
        assert "is no readable .npz file" in refusal(path, description).message

    def test_an_archive_called_an_array_and_the_other_way(
        self, tmp_path: Path, description: SessionDescription, rows: Rows
    ) -> None:
        archive = write_npz(tmp_path, {"age": [1.0], "weight": [1.0]}).rename(tmp_path / "archive.npy")
        np.save(tmp_path / "array.npy", rows)
        array = (tmp_path / "array.npy").rename(tmp_path / "array.npz")
        assert "is no readable .npy file" in refusal(archive, description).message
        assert "is no readable .npz file" in refusal(array, description).message

    def test_pickled_objects_are_never_opened(self, tmp_path: Path, description: SessionDescription) -> None:
        np.save(tmp_path / "rows.npy", np.array([{"age": 1}], dtype=object), allow_pickle=True)
        assert "is no readable .npy file" in refusal(tmp_path / "rows.npy", description).message

    def test_an_encrypted_archive(self, tmp_path: Path, description: SessionDescription) -> None:
        plain = io.BytesIO()
        with zipfile.ZipFile(plain, "w") as archive:
            archive.writestr("age.npy", b"x")
            archive.writestr("weight.npy", b"x")
        content = plain.getvalue().replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
        assert content != plain.getvalue()
        (tmp_path / "rows.npz").write_bytes(content)
        assert "is no readable .npz file" in refusal(tmp_path / "rows.npz", description).message

    def test_a_disk_that_fails_is_the_machines_fault(
        self, tmp_path: Path, description: SessionDescription, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*given: object, **more: object) -> object:
            raise OSError(5, "Input/output error")

        path = write_csv(tmp_path, {"age": [30], "weight": [70]})
        monkeypatch.setattr(data_files.pyarrow.csv, "open_csv", fail)
        with pytest.raises(EnvironmentFault, match=r"cannot read .*rows\.csv: Input/output error"):
            read_rows(path, description, {}, CAP)


class TestColumns:
    @NAMED
    def test_a_missing_column_names_the_nearest(
        self, tmp_path: Path, description: SessionDescription, write: Write
    ) -> None:
        path = write(tmp_path, {"AGE_": [30.0], "weight": [70.0]})
        error = refusal(path, description)
        assert "column 'age' is missing" in error.message
        assert "Did you mean 'AGE_'?" in error.remedy
        assert "map 'age' under [columns]" in error.remedy

    def test_with_nothing_near_all_are_listed(self, tmp_path: Path, description: SessionDescription) -> None:
        path = write_csv(tmp_path, {"x1": [30], "x2": [70]})
        assert "There are: x1, x2." in refusal(path, description).remedy

    def test_but_not_a_thousand(self, tmp_path: Path, description: SessionDescription) -> None:
        path = write_csv(tmp_path, {f"x{k}": [30] for k in range(1000)})
        error = refusal(path, description)
        assert "x19, …" in error.remedy
        assert "x20" not in error.remedy

    def test_a_missing_mapped_column_is_called_by_both_names(
        self, tmp_path: Path, description: SessionDescription
    ) -> None:
        path = write_csv(tmp_path, {"age": [30], "weight": [70]})
        error = refusal(path, description, {"age": "years"})
        assert "column 'years' (the session's 'age') is missing" in error.message

    @pytest.mark.parametrize(("text", "sign"), [("age;weight\n30;70\n", "';'"), ("age\tweight\n30\t70\n", r"'\\t'")])
    def test_another_separator(self, tmp_path: Path, description: SessionDescription, text: str, sign: str) -> None:
        (tmp_path / "rows.csv").write_text(text)
        error = refusal(tmp_path / "rows.csv", description)
        assert "column 'age' is missing" in error.message
        assert re.search(f"separates its columns by {sign}", error.remedy)

    def test_a_column_that_stands_twice(self, tmp_path: Path, description: SessionDescription) -> None:
        (tmp_path / "rows.csv").write_text("age,weight,age\n30,70,31\n")
        assert "several columns are called 'age'" in refusal(tmp_path / "rows.csv", description).message

    def test_a_mapping_of_a_column_that_the_session_does_not_have(
        self, tmp_path: Path, description: SessionDescription
    ) -> None:
        path = write_csv(tmp_path, {"age": [30], "weight": [70]})
        with pytest.raises(CallerError, match="maps 'wieght', which is no column of the session") as caught:
            read_rows(path, description, {"wieght": "weight"}, CAP)
        assert "Did you mean 'weight'?" in caught.value.remedy

    def test_one_data_column_for_two(self, tmp_path: Path, description: SessionDescription) -> None:
        path = write_csv(tmp_path, {"age": [30], "weight": [70]})
        error = refusal(path, description, {"weight": "age"})
        assert "column 'age' would serve for 'age' and 'weight'" in error.message

    @pytest.mark.parametrize("shape", [(4, 3), (4, 1), (4,), (4, 2, 2), (4, 0), ()])
    def test_a_matrix_of_another_shape(
        self, tmp_path: Path, description: SessionDescription, shape: tuple[int, ...]
    ) -> None:
        np.save(tmp_path / "rows.npy", np.full(shape, SECRET))
        error = refusal(tmp_path / "rows.npy", description)
        assert f"{shape}" in error.message or f"has {shape[1]} columns without names, 2 are needed" in error.message
        assert "(n, " in error.remedy

    def test_a_matrix_has_no_names_to_map(self, tmp_path: Path, description: SessionDescription, rows: Rows) -> None:
        np.save(tmp_path / "rows.npy", rows)
        assert "columns without names" in refusal(tmp_path / "rows.npy", description, {"age": "years"}).message

    @pytest.mark.parametrize("other", [[[70.0, 80.0]], [70.0], 70.0])
    def test_arrays_of_different_shapes(self, tmp_path: Path, description: SessionDescription, other: object) -> None:
        path = write_npz(tmp_path, {"age": [30.0, 41.0], "weight": other})
        assert "column 'weight' has shape" in refusal(path, description).message

    def test_an_empty_archive(self, tmp_path: Path, description: SessionDescription) -> None:
        np.savez(tmp_path / "rows.npz")
        assert "has no columns" in refusal(tmp_path / "rows.npz", description).message


class TestValues:
    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            (["30", "old"], "string"),
            (["true", "false"], "bool"),
            (["2020-01-01", "2020-01-02"], "date32"),
            (["1,5", "2,5"], "string"),
        ],
    )
    def test_a_csv_column_that_is_not_numeric(
        self, tmp_path: Path, description: SessionDescription, values: list[str], kind: str
    ) -> None:
        path = write_csv(tmp_path, {"age": [f'"{value}"' for value in values], "weight": [70, 80]})
        error = refusal(path, description)
        assert f"column 'age' is of type {kind}" in error.message
        assert "write numbers" in error.remedy

    @pytest.mark.parametrize(
        ("column", "kind"),
        [
            (pa.array(["30", "41"]), "string"),
            (pa.array([True, False]), "bool"),
            (pa.array([1, 2], pa.timestamp("s")), "timestamp"),
            (pa.array(["a", "b"]).dictionary_encode(), "dictionary"),
            (pa.array([[1.0], [2.0]]), "list"),
        ],
    )
    def test_a_parquet_column_that_is_not_numeric(
        self, tmp_path: Path, description: SessionDescription, column: pa.Array, kind: str
    ) -> None:
        path = write_parquet(tmp_path, {"age": column, "weight": [70.0, 80.0]})
        assert f"column 'age' is of type {kind}" in refusal(path, description).message

    @pytest.mark.parametrize("write", [write_npz, write_structured_npy])
    @pytest.mark.parametrize("values", [["30", "41"], [True, False], [1j, 2j], np.array([1, 2], dtype="datetime64[s]")])
    def test_an_array_that_is_not_numeric(
        self, tmp_path: Path, description: SessionDescription, write: Write, values: object
    ) -> None:
        path = write(tmp_path, {"age": values, "weight": [70.0, 80.0]})
        assert "column 'age' is of type" in refusal(path, description).message

    @NAMED
    @pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
    def test_values_that_are_not_finite(
        self, tmp_path: Path, description: SessionDescription, write: Write, wrong: float
    ) -> None:
        path = write(tmp_path, {"age": [30.0] * 5, "weight": [SECRET, SECRET, wrong, SECRET, wrong]})
        error = refusal(path, description)
        assert "column 'weight' has 2 values that are missing or not finite, the first in row 3 of 5" in error.message
        assert "impute" in error.remedy

    @ARROW
    def test_missing_values(self, tmp_path: Path, description: SessionDescription, write: Write) -> None:
        path = write(tmp_path, {"age": [None, 30.0], "weight": [SECRET, SECRET]})
        assert "column 'age' has 1 values that are missing or not finite, the first in row 1 of 2" in (
            refusal(path, description).message
        )

    @ARROW
    def test_a_column_of_nothing(self, tmp_path: Path, description: SessionDescription, write: Write) -> None:
        path = write(tmp_path, {"age": [None, None], "weight": [70.0, 80.0]})
        assert "column 'age' has 2 values that are missing" in refusal(path, description).message

    @pytest.mark.parametrize("word", ["", "NA", "NaN", "null"])
    def test_words_for_missing(self, tmp_path: Path, description: SessionDescription, word: str) -> None:
        path = write_csv(tmp_path, {"age": [30, word, 31], "weight": [70, 80, 90]})
        assert "column 'age' has 1 values that are missing" in refusal(path, description).message

    @NAMED
    def test_values_outside_the_declared_range(
        self, tmp_path: Path, description: SessionDescription, write: Write
    ) -> None:
        path = write(tmp_path, {"Age": [30.0, -SECRET, 100 * SECRET, 120.0], "weight": [70.0] * 4})
        error = refusal(path, description, {"age": "Age"})
        expected = "column 'Age' (the session's 'age') is outside the session's range [0, 120] in 2 of 4 rows"
        assert expected in error.message
        assert "wider range" in error.remedy

    @pytest.mark.parametrize("write", [write_csv, write_parquet])
    def test_missing_values_where_the_session_admits_them(
        self, tmp_path: Path, incomplete: SessionDescription, write: Write
    ) -> None:
        path = write(tmp_path, {"age": [30.0, 41.0, 52.0], "weight": [None, 80.25, float("nan")]})
        expected = [[30.0, np.nan], [41.0, 80.25], [52.0, np.nan]]
        assert np.array_equal(read_rows(path, incomplete, {}, CAP), expected, equal_nan=True)

    @NAMED
    def test_nan_where_the_session_admits_it(
        self, tmp_path: Path, incomplete: SessionDescription, write: Write
    ) -> None:
        path = write(tmp_path, {"age": [30.0, 41.0], "weight": [80.25, float("nan")]})
        assert np.array_equal(read_rows(path, incomplete, {}, CAP), [[30.0, 80.25], [41.0, np.nan]], equal_nan=True)

    @ARROW
    def test_a_column_of_nothing_where_the_session_admits_it(
        self, tmp_path: Path, incomplete: SessionDescription, write: Write
    ) -> None:
        path = write(tmp_path, {"age": [30.0, 41.0], "weight": [None, None]})
        assert np.isnan(read_rows(path, incomplete, {}, CAP)[:, 1]).all()

    def test_rows_of_which_nothing_is_observed(self, tmp_path: Path, incomplete: SessionDescription) -> None:
        both = tuple(column.model_copy(update={"missing": True}) for column in incomplete.columns)
        path = write_csv(tmp_path, {"age": [30, None], "weight": [70, None]})
        rows = read_rows(path, incomplete.model_copy(update={"columns": both}), {}, CAP)
        assert np.isnan(rows).sum(axis=1).tolist() == [0, 2]

    @NAMED
    def test_nan_in_another_column_than_the_declared_one(
        self, tmp_path: Path, incomplete: SessionDescription, write: Write
    ) -> None:
        path = write(tmp_path, {"age": [30.0, float("nan")], "weight": [SECRET, float("nan")]})
        error = refusal(path, incomplete)
        assert "column 'age' has 1 values that are missing or not finite, the first in row 2 of 2" in error.message
        assert "`missing = true`" in error.remedy

    @NAMED
    @pytest.mark.parametrize("wrong", [float("inf"), float("-inf")])
    def test_infinite_values_are_not_missing(
        self, tmp_path: Path, incomplete: SessionDescription, write: Write, wrong: float
    ) -> None:
        path = write(tmp_path, {"age": [30.0] * 4, "weight": [SECRET, float("nan"), wrong, SECRET]})
        error = refusal(path, incomplete)
        assert "column 'weight' has 1 values that are infinite, the first in row 3 of 4" in error.message
        assert "leave the cell empty" in error.remedy

    @NAMED
    def test_observed_values_outside_their_range_beside_missing_ones(
        self, tmp_path: Path, incomplete: SessionDescription, write: Write
    ) -> None:
        path = write(tmp_path, {"age": [30.0] * 3, "weight": [float("nan"), 100 * SECRET, SECRET]})
        assert "column 'weight' is outside the session's range [0, 300] in 1 of 3 rows" in (
            refusal(path, incomplete).message
        )

    def test_a_model_takes_missing_cells_in_the_columns_named(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path, {"age": [30, None], "weight": [70, 80]})
        assert np.isnan(read_columns(path, ["age", "weight"], {}, ["age"])[1, 0])
        with pytest.raises(CallerError, match="column 'age' has 1 values that are missing"):
            read_columns(path, ["age", "weight"], {}, ["weight"])

    @NAMED
    def test_no_rows(self, tmp_path: Path, description: SessionDescription, write: Write) -> None:
        empty = np.empty(0)
        path = write(tmp_path, {"age": empty, "weight": empty})
        assert "has no rows" in refusal(path, description).message

    @NAMED
    def test_more_rows_than_the_cap(self, tmp_path: Path, description: SessionDescription, write: Write) -> None:
        path = write(tmp_path, {"age": [30.0] * (CAP + 1), "weight": [SECRET] * (CAP + 1)})
        error = refusal(path, description)
        assert f"has {CAP + 1} rows, the roster's row cap of this tenant is {CAP}" in error.message
