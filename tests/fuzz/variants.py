"""Every single-field change of a message to a value at some edge: few enough to try all of them, at every kind of moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from tests.fuzz.shapes import widest


def variants(content: Any) -> Iterator[tuple[str, Any]]:
    """The field, and the message with another value in it."""
    kind = type(content)
    for declared in fields(content):
        name, value = declared.name, getattr(content, declared.name)
        for other in _others(kind, name, value, declared.metadata.get("most")):
            if other != value:
                yield name, replace(content, **{name: other})


def other_bytes(value: bytes) -> Iterator[bytes]:
    """Bytes of other lengths, and others of this length."""
    yield from (b"", value[:-1], value + b"\0", bytes(len(value)), b"\xff" * len(value))
    if value:
        yield bytes([value[0] ^ 1]) + value[1:]
        yield value[:-1] + bytes([value[-1] ^ 0x80])


def _others(kind: type, name: str, value: Any, most: int | None) -> Iterator[Any]:
    if is_dataclass(value):
        yield from (changed for _, changed in variants(value))
    elif isinstance(value, int):
        limit = widest(kind, name)
        edges = {0, 1, 2, 3, value + 1, value - 1, value // 2, limit if most is None else most}
        yield from sorted(edge for edge in edges if 0 <= edge <= limit)
    elif isinstance(value, tuple):
        yield from ((), value[:-1], value[::-1], value + value[-1:])
        for changed in _others(kind, name, value[0], None) if value else ():
            yield (changed, *value[1:])
    elif isinstance(value, bytes):
        yield from other_bytes(value)
    else:
        yield from ("", value + "x")
