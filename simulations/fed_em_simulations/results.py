"""The results of simulations: a long table, one row for each outcome of each cell, that prints itself and becomes a Parquet file."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fed_em.errors import CallerError, EnvironmentFault

Value = float | int | str | bool | None
Row = Mapping[str, Value]

# Columns that tell rows of one cell apart from those of another run of it.
REPLICATE = "replicate"

# Why there is nothing in the other columns, or no model; empty if nothing failed.
FAILURE = "failure"


@dataclass(frozen=True)
class Summary:
    """One quantity over the replicates; NaN where there is none.

    Attributes:
        mean, low, high: Its mean, least and greatest value.
        error: The standard error of the mean, s / √n, replicates being independent; NaN of a single one.
    """

    mean: float
    low: float
    high: float
    error: float = math.nan

    @classmethod
    def of(cls, values: Sequence[Value]) -> Summary:
        """Of the numbers among the values; a truth value counts as 0 or 1."""
        numbers = [float(v) for v in values if isinstance(v, int | float) and not math.isnan(v)]
        if not numbers:
            return cls(math.nan, math.nan, math.nan)
        error = statistics.stdev(numbers) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
        return cls(sum(numbers) / len(numbers), min(numbers), max(numbers), error)

    def __str__(self) -> str:
        """The mean, and behind ± its standard error by two digits, if replicates differ."""
        if not self.error > 0:
            return text_of(self.mean)
        return f"{text_of(self.mean)} ± {self.error:.2g}"


@dataclass(frozen=True)
class Results:
    """Rows of results.

    Attributes:
        rows: Each with the same columns, in the same order.
        keys: The columns that say what a row is of, besides the replicate: swept fields, methods; the others are measured.
    """

    rows: tuple[Row, ...]
    keys: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[Row], keys: tuple[str, ...]) -> Results:
        """Results of rows of which some lack columns that others have: they have no number there, no name and no truth value."""
        whole = max(rows, key=len, default={})
        of_kind = {
            name: "" if isinstance(value, str) else None if isinstance(value, bool) else math.nan
            for name, value in whole.items()
        }
        lacking: dict[str, Value] = {FAILURE: "", **of_kind, **dict.fromkeys(keys)}
        columns = tuple(dict.fromkeys(name for row in (whole, *rows) for name in row))
        return cls(tuple({name: row.get(name, lacking[name]) for name in columns} for row in rows), keys)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(self.rows[0]) if self.rows else ()

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the columns that hold what was measured."""
        return tuple(name for name in self.columns if name not in self.keys and name != REPLICATE)

    @property
    def told(self) -> Results:
        """The rows of which it is known what they are of: not of runs that failed before there was any."""
        return Results(tuple(row for row in self.rows if None not in (row[key] for key in self.keys)), self.keys)

    @property
    def failures(self) -> str:
        """How many rows tell of a failure, and the commonest reason; empty if none does."""
        reasons = Counter(str(row[FAILURE]) for row in self.rows if row.get(FAILURE))
        if not reasons:
            return ""
        commonest = reasons.most_common(1)[0][0]
        return f"{reasons.total()} of {len(self.rows)} rows tell of a failure, most often: {commonest}"

    @property
    def replicates(self) -> int:
        """How many there are."""
        return len({row[REPLICATE] for row in self.rows})

    def values(self, column: str) -> tuple[Value, ...]:
        """Distinct values of a column, in the order in which they come.

        Raises:
            CallerError: there is no such column.
        """
        if column not in self.columns:
            raise CallerError(f"no column '{column}' in these results", remedy=f"there are {', '.join(self.columns)}")
        return tuple(dict.fromkeys(row[column] for row in self.rows))

    def where(self, **wanted: Value) -> Results:
        """The rows with these values; names of swept fields contain dots: give them as `**{"a.b": value}`."""
        kept = tuple(row for row in self.rows if all(row[name] == value for name, value in wanted.items()))
        return Results(kept, self.keys)

    def groups(self) -> Iterator[tuple[tuple[Value, ...], Results]]:
        """The values of the keys, and the rows that have them: one for each replicate."""
        grouped: dict[tuple[Value, ...], list[Row]] = {}
        for row in self.rows:
            grouped.setdefault(tuple(row[key] for key in self.keys), []).append(row)
        for values, rows in grouped.items():
            yield values, Results(tuple(rows), self.keys)

    def summary(self, column: str) -> Summary:
        """A measured column over all rows here."""
        self.values(column)
        return Summary.of([row[column] for row in self.rows])

    def mean(self, column: str, **wanted: Value) -> float:
        """The mean of a measured column over the rows with these values."""
        return self.where(**wanted).summary(column).mean

    def write_parquet(self, path: Path) -> None:
        """Write all rows.

        Raises:
            EnvironmentFault: the file cannot be written.
        """
        table = pa.table({name: [row[name] for row in self.rows] for name in self.columns})
        try:
            pq.write_table(table, path)
        except OSError as error:
            raise EnvironmentFault(f"cannot write '{path}': {error.strerror}") from error

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Heading and lines of means over the replicates, as text, with their standard errors where replicates differ.

        Columns in which there is nothing are left out.
        """
        measured = [name for name in self.measured if not math.isnan(self.summary(name).mean)]
        lines = [
            (*map(text_of, values), *(str(group.summary(name)) for name in measured))
            for values, group in self.told.groups()
        ]
        return (*self.keys, *measured), lines

    def __str__(self) -> str:
        heading, lines = self.table()
        widths = [max(map(len, column)) for column in zip(heading, *lines, strict=True)]
        numbers = len(self.keys)

        def line(cells: Sequence[str]) -> str:
            placed = (
                c.ljust(w) if i < numbers else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
            )
            return "  ".join(placed).rstrip()

        note = f"means over {self.replicates} replicates ± standard errors\n" if self.replicates > 1 else ""
        return note + "\n".join(line(cells) for cells in (heading, *lines))

    def __repr__(self) -> str:
        return str(self)


def text_of(value: Value) -> str:
    """A value as a table shows it: numbers by five significant digits, or as many as a whole number has."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return ""
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.5g}" if abs(value) >= 1e-3 else f"{value:.2g}"
