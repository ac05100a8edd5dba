"""Tables of a few tenants around known centres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

CENTRES = np.array([[0.0, 0.0], [5.0, 1.0], [-4.0, 4.0]])


def tables_of(n: int, rows: int = 40, seed: int = 0) -> list[Matrix]:
    """`rows` rows a tenant, around three centres alike."""
    generator = np.random.default_rng(seed)
    return [CENTRES[generator.integers(0, 3, rows)] + generator.standard_normal((rows, 2)) for _ in range(n)]
