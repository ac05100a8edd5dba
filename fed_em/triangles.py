"""Places of the triangle of a symmetric matrix, kept: EM asks at every step, and making them anew is a twentieth of a small fit."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_Places = NDArray[np.intp]


@functools.lru_cache(maxsize=16)
def upper_triangle(size: int) -> tuple[_Places, _Places]:
    """Rows and columns of the upper triangle of a matrix `(size, size)`, row by row; read-only."""
    return _kept(np.triu_indices(size))


@functools.lru_cache(maxsize=16)
def lower_triangle(size: int) -> tuple[_Places, _Places]:
    """Rows and columns of the lower triangle of a matrix `(size, size)`, row by row; read-only."""
    return _kept(np.tril_indices(size))


def _kept(places: tuple[_Places, _Places]) -> tuple[_Places, _Places]:
    for each in places:
        each.flags.writeable = False
    return places
