"""The one encoding for everything that is hashed or signed.

`digest(domain, f_1, …, f_m)` is SHA-256 over

    len(domain) ‖ domain ‖ m ‖ len(f_1) ‖ f_1 ‖ … ‖ len(f_m) ‖ f_m

with every length and m as 8-byte little-endian integers, text as UTF-8 and integers as 8-byte little-endian. The lengths make
the encoding injective; the domain keeps digests of different things apart.
"""

from __future__ import annotations

import hashlib

DIGEST_BYTES = 32
NO_BYTES_DIGEST = hashlib.sha256(b"").digest()
_PREFIX = b"fed-em/1/"

Field = bytes | memoryview | str | int


def _as_bytes(field: Field) -> bytes | memoryview:
    if isinstance(field, str):
        return field.encode()
    if isinstance(field, int):
        return field.to_bytes(8, "little")
    return field


def digest(domain: str, *fields: Field) -> bytes:
    """32-byte digest of `fields` under `domain`. Integers must lie in [0, 2^64)."""
    tag = _PREFIX + domain.encode()
    parts: list[bytes | memoryview] = [len(tag).to_bytes(8, "little"), tag, len(fields).to_bytes(8, "little")]
    for field in fields:
        data = _as_bytes(field)
        parts += (len(data).to_bytes(8, "little"), data)
    return hashlib.sha256(b"".join(parts)).digest()
