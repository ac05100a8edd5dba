"""A mapping that is never changed in place and grows entry by entry, as what comes in of thousands of tenants does.

Copying a dict at each entry takes time that grows with the square of their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

# Entries that are copied with each new one, before they join the others.
_FEW = 64


class GrowingMap(Mapping[K, V], Generic[K, V]):
    """Entries in the order in which they came; one more costs a copy of a few and, now and then, of all.

    Args:
        entries: To begin with.
    """

    __slots__ = ("_most", "_new")

    def __init__(self, entries: Mapping[K, V] | None = None) -> None:
        self._most: dict[K, V] = dict(entries or {})
        self._new: dict[K, V] = {}

    def with_entry(self, key: K, value: V) -> GrowingMap[K, V]:
        """These entries and one more, or one in the place of another."""
        grown: GrowingMap[K, V] = GrowingMap.__new__(GrowingMap)
        if key in self._most or len(self._new) >= max(_FEW, len(self._most) >> 6):
            grown._most, grown._new = {**self._most, **self._new, key: value}, {}
        else:
            grown._most, grown._new = self._most, {**self._new, key: value}
        return grown

    def __getitem__(self, key: K) -> V:
        found = self._new.get(key)
        return self._most[key] if found is None and key not in self._new else found  # type: ignore[return-value]

    def __contains__(self, key: object) -> bool:
        return key in self._most or key in self._new

    def __iter__(self) -> Iterator[K]:
        yield from self._most
        yield from self._new

    def __len__(self) -> int:
        return len(self._most) + len(self._new)

    def __repr__(self) -> str:
        return f"GrowingMap({len(self)} entries)"
