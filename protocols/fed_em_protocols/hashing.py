"""The one encoding for everything that is hashed or signed.

`digest(domain, f_1, …, f_m)` is SHA-256 over

    len(domain) ‖ domain ‖ m ‖ len(f_1) ‖ f_1 ‖ … ‖ len(f_m) ‖ f_m

with every length and m as 8-byte little-endian integers, text as UTF-8 and integers as 8-byte little-endian. The lengths make
the encoding injective; the domain keeps digests of different things apart.
"""

from __future__ import annotations

import hashlib
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


def digest(domain: str, *fields: Field) -> bytes:
    """32-byte digest of `fields` under `domain`. Integers must lie in [0, 2^64)."""
    parts: list[bytes | memoryview] = [_tag(domain), _length(len(fields))]
    for field in fields:
        if isinstance(field, int):
            parts += (_INTEGER, field.to_bytes(8, "little"))
        else:
            data = field.encode() if isinstance(field, str) else field
            parts += (_length(len(data)), data)
    return hashlib.sha256(b"".join(parts)).digest()
