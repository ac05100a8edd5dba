"""Every way to change one field of an entry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fed_em_protocols.transcript.canonical_json import canonical_json

Path = tuple[str | int, ...]


def places(document: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every value that is not a mapping or a list, and of every list that is not empty."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from places(value, (*path, name))
    elif isinstance(document, list):
        if document:
            yield path
        for k, value in enumerate(document):
            yield from places(value, (*path, k))
    else:
        yield path


def at(document: Any, path: Path) -> Any:
    """What stands there."""
    for step in path:
        document = document[step]
    return document


def changed(line: bytes, path: Path) -> bytes:
    """The line with another value of the same type there; of a list, without its last."""
    document = json.loads(line)
    *upwards, last = path
    inner = at(document, tuple(upwards))
    inner[last] = another(inner[last])
    return canonical_json(document)


def another(value: Any) -> Any:
    """Another value of the same type and length, as near as can be."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return value[:-1]
    if value is None:
        return "x"
    return _another_text(value)


def _another_text(value: str) -> str:
    """With one character replaced by its neighbour, in the middle: digits stay digits, letters letters."""
    for k in sorted(range(len(value)), key=lambda k: abs(k - len(value) // 2)):
        if value[k] not in "0+-.x=:" or len(value) == 1:
            return value[:k] + ("a" if value[k] != "a" else "b") + value[k + 1 :]
    return value + "0"
