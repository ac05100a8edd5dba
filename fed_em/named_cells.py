"""One row as its cells by the columns' names, in natural units, made the numbers that a model reads.

A Gaussian cell is a number, a categorical one a level as text (a number is taken for the level of that label), a Bernoulli one 0, 1,
false or true, a Poisson one a whole number. A cell that is None, NaN or absent is missing. Errors name the row and the column and
never a value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.column_cells import level_of
from fed_em.columns import BernoulliColumn, CategoricalColumn, Column, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.description import nearest
from fed_em.errors import CallerError

Vector = NDArray[np.float64]

_NO_AND_YES = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
# So much of a column's name that there is not is told.
_LONGEST_NAME = 64


class WrongCell(CallerError):
    """A cell does not fit its column, or its column is none of the model's.

    Attributes:
        row: The number of the row in its request, from 0.
        column: The column's name.
    """

    def __init__(self, row: int, column: str, what: str, *, remedy: str) -> None:
        super().__init__(f"row {row}, column '{column}': {what}", remedy=remedy)
        self.row, self.column = row, column


class NamedCells:
    """Reads rows of a schema."""

    def __init__(self, schema: ColumnSchema) -> None:
        self.schema = schema
        self._readers = {column.name: (d, _reader_of(column), column) for d, column in enumerate(schema.columns)}

    def row(self, cells: Mapping[str, Any], number: int = 0) -> Vector:
        """The row `(D,)`, NaN where a cell is missing.

        Args:
            cells: By name; not all need be there.
            number: Of the row, for messages.

        Raises:
            WrongCell: a name is none of the schema's, or a cell is no value of its column.
        """
        row = np.full(len(self._readers), np.nan)
        for name, cell in cells.items():
            if name not in self._readers:
                shown = str(name)[:_LONGEST_NAME]
                raise WrongCell(number, shown, "the model has no such column", remedy=nearest(shown, self.schema.names))
            if cell is None:
                continue
            d, reader, column = self._readers[name]
            value = reader(cell)
            if value is None:
                what, remedy = _complaint(column)
                raise WrongCell(number, name, what, remedy=f"{remedy}, and null or nothing where it is missing")
            row[d] = value
        return row

    def cells(self, row: Vector) -> dict[str, float | int | str | None]:
        """The cells of a row `(D,)` that fits the schema, by name; None where missing."""
        each = zip(self.schema.columns, row.tolist(), strict=True)
        return {column.name: None if math.isnan(value) else _written(column, value) for column, value in each}


def _reader_of(column: Column) -> Callable[[Any], float | None]:
    """What makes a cell a number, NaN if it is missing, None if it does not fit."""
    match column:
        case CategoricalColumn(levels=levels):
            codes = {level: float(code) for code, level in enumerate(levels)}
            return lambda cell: _level(cell, codes)
        case BernoulliColumn():
            return _truth
        case PoissonColumn():
            return _count
        case _:
            return _number


def _written(column: Column, value: float) -> float | int | str:
    match column:
        case GaussianColumn():
            return value
        case CategoricalColumn(levels=levels):
            return levels[int(value)]
        case _:
            return int(value)


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool) or not isinstance(cell, int | float | np.integer | np.floating):
        return None
    try:
        value = float(cell)
    except OverflowError:  # a whole number beyond the range of float64
        return None
    return None if math.isinf(value) else value


def _level(cell: Any, codes: Mapping[str, float]) -> float | None:
    if isinstance(cell, float) and math.isnan(cell):
        return math.nan
    return codes.get(level_of(cell, codes)) if isinstance(cell, str | bool | int | float) else None


def _truth(cell: Any) -> float | None:
    if isinstance(cell, bool):
        return float(cell)
    if isinstance(cell, str):
        return _NO_AND_YES.get(cell.lower())
    value = _number(cell)
    return value if value in (0.0, 1.0) or (value is not None and math.isnan(value)) else None


def _count(cell: Any) -> float | None:
    value = _number(cell)
    if value is None or math.isnan(value):
        return value
    return value if value >= 0 and value.is_integer() else None


def _complaint(column: Column) -> tuple[str, str]:
    """What is wrong with a cell of a column, and what to write there."""
    match column:
        case CategoricalColumn(levels=levels):
            return f"the cell is none of its {len(levels)} levels", "give one of the model's levels as text"
        case BernoulliColumn():
            return "the cell is neither 0 nor 1", "give 0, 1, false or true"
        case PoissonColumn():
            return "the cell is no whole number from 0", "give a count"
        case _:
            return "the cell is no finite number", "give a number"
