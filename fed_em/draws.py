"""Random choices that follow from a key and from nothing else: the same for every party, on every machine, in every process."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError

# Of keys that descriptions hold.
MAX_KEY_BYTES = 64


def check_key(what: str, key: bytes) -> None:
    """Raise `CallerError` if a key is longer than `MAX_KEY_BYTES`."""
    if len(key) > MAX_KEY_BYTES:
        raise CallerError(f"the key of {what} has at most {MAX_KEY_BYTES} bytes, not {len(key)}")


def key_of_hex(what: str, described: Any) -> bytes:
    """A key as descriptions hold it. Raises `CallerError` if it is none."""
    try:
        return bytes.fromhex(described)
    except (TypeError, ValueError) as error:
        raise CallerError(f"{what}: {error}") from None


def keyed_generator(key: bytes) -> np.random.Generator:
    """The generator of a key: `numpy.random.Generator(PCG64(·))`, seeded with its SHA-256.

    It is the same everywhere as long as numpy keeps that stream.
    """
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(key).digest(), "little")))


def keyed_share(key: bytes, share: float, n: int) -> NDArray[np.bool_]:
    """Which of n rows are in a share that each is drawn into by itself, with a probability in [0, 1], by its position: `(n,)`."""
    drawn: NDArray[np.bool_] = keyed_generator(key).random(n) < share
    return drawn
