"""HKDF-SHA-256 (RFC 5869) without a salt, in its two steps: many keys of one secret share the first."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

_HASH_BYTES = 32

# HMAC (RFC 2104) is two hashes. OpenSSL's own takes half as long again to look the hash up, for as few bytes as are hashed here.
_BLOCK_BYTES = 64
_INNER, _OUTER = (bytes(value ^ pad for value in range(256)) for pad in (0x36, 0x5C))
# The padded key of no salt, which is zeros.
_INNER_OF_NO_SALT, _OUTER_OF_NO_SALT = (bytes(_BLOCK_BYTES).translate(pad) for pad in (_INNER, _OUTER))


def _hmac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256 with a key of 32 bytes."""
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    return sha256(padded.translate(_OUTER) + sha256(padded.translate(_INNER) + message).digest()).digest()


def extract(secret: bytes) -> bytes:
    """The pseudorandom key of a secret: 32 bytes, as secret as it, for any number of calls of `expand`."""
    return sha256(_OUTER_OF_NO_SALT + sha256(_INNER_OF_NO_SALT + secret).digest()).digest()


def expand(pseudorandom_key: bytes, info: bytes, length: int) -> bytes:
    """`length` bytes from a pseudorandom key (32 bytes), bound to `info`; at most 255 · 32.

    Raises:
        ValueError: so many bytes do not come from one key.
    """
    if not 0 <= length <= 255 * _HASH_BYTES:
        raise ValueError(f"HKDF-SHA-256 gives at most {255 * _HASH_BYTES} bytes, not {length}")
    if length <= _HASH_BYTES:
        return _hmac(pseudorandom_key, info + b"\x01")[:length]
    block, found = b"", b""
    for number in range(1, -(-length // _HASH_BYTES) + 1):
        block = _hmac(pseudorandom_key, block + info + bytes((number,)))
        found += block
    return found[:length]


def expand_each(pseudorandom_keys: Sequence[bytes], infos: Sequence[bytes], length: int) -> list[bytes]:
    """`expand` of each key to its own `info`, in less time.

    Raises:
        ValueError: `length` is more than 32 bytes, or there are not as many keys as infos.
    """
    if not 0 <= length <= _HASH_BYTES:
        raise ValueError(f"HKDF-SHA-256 expands many keys to at most {_HASH_BYTES} bytes each, not {length}")
    return [_hmac(key, info + b"\x01")[:length] for key, info in zip(pseudorandom_keys, infos, strict=True)]
