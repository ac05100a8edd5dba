"""What the dataclasses of the messages say of themselves: types, rules and a plain example of every kind.

Nothing here names a field, so a new kind of message is fuzzed as soon as it is in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from functools import cache
from typing import Any, cast, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import FieldDescriptor

from fed_em_protocols.messages import KINDS
from fed_em_protocols.wire import messages_pb2

ORDERED_KINDS = sorted(KINDS, key=lambda kind: KINDS[kind])

# The rules of `fed_em_protocols.wire.fields` that `obeys` knows. A test fails when a message is declared with another one.
KNOWN_RULES = frozenset({"length", "multiple", "most", "entry"})

_WIDTHS = {FieldDescriptor.TYPE_UINT32: 32, FieldDescriptor.TYPE_UINT64: 64, FieldDescriptor.TYPE_BOOL: 1}


@cache
def hints(kind: type) -> Mapping[str, Any]:
    """The type of each field."""
    return get_type_hints(kind)


def entry_type(hint: Any) -> Any:
    """The type of a tuple's entries; None if it is no tuple."""
    return get_args(hint)[0] if get_origin(hint) is tuple else None


@cache
def widest(kind: type, name: str) -> int:
    """The largest integer that the wire format can hold in a field."""
    wire = getattr(messages_pb2, kind.__name__).DESCRIPTOR.fields_by_name[name]
    return int(2 ** _WIDTHS[wire.type] - 1)


@cache
def nested_kinds() -> frozenset[type]:
    """Every dataclass that a message is made of, the kinds themselves included."""
    found: set[type] = set()
    queue: list[type] = list(KINDS)
    while queue:
        kind = queue.pop()
        if kind not in found:
            found.add(kind)
            inner = (entry_type(hint) or hint for hint in hints(kind).values())
            queue += [part for part in inner if is_dataclass(part) and isinstance(part, type)]
    return frozenset(found)


def parts(content: Any) -> Iterator[tuple[Field[Any], Any]]:
    """The fields of a message, and of those nested in it, with their values."""
    for declared in fields(content):
        value = getattr(content, declared.name)
        yield declared, value
        for entry in value if isinstance(value, tuple) else (value,):
            if is_dataclass(entry):
                yield from parts(entry)


def obeys(content: Any) -> bool:
    """Whether a message is within all rules that its fields declare."""
    return all(_within(value, declared.metadata) for declared, value in parts(content))


def _within(value: Any, rules: Mapping[str, Any]) -> bool:
    size = value if isinstance(value, int) else len(value) if isinstance(value, (bytes, str, tuple)) else 0
    exact = "length" not in rules or size == rules["length"]
    whole = "multiple" not in rules or (size > 0 and size % rules["multiple"] == 0)
    entries = "entry" not in rules or all(len(entry) == rules["entry"] for entry in value)
    return exact and whole and entries and size <= rules.get("most", size)


@cache
def example_of(kind: type) -> Any:
    """A message of a kind that obeys its rules, as small as is interesting."""
    return kind(**{declared.name: _example(hints(kind)[declared.name], declared.metadata) for declared in fields(kind)})


def _example(hint: Any, rules: Mapping[str, Any]) -> Any:
    most = rules.get("most", 2)
    inner = entry_type(hint)
    if inner is not None:
        return (_example(inner, {"length": rules["entry"]} if "entry" in rules else {}),) * min(2, most)
    if is_dataclass(hint):
        return example_of(cast(type, hint))
    if hint is bytes:
        return b"e" * rules.get("length", rules.get("multiple", min(2, most)))
    if hint is str:
        return "e" * min(2, most)
    return hint(min(1, most))
