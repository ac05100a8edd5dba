"""One BLAS thread while the small matrix products of an E-step run.

A block of an E-step stays in one core's cache; a BLAS that spreads it over threads loses most of its speed to
handing the block around, and its rounding comes to depend on the machine. Parallelism belongs above, over
blocks (`fed_em.row_blocks`) and processes.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import scipy.linalg  # noqa: F401  loads scipy's own BLAS, so that the controller below finds it
from threadpoolctl import ThreadpoolController

# The limit is a setting of the process, and only the thread that set it can lift it. Two threads whose
# E-steps overlapped could lift it under each other or leave it set for ever, so they take turns.
_TURN = threading.RLock()


class _Limits(threading.local):
    """How many limits this thread has set. Another inside costs as much as a tenth of an E-step of a few rows, for nothing."""

    count = 0


_MINE = _Limits()


@functools.cache
def _controller() -> ThreadpoolController:
    """The controller of the loaded BLAS libraries. Finding them costs milliseconds, using it microseconds."""
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit every BLAS of this process to one thread inside the `with`. Nests; other threads wait."""
    with _TURN, nullcontext() if _MINE.count else _controller().limit(limits=1, user_api="blas"), _counted():
        yield


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """The same limit for a long stretch in which E-steps of other threads must go on: nobody waits inside.

    The results of small products then do not depend on how a machine divides them. Enter and leave it on one thread, one at a time.
    """
    with _TURN:  # or the limit of an E-step of that moment would be taken for the usual one
        limit = _controller().limit(limits=1, user_api="blas")
    try:
        with _counted():
            yield
    finally:
        with _TURN:
            limit.restore_original_limits()


@contextmanager
def _counted() -> Iterator[None]:
    _MINE.count += 1
    try:
        yield
    finally:
        _MINE.count -= 1


def blas_libraries() -> list[str]:
    """Every BLAS of this process in words: which, its version, and the processor that its kernels are for."""
    return sorted(
        {
            " ".join(str(library[key]) for key in ("internal_api", "version", "architecture") if library.get(key))
            for library in _controller().select(user_api="blas").info()
        }
    )
