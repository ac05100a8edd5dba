"""Loops compiled with numba, where it is to be had and worth its start-up."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

# Set to 1, no numba is imported.
NO_NUMBA_VARIABLE = "FED_EM_NO_NUMBA"


def compiler_admitted() -> bool:
    """Whether loops may be compiled: the environment can forbid it."""
    return os.environ.get(NO_NUMBA_VARIABLE) != "1"


def compiled(function: Function, **options: Any) -> Function:
    """Compile a loop that holds no lock of Python, and keep the code for the next process where there is a place to keep it.

    Raises:
        ImportError: numba cannot be imported.
    """
    import numba  # noqa: PLC0415  0.3 s and 40 MB, for those alone who compile

    options |= {"nogil": True, "error_model": "numpy"}
    try:
        found: Function = numba.njit(function, cache=True, **options)
    except RuntimeError:  # neither the package's folder nor the user's can be written to
        found = numba.njit(function, cache=False, **options)
    return found
