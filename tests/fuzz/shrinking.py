"""The smallest input that shows a defect, for people to read."""

from __future__ import annotations

import traceback
from collections.abc import Callable


def shrunk(check: Callable[[bytes], None], data: bytes) -> bytes:
    """Bytes taken out of `data`, as many as can be while the same line raises the same error."""
    shown, size = _defect(check, data), len(data)
    while size := size // 2:
        place = 0
        while place < len(data):
            shorter = data[:place] + data[place + size :]
            if shown is not None and _defect(check, shorter) == shown:
                data = shorter
            else:
                place += size
    return data


def _defect(check: Callable[[bytes], None], data: bytes) -> tuple[type, str, int | None] | None:
    try:
        check(data)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return type(error), last.filename, last.lineno
    return None
