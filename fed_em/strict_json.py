"""JSON with one text for each document, and read without what JSON does not have."""

from __future__ import annotations

import json
from typing import Any

from fed_em.errors import CallerError


def canonical_json(document: object) -> str:
    """The document as JSON with sorted keys and no spaces.

    Raises:
        CallerError: the document holds something that JSON cannot, such as NaN.
    """
    try:
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise CallerError(
            f"cannot be written as JSON: {error}", remedy="use strings, numbers, lists and mappings"
        ) from error


def parse_json(text: str | bytes, what: str) -> Any:
    """Strict JSON: no NaN or infinity, no key twice.

    Raises:
        CallerError: `text` is not such JSON; the message names `what`.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise CallerError(f"{what} is not valid JSON", remedy="get it again from where it was written") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a key stands twice")
    return unique
