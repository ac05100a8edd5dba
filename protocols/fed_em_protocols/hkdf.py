"""HKDF-SHA-256 (RFC 5869) without a salt, in its two steps: many keys of one secret share the first."""

from __future__ import annotations

from hmac import digest

_HASH = "sha256"
_HASH_BYTES = 32
_NO_SALT = bytes(_HASH_BYTES)


def extract(secret: bytes) -> bytes:
    """The pseudorandom key of a secret: 32 bytes, as secret as it, for any number of calls of `expand`."""
    return digest(_NO_SALT, secret, _HASH)


def expand(pseudorandom_key: bytes, info: bytes, length: int) -> bytes:
    """`length` bytes from a pseudorandom key (32 bytes), bound to `info`; at most 255 · 32.

    Raises:
        ValueError: so many bytes do not come from one key.
    """
    if not 0 <= length <= 255 * _HASH_BYTES:
        raise ValueError(f"HKDF-SHA-256 gives at most {255 * _HASH_BYTES} bytes, not {length}")
    if length <= _HASH_BYTES:
        return digest(pseudorandom_key, info + b"\x01", _HASH)[:length]
    block, found = b"", b""
    for number in range(1, -(-length // _HASH_BYTES) + 1):
        block = digest(pseudorandom_key, block + info + bytes((number,)), _HASH)
        found += block
    return found[:length]
