"""Bytes read as decisions, so that whoever invents bytes (a fuzzer, hypothesis, a file) decides what happens in a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_LATELY = 3


class Choices:
    """Decisions out of `data`, front to back. Once it is used up every decision is the first one: the plain case."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there is anything left to decide with."""
        return self._at < len(self._data)

    def data(self, length: int) -> bytes:
        """The next bytes, zeros where there are none."""
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken.ljust(length, b"\0")

    def integer(self, length: int) -> int:
        """Any integer of `length` bytes."""
        return int.from_bytes(self.data(length), "little")

    def below(self, limit: int) -> int:
        """An integer from 0 to `limit` − 1."""
        return self.integer(1 if limit <= 2**8 else 2 if limit <= 2**16 else 4) % limit

    def one(self, options: Sequence[T]) -> T:
        """One of them."""
        return options[self.below(len(options))]


def told_next(following: Iterator[T], said: Sequence[T], choices: Choices) -> T:
    """What comes next by the record, or what was said lately (`said` ends with it), or at any time."""
    match choices.below(4):
        case 0 | 1:
            return next(following, said[0])
        case 2:
            return said[-1 - choices.below(_LATELY)]
        case _:
            return choices.one(said)
