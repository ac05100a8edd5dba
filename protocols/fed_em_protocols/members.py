"""Sets of tenants, as they travel: bitmaps over the roster."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def to_bitmap(members: Iterable[int], n: int) -> bytes:
    """Bit i of byte i // 8 (least significant first) is set if tenant i is a member; ⌈n/8⌉ bytes."""
    bitmap = bytearray((n + 7) // 8)
    for member in members:
        if not 0 <= member < n:
            raise ValueError(f"tenant {member} is not in a roster of {n}")
        bitmap[member // 8] |= 1 << (member % 8)
    return bytes(bitmap)


def from_bitmap(bitmap: bytes, n: int) -> frozenset[int]:
    """The inverse of `to_bitmap`.

    Raises:
        ValueError: the bitmap is not ⌈n/8⌉ bytes long or sets a bit beyond n (it would not be canonical).
    """
    if len(bitmap) != (n + 7) // 8:
        raise ValueError(f"a bitmap of {len(bitmap)} bytes does not fit a roster of {n}")
    members = frozenset(np.flatnonzero(np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")).tolist())
    if members and max(members) >= n:
        raise ValueError(f"a bitmap over a roster of {n} names tenant {max(members)}")
    return members
