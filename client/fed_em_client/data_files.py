"""Data files as named columns: CSV, Parquet and NumPy's `.npy` and `.npz`.

What readers say of a damaged file can quote it, so their texts are never passed on.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from fed_em.column_cells import label_of
from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client.object_files import ObjectPart

Vector = NDArray[np.float64]

Choose = Callable[[Sequence[str]], Sequence[str]]
"""Which of the columns that a file has are to be read; raises `CallerError` if they will not do."""

DataSource = Path | ObjectPart
"""A file, or rows of one in an object store."""

_Reader = Callable[[Path, Choose, Collection[str]], "DataFile"]

_GET_AGAIN = "write the file again, or restore it"

# The beginning of pyarrow's text; the line itself follows in it.
_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+):")

_NOT_OF_THE_FORMAT = (
    pa.ArrowException,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        kind: Its type, as the file's format calls it.
        values: `(n,)`, NaN where a value is missing; None if it is not numeric.
        n_missing: How many values are missing.
        texts: `(n,)`, the values as text, None where one is missing; None itself unless they were to be read as text.
    """

    kind: str
    values: Vector | None = field(repr=False)
    n_missing: int = 0
    texts: Sequence[str | None] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class DataFile:
    """Columns read from a file.

    Attributes:
        path: The file.
        n_rows: n.
        columns: By name; by position ("1", "2", …) and in that order if the file gives no names.
        named: Whether the file gives names.
    """

    path: DataSource
    n_rows: int
    columns: Mapping[str, Column] = field(repr=False)
    named: bool = True


def read_data_file(path: DataSource, choose: Choose, texts: Collection[str] = ()) -> DataFile:
    """Read the chosen columns of a file whose suffix says what it is.

    CSV with a line of column names; Parquet; `.npz` with one array `(n,)` a column; `.npy` with a structured array
    `(n,)`, or with an array `(n, D)`, which has no names to choose from and is read as a whole.

    Args:
        path: The file, or a part of one in an object store.
        choose: Called with the file's column names, before anything else is read.
        texts: Columns that are to be read as text too, of those that are chosen.

    Raises:
        CallerError: no such file, no known suffix, a damaged file, or what `choose` raises.
        EnvironmentFault: the disk does not give the file.
    """
    with _trouble_with(path):
        return (
            _read_part(path, choose, texts) if isinstance(path, ObjectPart) else _reader_of(path)(path, choose, texts)
        )


def data_paths(data: Path | Sequence[Path]) -> tuple[Path, ...]:
    """The files of a tenant: a file, a folder (all data files in it, by name), or several of either, in order.

    Raises:
        CallerError: a folder holds no data file, or no file is named at all.
    """
    paths: list[Path] = []
    for path in (data,) if isinstance(data, Path) else data:
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in _READERS) if path.is_dir() else [path]
        if not inside:
            raise CallerError(f"the folder {path} holds no data file", remedy=f"use one of {', '.join(_READERS)}")
        paths += inside
    if not paths:
        raise CallerError("`data` names no file", remedy="name a file, a folder, or a list of them")
    return tuple(paths)


def check_data_file(path: Path) -> None:
    """Raise `CallerError` unless there is a file of a kind that `read_data_file` reads; what is in it is not looked at."""
    _reader_of(path)
    if not path.is_file():
        raise CallerError(
            f"there is no data file {path}", remedy="set `data` in the tenant's file to the file with its rows"
        )


def _reader_of(path: Path) -> _Reader:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CallerError(
            f"{path}: no reader for files ending in '{path.suffix}'", remedy=f"use one of {', '.join(_READERS)}"
        )
    return reader


def _read_csv(path: Path, choose: Choose, texts: Collection[str]) -> DataFile:
    return _of_arrow(path, _csv_table(path, lambda: path, choose, texts), texts)


def _csv_table(path: DataSource, opened_anew: Callable[[], Any], choose: Choose, texts: Collection[str]) -> pa.Table:
    # Only a single thread knows the numbers of the lines.
    reading = pyarrow.csv.ReadOptions(use_threads=False)
    try:
        with pyarrow.csv.open_csv(opened_anew(), reading) as opened:
            names = opened.schema.names
        chosen = pyarrow.csv.ConvertOptions(
            include_columns=_chosen(path, names, choose),
            # As they are written: 01 is no number here. Bytes, as a cell that is no UTF-8 is none of the rest's business.
            column_types={name: pa.binary() for name in texts},
            strings_can_be_null=True,
        )
        return pyarrow.csv.read_csv(opened_anew(), reading, convert_options=chosen)
    except pa.ArrowInvalid as error:
        ragged = _RAGGED.search(str(error))
        if ragged is None:
            raise
        line, expected, found = ragged.groups()
    raise CallerError(
        f"{path}: line {line} has {found} values instead of {expected}",
        remedy=f"mend that line (blank lines are not counted), or {_GET_AGAIN}",
    )


def _read_parquet(path: Path, choose: Choose, texts: Collection[str]) -> DataFile:
    with pyarrow.parquet.ParquetFile(path) as file:
        return _of_arrow(path, file.read(columns=_chosen(path, file.schema_arrow.names, choose)), texts)


def _read_part(part: ObjectPart, choose: Choose, texts: Collection[str]) -> DataFile:
    if part.suffix == ".parquet":
        with part.parquet() as file:
            chosen = _chosen(part, file.schema_arrow.names, choose)
            return _of_arrow(part, part.rows_of_parquet(file, chosen), texts)
    table = _csv_table(part, part.file.stream, choose, texts)
    return _of_arrow(part, table.slice(part.start, part.stop - part.start), texts)


def _of_arrow(path: DataSource, table: pa.Table, texts: Collection[str]) -> DataFile:
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind, is_a = column.type, pa.types
        numeric = is_a.is_integer(kind) or is_a.is_floating(kind) or is_a.is_decimal(kind) or is_a.is_null(kind)
        # Unchecked, as integers beyond 2^53 may be rounded; nulls become NaN.
        values = column.cast(pa.float64(), safe=False).to_numpy() if numeric else None
        n_missing = column.null_count if values is None else int(np.isnan(values).sum())
        columns[name] = Column(str(kind), values, n_missing, _texts(column.to_pylist()) if name in texts else None)
    return DataFile(path, table.num_rows, columns)


def _read_npz(path: Path, choose: Choose, texts: Collection[str]) -> DataFile:
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("an array alone is no archive")
        arrays = {name: archive[name] for name in _chosen(path, archive.files, choose)}
    first = next(iter(arrays.values()))
    for name, array in arrays.items():
        if array.ndim != 1 or len(array) != len(first):
            raise CallerError(
                f"{path}: column '{name}' has shape {array.shape}, the first one has {first.shape}",
                remedy="save one array (n,) a column, all of one length",
            )
    return DataFile(path, len(first), {name: _of_numpy(array, name in texts) for name, array in arrays.items()})


def _read_npy(path: Path, choose: Choose, texts: Collection[str]) -> DataFile:
    with path.open("rb") as file:
        array = np.load(file, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("an archive is no array")
    if array.dtype.names is not None and array.ndim == 1:
        chosen = _chosen(path, array.dtype.names, choose)
        return DataFile(path, len(array), {name: _of_numpy(array[name], name in texts) for name in chosen})
    if array.ndim != 2 or array.shape[1] == 0:
        raise CallerError(f"{path} holds an array of shape {array.shape}", remedy="save an array (n, D)")
    columns = {str(d + 1): _of_numpy(array[:, d], bool(texts)) for d in range(array.shape[1])}
    return DataFile(path, len(array), columns, named=False)


def _of_numpy(array: NDArray[Any], text: bool) -> Column:
    values = array.astype(np.float64) if array.dtype.kind in "iuf" else None
    n_missing = 0 if values is None else int(np.isnan(values).sum())
    return Column(str(array.dtype), values, n_missing, _texts(array.tolist()) if text else None)


def _texts(cells: Sequence[Any]) -> list[str | None]:
    """Values as text: whole numbers without a point, whether or not a missing cell made their column floating."""
    return [_text(cell) for cell in cells]


def _text(cell: Any) -> str | None:
    if isinstance(cell, Decimal):
        cell = float(cell)
    if cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)):
        return None
    return cell.decode(errors="replace") if isinstance(cell, bytes) else label_of(cell)


_READERS: Mapping[str, _Reader] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".npy": _read_npy,
    ".npz": _read_npz,
}


def _chosen(path: DataSource, names: Sequence[str], choose: Choose) -> list[str]:
    if not names:
        raise CallerError(f"{path} has no columns", remedy=_GET_AGAIN)
    chosen = list(choose(names))
    twice = next((name for name in chosen if list(names).count(name) > 1), None)
    if twice is not None:
        raise CallerError(f"{path}: several columns are called '{twice}'", remedy="give each a name of its own")
    return chosen


@contextmanager
def _trouble_with(path: DataSource) -> Iterator[None]:
    """Turns what readers raise into whose fault it is."""
    try:
        yield
    except CallerError:
        raise
    except FileNotFoundError:
        raise CallerError(f"there is no data file {path}", remedy="set `data` in the tenant's file") from None
    except IsADirectoryError:
        raise CallerError(f"{path} is a folder", remedy="name one file in it") from None
    except OSError as error:
        if error.errno is not None:
            raise EnvironmentFault(f"cannot read {path}: {error.strerror}") from None
        raise _damaged(path) from None  # pyarrow, at pages that do not decompress
    except _NOT_OF_THE_FORMAT:
        raise _damaged(path) from None


def _damaged(path: DataSource) -> CallerError:
    return CallerError(
        f"{path} is no readable {path.suffix} file: empty, truncated, or of another kind", remedy=_GET_AGAIN
    )
