"""The one encoding for everything that is hashed or signed.

`digest(domain, f_1, …, f_m)` is SHA-256 over

    len(domain) ‖ domain ‖ m ‖ len(f_1) ‖ f_1 ‖ … ‖ len(f_m) ‖ f_m

with every length and m as 8-byte little-endian integers, text as UTF-8 and integers as 8-byte little-endian. The lengths make
the encoding injective; the domain keeps digests of different things apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from struct import Struct

DIGEST_BYTES = 32
NO_BYTES_DIGEST = hashlib.sha256(b"").digest()
_PREFIX = b"fed-em/1/"

Field = bytes | memoryview | str | int


@cache
def _tag(domain: str) -> bytes:
    tag = _PREFIX + domain.encode()
    return len(tag).to_bytes(8, "little") + tag


_length = Struct("<Q").pack
_INTEGER = _length(8)


def _framed(fields: Iterable[Field]) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    for field in fields:
        if isinstance(field, int):
            parts += (_INTEGER, field.to_bytes(8, "little"))
        else:
            data = field.encode() if isinstance(field, str) else field
            parts += (_length(len(data)), data)
    return parts


def digest_of_more(domain: str, count: int, *fields: Field) -> Callable[..., bytes]:
    """For many digests whose first fields are the same: takes the `count` others, and gives `digest(domain, *fields, *others)`."""
    begun = hashlib.sha256(b"".join((_tag(domain), _length(len(fields) + count), *_framed(fields))))

    def finished(*others: Field) -> bytes:
        if len(others) != count:
            raise ValueError(f"{len(others)} fields were given, {count} are to come")
        found = begun.copy()
        found.update(b"".join(_framed(others)))
        return found.digest()

    return finished


def digest(domain: str, *fields: Field) -> bytes:
    """32-byte digest of `fields` under `domain`. Integers must lie in [0, 2^64)."""
    return hashlib.sha256(b"".join((_tag(domain), _length(len(fields)), *_framed(fields)))).digest()
