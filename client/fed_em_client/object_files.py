"""Rows in an object store: the CSV and Parquet files under URIs, and the part of them that one shard reads.

    s3://bucket/rows/                                           credentials and region from the environment
    s3://bucket/rows/?endpoint_override=store:9000&scheme=http  another store that speaks the protocol of S3
    gs://bucket/rows/a.parquet
    file:///mnt/rows/

Files stand one after another in the order of their names, as one table. Which rows a shard reads follows from the numbers of rows and of
shards alone; of a Parquet file it reads the row groups that it needs, a CSV file is read as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet

from fed_em.errors import CallerError, EnvironmentFault

_SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class ObjectFile:
    """One file in a store.

    Attributes:
        label: What it is called in errors; nothing of the store's credentials.
        filesystem, key: Where it lies.
        n_rows: How many rows it has.
    """

    label: str
    filesystem: Any = field(repr=False)
    key: str = field(repr=False)
    n_rows: int

    @property
    def suffix(self) -> str:
        """`.csv` or `.parquet`."""
        return _suffix(self.key)

    def stream(self) -> Any:
        """Its bytes, from the beginning."""
        return self.filesystem.open_input_stream(self.key)


@dataclass(frozen=True)
class ObjectPart:
    """The rows from `start` to before `stop` of a file."""

    file: ObjectFile
    start: int
    stop: int

    def __str__(self) -> str:
        whole = (self.start, self.stop) == (0, self.file.n_rows)
        return self.file.label if whole else f"{self.file.label} (rows {self.start + 1} to {self.stop})"

    @property
    def suffix(self) -> str:
        """`.csv` or `.parquet`."""
        return self.file.suffix

    @contextmanager
    def parquet(self) -> Iterator[pyarrow.parquet.ParquetFile]:
        """The file, opened."""
        with self.file.filesystem.open_input_file(self.file.key) as source, pyarrow.parquet.ParquetFile(source) as file:
            yield file

    def rows_of_parquet(self, file: pyarrow.parquet.ParquetFile, columns: Sequence[str]) -> pa.Table:
        """Its rows; of the file no more row groups are read than hold them."""
        groups, first, begin = [], None, 0
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            if begin < self.stop and end > self.start:
                groups.append(group)
                first = begin if first is None else first
            begin = end
        table = file.read_row_groups(groups, columns=list(columns))
        return table.slice(self.start - (first or 0), self.stop - self.start)


def check_uri(uri: str) -> str:
    """The URI. Raises `ValueError` unless it is one that names its store and holds no credentials."""
    parts = urlsplit(uri)
    if not parts.scheme or "://" not in uri:
        raise ValueError(f"'{uri}' is no URI such as s3://bucket/rows/ or file:///mnt/rows/")
    if parts.username is not None or parts.password is not None:
        # The text itself is not repeated: it may be shown.
        raise ValueError(f"a URI of {parts.scheme}:// holds credentials: leave them to the environment of the shards")
    return uri


def object_files(uris: Sequence[str]) -> tuple[ObjectFile, ...]:
    """The files that URIs name, and those under folders that they name, by name; with their numbers of rows.

    Raises:
        CallerError: a store or a file is not there, or a file is damaged or of no known kind.
        EnvironmentFault: the store does not answer.
    """
    return tuple(file for uri in uris for file in _files_of(uri))


def part_of(
    files: Sequence[ObjectFile], index: int, count: int, shard_records: int
) -> tuple[range, tuple[ObjectPart, ...]]:
    """Which shards of `shard_records` records the one of `count` processes with this index holds, and their rows.

    Shards are those of the whole table, so no bit of a sum depends on how many processes there are.
    """
    shards = max(-(-sum(file.n_rows for file in files) // shard_records), 1)
    numbers = range(index * shards // count, (index + 1) * shards // count)
    begin, parts = 0, []
    for file in files:
        start = max(numbers.start * shard_records - begin, 0)
        stop = min(numbers.stop * shard_records - begin, file.n_rows)
        if start < stop:
            parts.append(ObjectPart(file, start, stop))
        begin += file.n_rows
    return numbers, tuple(parts)


def _files_of(uri: str) -> Iterator[ObjectFile]:
    label = uri.partition("?")[0]
    with trouble_with_store(label):
        filesystem, key = pyarrow.fs.FileSystem.from_uri(uri)
        found = filesystem.get_file_info(key)
        if found.type == pyarrow.fs.FileType.NotFound:
            raise CallerError(f"there is nothing at {label}", remedy="set `data` under [shards] to where the rows lie")
        if found.is_file:
            infos = [found]
        else:
            inside = filesystem.get_file_info(pyarrow.fs.FileSelector(key, recursive=True))
            infos = sorted(
                (info for info in inside if info.is_file and _suffix(info.path) in _SUFFIXES),
                key=lambda info: info.path,
            )
    if not infos:
        raise CallerError(f"{label} holds no {' or '.join(_SUFFIXES)} file")
    scheme = urlsplit(uri).scheme
    for info in infos:
        name = f"{scheme}://{info.path}"
        yield ObjectFile(name, filesystem, info.path, _count_rows(name, filesystem, info.path))


def _count_rows(label: str, filesystem: Any, key: str) -> int:
    if _suffix(key) not in _SUFFIXES:
        raise CallerError(f"{label}: no reader for such files", remedy=f"use {' or '.join(_SUFFIXES)}")
    with trouble_with_store(label):
        if _suffix(key) == ".parquet":
            with filesystem.open_input_file(key) as source, pyarrow.parquet.ParquetFile(source) as file:
                return int(file.metadata.num_rows)
        with pyarrow.csv.open_csv(filesystem.open_input_stream(key)) as opened:
            # As text: how many rows there are must not depend on what their cells are.
            names = dict.fromkeys(opened.schema.names, pa.string())
        as_text = pyarrow.csv.ConvertOptions(column_types=names)
        with pyarrow.csv.open_csv(filesystem.open_input_stream(key), convert_options=as_text) as opened:
            return sum(batch.num_rows for batch in opened)


@contextmanager
def trouble_with_store(label: str) -> Iterator[None]:
    """Turns what Arrow raises into whose fault it is. Its texts can quote cells and addresses, so they are not passed on."""
    try:
        yield
    except FileNotFoundError:
        raise CallerError(f"there is nothing at {label}") from None
    except pa.ArrowException:
        raise CallerError(f"{label} is no readable table: empty, truncated, or of another kind") from None
    except OSError as error:
        raise EnvironmentFault(
            f"the store does not give {label} ({error.strerror or type(error).__name__})",
            remedy="see whether the store answers from here, and whether the shards' credentials may list and read it",
        ) from None


def _suffix(key: str) -> str:
    return f".{key.rpartition('.')[2].lower()}"
