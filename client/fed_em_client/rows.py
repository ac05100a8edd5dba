"""A tenant's records: the columns of a data file that a session is about, checked against what it declares of them.

Every complaint names the file, the column and what to do, and says how many values are wrong, never what they are.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fed_em.columns import Column as DescribedColumn
from fed_em.columns import ColumnSchema, PoissonColumn
from fed_em.errors import CallerError
from fed_em.model import ComponentModel, Rows
from fed_em.records import Records
from fed_em_client.cells import (
    Complaint,
    admissible_of,
    complaints_of_counts,
    complaints_of_weights,
    numbers_in,
    numbers_of,
    read_as_text,
)
from fed_em_client.data_files import Column, DataFile, DataSource, data_paths, read_data_file
from fed_em_protocols.description import SessionDescription

Vector = NDArray[np.float64]

# Existing columns that a complaint lists at most.
_LISTED = 20

# What is wrong with numbers of a column that may have missing cells, and of any other; and what to do.
_INFINITE = ("infinite", "leave the cell empty where the value is not known")
_NOT_COMPLETE = (
    "missing or not finite",
    "the model takes complete rows of this column: leave such rows out, or impute them; or have the session declare the "
    "column with `missing = true`",
)


@dataclass
class LeftOut:
    """How many rows of a private session count for nothing, for the tenant's own eyes.

    Attributes:
        unfit: They have a cell that the session does not admit.
        beyond: They are beyond the row cap.
    """

    unfit: int = 0
    beyond: int = 0

    @property
    def in_words(self) -> str:
        """A sentence; empty if there are none."""
        said = [
            f"{self.unfit} that do not fit what the session declares of its columns" if self.unfit else "",
            f"{self.beyond} beyond the row cap" if self.beyond else "",
        ]
        found = " and ".join(filter(None, said))
        return (
            found
            and f"of a private session nobody may learn so by a refusal: these rows count for nothing in it: {found}"
        )


def read_records(
    data: Path | Sequence[Path],
    description: SessionDescription,
    columns: Mapping[str, str],
    row_cap: int,
    left_out: LeftOut | None = None,
) -> Records:
    """The records of data files: rows `(n, D)` in the order of the session's columns and in original units, read-only.

    Cells are coded as `fed_em.columns` says. Empty ones, nulls and NaN are NaN, in the columns that the session declares as
    `missing`; a row may be all of them. Labels and weights are those of the columns that the session names for them.

    In a private session nothing that one row holds keeps a tenant out, which would tell of it without noise. Numbers outside the declared
    range are moved to its nearer end, as rows are moved into the ball; so are weights, and counts that are not whole to the nearest that
    is. Rows with any other cell that is not admitted count for nothing, and so do those beyond the row cap, in the order of the files.

    Args:
        data: CSV, Parquet, `.npz` or `.npy`, a folder of such files, or several of either; see `fed_em_client.data_files`.
        description: The session.
        columns: Session column to data column, where the names differ.
        row_cap: The most rows the roster admits, of all files together.
        left_out: Counts what counts for nothing.

    Raises:
        CallerError: as `read_columns`; or, without privacy, a value is outside what is declared of its column, or there are more rows than
            `row_cap`.
        EnvironmentFault: the disk does not give the file.
    """
    return read_parts(data_paths(data), description, columns, row_cap, left_out)


def read_parts(
    paths: Sequence[DataSource],
    description: SessionDescription,
    columns: Mapping[str, str],
    row_cap: int,
    left_out: LeftOut | None = None,
) -> Records:
    """As `read_records`, of these files or parts of files, one or more."""
    parts: list[Records] = []
    room, counted = row_cap, LeftOut() if left_out is None else left_out
    for path in paths:
        if description.privacy is None:
            parts.append(_records_of_file(path, description, columns, row_cap))
            check_row_count("the data", sum(map(len, parts)), row_cap)
        else:
            records, n_rows = _fitting_records_of_file(path, description, columns, room, counted)
            parts.append(records)
            room -= min(room, n_rows)
    return parts[0] if len(parts) == 1 else Records.concatenated(parts)


def _records_of_file(
    path: DataSource, description: SessionDescription, columns: Mapping[str, str], row_cap: int
) -> Records:
    wanted = _Wanted.of(path, description.file_columns, columns)
    schema, labels, weights = description.schema_of_columns, description.labels, description.weights
    file = wanted.read(_texts_of(description))
    check_row_count(path, file.n_rows, row_cap)
    rows = wanted.rows_of(file, schema)
    wanted.check_finite(rows, _may_be_missing(description))
    wanted.check_ranges(rows, description)
    return Records(
        rows,
        None if weights is None else wanted.weights_of(file, weights.column, weights.upper),
        None if labels is None else wanted.admissible_of(file, labels.column, _components(description)),
        description.weight_bound,
    )


def _fitting_records_of_file(
    path: DataSource, description: SessionDescription, columns: Mapping[str, str], room: int, counted: LeftOut
) -> tuple[Records, int]:
    """The records of a private session among the first `room` rows, and how many rows there are in all."""
    wanted = _Wanted.of(path, description.file_columns, columns)
    schema, labels, weights = description.schema_of_columns, description.labels, description.weights
    texts = _texts_of(description)
    file = wanted.read(texts)
    strays = [name for name in wanted.without_numbers(file) if name not in texts]
    if strays:  # one cell that is no number makes its whole column text
        file = wanted.read([*texts, *strays])
    wanted = replace(wanted, unfit=np.zeros(file.n_rows, dtype=np.bool_))
    # Infinite numbers are some, too.
    rows = np.clip(wanted.rows_of(file, schema), description.low, description.high)
    wanted.check_finite(rows, _may_be_missing(description))
    of_weight = None if weights is None else wanted.weights_of(file, weights.column, weights.upper)
    admissible = None if labels is None else wanted.admissible_of(file, labels.column, _components(description))
    assert wanted.unfit is not None
    kept = ~wanted.unfit
    kept[room:] = False
    counted.unfit += int(wanted.unfit[:room].sum())
    counted.beyond += max(file.n_rows - room, 0)
    return Records(
        rows[kept],
        None if of_weight is None else of_weight[kept],
        None if admissible is None else admissible[kept],
        description.weight_bound,
    ), file.n_rows


def _texts_of(description: SessionDescription) -> list[str]:
    """The columns, by the session's names, whose cells are texts."""
    labels = () if description.labels is None else (description.labels.column,)
    return [*(column.name for column in description.schema_of_columns.columns if read_as_text(column)), *labels]


def _may_be_missing(description: SessionDescription) -> list[str]:
    return [column.name for column in description.columns if column.missing]


def _components(description: SessionDescription) -> int:
    model = description.fitted_model
    assert isinstance(model, ComponentModel)
    return model.n_components


def read_columns(
    path: Path,
    names: Sequence[str],
    columns: Mapping[str, str],
    may_be_missing: Collection[str] = (),
    schema: ColumnSchema | None = None,
) -> Rows:
    """Rows of any values: `(n, D)` float64, the columns in the order of `names`; read-only.

    Args:
        path: As `read_records`.
        names: The columns by the names that the caller has for them; different ones.
        columns: These names to data columns, where they differ.
        may_be_missing: Which of `names` may have missing cells, NaN; all others are complete.
        schema: The kinds of the columns, which are those of `names`; None if all hold numbers.

    Raises:
        CallerError: the file is missing or damaged, a column is missing or not of its kind, a value is infinite or is missing
            where it may not be, or there are no rows.
        EnvironmentFault: the disk does not give the file.
    """
    wanted = _Wanted.of(path, tuple(names), columns)
    described = () if schema is None else schema.columns
    file = wanted.read([column.name for column in described if read_as_text(column)])
    rows = wanted.rows_of(file, schema)
    wanted.check_finite(rows, may_be_missing)
    return rows


def check_row_count(where: DataSource | str, n: int, row_cap: int) -> None:
    """Raise `CallerError` if there are more rows than a tenant's row cap."""
    if n > row_cap:
        raise CallerError(
            f"{where} has {n} rows, the roster's row cap of this tenant is {row_cap}",
            remedy="leave rows out, or have a new version of the roster made with a larger cap",
        )


@dataclass(frozen=True)
class _Wanted:
    """The columns to read from a file.

    Attributes:
        path: The file.
        names: The session's names.
        sources: The file's names of the same columns.
        mapped: Whether a mapping gave any of them.
        unfit: `(n,)`, which rows have a cell that is not admitted, where these are left out, and so are not complained of; None where they
            are.
    """

    path: DataSource
    names: tuple[str, ...]
    sources: tuple[str, ...]
    mapped: bool
    unfit: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, path: DataSource, names: tuple[str, ...], columns: Mapping[str, str]) -> _Wanted:
        for name in columns:
            if name not in names:
                raise CallerError(
                    f"[columns] maps '{name}', which is no column of the session", remedy=_nearest(name, names)
                )
        sources = tuple(columns.get(name, name) for name in names)
        twice = next((source for source in sources if sources.count(source) > 1), None)
        if twice is not None:
            takers = " and ".join(f"'{name}'" for name, source in zip(names, sources, strict=True) if source == twice)
            raise CallerError(
                f"{path}: column '{twice}' would serve for {takers}",
                remedy="map each to a column of its own under [columns]",
            )
        return cls(path, names, sources, bool(columns))

    def read(self, texts: Collection[str]) -> DataFile:
        """The columns of the file, of one row or more; those of `texts`, by the session's names, as text."""
        source_of = dict(zip(self.names, self.sources, strict=True))
        file = read_data_file(self.path, self._choose, [source_of[name] for name in texts])
        if not file.named:
            self._check_positions(file)
        if file.n_rows == 0:
            raise CallerError(f"{self.path} has no rows", remedy="a tenant without rows stays out of the session")
        return file

    def without_numbers(self, file: DataFile) -> list[str]:
        """The columns, by the session's names, that are no numbers as they were read."""
        return [name for d, name in enumerate(self.names) if self._column(file, d).values is None]

    def rows_of(self, file: DataFile, schema: ColumnSchema | None) -> Rows:
        """The rows, `(n, D)`: the first of the columns, as many as the schema has, of all kinds; read-only.

        Without a schema all columns are numbers. Whether they are finite is not looked at; nor, where unfit rows are left out, whether
        numbers are in their range.
        """
        described = (None,) * len(self.names) if schema is None else schema.columns
        rows = np.empty((file.n_rows, len(described)))
        for d, column in enumerate(described):
            rows[:, d] = self._cells_of(file, d, column)
        rows.flags.writeable = False
        return rows

    def _cells_of(self, file: DataFile, d: int, column: DescribedColumn | None) -> Vector:
        if column is not None and read_as_text(column):
            cells, complaint = numbers_of(column, self._texts(file, d))
            self._require(d, complaint)
            return cells
        cells = self._numbers(file, d)
        if isinstance(column, PoissonColumn):
            if self.unfit is not None:
                return np.asarray(np.rint(cells))
            for complaint in complaints_of_counts(column, cells):
                self._require(d, complaint)
        return cells

    def weights_of(self, file: DataFile, name: str, upper: float) -> Vector:
        """The column of weights, `(n,)`; where unfit rows are left out, those out of range are the nearest in it."""
        d = self.names.index(name)
        weights = self._numbers(file, d)
        if self.unfit is not None:
            weights = np.clip(weights, 0.0, upper)
        for complaint in complaints_of_weights(weights, upper):
            self._require(d, complaint)
        return weights

    def admissible_of(self, file: DataFile, name: str, n_components: int) -> NDArray[np.bool_]:
        """The column of labels, `(n, K)`."""
        d = self.names.index(name)
        admissible, complaint = admissible_of(self._texts(file, d), n_components)
        self._require(d, complaint)
        return admissible

    def _numbers(self, file: DataFile, d: int) -> Vector:
        column = self._column(file, d)
        if column.values is None and self.unfit is not None and column.texts is not None:
            values, complaint = numbers_in(column.texts)
            self._require(d, complaint)
            return values
        if column.values is None:
            raise CallerError(
                f"{self._label(d)} is of type {column.kind}, not numeric",
                remedy="write numbers there (0 and 1 for no and yes, a point before decimals)",
            )
        return column.values

    def _texts(self, file: DataFile, d: int) -> Sequence[str | None]:
        texts = self._column(file, d).texts
        assert texts is not None
        return texts

    def _column(self, file: DataFile, d: int) -> Column:
        return file.columns[self.sources[d]] if file.named else list(file.columns.values())[d]

    def _require(self, d: int, complaint: Complaint) -> None:
        """Raise `CallerError` if there is anything to complain about column d; or note the rows, where they are left out."""
        if self.unfit is not None:
            np.logical_or(self.unfit, complaint.wrong, out=self.unfit)
            return
        wrong = np.flatnonzero(complaint.wrong)
        if len(wrong):
            raise CallerError(
                f"{self._label(d)} has {len(wrong)} values that are {complaint.what}, the first in row {wrong[0] + 1} of "
                f"{len(complaint.wrong)}",
                remedy=complaint.remedy,
            )

    def check_finite(self, rows: Rows, may_be_missing: Collection[str]) -> None:
        """Raise `CallerError` unless every value is a finite number, or missing in a column that admits it."""
        for d, name in enumerate(self.names[: rows.shape[1]]):
            admits = name in may_be_missing
            bad = np.isinf(rows[:, d]) if admits else ~np.isfinite(rows[:, d])
            self._require(d, Complaint(bad, *(_INFINITE if admits else _NOT_COMPLETE)))

    def check_ranges(self, rows: Rows, description: SessionDescription) -> None:
        """Raise `CallerError` unless every value is within its declared range."""
        outside = description.cells_outside(rows)
        for d in np.flatnonzero(outside):
            raise CallerError(
                f"{self._label(int(d))} is outside the session's range [{description.low[d]:g}, {description.high[d]:g}] in "
                f"{outside[d]} of {len(rows)} rows",
                remedy="check units and entries; leave such rows out, or ask the server's operator for a wider range",
            )

    def _label(self, d: int) -> str:
        name, source = self.names[d], self.sources[d]
        return f"{self.path}: column '{source}'" + (f" (the session's '{name}')" if name != source else "")

    def _choose(self, available: Sequence[str]) -> Sequence[str]:
        for d, source in enumerate(self.sources):
            if source not in available:
                raise CallerError(f"{self._label(d)} is missing", remedy=self._remedy_of_missing(d, available))
        return self.sources

    def _remedy_of_missing(self, d: int, available: Sequence[str]) -> str:
        separator = next((sign for sign in ";\t|" if len(available) == 1 and sign in available[0]), None)
        if separator is not None:
            return f"the file separates its columns by {separator!r}: write it with commas"
        return f"{_nearest(self.sources[d], available)} Where names differ, map '{self.names[d]}' under [columns]"

    def _check_positions(self, file: DataFile) -> None:
        if len(file.columns) != len(self.names):
            raise CallerError(
                f"{self.path} has {len(file.columns)} columns without names, {len(self.names)} are needed",
                remedy=f"save an array (n, {len(self.names)}) with the columns {_listed(self.names)} in this order",
            )
        if self.mapped:
            raise CallerError(
                f"{self.path} has columns without names, and [columns] maps names",
                remedy="remove [columns] from the tenant's file, or save a .npz with one array a column",
            )


def _nearest(name: str, available: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), [other.lower() for other in available], n=1)
    if not near:
        return f"There are: {_listed(available)}."
    return next(f"Did you mean '{other}'?" for other in available if other.lower() == near[0])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
