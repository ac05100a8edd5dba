"""The cells of one column as arrays: numbers with NaN where missing, or places among the distinct values of any kind."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CodedCells:
    """Cells that are not all numbers.

    Attributes:
        values: The distinct ones.
        places: `(n,)`, which of them each cell is, −1 where it is missing.
    """

    values: tuple[Any, ...]
    places: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.places)

    def numbers(self, of_values: Iterable[float]) -> Vector:
        """The cells `(n,)` with a number in place of each value, NaN where missing."""
        return np.array([*of_values, np.nan])[self.places]


Cells = Vector | CodedCells


def cells_of(column: Iterable[Any] | Cells) -> Cells:
    """The cells of a column: anything that can be iterated over; None, NaN and pandas' NA are missing."""
    if isinstance(column, CodedCells):
        return column
    kind = getattr(column, "dtype", None)
    if isinstance(kind, np.dtype) and kind.kind in "biuf":
        return np.asarray(column, dtype=np.float64)
    cells = [value.item() if isinstance(value, np.generic) else value for value in column]
    if all(isinstance(value, int | float) or _is_missing(value) for value in cells):
        return np.array([np.nan if _is_missing(value) else float(value) for value in cells], dtype=np.float64)
    # Keyed by the type too: 1, 1.0 and True are equal.
    places: dict[tuple[type, Any], int] = {}
    coded = [-1 if _is_missing(value) else places.setdefault((type(value), value), len(places)) for value in cells]
    return CodedCells(tuple(value for _, value in places), np.array(coded, dtype=np.intp))


def label_of(value: Any) -> str:
    """A level's label: whole numbers have one label, whether or not a missing cell made their column floating."""
    if isinstance(value, bool | float) and math.isfinite(value) and float(value).is_integer():
        return str(int(value))
    return str(value)


def level_of(value: Any, levels: Container[str]) -> str:
    """The one of some levels that a cell stands for, by the label of its value; its own label if it is none of them.

    Of a text blanks around it do not count, and "2.0" is level "2" where none is called "2.0".
    """
    label = label_of(value)
    if label in levels or not isinstance(value, str):
        return label
    label = label.strip()
    if label in levels:
        return label
    try:
        return label_of(float(label))
    except ValueError:
        return label


def coded(cells: Cells) -> CodedCells:
    """Cells as places among their distinct values, numbers too."""
    if isinstance(cells, CodedCells):
        return cells
    values, places = np.unique(cells, return_inverse=True)
    missing = np.isnan(cells)
    places = np.where(missing, -1, places.reshape(cells.shape)).astype(np.intp)
    return CodedCells(tuple(values[~np.isnan(values)].tolist()), places)


def _is_missing(value: Any) -> bool:
    # pandas' NA is known by its name, as pandas itself is not needed here.
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"
