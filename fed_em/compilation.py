"""Loops compiled with numba, where it is to be had and worth its start-up.

Compiled code is kept for the next process under a name that has a digest of all that it may be made of: numba itself looks at the file of
the outermost function alone, and after an upgrade would run code with the old version of a loop from another file inside.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

# What compiled functions call or read that is in another file, or that says how they are compiled.
_FILES = ("cell_features.py", "compilation.py", "compiled_few_rows.py", "lane_functions.py", "vector_lanes.py")
_SHARED = tuple(Path(__file__).with_name(name) for name in _FILES)

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

    # numba writes files of this name.
    function.__qualname__ = f"{function.__name__}_{_digest(_SHARED)}"
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        found: Function = numba.njit(function, cache=True, **options)
    except RuntimeError:  # neither the package's folder nor the user's can be written to
        found = numba.njit(function, cache=False, **options)
    return found


@functools.cache
def _digest(files: tuple[Path, ...]) -> str:
    """Of the content of these files; empty where they cannot be read, as nothing can be kept beside them."""
    try:
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    except OSError:
        return ""
