"""How many entries the fields of a message have, told from its bytes.

A parser makes an object of every entry before anybody can count them: of the empty ones, two bytes each, that takes forty times the
memory of the message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

VARINT, WITH_LENGTH = 0, 2
_LONGEST_VARINT = 10


@dataclass(frozen=True)
class FieldLimit:
    """The name of a field, the most entries that it may have (1 if it is no list), and whether it is a list of integers."""

    name: str
    entries: int
    integers: bool


def varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at a place, seven bits a byte, the lowest first, and the place behind it. It has at most ten bytes."""
    number = shift = 0
    while place < len(data) and shift < 7 * _LONGEST_VARINT:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            break
    return number, place


def complaint_about_entries(data: bytes, limits: Mapping[int, FieldLimit]) -> str:
    """What is wrong with the number of entries in the fields of a message, in words that follow "a message"; "" if nothing is.

    Takes no more steps than the message may have entries. What is no message is left to the parser, but for fields that `limits`
    does not have.

    Args:
        data: The message.
        limits: By field number.
    """
    place, found = 0, Counter[int]()
    while place < len(data):
        tag, start = varint(data, place)
        number, wire_type = divmod(tag, 8)
        limit = limits.get(number)
        if limit is None or wire_type not in {VARINT, WITH_LENGTH}:
            return "with an unknown field"
        size, place = varint(data, start)
        if wire_type == WITH_LENGTH:
            place += size
        packed = limit.integers and wire_type == WITH_LENGTH
        found[number] += max(1, -(-size // _LONGEST_VARINT)) if packed else 1
        if found[number] > limit.entries:
            return f"whose field '{limit.name}' is beyond its limit of {limit.entries}"
    return ""
