"""What the last bits of floating-point results depend on: the machine, and the versions of what computes on it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from fed_em.blas import blas_libraries

_SOFTWARE = ("fed-em", "numpy", "scipy", "numba", "llvmlite")


def computed_on() -> dict[str, str]:
    """Machine, operating system, interpreter, packages, and BLAS libraries with the kernels that they chose for this processor."""
    versions = {name: found for name in _SOFTWARE if (found := _version(name))}
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "blas": "; ".join(blas_libraries()),
        **versions,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
