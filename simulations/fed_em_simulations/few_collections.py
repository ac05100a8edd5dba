"""Python's search for unreachable cycles, in a process that holds the states of thousands of tenants and makes hardly any."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_FEWER = 100


@contextmanager
def few_collections() -> Iterator[None]:
    """Look through all objects a hundred times less often while the context lasts; young ones are looked through as ever.

    States are trees of immutable records, which go when nobody holds them. Looking through all of them took a twentieth of the time.
    """
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, _FEWER * old)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)
