"""The inner loops of E-steps, compiled or in NumPy, behind one interface.

Both give the same numbers to within rounding. Which of them runs follows from the number of rows and columns and from the
environment alone, so that equal input gives equal bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.cell_features import CellFeatures
from fed_em.compilation import compiler_admitted
from fed_em.covariance import CovarianceStructure
from fed_em.feature_map import FeatureMap, n_features, write_features
from fed_em.posterior import normalise_in_place

Vector = NDArray[np.float64]

# From so many rows on, compiled kernels run. Importing numba costs a process 0.3 s and 40 MB, and compiling some
# seconds once: as much as a hundred E-steps of so few rows. It also spares small tenants the compiler.
FEWEST_COMPILED_ROWS = 2**14
# Or from so many cells on, however few the rows: a block of a stream of many columns has a million (`fed_em.row_stream`).
_FEWEST_COMPILED_CELLS = 2**19


@dataclass(frozen=True)
class Kernels:
    """Loops over one block of n rows; arrays are contiguous.

    A block is prepared once for the products with its features Φ `(F, n)` (`fed_em.feature_map`): NumPy writes them all, so
    that BLAS can multiply; the compiled loops keep the points alone, and make features as they go.

    Attributes:
        name: "numba" or "numpy".
        n_entries: How many numbers of a prepared block there are for one row, given the structure and D.
        prepare: Given the structure, rows `(n, D)` and a shift c `(D,)` or None, writes `(n_entries, n)`.
        write_log_densities: Given the structure, a prepared block and Θᵀ `(F, K)`, writes Θ Φ `(K, n)`.
        add_sums: Given the structure, a prepared block and r `(K, n)`, adds Φ rᵀ to a total `(F, K)`.
        write_cells: Given features of mixed rows and rows, as `fed_em.cell_features.CellFeatures.write`.
        normalise_in_place: As `fed_em.posterior.normalise_in_place`. Responsibilities below 10^-307 may come out as 0.
    """

    name: str
    n_entries: Callable[[CovarianceStructure, int], int]
    prepare: Callable[[CovarianceStructure, Vector, Vector | None, Vector], None]
    write_log_densities: Callable[[FeatureMap, Vector, Vector, Vector], None]
    add_sums: Callable[[FeatureMap, Vector, Vector, Vector], None]
    write_cells: Callable[[CellFeatures, Vector, Vector], tuple[Vector, bool]]
    normalise_in_place: Callable[[Vector], tuple[Vector, Vector]]


def kernels_for(n_rows: int, n_columns: int = 1) -> Kernels:
    """The kernels of an E-step over so many rows."""
    few = n_rows < FEWEST_COMPILED_ROWS and n_rows * n_columns < _FEWEST_COMPILED_CELLS
    if few or not compiler_admitted():
        return NUMPY
    return _compiled() or NUMPY


@functools.cache
def _compiled() -> Kernels | None:
    """The compiled kernels; None where numba cannot be imported."""
    try:
        from fed_em import compiled_cells, compiled_posterior, compiled_products  # noqa: PLC0415  only E-steps of many rows need the compiler
    except ImportError:
        return None
    return Kernels(
        "numba",
        compiled_products.n_entries,
        compiled_products.prepare,
        compiled_products.write_log_densities,
        compiled_products.add_sums,
        compiled_cells.write_cells,
        compiled_posterior.normalise_in_place,
    )


def _write_log_densities(_: FeatureMap, features: Vector, coefficients: Vector, out: Vector) -> None:
    np.matmul(coefficients.T, features, out=out)


def _add_sums(_: FeatureMap, features: Vector, responsibilities: Vector, total: Vector) -> None:
    total += features @ responsibilities.T


NUMPY = Kernels(
    "numpy", n_features, write_features, _write_log_densities, _add_sums, CellFeatures.write, normalise_in_place
)
