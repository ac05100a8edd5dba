"""The cells of one column of a data file, as numbers: by what the session declares of the column.

What does not fit is counted and told in words, never shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fed_em.column_cells import cells_of, level_of
from fed_em.columns import BernoulliColumn, CategoricalColumn, Column, PoissonColumn
from fed_em.partial_labels import BETWEEN_COMPONENTS, admissible_components

Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]

_NO_AND_YES = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}


@dataclass(frozen=True)
class Complaint:
    """What is wrong with some cells of a column.

    Attributes:
        wrong: `(n,)`, which cells.
        what: What they are: "23 values that are …".
        remedy: What to do.
    """

    wrong: Flags
    what: str
    remedy: str


def read_as_text(column: Column) -> bool:
    """Whether the cells of a column are labels and not numbers."""
    return isinstance(column, CategoricalColumn | BernoulliColumn)


def numbers_of(column: Column, texts: Sequence[str | None]) -> tuple[Vector, Complaint]:
    """The cells of a column of labels as numbers `(n,)`, NaN where missing or wrong."""
    if isinstance(column, CategoricalColumn):
        codes = {level: float(code) for code, level in enumerate(column.levels)}
        what = f"none of the session's {len(codes)} levels"
        remedy = "correct such cells, leave them empty, or ask the server's operator to declare all levels"
    else:
        codes, what = _NO_AND_YES, "neither 0 nor 1"
        remedy = "write 0 and 1, or false and true, and leave the cell empty where the value is not known"
        texts = [None if text is None else text.lower() for text in texts]
    cells = np.array([np.nan if text is None else codes.get(level_of(text, codes), np.inf) for text in texts])
    wrong = np.isinf(cells)
    cells[wrong] = np.nan
    return cells, Complaint(wrong, what, remedy)


def numbers_in(texts: Sequence[str | None]) -> tuple[Vector, Complaint]:
    """The cells of a column of numbers that holds other texts too, `(n,)`: NaN where missing or wrong.

    What a cell is depends on it alone: whatever is a number, or missing, where its whole column is numbers is the same here.
    """
    found = [np.nan if text is None else _number_in(text) for text in texts]
    wrong = np.array([number is None for number in found], dtype=np.bool_)
    cells = np.array([np.nan if number is None else number for number in found], dtype=np.float64)
    return cells, Complaint(
        wrong, "no numbers", "write numbers there, and leave the cell empty where the value is not known"
    )


def _number_in(text: str) -> float | None:
    """As Python reads a number, or else as a column of numbers would have been read: 0x10 is one to Arrow, and NaN(1) a missing one."""
    with contextlib.suppress(ValueError):
        return float(text)
    cell = pa.scalar(text.strip(" \t"))
    for kind in (pa.float64(), pa.int64()):
        with contextlib.suppress(pa.ArrowInvalid):
            return float(cell.cast(kind).as_py())
    return None


def complaints_of_counts(column: PoissonColumn, cells: Vector) -> list[Complaint]:
    """What is wrong with the numbers of a column of counts."""
    seen = ~np.isnan(cells)
    return [
        Complaint(
            seen & ~((cells >= 0) & (cells == np.floor(cells))),
            "no counts",
            "write whole numbers from 0, and leave the cell empty where the count is not known",
        ),
        Complaint(
            seen & (cells > column.upper),
            f"counts above the session's largest, {column.upper:g}",
            "check entries; leave such rows out, or ask the server's operator for a larger `upper`",
        ),
    ]


def complaints_of_weights(cells: Vector, upper: float) -> list[Complaint]:
    """What is wrong with the numbers of a column of weights."""
    return [
        Complaint(np.isnan(cells), "missing", "give every row a weight, 0 if it is not to count"),
        Complaint(
            ~np.isnan(cells) & ~((cells >= 0) & (cells <= upper)),
            f"no weights from 0 to {upper:g}",
            "scale the weights as the session's tenants agreed, or ask the server's operator for a larger `upper`",
        ),
    ]


def admissible_of(texts: Sequence[str | None], n_components: int) -> tuple[Flags, Complaint]:
    """The components that labels leave open `(n, K)`: those that a cell names, all where it is empty."""
    admissible, wrong = admissible_components(cells_of(texts), n_components)
    remedy = f'write the number of a component, or several as in "0{BETWEEN_COMPONENTS}1", and leave the cell empty where nothing is known'
    return admissible, Complaint(wrong, f"no components from 0 to {n_components - 1}", remedy)
