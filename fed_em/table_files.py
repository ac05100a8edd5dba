"""Tables in CSV and Parquet files, or any pyarrow dataset, read block by block: however large they are, little is in memory.

Types of a CSV file's columns are those of its first megabyte, whole numbers taken for real ones. Every pass over CSV files
parses them again; Parquet is read several times faster.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as pad

from fed_em.column_cells import Cells, CodedCells, cells_of
from fed_em.column_evidence import ColumnEvidence
from fed_em.columns import ColumnSchema
from fed_em.description import nearest
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.model import Rows
from fed_em.partial_labels import checked_components
from fed_em.records import Records
from fed_em.row_stream import RecordStream, RowStream, block_rows, in_blocks

FilePath = str | os.PathLike[str]
Source: TypeAlias = FilePath | Sequence[FilePath] | pad.Dataset

_SUFFIXES = (".csv", ".parquet")

# Rows that are parsed at one time, and how far Arrow is asked to read ahead: by default a hundred thousand rows times sixty-four.
# Of one file it may hold all that is decoded, where the file is read faster than it is fitted; never of two.
_BATCH_ROWS, _BATCHES_AHEAD = 2**14, 2
_CSV_BYTES = 2**20

# The beginning of pyarrow's text; the value itself follows in it, and is never passed on.
_NOT_OF_ITS_TYPE = re.compile(r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to (\w+)")


def open_table(source: Source, columns: Sequence[str] | None = None, text: Collection[str] = ()) -> TableFiles:
    """A table that estimators fit without holding it in memory. Implements `fed_em.row_stream.TableStream`.

    Args:
        source: A CSV or Parquet file, several of them, a folder (all such files in and below it, by name), or a pyarrow
            dataset. Several files are one table, in their order; each has all the columns.
        columns: The columns to read, in this order; all by default.
        text: Columns of CSV files that are text, whatever their first rows look like.

    Raises:
        CallerError: there is no such file, it is damaged, or a column is missing.
        EnvironmentFault: the disk does not give it.
    """
    if isinstance(source, pad.Dataset):
        parts: tuple[_Part, ...] = (_Part("the dataset", source),)
    else:
        paths = table_paths(source)
        parts = tuple(_Part.of_file(path, frozenset(text)) for path in paths)
    names = tuple(parts[0].names if columns is None else columns)
    for part in parts:
        part.require(names)
    return TableFiles(parts, names)


def table_paths(source: FilePath | Sequence[FilePath]) -> tuple[Path, ...]:
    """The files that a path, a folder or several of either name, in order. Raises `CallerError` if one is not there."""
    named = [source] if isinstance(source, str | os.PathLike) else source
    paths: list[Path] = []
    for path in map(Path, named):
        if not path.exists():
            raise CallerError(f"there is no file or folder {path}")
        if not path.is_dir():
            paths.append(path)
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
        if not inside:
            raise CallerError(f"the folder {path} holds no {' or '.join(_SUFFIXES)} file")
        paths += inside
    if not paths:
        raise CallerError("no file is named", remedy="name a file or a folder")
    return tuple(paths)


@dataclass(frozen=True)
class _Part:
    """One file, or one dataset.

    Attributes:
        label: What it is called in errors.
        dataset: Its content.
    """

    label: str
    dataset: pad.Dataset = field(repr=False)

    @classmethod
    def of_file(cls, path: Path, text: frozenset[str]) -> _Part:
        suffix, label = path.suffix.lower(), str(path)
        if suffix not in _SUFFIXES:
            raise CallerError(f"{path}: no reader for files ending in '{path.suffix}'", remedy="use .csv or .parquet")
        with _trouble_with(label, ()):
            if suffix == ".parquet":
                return cls(label, pad.dataset(path, format="parquet"))
            reading = pyarrow.csv.ReadOptions(block_size=_CSV_BYTES)
            seen = pad.dataset(path, format=pad.CsvFileFormat(read_options=reading)).schema
            types = {column.name: _wide(column, text) for column in seen}
            converting = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
            how = pad.CsvFileFormat(read_options=reading, convert_options=converting)
            return cls(label, pad.dataset(path, format=how, schema=pa.schema(list(types.items()))))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.dataset.schema.names)

    def require(self, names: Sequence[str]) -> None:
        """Raise `CallerError` unless it has these columns, each once."""
        for name in names:
            if self.names.count(name) != 1:
                how = "has no" if name not in self.names else "has more than one"
                raise CallerError(f"{self.label} {how} column '{name}'", remedy=nearest(name, self.names))

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Its rows, in order."""
        # Without it a whole row group is held, compressed.
        buffered = pad.ParquetFragmentScanOptions(use_buffered_stream=True, pre_buffer=False)
        with _trouble_with(self.label, self.names):
            yield from self.dataset.to_batches(
                columns=list(names),
                batch_size=_BATCH_ROWS,
                batch_readahead=_BATCHES_AHEAD,
                fragment_readahead=1,
                fragment_scan_options=buffered if _is_parquet(self.dataset) else None,
            )


@dataclass(frozen=True)
class TableFiles:
    """A table in files, as `open_table` gives it.

    Attributes:
        names: Its columns.
    """

    _parts: tuple[_Part, ...]
    names: tuple[str, ...]

    def evidence(self, passed: Callable[[int], None] = lambda _: None) -> dict[str, ColumnEvidence]:
        """What its columns show, by name: reads all of it, and tells `passed` how many more rows were read."""
        seen = dict.fromkeys(self.names, ColumnEvidence())
        for batch in self._batches(self.names):
            for name in self.names:
                seen[name] += ColumnEvidence.of(_cells(batch[name]))
            passed(len(batch))
        return seen

    def rows(self, schema: ColumnSchema) -> RowStream:
        """Its rows in the coding of a schema, some of whose columns it may have besides.

        Raises:
            CallerError: it lacks a column of the schema; when the rows are read, if cells do not fit (their number is told).
        """
        for part in self._parts:
            part.require(schema.names)
        return _Rows(self, schema)

    def records(self, schema: ColumnSchema, weights: str | None, labels: str | None, n_components: int) -> RecordStream:
        """As `rows`, with what columns besides say of each row.

        Args:
            schema: The columns of the rows.
            weights: The column of weights, at least 0; None for ones.
            labels: The column of partial labels (`fed_em.partial_labels`); None for none.
            n_components: How many components labels are of.

        Raises:
            CallerError: as `rows`, of these columns too.
        """
        besides = tuple(name for name in (weights, labels) if name is not None)
        for part in self._parts:
            part.require((*schema.names, *besides))
        return _Records(self, schema, weights, labels, n_components)

    def _batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for part in self._parts:
            yield from part.batches(names)


@dataclass(frozen=True)
class _Rows:
    """Implements `fed_em.row_stream.RowStream`."""

    _table: TableFiles
    _schema: ColumnSchema

    @property
    def n_columns(self) -> int:
        return len(self._schema.columns)

    def __iter__(self) -> Iterator[Rows]:
        return in_blocks(map(self._encoded, self._table._batches(self._schema.names)), block_rows(self.n_columns))

    def _encoded(self, batch: pa.RecordBatch) -> Rows:
        return self._schema.encode({name: _cells(batch[name]) for name in self._schema.names})


@dataclass(frozen=True)
class _Records:
    """Implements `fed_em.row_stream.RecordStream`."""

    _table: TableFiles
    _schema: ColumnSchema
    _weights: str | None
    _labels: str | None
    _n_components: int

    @property
    def n_columns(self) -> int:
        return len(self._schema.columns)

    def __iter__(self) -> Iterator[Records]:
        names = dict.fromkeys((*self._schema.names, *filter(None, (self._weights, self._labels))))
        parts = map(self._side_by_side, self._table._batches(tuple(names)))
        return map(self._apart, in_blocks(parts, block_rows(self.n_columns)))

    def _side_by_side(self, batch: pa.RecordBatch) -> Rows:
        """Rows, weights, and labels as 0 and 1, `(n, D + 1 + K)`: cut into blocks as one."""
        rows = self._schema.encode({name: _cells(batch[name]) for name in self._schema.names})
        weights = np.ones(len(rows)) if self._weights is None else _weights_of(self._weights, batch[self._weights])
        if self._labels is None:
            return np.column_stack((rows, weights))
        labels = _cells(batch[self._labels])
        admissible = checked_components(f"column '{self._labels}'", labels, self._n_components)
        return np.column_stack((rows, weights, admissible))

    def _apart(self, block: Rows) -> Records:
        d = self.n_columns
        weights = None if self._weights is None else block[:, d].copy()
        largest = 1.0 if weights is None else float(weights.max()) or 1.0
        admissible = None if self._labels is None else block[:, d + 1 :] == 1
        return Records(block[:, :d].copy(), weights, admissible, largest)


def _weights_of(name: str, column: pa.Array) -> Rows:
    cells = _cells(column)
    if isinstance(cells, CodedCells):
        raise CallerError(f"column '{name}' holds values that are not numbers, and no weights")
    wrong = int(np.sum(~((cells >= 0) & (cells < np.inf))))
    if wrong:
        raise CallerError(
            f"{wrong} values of column '{name}' are no weights", remedy="give every row a number of at least 0"
        )
    return cells


def _cells(column: pa.Array) -> Cells:
    is_a = pa.types
    kind = column.type
    if is_a.is_boolean(kind):
        column, kind = column.cast(pa.int8()), pa.int8()
    if is_a.is_integer(kind) or is_a.is_floating(kind) or is_a.is_decimal(kind) or is_a.is_null(kind):
        # Unchecked, as integers beyond 2^53 may be rounded; nulls become NaN.
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    if not (is_a.is_dictionary(kind) or is_a.is_string(kind) or is_a.is_large_string(kind)):
        return cells_of(column.to_pylist())
    coded = column if is_a.is_dictionary(kind) else column.dictionary_encode()
    places = pc.fill_null(coded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return CodedCells(tuple(coded.dictionary.to_pylist()), np.asarray(places, dtype=np.intp))


def _wide(column: pa.Field, text: frozenset[str]) -> pa.DataType:
    """The type to read a CSV file's column as, which later rows fit too."""
    if column.name in text:
        return pa.string()
    narrow = pa.types.is_integer(column.type) or pa.types.is_null(column.type)
    return pa.float64() if narrow else column.type


def _is_parquet(dataset: pad.Dataset) -> bool:
    return isinstance(dataset, pad.FileSystemDataset) and isinstance(dataset.format, pad.ParquetFileFormat)


@contextmanager
def _trouble_with(label: str, names: Sequence[str]) -> Iterator[None]:
    """Turns what Arrow raises into whose fault it is. Its texts can quote cells, so they are not passed on."""
    try:
        yield
    except pa.ArrowInvalid as error:
        found = _NOT_OF_ITS_TYPE.search(str(error))
        if found is None or int(found[1]) >= len(names):
            raise CallerError(
                f"{label} is no readable table: empty, truncated, or of another kind", remedy="write the file again"
            ) from None
        name = names[int(found[1])]
        raise CallerError(
            f"{label}: column '{name}' holds values that are no {found[2]}, as its first rows are",
            remedy=f"read it as text, with text=['{name}'], or mend the file",
        ) from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read {label}: {error.strerror or 'the disk does not give it'}") from None
