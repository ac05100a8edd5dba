"""What the known-answer vectors are made of: one case is one JSON object."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fed_em.errors import FedEmError

Case = dict[str, Any]


def error_of(action: Callable[[], object]) -> str:
    """The error that an action must end in."""
    try:
        action()
    except FedEmError as error:
        return f"{type(error).__name__}: {error.message}"
    raise AssertionError("this case was to fail")


def hexes(values: Iterable[bytes]) -> list[str]:
    """Bytes, as text."""
    return [value.hex() for value in values]
