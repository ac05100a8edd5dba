"""The features of mixed rows (`fed_em.cell_features`) compiled with numba: one pass over the cells. It holds no lock of Python.

The loops take a column of a strip of rows, whose cells stay in the first cache from one column to the next, and return how many
cells are no value of the column.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fed_em.cell_features import BERNOULLI, CATEGORICAL, GAUSSIAN, POISSON, CellFeatures
from fed_em.compilation import compiled
from fed_em.discrete_columns import LOG_FACTORIALS_OF

Vector = NDArray[np.float64]

_STRIP = 128


def _write_levels(cells: Vector, out: Vector) -> int:
    """Whether a cell shows a level, `(L, n)`. Comparing with each costs no more than writing so many zeros."""
    n_levels, wrong = len(out), 0
    for level in range(n_levels):
        shown = out[level]
        for i in range(len(cells)):
            shown[i] = cells[i] == level
    for i in range(len(cells)):
        x = cells[i]
        wrong += not (math.isnan(x) | ((x >= 0.0) & (x < n_levels) & (x == math.floor(x))))
    return wrong


_write_levels = compiled(_write_levels)


def _write_answers(cells: Vector, successes: Vector, failures: Vector) -> int:
    wrong = 0
    for i in range(len(cells)):
        x = cells[i]
        successes[i], failures[i] = x == 1.0, x == 0.0
        wrong += not ((x == 1.0) | (x == 0.0) | math.isnan(x))
    return wrong


_write_answers = compiled(_write_answers)


def _write_counts(cells: Vector, events: Vector, exposure: Vector, log_factorials: Vector, table: Vector) -> int:
    """Adds log x! to `log_factorials`, of small counts by the table."""
    wrong = 0
    for i in range(len(cells)):
        x = cells[i]
        events[i], exposure[i] = 0.0, 0.0
        if not math.isnan(x):
            if 0.0 <= x < math.inf and x == math.floor(x):
                events[i], exposure[i] = x, 1.0
                log_factorials[i] += table[int(x)] if x < len(table) else math.lgamma(x + 1.0)
            else:
                wrong += 1
    return wrong


_write_counts = compiled(_write_counts)


def _write_numbers(cells: Vector, values: Vector, squares: Vector, observed: Vector, missing: Vector) -> int:
    wrong = 0
    for i in range(len(cells)):
        x = cells[i]
        unseen = math.isnan(x)
        value = 0.0 if unseen else x
        values[i], squares[i] = value, value * value
        observed[i], missing[i] = not unseen, unseen
        wrong += abs(x) == math.inf
    return wrong


_write_numbers = compiled(_write_numbers)


def _write(rows: Vector, columns: NDArray[np.int64], table: Vector, out: Vector, log_factorials: Vector) -> int:
    memory, wrong = np.empty(_STRIP), 0
    for i in range(len(rows)):
        out[0, i], log_factorials[i] = 1.0, 0.0
    for start in range(0, len(rows), _STRIP):
        end = min(start + _STRIP, len(rows))
        cells, strip = memory[: end - start], out[:, start:end]
        for d in range(len(columns)):
            kind, first, step, n_levels = columns[d]
            for i in range(len(cells)):
                cells[i] = rows[start + i, d]
            if kind == CATEGORICAL:
                wrong += _write_levels(cells, strip[first : first + n_levels])
            elif kind == BERNOULLI:
                wrong += _write_answers(cells, strip[first], strip[first + step])
            elif kind == POISSON:
                wrong += _write_counts(cells, strip[first], strip[first + step], log_factorials[start:end], table)
            elif kind == GAUSSIAN:
                of_kind = strip[first], strip[first + step], strip[first + 2 * step], strip[first + 3 * step]
                wrong += _write_numbers(cells, *of_kind)
            else:
                for i in range(len(cells)):
                    wrong += abs(cells[i]) == math.inf
    return wrong


_write = compiled(_write)


def write_cells(features: CellFeatures, rows: Vector, out: Vector) -> tuple[Vector, bool]:
    """As `CellFeatures.write`."""
    log_factorials = np.empty(len(rows))
    wrong = _write(np.ascontiguousarray(rows), features.columns, LOG_FACTORIALS_OF, out, log_factorials)
    return log_factorials, wrong == 0
