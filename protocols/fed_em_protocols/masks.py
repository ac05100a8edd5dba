"""Masks: AES-128-CTR keystreams read as vectors over the integers modulo 2^64.

Each key masks exactly one vector, with a zero counter block; keys are derived from a secret and the round's context
(`fed_em_protocols.round_keys`), so a key can never meet two vectors.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

RingVector = NDArray[np.uint64]

MASK_KEY_BYTES = 16
_ZERO_COUNTER = bytes(16)

# The keystream, the zeros it is made from and the piece of the vector stay in the second-level cache together.
_CHUNK_BYTES = 128 * 1024
_ZEROS = bytes(_CHUNK_BYTES)


def mask(key: bytes, length: int) -> RingVector:
    """The mask of `key`: `length` integers modulo 2^64."""
    vector = np.zeros(length, dtype=np.uint64)
    add_masks(vector, added=(key,))
    return vector


def add_masks(vector: RingVector, added: Iterable[bytes] = (), subtracted: Iterable[bytes] = ()) -> None:
    """Add the masks of some keys to `vector` and subtract those of others, modulo 2^64, in place.

    Runs chunk by chunk over all keys, so the vector is read once.
    """
    signed = [(key, np.add) for key in added] + [(key, np.subtract) for key in subtracted]
    streams = [(Cipher(AES(key), CTR(_ZERO_COUNTER)).encryptor(), combine) for key, combine in signed]
    # One block more than needed: `update_into` asks for room for a last partial block.
    buffer = bytearray(min(_CHUNK_BYTES, 8 * len(vector)) + 15)
    step = _CHUNK_BYTES // 8
    for start in range(0, len(vector), step):
        piece = vector[start : start + step]
        zeros = memoryview(_ZEROS)[: 8 * len(piece)]
        keystream = np.frombuffer(buffer, dtype="<u8", count=len(piece))
        for stream, combine in streams:
            stream.update_into(zeros, buffer)
            combine(piece, keystream, out=piece)
