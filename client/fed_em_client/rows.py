"""A tenant's rows: the columns of a data file that a session is about, checked against its schema.

Every complaint names the file, the column and what to do, and says how many values are wrong, never what they are.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fed_em.errors import CallerError
from fed_em.model import Rows
from fed_em_client.data_files import DataFile, data_paths, read_data_file
from fed_em_protocols.description import SessionDescription

# Existing columns that a complaint lists at most.
_LISTED = 20

# What is wrong with values of a column that may have missing cells, and of any other; and what to do.
_INFINITE = ("infinite", "leave the cell empty where the value is not known")
_NOT_COMPLETE = (
    "missing or not finite",
    "the model takes complete rows of this column: leave such rows out, or impute them; or have the session declare the "
    "column with `missing = true`",
)


def read_rows(
    data: Path | Sequence[Path], description: SessionDescription, columns: Mapping[str, str], row_cap: int
) -> Rows:
    """The rows of data files, `(n, D)` float64 in original units, in the order of the session's columns; read-only.

    Empty cells, nulls and NaN are NaN, in the columns that the session declares as `missing`; a row may be all of them.

    Args:
        data: CSV, Parquet, `.npz` or `.npy`, a folder of such files, or several of either; see `fed_em_client.data_files`.
        description: The session.
        columns: Session column to data column, where the names differ.
        row_cap: The most rows the roster admits, of all files together.

    Raises:
        CallerError: as `read_columns`, or a value is outside its declared range, or there are more rows than `row_cap`.
        EnvironmentFault: the disk does not give the file.
    """
    paths = data_paths(data)
    parts: list[Rows] = []
    for path in paths:
        parts.append(_rows_of_file(path, description, columns))
        check_row_count(path if len(paths) == 1 else "the data", sum(map(len, parts)), row_cap)
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate(parts)
    rows.flags.writeable = False
    return rows


def _rows_of_file(path: Path, description: SessionDescription, columns: Mapping[str, str]) -> Rows:
    wanted = _Wanted.of(path, description.names, columns)
    rows = wanted.read()
    wanted.check_finite(rows, [column.name for column in description.columns if column.missing])
    wanted.check_ranges(rows, description)
    return rows


def read_columns(
    path: Path, names: Sequence[str], columns: Mapping[str, str], may_be_missing: Collection[str] = ()
) -> Rows:
    """Rows of any values: `(n, D)` float64, the columns in the order of `names`; read-only.

    Args:
        path: As `read_rows`.
        names: The columns by the names that the caller has for them; different ones.
        columns: These names to data columns, where they differ.
        may_be_missing: Which of `names` may have missing cells, NaN; all others are complete.

    Raises:
        CallerError: the file is missing or damaged, a column is missing or not numeric, a value is infinite or is missing
            where it may not be, or there are no rows.
        EnvironmentFault: the disk does not give the file.
    """
    wanted = _Wanted.of(path, tuple(names), columns)
    rows = wanted.read()
    wanted.check_finite(rows, may_be_missing)
    return rows


def check_row_count(where: Path | str, n: int, row_cap: int) -> None:
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
    """

    path: Path
    names: tuple[str, ...]
    sources: tuple[str, ...]
    mapped: bool

    @classmethod
    def of(cls, path: Path, names: tuple[str, ...], columns: Mapping[str, str]) -> _Wanted:
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

    def read(self) -> Rows:
        """The rows, `(n, D)`, n positive, whatever their values; read-only."""
        file = read_data_file(self.path, self._choose)
        if not file.named:
            self._check_positions(file)
        if file.n_rows == 0:
            raise CallerError(f"{self.path} has no rows", remedy="a tenant without rows stays out of the session")
        rows = np.empty((file.n_rows, len(self.names)))
        columns = [file.columns[source] for source in self.sources] if file.named else file.columns.values()
        for d, column in enumerate(columns):
            if column.values is None:
                raise CallerError(
                    f"{self._label(d)} is of type {column.kind}, not numeric",
                    remedy="write numbers there (0 and 1 for no and yes, a point before decimals)",
                )
            rows[:, d] = column.values
        rows.flags.writeable = False
        return rows

    def check_finite(self, rows: Rows, may_be_missing: Collection[str]) -> None:
        """Raise `CallerError` unless every value is a finite number, or missing in a column that admits it."""
        admits = np.array([name in may_be_missing for name in self.names])
        bad = ~np.isfinite(rows) & ~(np.isnan(rows) & admits)
        for d in np.flatnonzero(bad.any(axis=0)):
            wrong = np.flatnonzero(bad[:, d])
            what, remedy = _INFINITE if admits[d] else _NOT_COMPLETE
            raise CallerError(
                f"{self._label(int(d))} has {len(wrong)} values that are {what}, the first in row {wrong[0] + 1} of "
                f"{len(rows)}",
                remedy=remedy,
            )

    def check_ranges(self, rows: Rows, description: SessionDescription) -> None:
        """Raise `CallerError` unless every value is within its declared range."""
        outside = ((rows < description.low) | (rows > description.high)).sum(axis=0)
        for d in np.flatnonzero(outside):
            column = description.columns[d]
            raise CallerError(
                f"{self._label(int(d))} is outside the session's range [{column.low:g}, {column.high:g}] in "
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
