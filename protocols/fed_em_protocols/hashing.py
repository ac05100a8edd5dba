"""The one encoding for everything that is hashed or signed.

`digest(domain, f_1, …, f_m)` is SHA-256 over

    len(domain) ‖ domain ‖ m ‖ len(f_1) ‖ f_1 ‖ … ‖ len(f_m) ‖ f_m

with every length and m as 8-byte little-endian integers, text as UTF-8 and integers as 8-byte little-endian. The lengths make
the encoding injective; the domain keeps digests of different things apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache

DIGEST_BYTES = 32
NO_BYTES_DIGEST = hashlib.sha256(b"").digest()
_PREFIX = b"fed-em/1/"

Field = bytes | memoryview | str | int


@cache
def _tag(domain: str) -> bytes:
    tag = _PREFIX + domain.encode()
    return len(tag).to_bytes(8, "little") + tag


_INTEGER_BYTES = (8).to_bytes(8, "little")


_LENGTHS = tuple(length.to_bytes(8, "little") for length in range(256))


def _framed(field: Field) -> tuple[bytes, bytes | memoryview]:
    if type(field) is bytes and len(field) < len(_LENGTHS):  # nearly all of what is hashed by the thousand
        return _LENGTHS[len(field)], field
    if isinstance(field, int):
        return _INTEGER_BYTES, field.to_bytes(8, "little")
    data = field.encode() if isinstance(field, str) else field
    return len(data).to_bytes(8, "little"), data


def digest_of_more(domain: str, count: int, *fields: Field) -> Callable[..., bytes]:
    """For many digests whose first fields are the same: takes the `count` others, and gives `digest(domain, *fields, *others)`."""
    parts: list[bytes | memoryview] = [_tag(domain), (len(fields) + count).to_bytes(8, "little")]
    for field in fields:
        parts += _framed(field)
    begun = hashlib.sha256(b"".join(parts))

    def finished(*others: Field) -> bytes:
        if len(others) != count:
            raise ValueError(f"{len(others)} fields were given, {count} are to come")
        found = begun.copy()
        found.update(b"".join([part for field in others for part in _framed(field)]))
        return found.digest()

    return finished


def digest(domain: str, *fields: Field) -> bytes:
    """32-byte digest of `fields` under `domain`. Integers must lie in [0, 2^64)."""
    parts: list[bytes | memoryview] = [_tag(domain), len(fields).to_bytes(8, "little")]
    for field in fields:
        parts += _framed(field)
    return hashlib.sha256(b"".join(parts)).digest()
