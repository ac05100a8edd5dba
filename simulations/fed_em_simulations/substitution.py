"""Another function in the place of one of the protocol's, for as long as a simulation runs.

The protocol has no seams for counting, remembering or leaving out work, and needs none: simulations know it from within.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_ROOMS = ("fed_em_protocols.", "fed_em_client.", "fed_em_server.", "fed_em_simulations.")


@contextmanager
def substituted(
    function: Callable[..., Any], by: Callable[..., Any], rooms: tuple[str, ...] = _ROOMS
) -> Iterator[None]:
    """Put `by` in the place of `function` in every module, and every class of one, that has it by any name.

    Args:
        function: As it is now: the innermost context restores what it found.
        by: In its place.
        rooms: Beginnings of the names of modules that are looked at.
    """
    places = [
        (owner, name)
        for module_name, module in list(sys.modules.items())
        if module_name.startswith(rooms)
        for owner in (module, *_classes_of(module))
        for name, value in list(vars(owner).items())
        if value is function
    ]
    for owner, name in places:
        setattr(owner, name, by)
    try:
        yield
    finally:
        for owner, name in places:
            setattr(owner, name, function)


def _classes_of(module: Any) -> list[type]:
    return [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
