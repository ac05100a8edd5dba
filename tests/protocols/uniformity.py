"""A χ² test of uniformity, for claims of the kind "this says nothing"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def uniform_p_value(symbols: Sequence[int] | np.ndarray, alphabet: int) -> float:
    """How often uniform symbols from `range(alphabet)` look less uniform than these.

    A test that fails below p < 10^-6 gives a false alarm once in 10^6 samples; tests here draw from fixed seeds, so they either
    always pass or always fail.
    """
    counts = np.bincount(np.asarray(symbols, dtype=np.int64), minlength=alphabet)
    return float(stats.chisquare(counts).pvalue)
