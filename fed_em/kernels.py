"""The inner loops of a Gaussian E-step, compiled or in NumPy, behind one interface.

Both give the same numbers to within rounding. Which of them runs follows from the number of rows and from the
environment alone, so that equal input gives equal bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em import posterior
from fed_em.compilation import compiler_admitted

Vector = NDArray[np.float64]

# From so many rows on, compiled kernels run. Importing numba costs a process 0.3 s and 40 MB, and compiling some
# seconds once: as much as a hundred E-steps of so few rows. It also spares small tenants the compiler.
FEWEST_COMPILED_ROWS = 2**14


@dataclass(frozen=True)
class Kernels:
    """Loops over one block of n rows; arrays are contiguous.

    Attributes:
        name: "numba" or "numpy".
        write_products: Given columns x `(D, n)`, writes vech(xxᵀ), upper triangle row by row, to `(D(D+1)/2, n)`.
        normalise_in_place: As `fed_em.posterior.normalise_in_place`, but the joint log-densities are `(n, K)`.
            Responsibilities below 10^-307 may come out as 0.
        add_products: Given features Φ `(F, n)` and responsibilities R `(n, K)`, adds Φ R to `(F, K)`.
    """

    name: str
    write_products: Callable[[Vector, Vector], None]
    normalise_in_place: Callable[[Vector], tuple[Vector, Vector]]
    add_products: Callable[[Vector, Vector, Vector], None]


def kernels_for(n_rows: int) -> Kernels:
    """The kernels of an E-step over so many rows."""
    if n_rows < FEWEST_COMPILED_ROWS or not compiler_admitted():
        return NUMPY
    return _compiled() or NUMPY


@functools.cache
def _compiled() -> Kernels | None:
    """The compiled kernels; None where numba cannot be imported."""
    try:
        from fed_em import compiled_kernels  # noqa: PLC0415  only E-steps of many rows need the compiler
    except ImportError:
        return None
    return Kernels(
        "numba", compiled_kernels.write_products, compiled_kernels.normalise_in_place, compiled_kernels.add_products
    )


def _write_products(columns: Vector, out: Vector) -> None:
    start = 0
    for d in range(len(columns)):
        width = len(columns) - d
        np.multiply(columns[d], columns[d:], out=out[start : start + width])
        start += width


def _normalise_in_place(joint: Vector) -> tuple[Vector, Vector]:
    transposed = np.ascontiguousarray(joint.T)  # NumPy is several times faster along the rows
    log_densities, entropies = posterior.normalise_in_place(transposed)
    joint[...] = transposed.T
    return log_densities, entropies


def _add_products(features: Vector, responsibilities: Vector, total: Vector) -> None:
    total += features @ responsibilities


NUMPY = Kernels("numpy", _write_products, _normalise_in_place, _add_products)
