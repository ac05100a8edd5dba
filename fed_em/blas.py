"""One BLAS thread while the small matrix products of an E-step run.

A block of an E-step stays in one core's cache; a BLAS that spreads it over threads loses most of its speed to
handing the block around, and its rounding comes to depend on the machine. Parallelism belongs above, over
processes.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import scipy.linalg  # noqa: F401  loads scipy's own BLAS, so that the controller below finds it
from threadpoolctl import ThreadpoolController


class _SingleThread:
    """Counts who is inside: the first in sets the limit, the last out restores what was before.

    The limit is a setting of the process. Without the count, two overlapping E-steps in two threads would
    leave it set for ever, or lift it under each other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limit = _controller().limit(limits=1, user_api="blas")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.restore_original_limits()


@functools.cache
def _controller() -> ThreadpoolController:
    """The controller of the loaded BLAS libraries. Finding them costs milliseconds, using it microseconds."""
    return ThreadpoolController()


_SINGLE_THREAD = _SingleThread()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit every BLAS of this process to one thread inside the `with`. Nests; threads may overlap."""
    _SINGLE_THREAD.enter()
    try:
        yield
    finally:
        _SINGLE_THREAD.leave()
