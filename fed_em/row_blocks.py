"""The rows of an E-step in blocks that fit into a cache, over threads, with sums that do not depend on their number.

Rows are cut into blocks and blocks joined to segments by sizes alone. Each segment is summed by one thread, block after
block, and the sums of the segments are added in their order: however many threads there are, the same numbers are
added in the same order.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError

Segment = Sequence[slice]
S = TypeVar("S")
T = TypeVar("T")

# How many threads an E-step uses where `use_threads` does not say.
THREADS_VARIABLE = "FED_EM_THREADS"

# Float64 entries of a block's features and joint log-densities (1 MiB), and the rows in a block: matrix products of
# fewer are slow, of more leave the cache.
_CACHE_ENTRIES = 2**17
_FEWEST_ROWS, _MOST_ROWS = 216, 2040
# Blocks are odd multiples of so many rows, which compiled loops treat at a time: eight rows fill a line of a cache, and an odd number of
# lines from one column to the next spreads columns over the whole cache. From 2048 rows, all columns would share one place in 64.
_STRIP_ROWS = 24
_CACHE_LINE = 64  # bytes
# Float64 entries that the arrays of a block may fill where they need not stay in a cache (8 MiB), and the fewest rows worth a block.
_MEMORY_ENTRIES = 2**20
_FEWEST_ROWS_IN_MEMORY = 256
# Where even the fewest rows are this many entries (64 MiB a thread), blocks are smaller still.
_MOST_ENTRIES = 2**23
_FEWEST_WIDE_ROWS = 16
# Blocks in a segment at most: enough to make handing it to a thread cheap. And segments at least, where there are as many blocks.
_BLOCKS_IN_SEGMENT, _FEWEST_SEGMENTS = 8, 16
# Segments in flight a thread. Bounds the memory of sums that wait for an earlier one.
_AHEAD = 2

_threads: int | None = None


def allowed_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def e_step_threads() -> int:
    """The number of threads of an E-step: what `use_threads` set, else `FED_EM_THREADS`, else the cores of this process.

    Raises:
        CallerError: the variable is not a whole number of at least 1.
    """
    if _threads is not None:
        return _threads
    asked = os.environ.get(THREADS_VARIABLE)
    if asked is None:
        return allowed_cores()
    if not (asked.isdecimal() and int(asked) > 0):
        raise CallerError(f"{THREADS_VARIABLE} is '{asked}'", remedy="set it to a whole number of at least 1")
    return int(asked)


@contextmanager
def use_threads(n: int) -> Iterator[None]:
    """Let the E-steps of this process use n threads, n at least 1, inside the `with`. It changes no result."""
    global _threads  # noqa: PLW0603  a setting of the process, as that of a BLAS
    if n < 1:
        raise CallerError(f"an E-step needs at least one thread, not {n}")
    before, _threads = _threads, n
    try:
        yield
    finally:
        _threads = before


def rows_in_block(n_entries: int, fewest: int = _FEWEST_ROWS_IN_MEMORY) -> int:
    """Rows of a block that is treated at one time, outside of `cut_into_segments`: by these two numbers alone.

    Args:
        n_entries: Float64 entries that are held for one row, at least 1.
        fewest: Rows of a block at least.
    """
    return max(_MEMORY_ENTRIES // n_entries, fewest)


def cut_into_segments(n_rows: int, n_entries: int) -> list[Segment]:
    """A partition of rows 0 to `n_rows` − 1 by these two numbers alone: segments of blocks, all in order.

    Args:
        n_rows: At least 0.
        n_entries: Float64 entries that an E-step holds for one row, at least 1.
    """
    size = min(max(_CACHE_ENTRIES // n_entries, _FEWEST_ROWS), _MOST_ROWS)
    size = _STRIP_ROWS * ((size // _STRIP_ROWS - 1) // 2 * 2 + 1)
    size = min(size, max(_MOST_ENTRIES // n_entries, _FEWEST_WIDE_ROWS))
    blocks = [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]
    together = min(max(len(blocks) // _FEWEST_SEGMENTS, 1), _BLOCKS_IN_SEGMENT)
    return [blocks[first : first + together] for first in range(0, len(blocks), together)]


def aligned_empty(n: int) -> NDArray[np.float64]:
    """An array `(n,)`, unset, that begins with a line of a cache: vectors across two lines are slow to load."""
    spare = _CACHE_LINE // 8
    memory = np.empty(n + spare)
    start = -memory.__array_interface__["data"][0] % _CACHE_LINE // 8  # `ctypes` takes three times as long
    return memory[start : start + n]


def over_segments(work: Callable[[S], T], segments: Sequence[S]) -> Iterator[T]:
    """`work` of every segment, in their order, by as many threads as `e_step_threads` says."""
    threads = min(e_step_threads(), len(segments))
    if threads <= 1:
        yield from map(work, segments)
        return
    with ThreadPoolExecutor(threads, "e-step") as pool:
        pending: deque[Future[T]] = deque()
        for segment in segments:
            pending.append(pool.submit(work, segment))
            if len(pending) == _AHEAD * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
