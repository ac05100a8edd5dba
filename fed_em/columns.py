"""The columns of a table of mixed kinds, and how its cells become numbers.

A row is a vector of float64 whatever its columns are: a Gaussian cell stands for itself, a categorical one for the
number of its level (from 0), a Bernoulli one for 0 or 1, a Poisson one for its count. NaN is a missing cell in all kinds.

A schema is given, or inferred from a table by the rule of `fed_em.column_evidence`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.column_cells import Cells, CodedCells, cells_of, coded, level_of
from fed_em.column_evidence import MOST_LEVELS, ColumnEvidence
from fed_em.coordinates import Coordinates
from fed_em.description import check_real, nearest, read_mapping
from fed_em.errors import CallerError

Vector = NDArray[np.float64]

# A mapping of column names to cells, or whatever behaves as one, such as a data frame; or an array `(n, D)`.
Table = Mapping[str, Sequence[Any]] | Mapping[str, Cells] | NDArray[Any]


@dataclass(frozen=True)
class GaussianColumn:
    """Real numbers; all Gaussian columns are one block, jointly Gaussian within a component.

    Attributes:
        name: The column's name, not empty.
    """

    name: str
    kind = "gaussian"


@dataclass(frozen=True)
class CategoricalColumn:
    """One of finitely many levels without an order.

    Attributes:
        name: The column's name, not empty.
        levels: At least two distinct labels.
    """

    name: str
    levels: tuple[str, ...]
    kind = "categorical"

    def __post_init__(self) -> None:
        if isinstance(self.levels, str) or not isinstance(self.levels, Sequence):
            raise CallerError(f"the levels of column '{self.name}' are not a list of labels")
        object.__setattr__(self, "levels", tuple(self.levels))
        if not all(isinstance(level, str) for level in self.levels):
            raise CallerError(f"a level of column '{self.name}' is not a string", remedy="write levels as text")
        if len(self.levels) < 2 or len(set(self.levels)) < len(self.levels):
            raise CallerError(
                f"column '{self.name}' needs at least two distinct levels", remedy="leave a column of one level out"
            )


@dataclass(frozen=True)
class BernoulliColumn:
    """No or yes, 0 or 1.

    Attributes:
        name: The column's name, not empty.
    """

    name: str
    kind = "bernoulli"


@dataclass(frozen=True)
class PoissonColumn:
    """Counts: whole numbers from 0.

    Attributes:
        name: The column's name, not empty.
        upper: The largest count that layouts make room for, positive. Sessions refuse greater ones; a model scores them.
    """

    name: str
    upper: float
    kind = "poisson"

    def __post_init__(self) -> None:
        check_real(f"the upper end of column '{self.name}'", self.upper, 0.0, strict=True)


Column = GaussianColumn | CategoricalColumn | BernoulliColumn | PoissonColumn

KINDS: Mapping[str, tuple[type[Column], tuple[str, ...]]] = {
    "gaussian": (GaussianColumn, ()),
    "categorical": (CategoricalColumn, ("levels",)),
    "bernoulli": (BernoulliColumn, ()),
    "poisson": (PoissonColumn, ("upper",)),
}


@dataclass(frozen=True)
class ColumnSchema:
    """The columns of a row, in its order.

    Attributes:
        columns: At least one; names are distinct.

    Raises:
        CallerError: there is no column, or two have one name.
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        if not self.columns:
            raise CallerError("a schema needs at least one column")
        for column in self.columns:
            if not isinstance(column, Column):
                raise CallerError(f"a column of a schema is a {type(column).__name__}")
            if not isinstance(column.name, str) or not column.name:
                raise CallerError("a column's name must be a non-empty string")
        if len(set(self.names)) < len(self.columns):
            raise CallerError("two columns of a schema have the same name")

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(column.name for column in self.columns)

    def _places(self, kind: type[Column]) -> NDArray[np.intp]:
        return np.array([d for d, column in enumerate(self.columns) if isinstance(column, kind)], dtype=np.intp)

    @cached_property
    def gaussian(self) -> NDArray[np.intp]:
        """Where the Gaussian columns stand in a row."""
        return self._places(GaussianColumn)

    @cached_property
    def categorical(self) -> NDArray[np.intp]:
        """Where the categorical columns stand in a row."""
        return self._places(CategoricalColumn)

    @cached_property
    def bernoulli(self) -> NDArray[np.intp]:
        """Where the Bernoulli columns stand in a row."""
        return self._places(BernoulliColumn)

    @cached_property
    def poisson(self) -> NDArray[np.intp]:
        """Where the Poisson columns stand in a row."""
        return self._places(PoissonColumn)

    @cached_property
    def level_slices(self) -> tuple[slice, ...]:
        """The part of each categorical column in an array over the levels of all of them."""
        sizes = [len(column.levels) for column in self.columns if isinstance(column, CategoricalColumn)]
        ends = list(accumulate(sizes))
        return tuple(slice(end - size, end) for size, end in zip(sizes, ends, strict=True))

    @property
    def n_levels(self) -> int:
        """Number of levels of all categorical columns together."""
        return self.level_slices[-1].stop if self.level_slices else 0

    @cached_property
    def upper_counts(self) -> Vector:
        """The declared largest count of each Poisson column."""
        return np.array([column.upper for column in self.columns if isinstance(column, PoissonColumn)])

    def describe(self) -> list[Mapping[str, Any]]:
        """The columns as JSON-able values."""
        described: list[Mapping[str, Any]] = []
        for column in self.columns:
            fields: dict[str, Any] = {"name": column.name, "kind": column.kind}
            if isinstance(column, CategoricalColumn):
                fields["levels"] = list(column.levels)
            elif isinstance(column, PoissonColumn):
                fields["upper"] = column.upper
            described.append(fields)
        return described

    @classmethod
    def from_description(cls, description: object) -> ColumnSchema:
        """The schema that `describe` described.

        Raises:
            CallerError: a key or kind is unknown or missing, or a value is out of its range.
        """
        if not isinstance(description, Sequence) or isinstance(description, str):
            raise CallerError("the columns of a schema must be a list")
        return cls(tuple(_column_of(fields) for fields in description))

    @classmethod
    def infer(cls, table: Table, kinds: Mapping[str, str] | None = None) -> ColumnSchema:
        """The schema of a table, by the rule of `fed_em.column_evidence`.

        For use on data of one's own: the levels and the largest count of a Poisson column are those that the
        table happens to hold. Other rows may hold greater counts. Levels that the table did not show are refused, as nothing is
        known of their probability: declare them, and a prior gives them some, or leave such cells empty. Parties that share a
        schema declare it.

        Args:
            table: A mapping of column names to cells, a data frame, or an array `(n, D)`, whose columns are called
                x0, x1, …; None, NaN and pandas' NA are missing cells.
            kinds: The kinds of columns that are not to be inferred, by name.

        Raises:
            CallerError: a column has no value at all, does not fit its kind, or a name or kind is unknown.
        """
        return cls.of_evidence(evidence_of(table), kinds)

    @classmethod
    def of_evidence(
        cls, evidence: Mapping[str, ColumnEvidence], kinds: Mapping[str, str] | None = None
    ) -> ColumnSchema:
        """As `infer`, from what the columns of a table show."""
        kinds = dict(kinds or {})
        for name, kind in kinds.items():
            if name not in evidence:
                raise CallerError(f"the table has no column '{name}'", remedy=nearest(str(name), list(evidence)))
            if kind not in KINDS:
                raise CallerError(f"no kind of columns '{kind}'", remedy=nearest(str(kind), KINDS))
        return cls(tuple(inferred_column(name, shown, kinds.get(name)) for name, shown in evidence.items()))

    def encode(self, table: Table) -> Vector:
        """The rows `(n, D)` of a table with these columns; other columns of it are left out.

        Raises:
            CallerError: a column is missing, or holds values that do not fit it (their number is told, never a value).
        """
        cells = _cells_by_name(table)
        if isinstance(table, np.ndarray):
            if len(cells) != len(self.columns):
                raise CallerError(f"the table has {len(cells)} columns, the schema {len(self.columns)}")
            cells = dict(zip(self.names, cells.values(), strict=True))
        for name in self.names:
            if name not in cells:
                raise CallerError(f"the table has no column '{name}'", remedy=nearest(name, list(cells)))
        columns = [_encoded(column, cells[column.name]) for column in self.columns]
        if len({len(column) for column in columns}) > 1:
            raise CallerError("the columns of the table differ in length")
        rows = np.stack(columns, axis=1)
        self.check_rows(rows)
        return rows

    def decode(self, rows: Vector) -> dict[str, list[Any]]:
        """The table of rows `(n, D)`: levels as labels, counts and Bernoulli cells as whole numbers, None where missing."""
        self.check_rows(rows)
        return {column.name: _decoded(column, rows[:, d]) for d, column in enumerate(self.columns)}

    def coordinates(self, of_gaussian: Coordinates) -> Coordinates:
        """Coordinates of all columns: the given ones of the Gaussian columns, and all others as they are."""
        location, scale = np.zeros(len(self.columns)), np.ones(len(self.columns))
        location[self.gaussian], scale[self.gaussian] = of_gaussian.location, of_gaussian.scale
        return Coordinates(location, scale)

    def check_coordinates(self, coordinates: Coordinates) -> None:
        """Raise `CallerError`, naming the column, unless coordinates leave all but Gaussian columns as they are."""
        for d, column in enumerate(self.columns):
            moved = coordinates.location[d] != 0 or coordinates.scale[d] != 1
            if moved and not isinstance(column, GaussianColumn):
                raise CallerError(
                    f"column '{column.name}' is {column.kind}, and the coordinates move or scale it",
                    remedy="leave its location at 0 and its scale at 1",
                )

    def levels_of(self, place: int, shares: Vector) -> dict[str, float]:
        """What stands beside each level of the categorical or Bernoulli column at a place, "0" and "1" of the latter, by level.

        Args:
            place: d, of the column.
            shares: `(L,)`, one number a level.
        """
        column = self.columns[place]
        levels = column.levels if isinstance(column, CategoricalColumn) else ("0", "1")
        return dict(zip(levels, shares.tolist(), strict=True))

    def check_width(self, rows: Vector) -> None:
        """Raise `CallerError` unless rows are `(n, D)`."""
        if rows.ndim != 2 or rows.shape[1] != len(self.columns):
            raise CallerError(f"rows of shape {rows.shape} are not of {len(self.columns)} columns")

    def check_rows(self, rows: Vector) -> None:
        """Raise `CallerError`, naming the column and the number of wrong cells, unless `(n, D)` rows fit the schema."""
        self.check_width(rows)
        for d, column in enumerate(self.columns):
            cells = rows[:, d]
            match column:
                case GaussianColumn():
                    good, what = ~np.isinf(cells), "finite"
                case CategoricalColumn():
                    good, what = _whole(cells, len(column.levels) - 1), "numbers of its levels"
                case BernoulliColumn():
                    good, what = _whole(cells, 1), "0 or 1"
                case PoissonColumn():
                    good, what = _whole(cells), "whole numbers from 0"
            wrong = int(np.sum(~(good | np.isnan(cells))))
            if wrong:
                raise CallerError(
                    f"{wrong} values of column '{column.name}' are not {what}",
                    remedy="correct the column or its declaration, and write NaN where a value is missing",
                )

    def check_declared(self, rows: Vector) -> None:
        """Raise `CallerError`, naming the column, if `(n, D)` rows hold counts beyond what layouts make room for; for sessions."""
        above = (rows[:, self.poisson] > self.upper_counts).sum(axis=0)
        for place in np.flatnonzero(above):
            name, upper = self.names[int(self.poisson[place])], self.upper_counts[place]
            raise CallerError(
                f"{above[place]} values of column '{name}' are above the declared largest count, {upper:g}",
                remedy="declare a larger `upper`, or leave such rows out",
            )


def _column_of(fields: object) -> Column:
    # The kind first, as it says which keys there are.
    if not isinstance(fields, Mapping) or not isinstance(fields.get("kind"), str) or fields["kind"] not in KINDS:
        kind = fields.get("kind") if isinstance(fields, Mapping) else fields
        raise CallerError(f"no kind of columns {kind!r}", remedy=nearest(str(kind), KINDS))
    of_kind, own = KINDS[fields["kind"]]
    values = dict(read_mapping(f"a {fields['kind']} column", fields, ("name", "kind", *own)))
    del values["kind"]
    return of_kind(**values)


def _whole(cells: Vector, upper: float = np.inf) -> NDArray[np.bool_]:
    return np.asarray((cells >= 0) & (cells <= upper) & (cells < np.inf) & (cells == np.floor(cells)))


def evidence_of(table: Table) -> dict[str, ColumnEvidence]:
    """What each column of a table shows, by name; a table as `ColumnSchema.infer` takes it."""
    return {name: ColumnEvidence.of(cells) for name, cells in _cells_by_name(table).items()}


def inferred_column(name: str, shown: ColumnEvidence, kind: str | None = None) -> Column:
    """The column of a kind, or of the kind that its cells show.

    Raises:
        CallerError: it has no value at all, or does not fit the kind.
    """
    if not shown.observed:
        raise CallerError(f"column '{name}' holds no value at all", remedy="leave the column out")
    kind = shown.kind if kind is None else kind
    if kind == "categorical":
        if shown.labels is None:
            raise CallerError(
                f"column '{name}' has more than {MOST_LEVELS} levels",
                remedy="leave the column out, or group its levels",
            )
        return CategoricalColumn(name, shown.levels)
    if not shown.numeric:
        raise CallerError(f"column '{name}' holds values that are not numbers", remedy="declare it categorical")
    if kind == "poisson":
        return PoissonColumn(name, max(1.0, shown.high))
    return BernoulliColumn(name) if kind == "bernoulli" else GaussianColumn(name)


def _cells_by_name(table: Table) -> dict[str, Cells]:
    if isinstance(table, np.ndarray):
        if table.ndim != 2:
            raise CallerError(f"an array of shape {table.shape} is not a table", remedy="give shape (n, D)")
        return {f"x{d}": cells_of(column) for d, column in enumerate(table.T)}
    return {str(name): cells_of(table[name]) for name in table}


def _encoded(column: Column, cells: Cells) -> Vector:
    if isinstance(column, CategoricalColumn):
        return _coded_levels(column, coded(cells))
    if not isinstance(cells, CodedCells):
        return cells
    wrong = int(np.sum(cells.numbers(not isinstance(value, int | float) for value in cells.values) == 1))
    raise CallerError(f"{wrong} values of column '{column.name}' are not numbers", remedy="declare it categorical")


def _coded_levels(column: CategoricalColumn, cells: CodedCells) -> Vector:
    codes = {level: float(code) for code, level in enumerate(column.levels)}
    encoded = cells.numbers(codes.get(level_of(value, codes), -1.0) for value in cells.values)
    unknown = int(np.sum(encoded == -1))
    if unknown:
        raise CallerError(
            f"{unknown} values of column '{column.name}' are none of its {len(codes)} levels",
            remedy="declare all levels, or leave such cells empty",
        )
    return encoded


def _decoded(column: Column, cells: Vector) -> list[Any]:
    match column:
        case GaussianColumn():
            return [None if np.isnan(value) else float(value) for value in cells]
        case CategoricalColumn():
            return [None if np.isnan(value) else column.levels[int(value)] for value in cells]
        case _:
            return [None if np.isnan(value) else int(value) for value in cells]
