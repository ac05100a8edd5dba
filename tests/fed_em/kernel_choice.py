"""Runs E-steps of any size with the compiled loops, or with those in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fed_em import kernels
from fed_em.compilation import NO_NUMBA_VARIABLE

BOTH = ("numpy", "numba")


@contextmanager
def run_with(name: str) -> Iterator[None]:
    """Inside, every E-step runs these loops. Skips the test where they cannot run."""
    if name == "numba":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "FEWEST_COMPILED_ROWS", 0)
        patch.setenv(NO_NUMBA_VARIABLE, "1" if name == "numpy" else "0")
        assert kernels.kernels_for(1).name == name
        yield


@pytest.fixture(params=BOTH, scope="module", autouse=True)
def both_kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    """A module that imports this runs twice."""
    with run_with(request.param):
        yield request.param
