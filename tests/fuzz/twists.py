"""Changes to valid messages: to what they say (another value in one field) and to their bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

from fed_em_protocols.envelope import Sealed
from tests.fuzz.choices import Choices
from tests.fuzz.shapes import entry_type, example_of, hints, nested_kinds, parts, widest

# Values at a limit that is larger than this are left to the tests of each limit: they would cost more than they find.
_LARGEST_VALUE = 2**16
_LARGEST_LIST = 2**10


class Pool:
    """Values seen in messages, to be put where others stood: those of the same field, or of the same type (bytes: and length)."""

    def __init__(self) -> None:
        self._values: dict[object, dict[Any, None]] = defaultdict(dict)
        for kind in nested_kinds():
            self.learn(example_of(kind))

    def add(self, value: Any, name: str = "") -> None:
        """One more value, of a field if it has a name."""
        self._values[_sort(value)].setdefault(value)
        if name:
            self._values[name, type(value)].setdefault(value)

    def learn(self, content: Any) -> None:
        """A message, and all values in it."""
        self.add(content)
        for declared, value in parts(content):
            for entry in value if isinstance(value, tuple) else (value,):
                self.add(entry, declared.name)

    def learn_sealed(self, sealed: Sealed[Any]) -> None:
        """The same, its digests, and the message itself as a quotation."""
        self.learn(sealed.content)
        self.add(sealed.digest)
        self.add(sealed.attachment_digest)
        self.add(sealed.quoted())

    def grown(self) -> Pool:
        """The same values, to be added to without changing this pool."""
        copy = Pool.__new__(Pool)
        copy._values = defaultdict(dict, {sort: dict(values) for sort, values in self._values.items()})
        return copy

    def like(self, name: str, value: Any, choices: Choices) -> Any:
        """A value that may stand in place of this one; the latest are as likely as all others."""
        sort = (name, type(value)) if choices.below(2) == 0 else _sort(value)
        known = list(self._values.get(sort, [value]))
        return choices.one(known[-4:] if choices.below(2) == 0 else known)


def _sort(value: Any) -> object:
    return len(value) if isinstance(value, bytes) else type(value)


def twisted(content: Any, choices: Choices, pool: Pool) -> Any:
    """The message with another value in one of its fields, within its rules or not."""
    declared = choices.one(fields(content))
    kind, value = type(content), getattr(content, declared.name)
    hint = hints(kind)[declared.name]
    inner = entry_type(hint)
    if inner is not None:
        other: Any = _other_list(kind, declared.name, value, inner, declared.metadata, choices, pool)
    else:
        other = _other(kind, declared.name, value, declared.metadata, choices, pool)
    return replace(content, **{declared.name: other})


def _other(kind: type, name: str, value: Any, rules: Mapping[str, Any], choices: Choices, pool: Pool) -> Any:
    if is_dataclass(value):
        return pool.like(name, value, choices) if choices.below(2) == 0 else twisted(value, choices, pool)
    if isinstance(value, int):
        return min(max(0, _other_integer(name, value, rules.get("most"), choices, pool)), widest(kind, name))
    if isinstance(value, str):
        known, limit = pool.like(name, value, choices), _limit(rules)
        return choices.one((known, value[:-1], value + "é", "x" * limit, "x" * (limit + 1)))
    return _other_bytes(name, value, rules, choices, pool)


def _other_integer(name: str, value: int, most: int | None, choices: Choices, pool: Pool) -> int:
    way = choices.below(8)
    if way == 0:
        return int(pool.like(name, value, choices))
    if way == 1:
        return choices.integer(8)
    limit = value if most is None else most
    return (limit, limit + 1, value + 1, value + 2, value - 1, 0)[way - 2]


def _other_bytes(name: str, value: bytes, rules: Mapping[str, Any], choices: Choices, pool: Pool) -> bytes:
    way = choices.below(6)
    if way == 0:
        return bytes(pool.like(name, value, choices))
    if way == 1:
        return choices.data(len(value))
    if way == 2:
        return bytes(choices.one((_limit(rules), _limit(rules) + 1, 0)))
    return damaged(value, choices) if way < 5 else value + value[: rules.get("multiple", len(value))]


def _limit(rules: Mapping[str, Any]) -> int:
    limit = int(rules.get("length", rules.get("most", rules.get("multiple", 1))))
    return limit if limit <= _LARGEST_VALUE else 1


def _other_list(
    kind: type, name: str, value: tuple[Any, ...], inner: Any, rules: Mapping[str, Any], choices: Choices, pool: Pool
) -> tuple[Any, ...]:
    most = rules.get("most", 1)
    plain = example_of(cast(type, inner)) if is_dataclass(inner) else inner(1)
    place = choices.below(len(value) + 1)
    entry = value[place] if place < len(value) else plain
    way = choices.below(6)
    if way == 0:
        return (*value[:place], *value[place + 1 :])
    if way == 1:
        return (*value[:place], entry, *value[place:])
    if way == 2:
        return value[::-1]
    if way == 3 and most <= _LARGEST_LIST:
        return (entry,) * (most + choices.below(2))
    return (*value[:place], _other(kind, name, entry, {}, choices, pool), *value[place + 1 :])


def damaged(data: bytes, choices: Choices) -> bytes:
    """Bytes with something flipped, replaced, cut out, put in or cut off."""
    place = choices.below(len(data) + 1)
    way = choices.below(6)
    if way == 0:
        return data[:place] + bytes(b ^ (1 << choices.below(8)) for b in data[place : place + 1]) + data[place + 1 :]
    if way == 1:
        return data[:place] + choices.data(1) + data[place + 1 :]
    if way == 2:
        return data[:place] + data[place + 1 + choices.below(8) :]
    if way == 3:
        return data[:place] + choices.data(1 + choices.below(4)) + data[place:]
    if way == 4:
        return data[:place]
    return data + data[place : place + choices.below(64)]
