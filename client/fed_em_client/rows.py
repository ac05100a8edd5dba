"""A tenant's rows: read from CSV, Parquet or NumPy files and checked against a session's columns.

Every complaint names the file, the column and what to do, and says how many values are wrong and where, never what
they are.
"""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.model import Rows
from fed_em_protocols.description import SessionDescription

# Existing columns that a complaint lists at most.
_LISTED = 20

_GET_AGAIN = "write the file again, or restore it"

# What readers raise at bytes that are not of their format. Their texts can quote the file, so they are never passed on.
_NOT_OF_THE_FORMAT = (
    pa.ArrowException,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_rows(path: Path, description: SessionDescription, columns: Mapping[str, str], row_cap: int) -> Rows:
    """The rows of a data file, `(n, D)` float64 in original units, in the order of the session's columns; read-only.

    CSV (with a line of column names), Parquet, `.npz` (one array `(n,)` a column) and `.npy` (a structured array
    `(n,)`, or one `(n, D)` whose columns are the session's by position).

    Args:
        path: The file; its suffix says what it is.
        description: The session, whose columns these must be.
        columns: Session column to data column, where the names differ.
        row_cap: The most rows the roster admits.

    Raises:
        CallerError: the file is missing or damaged, a column is missing or not numeric, a value is missing, not
            finite or outside its declared range, or there are no rows or more than `row_cap`.
        EnvironmentFault: the disk does not give the file.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CallerError(
            f"{path}: no reader for files ending in '{path.suffix}'", remedy=f"use one of {', '.join(_READERS)}"
        )
    wanted = _Wanted.of(path, description, columns)
    with _trouble_with(path):
        rows = _stack(wanted, reader(wanted))
    _check_count(path, len(rows), row_cap)
    _check_finite(wanted, rows)
    _check_ranges(wanted, rows, description)
    rows.flags.writeable = False
    return rows


@dataclass(frozen=True)
class _Wanted:
    """The data columns to read from a file, in the session's order.

    Attributes:
        path: The file.
        session: The session's names of the columns.
        data: Their names in the file.
        mapped: Whether the tenant's file maps any of them.
    """

    path: Path
    session: tuple[str, ...]
    data: tuple[str, ...]
    mapped: bool

    @classmethod
    def of(cls, path: Path, description: SessionDescription, columns: Mapping[str, str]) -> _Wanted:
        names = description.names
        for name in columns:
            if name not in names:
                raise CallerError(
                    f"the tenant's file maps a column '{name}' that session '{description.title}' does not have",
                    remedy=_nearest(name, names),
                )
        data = tuple(columns.get(name, name) for name in names)
        twice = next((name for name in data if data.count(name) > 1), None)
        if twice is not None:
            takers = " and ".join(f"'{name}'" for name, source in zip(names, data, strict=True) if source == twice)
            raise CallerError(
                f"the session's columns {takers} would both be read from column '{twice}' of {path}",
                remedy="map each to a column of its own under [columns] of the tenant's file",
            )
        return cls(path, names, data, bool(columns))

    def label(self, d: int) -> str:
        """File and column d, for messages."""
        name, session = self.data[d], self.session[d]
        return f"{self.path}: column '{name}'" + (f" (the session's '{session}')" if name != session else "")

    def require(self, available: Sequence[str]) -> None:
        """Raise `CallerError` unless each wanted column is there once."""
        for d, name in enumerate(self.data):
            found = list(available).count(name)
            if found == 0:
                raise CallerError(f"{self.label(d)} is missing", remedy=self._remedy_of_missing(d, available))
            if found > 1:
                raise CallerError(f"{self.label(d)} stands {found} times", remedy="give each column a name of its own")

    def _remedy_of_missing(self, d: int, available: Sequence[str]) -> str:
        separator = next((sign for sign in ";\t|" if len(available) == 1 and sign in available[0]), None)
        if separator is not None:
            return f"the file separates its columns by {separator!r}; write it with commas"
        return (
            f'{_nearest(self.data[d], available)} (map it under [columns]: "{self.session[d]}" = its name in the file)'
        )


def _nearest(name: str, available: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.lower(), [other.lower() for other in available], n=1)
    if close:
        return next(f"did you mean '{other}'?" for other in available if other.lower() == close[0])
    more = ", …" if len(available) > _LISTED else ""
    return f"there are: {', '.join(available[:_LISTED])}{more}"


def _read_csv(wanted: _Wanted) -> list[NDArray[np.float64]]:
    broken: list[pyarrow.csv.InvalidRow] = []

    def refuse(row: pyarrow.csv.InvalidRow) -> str:
        broken.append(row)
        return "error"

    parsing = pyarrow.csv.ParseOptions(invalid_row_handler=refuse)
    try:
        with pyarrow.csv.open_csv(wanted.path, parse_options=parsing) as opened:
            names = opened.schema.names
        wanted.require(names)
        table = pyarrow.csv.read_csv(
            wanted.path,
            # Only a single thread knows the numbers of the rows.
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            parse_options=parsing,
            convert_options=pyarrow.csv.ConvertOptions(include_columns=wanted.data),
        )
    except pa.ArrowInvalid:
        if not broken:
            raise
        row = broken[0]
        raise CallerError(
            f"{wanted.path}: line {row.number} has {row.actual_columns} values instead of {row.expected_columns}",
            remedy=f"mend that line (blank lines are not counted), or {_GET_AGAIN}",
        ) from None
    return _columns_of(wanted, table)


def _read_parquet(wanted: _Wanted) -> list[NDArray[np.float64]]:
    with pyarrow.parquet.ParquetFile(wanted.path) as file:
        wanted.require(file.schema_arrow.names)
        return _columns_of(wanted, file.read(columns=list(wanted.data)))


def _columns_of(wanted: _Wanted, table: pa.Table) -> list[NDArray[np.float64]]:
    columns = []
    for d, name in enumerate(wanted.data):
        column = table.column(name)
        kind, is_a = column.type, pa.types
        if not (is_a.is_integer(kind) or is_a.is_floating(kind) or is_a.is_decimal(kind) or is_a.is_null(kind)):
            raise _not_numeric(wanted, d, kind)
        # Unchecked, as integers beyond 2^53 may be rounded; nulls become NaN.
        columns.append(column.cast(pa.float64(), safe=False).to_numpy())
    return columns


def _read_npz(wanted: _Wanted) -> list[NDArray[np.float64]]:
    with np.load(wanted.path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("an array alone is no archive")
        wanted.require(archive.files)
        arrays = [archive[name] for name in wanted.data]
    for d, array in enumerate(arrays):
        if array.ndim != 1 or len(array) != len(arrays[0]):
            raise CallerError(
                f"{wanted.label(d)} has shape {array.shape}, and the first one {arrays[0].shape}",
                remedy="save one array (n,) a column, all of one length",
            )
    return [_numeric(wanted, d, array) for d, array in enumerate(arrays)]


def _read_npy(wanted: _Wanted) -> list[NDArray[np.float64]]:
    array = np.load(wanted.path, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError("an archive is no array")
    if array.dtype.names is not None and array.ndim == 1:
        wanted.require(array.dtype.names)
        return [_numeric(wanted, d, array[name]) for d, name in enumerate(wanted.data)]
    width = len(wanted.session)
    if array.ndim != 2 or array.shape[1] != width:
        raise CallerError(
            f"{wanted.path} holds an array of shape {array.shape}, the session has {width} columns",
            remedy=f"save an array (n, {width}) with the columns {', '.join(wanted.session[:_LISTED])} in this order",
        )
    if wanted.mapped:
        raise CallerError(
            f"{wanted.path} has columns without names, and the tenant's file maps columns by name",
            remedy="remove [columns] from the tenant's file, or save a .npz with one array a column",
        )
    return [_numeric(wanted, d, array[:, d]) for d in range(width)]


_READERS: Mapping[str, Callable[[_Wanted], list[NDArray[np.float64]]]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".npy": _read_npy,
    ".npz": _read_npz,
}


def _numeric(wanted: _Wanted, d: int, array: NDArray[Any]) -> NDArray[np.float64]:
    if array.dtype.kind not in "iuf":
        raise _not_numeric(wanted, d, array.dtype)
    return array.astype(np.float64)


def _not_numeric(wanted: _Wanted, d: int, kind: object) -> CallerError:
    return CallerError(
        f"{wanted.label(d)} is of type {kind}, not numeric",
        remedy="write numbers there (0 and 1 for no and yes, a point before decimals)",
    )


def _stack(wanted: _Wanted, columns: Sequence[NDArray[np.float64]]) -> Rows:
    rows = np.empty((len(columns[0]), len(wanted.session)))
    for d, column in enumerate(columns):
        rows[:, d] = column
    return rows


def _check_count(path: Path, n: int, row_cap: int) -> None:
    if n == 0:
        raise CallerError(f"{path} has no rows", remedy="a tenant without rows stays out of the session")
    if n > row_cap:
        raise CallerError(
            f"{path} has {n} rows, the roster's row cap of this tenant is {row_cap}",
            remedy="leave rows out, or have a new version of the roster made with a larger cap",
        )


def _check_finite(wanted: _Wanted, rows: Rows) -> None:
    finite = np.isfinite(rows)
    for d in np.flatnonzero(~finite.all(axis=0)):
        wrong = np.flatnonzero(~finite[:, d])
        raise CallerError(
            f"{wanted.label(int(d))} has {len(wrong)} values that are missing or not finite, the first in row "
            f"{wrong[0] + 1} of {len(rows)}",
            remedy="the model takes complete rows: leave such rows out, or impute them",
        )


def _check_ranges(wanted: _Wanted, rows: Rows, description: SessionDescription) -> None:
    outside = ((rows < description.low) | (rows > description.high)).sum(axis=0)
    for d in np.flatnonzero(outside):
        column = description.columns[d]
        raise CallerError(
            f"{wanted.label(int(d))} is outside the session's range [{column.low:g}, {column.high:g}] in {outside[d]} "
            f"of {len(rows)} rows",
            remedy="check units and wrong entries; leave such rows out, or ask the server's operator for a wider range",
        )


@contextmanager
def _trouble_with(path: Path) -> Iterator[None]:
    """Turns what readers raise into whose fault it is."""
    try:
        yield
    except CallerError:
        raise
    except FileNotFoundError:
        raise CallerError(f"there is no file {path}", remedy="set `data` in the tenant's file") from None
    except IsADirectoryError:
        raise CallerError(f"{path} is a folder", remedy="set `data` in the tenant's file to one file") from None
    except OSError as error:
        if error.errno is not None:
            raise EnvironmentFault(f"cannot read {path}: {error.strerror}") from None
        raise _damaged(path) from None  # pyarrow, at pages that do not decompress
    except _NOT_OF_THE_FORMAT:
        raise _damaged(path) from None


def _damaged(path: Path) -> CallerError:
    return CallerError(
        f"{path} is no readable {path.suffix} file: empty, truncated or of another kind", remedy=_GET_AGAIN
    )
