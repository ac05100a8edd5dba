"""Masks: AES-128-CTR keystreams read as vectors over the integers modulo 2^64, or 2^32 where the encoder proves that these suffice.

Each key masks exactly one vector, with a zero counter block; keys are derived from a secret and the round's context
(`fed_em_protocols.round_keys`), so a key can never meet two vectors.

A keystream is the cipher's image of the counter blocks 0, 1, 2, … (NIST SP 800-38A, 6.5). All keys count alike: blocks are written once
for a piece of a vector and encrypted under one key after another, which takes a seventh less than to let the cipher count.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, cast

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from numpy.typing import NDArray

from fed_em.compilation import compiled, compiler_admitted
from fed_em.errors import CallerError

# A vector over one of the two rings: its type says modulo what.
RingVector = NDArray[np.uint64 | np.uint32]

MASK_KEY_BYTES = 16
_FROM_ZERO = CTR(bytes(16))
_BLOCK_BYTES = 16

# Keystreams that are added together, and the most of a vector that is masked at a time: so many pieces of keystream, their counters
# and the sum of masks stay in a second-level cache of 512 kB. Each call of the cipher costs as much as 4 kB of keystream.
_TOGETHER = 4
_PIECE_BYTES = 80 * 1024
# Threads wait for each other between calls: where several work, pieces are longer, and the rooms of all of them take this much.
_ROOMS_OF_THREADS = 4 * 1024 * 1024
# Of each thread: the sum, counters and keystreams.
_ROOMS = 2 + _TOGETHER
_CACHE_LINE = 64

# Rooms of masks that are done, kept for the next ones: the system takes longer to hand out a page than the cipher to fill it.
_unused: list[NDArray[np.uint8]] = []

# With less keystream than this to make, some 0.4 ms of work, a thread of its own costs more than it saves.
_LEAST_BYTES_A_THREAD = 4 * 1024 * 1024
# Cipher objects at a time: each takes about a kilobyte.
_MOST_STREAMS = 512
# From so much keystream on, the loop that adds it is the compiled one: a process pays once for the compiler.
_LEAST_BYTES_COMPILED = 8 * 1024 * 1024


def keystream(key: bytes, size: int) -> bytes:
    """The first `size` bytes of the keystream of `key`, which must serve nothing else."""
    return Cipher(AES(key), _FROM_ZERO).encryptor().update(bytes(size))


def mask(key: bytes, length: int, dtype: type[np.uint64 | np.uint32] = np.uint64) -> RingVector:
    """The mask of `key`: `length` integers modulo 2^64 (or 2^32), which are its keystream in little-endian words."""
    vector = np.zeros(length, dtype=dtype)
    add_masks(vector, added=(key,))
    return vector


def add_masks(
    vector: RingVector,
    added: Iterable[bytes] = (),
    subtracted: Iterable[bytes] = (),
    threads: int = 1,
    out: RingVector | None = None,
) -> None:
    """Add the masks of some keys to `vector` and subtract those of others, in its ring, in place or into `out`.

    Args:
        vector: One dimension, of type uint64 or uint32.
        added, subtracted: Keys of `MASK_KEY_BYTES` bytes.
        threads: The most that may work at it; fewer do where the masks are small. The result is the same.
        out: Where the result goes, of the same shape and type; `vector` itself if None.

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
    out = vector if out is None else out
    if (out.shape, out.dtype) != (vector.shape, vector.dtype):
        raise ValueError(f"{vector.dtype} of shape {vector.shape} do not go into {out.dtype} of shape {out.shape}")
    keystream = len(signed) * vector.nbytes
    worth_it = keystream >= _LEAST_BYTES_COMPILED and vector.dtype.isnative and compiler_admitted()
    add_four = _compiled_loop() if worth_it else None
    workers = max(1, min(threads, len(signed), keystream // _LEAST_BYTES_A_THREAD))
    count = max(workers, -(-len(signed) // _MOST_STREAMS))
    shares = [signed[k::count] for k in range(count)]
    step = _piece_length(out, workers)
    if len(shares) == 1:
        _add_share(out, vector, shares[0], step, None, add_four)
        return
    if out is not vector:
        out[...] = vector
    if workers == 1:
        for share in shares:
            _add_share(out, out, share, step, None, add_four)
        return
    turn = Lock()
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(_add_share, out, out, share, step, turn, add_four) for share in shares]:
            done.result()


def _add_each(total: RingVector, streams: Sequence[RingVector], signs: RingVector) -> None:
    """Add as many of `streams` as there are signs to `total`, which is as long; subtract those whose sign is -1 in the ring."""
    for stream, sign in zip(streams, signs.tolist(), strict=False):
        combine = np.subtract if sign else np.add
        combine(total, stream, out=total)


_AddFour = Callable[[RingVector, RingVector, RingVector], None]


def _add_four(total: RingVector, streams: RingVector, signs: RingVector) -> None:
    """`_add_each` of four rows in one pass, to be compiled.

    Reading each keystream once and the sum once for every four of them is half the traffic with the second-level cache that adding
    them one by one takes.
    """
    n = total.size
    a, b, c, d = streams[0, :n], streams[1, :n], streams[2, :n], streams[3, :n]
    p, q, r, s = signs[0], signs[1], signs[2], signs[3]
    # In two's complement (x ^ 0) - 0 is x, and (x ^ -1) - (-1) is -x.
    for i in range(n):
        total[i] += ((a[i] ^ p) - p) + ((b[i] ^ q) - q) + ((c[i] ^ r) - r) + ((d[i] ^ s) - s)


@functools.cache
def _compiled_loop() -> _AddFour | None:
    """`_add_four`, compiled; None where it cannot be."""
    try:
        return compiled(_add_four) if sys.byteorder == "little" else None
    except ImportError:
        return None


def _add_share(
    out: RingVector,
    vector: RingVector,
    signed: Sequence[tuple[bytes, int]],
    step: int,
    turn: Lock | None,
    add_four: _AddFour | None,
) -> None:
    """Let `out` be `vector` with the masks of some keys, with their signs, over all keys for `step` integers at a time.

    Where others work at the same vector, masks are summed apart and each piece of it is touched once, in turn: addition commutes,
    so threads may come in any order.
    """
    with _rooms(step * out.itemsize) as rooms:
        words = rooms.view(out.dtype.newbyteorder("<"))
        total, keystreams = words[0], words[2:]
        # Big-endian; of the zeros that rooms begin with only the lowest word changes, as no vector has 2^32 blocks.
        blocks, lowest = rooms[1].data, rooms[1].view(">u4")[_BLOCK_BYTES // 4 - 1 :: _BLOCK_BYTES // 4]
        groups = _groups(signed, rooms[2:], out.dtype)
        for start in range(0, len(out), step):
            piece = out[start : start + step]
            first, count = start * out.itemsize // _BLOCK_BYTES, -(-piece.nbytes // _BLOCK_BYTES)
            lowest[:count] = np.arange(first, first + count, dtype=np.uint32)
            counted = blocks[: count * _BLOCK_BYTES]
            heads = [stream[: len(piece)] for stream in keystreams]
            summed = piece if turn is None else total[: len(piece)]
            if turn is not None:
                summed[:] = 0
            elif out is not vector:
                summed[:] = vector[start : start + step]
            for streams, signs in groups:
                for update_into, room in streams:
                    update_into(counted, room)
                if add_four is not None and len(streams) == _TOGETHER:
                    add_four(summed, keystreams, signs)
                else:
                    _add_each(summed, heads, signs)
            if turn is not None:
                with turn:
                    np.add(piece, summed, out=piece)


_Stream = tuple[Callable[[memoryview, memoryview], int], memoryview]


def _groups(
    signed: Sequence[tuple[bytes, int]], rooms: NDArray[np.uint8], dtype: np.dtype[Any]
) -> list[tuple[list[_Stream], RingVector]]:
    """Keystreams that are added together, each with the room that it goes to, and their signs: 0 or -1 in the ring."""
    into, cipher = [room.data for room in rooms], Cipher(AES(bytes(MASK_KEY_BYTES)), ECB())
    streams: list[_Stream] = []
    for k, (key, _) in enumerate(signed):
        cipher.algorithm = AES(key)  # a cipher of its own for each would check its mode again, a third of the time
        streams.append((cipher.encryptor().update_into, into[k % _TOGETHER]))
    signs = cast(RingVector, np.negative(np.array([sign < 0 for _, sign in signed], dtype=dtype)))
    return [(streams[k : k + _TOGETHER], signs[k : k + _TOGETHER]) for k in range(0, len(streams), _TOGETHER)]


def _piece_length(vector: RingVector, workers: int) -> int:
    """Integers a piece: as few pieces as its longest admits, of equal length up to whole cache lines."""
    most = _PIECE_BYTES if workers == 1 else max(_PIECE_BYTES, _ROOMS_OF_THREADS // (_ROOMS * workers))
    pieces = max(1, -(-vector.nbytes // most))
    lines = -(-vector.nbytes // (pieces * _CACHE_LINE))
    return max(1, lines) * _CACHE_LINE // vector.itemsize


@contextmanager
def _rooms(size: int) -> Iterator[NDArray[np.uint8]]:
    """Buffers for the sum, for counters and for each keystream of a group, each of `size` bytes and spare ones; wiped afterwards.

    The cipher fills whole blocks, and asks for room for a last partial one. Buffers begin on cache lines, since additions that straddle
    lines take a quarter longer, and not at the same place of a page.
    """
    each = -(-(size + 2 * _BLOCK_BYTES) // _CACHE_LINE) * _CACHE_LINE + _CACHE_LINE
    wanted = _ROOMS * each
    try:
        room = _unused.pop()
    except IndexError:  # asked and taken at once: another thread may take the last between the two
        room = np.zeros(0, dtype=np.uint8)
    if room.size < wanted:
        room = np.zeros(wanted + _CACHE_LINE, dtype=np.uint8)
        room = room[-room.ctypes.data % _CACHE_LINE :]
    used = room[:wanted]
    try:
        yield used.reshape(_ROOMS, each)
    finally:
        used[:] = 0
        _unused.append(room)
