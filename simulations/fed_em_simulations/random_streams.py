"""Independent streams of random numbers, one a concept, from one seed.

What one concept draws never moves what another draws: with the same seed two scenarios that differ in their mixing have the same
truth, sizes and attendance, and comparisons between them are paired.
"""

from __future__ import annotations

import numpy as np

from fed_em.description import check_whole_number


def stream(seed: int, *path: str | int) -> np.random.Generator:
    """The stream of a concept, say `stream(7, "rows", "t3")`.

    Args:
        seed: At least 0.
        path: What the numbers are for; other paths give independent streams.

    Raises:
        CallerError: the seed is negative or no whole number.
    """
    check_whole_number("seed", seed, 0)
    name = "/".join(map(str, path)).encode()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(name), *name])))
