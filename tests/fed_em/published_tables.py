"""Published tables, read; and the road that a session takes over them, in memory."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fed_em.beginnings import BestOf
from fed_em.columns import CategoricalColumn, ColumnSchema
from fed_em.em import Stopping
from fed_em.model import Model
from fed_em.optimiser import L_BFGS
from fed_em.standardised_fit import StandardisedFit, fit_standardised
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]


def cells_of(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """The columns of a comma-separated file."""
    with path.open(encoding="utf-8") as file:
        return [[row[column] for column in columns] for row in csv.DictReader(file)]


def table_of(path: Path, columns: Sequence[str]) -> Vector:
    """Columns of numbers, NaN where a cell is empty or NA."""
    return np.array(
        [[float(cell) if cell not in ("", "NA") else np.nan for cell in row] for row in cells_of(path, columns)]
    )


def classes_of(path: Path, columns: Sequence[str]) -> tuple[ColumnSchema, Vector]:
    """Columns of labels, their levels in the order of the alphabet, and rows of codes."""
    table = np.array(cells_of(path, columns))
    levels = [np.unique(table[:, d], return_inverse=True) for d in range(len(columns))]
    described = (
        CategoricalColumn(name, tuple(map(str, words))) for name, (words, _) in zip(columns, levels, strict=True)
    )
    return ColumnSchema(tuple(described)), np.stack([codes for _, codes in levels], axis=1).astype(np.float64)


def fitted_by_sums(model: Model, rows: Vector, seed: int, tolerance: float = 1e-10) -> tuple[StandardisedFit, Vector]:
    """A model fitted as by a session with nothing said: the best of 20 starts, L-BFGS on two tracks. And the rows in its coordinates."""
    found = fit_standardised(
        model, (rows.min(axis=0), rows.max(axis=0)), lambda summand, where: TotalOfRows(summand, where.apply(rows)),
        Stopping(tolerance, 2000), seed, optimiser=L_BFGS, beginning=BestOf(20), tracks=2,
    )  # fmt: skip
    return found, found.coordinates.apply(rows)
