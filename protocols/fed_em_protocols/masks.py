"""Masks: AES-128-CTR keystreams read as vectors over the integers modulo 2^64, or 2^32 where the encoder proves that these suffice.

Each key masks exactly one vector, with a zero counter block; keys are derived from a secret and the round's context
(`fed_em_protocols.round_keys`), so a key can never meet two vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from fed_em.errors import CallerError

# A vector over one of the two rings: its type says modulo what.
RingVector = NDArray[np.uint64 | np.uint32]

MASK_KEY_BYTES = 16
_FROM_ZERO = CTR(bytes(16))

# The most of a vector that is masked at a time: the keystream and the sum of masks stay in the second-level cache together.
_PIECE_BYTES = 192 * 1024
_ZEROS = memoryview(bytes(_PIECE_BYTES))
_CACHE_LINE = 64
# `update_into` asks for room for a last partial block.
_SPARE_BYTES = 15

# With less keystream than this to make, some 0.4 ms of work, a thread of its own costs more than it saves.
_LEAST_BYTES_A_THREAD = 4 * 1024 * 1024
# Cipher objects at a time: each takes about a kilobyte.
_MOST_STREAMS = 512


def mask(key: bytes, length: int, dtype: type[np.uint64 | np.uint32] = np.uint64) -> RingVector:
    """The mask of `key`: `length` integers modulo 2^64 (or 2^32), which are its keystream in little-endian words."""
    vector = np.zeros(length, dtype=dtype)
    add_masks(vector, added=(key,))
    return vector


def add_masks(
    vector: RingVector, added: Iterable[bytes] = (), subtracted: Iterable[bytes] = (), threads: int = 1
) -> None:
    """Add the masks of some keys to `vector` and subtract those of others, in its ring, in place.

    Args:
        vector: One dimension, of type uint64 or uint32.
        added, subtracted: Keys of `MASK_KEY_BYTES` bytes.
        threads: The most that may work at it; fewer do where the masks are small. The result is the same.

    Raises:
        CallerError: `vector` holds no ring integers.
        ValueError: a key of another length.
    """
    if vector.dtype.kind != "u" or vector.itemsize not in {4, 8} or vector.ndim != 1:
        raise CallerError(
            f"masks are added to vectors of uint64 or uint32, not to {vector.dtype} of shape {vector.shape}"
        )
    signed = [(key, 1) for key in added] + [(key, -1) for key in subtracted]
    if any(len(key) != MASK_KEY_BYTES for key, _ in signed):
        raise ValueError(f"a mask key has {MASK_KEY_BYTES} bytes")
    workers = max(1, min(threads, len(signed), len(signed) * vector.nbytes // _LEAST_BYTES_A_THREAD))
    count = max(workers, -(-len(signed) // _MOST_STREAMS))
    shares = [signed[k::count] for k in range(count)] if signed else []
    turn = Lock()
    if workers == 1:
        for share in shares:
            _add_share(vector, share, turn)
    else:
        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(_add_share, vector, share, turn) for share in shares]:
                done.result()


def _add_share(vector: RingVector, signed: Sequence[tuple[bytes, int]], turn: Lock) -> None:
    """Add or subtract the masks of at least one key, piece by piece over all keys.

    Masks are summed apart and each piece of `vector` is touched once, in turn: addition commutes, so threads may come in any order.
    """
    streams = [(Cipher(AES(key), _FROM_ZERO).encryptor(), sign) for key, sign in signed]
    (first, first_sign), *others = streams
    combined = [(stream, np.add if sign == first_sign else np.subtract) for stream, sign in others]
    settle = np.add if first_sign > 0 else np.subtract
    step = _piece_length(vector)
    total_room, keystream_room = _room(step * vector.itemsize), _room(step * vector.itemsize)
    words = vector.dtype.newbyteorder("<")
    for start in range(0, len(vector), step):
        piece = vector[start : start + step]
        zeros = _ZEROS[: piece.nbytes]
        total, keystream = (np.frombuffer(room, words, len(piece)) for room in (total_room, keystream_room))
        first.update_into(zeros, total_room)
        for stream, combine in combined:
            stream.update_into(zeros, keystream_room)
            combine(total, keystream, out=total)
        with turn:
            settle(piece, total, out=piece)


def _piece_length(vector: RingVector) -> int:
    """Integers a piece: as few pieces as `_PIECE_BYTES` admits, of equal length up to whole cache lines."""
    pieces = max(1, -(-vector.nbytes // _PIECE_BYTES))
    lines = -(-vector.nbytes // (pieces * _CACHE_LINE))
    return max(1, lines) * _CACHE_LINE // vector.itemsize


def _room(size: int) -> memoryview:
    """A buffer on a cache line, with spare bytes at its end: additions that straddle lines take a quarter longer."""
    room = np.empty(size + _SPARE_BYTES + _CACHE_LINE, dtype=np.uint8)
    start = -room.ctypes.data % _CACHE_LINE
    return room[start : start + size + _SPARE_BYTES].data
