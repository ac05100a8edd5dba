"""Strict reading of JSON-able descriptions: an unknown key is refused, with the nearest one that exists."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any

from fed_em.errors import CallerError


def nearest(word: str, known: Collection[str]) -> str:
    """A remedy that names the known word nearest to `word`, or all of them where none is near."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def read_mapping(
    what: str, description: object, required: Collection[str], optional: Collection[str] = ()
) -> Mapping[str, Any]:
    """`description` itself; `CallerError` unless a mapping with all `required` keys and none unknown."""
    if not isinstance(description, Mapping):
        raise CallerError(f"{what} must be a mapping, not {type(description).__name__}")
    known = {*required, *optional}
    for key in description:
        if key not in known:
            raise CallerError(f"{what} has no '{key}'", remedy=nearest(str(key), known))
    for key in required:
        if key not in description:
            raise CallerError(f"{what} lacks '{key}'", remedy=f"give '{key}'")
    return description


def check_whole_number(what: str, value: Any, low: int) -> None:
    """Raise `CallerError` unless `value` is an int (not a bool) of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise CallerError(f"{what} must be a whole number of at least {low}, not {value!r}")


def check_real(what: str, value: Any, low: float, *, strict: bool = False) -> None:
    """Raise `CallerError` unless `value` is finite and at least `low` (`strict`: greater than `low`)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise CallerError(f"{what} must be a finite number, not {value!r}")
    if value < low or (strict and value == low):
        raise CallerError(f"{what} must be {'greater than' if strict else 'at least'} {low}, not {value!r}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of float64
        return False
