"""Many polynomials over the prime field p = 2^256 + 297 at many points at once, in exact matrix products.

A number is its 16-bit limbs, lowest first, along the first axis of an array. Limb l of all values is one matrix product,

    Σ_{i + j = l} (limb i of the powers of the points) · (limb j of the coefficients),

of integers in float64. Every partial sum stays below 2^53, so nothing is ever rounded, whatever order a library adds in.
2^256 = −297 modulo p brings limbs from the 16th on down by sixteen places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fed_em.blas import one_blas_thread
from fed_em.errors import CallerError

PRIME = 2**256 + 297
VALUE_BYTES = 33

_LIMB_BITS = 16
_LIMBS = 16
_EXCESS = 297
# Coefficients: fifteen limbs below 2^16 and one below 2^18, times limbs below 2^16, for each of so many terms: below 2^53.
_MOST_TERMS = 2**16
# Points at a time: the products of so many, for the secrets of a window, stay in a cache.
_POINTS = 32


def values_at(coefficients: NDArray[np.uint16], points: Sequence[int]) -> NDArray[np.uint8]:
    """The values of polynomials at `points`, reduced modulo p.

    Args:
        coefficients: Of shape (limbs, terms, polynomials), the constant term first: 16 to 32 limbs each, reduced or not.
        points: Numbers of any size.

    Returns:
        Little-endian bytes of shape (points, polynomials, `VALUE_BYTES`).

    Raises:
        CallerError: more than 65 536 terms.
    """
    _, terms, count = coefficients.shape
    if terms > _MOST_TERMS:
        raise CallerError(f"polynomials have at most {_MOST_TERMS} terms here, not {terms}")
    folded = _folded(coefficients.astype(np.int64))
    folded[0] -= _EXCESS * _carry(folded)
    stacked = folded.reshape(_LIMBS * terms, count).astype(np.float64)
    values = []
    for start in range(0, len(points), _POINTS):
        powers = _powers(points[start : start + _POINTS], terms)
        with one_blas_thread():
            products = _products(powers, stacked)
        values.append(_bytes_of(products))
    return np.concatenate(values)


def _powers(points: Sequence[int], terms: int) -> NDArray[np.float64]:
    """Limbs of 1, x, x², … modulo p, the highest limb first: shape (points, limbs, terms), with no more limbs than needed."""
    table = []
    for x in points:
        power = 1
        for _ in range(terms):
            table.append(power)
            power = power * x % PRIME
    limbs = -(-max(table).bit_length() // _LIMB_BITS)
    data = b"".join(power.to_bytes(2 * limbs, "little") for power in table)
    shaped = np.frombuffer(data, dtype="<u2").reshape(len(points), terms, limbs)
    return np.ascontiguousarray(shaped[:, :, ::-1].transpose(0, 2, 1), dtype=np.float64)


def _products(powers: NDArray[np.float64], coefficients: NDArray[np.float64]) -> NDArray[np.int64]:
    """Values that are not reduced: shape (limbs, points, polynomials), each limb within ±2^53.

    With the limbs of one factor ascending and of the other descending, the terms of one limb lie end to end in both.
    """
    points, limbs, terms = powers.shape
    rows = powers.reshape(points, limbs * terms)
    products = np.empty((limbs + _LIMBS - 1, points, coefficients.shape[1]), dtype=np.int64)
    for place in range(len(products)):
        first, end = max(0, place - limbs + 1), min(_LIMBS, place + 1)
        start = limbs - 1 - place + first
        left = rows[:, start * terms : (start + end - first) * terms]
        products[place] = left @ coefficients[first * terms : end * terms]
    return products


def _folded(limbs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same numbers modulo p in sixteen limbs, of any sign; at most 32 come in."""
    low: NDArray[np.int64] = limbs[:_LIMBS].copy()
    high = limbs[_LIMBS:]
    low[: len(high)] -= _EXCESS * high
    return low


def _carry(limbs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bring every limb into [0, 2^16), in place. Returns what is left over, in units of 2^256."""
    carry = np.zeros(limbs.shape[1:], dtype=np.int64)
    for limb in limbs:
        np.add(limb, carry, out=limb)
        np.right_shift(limb, _LIMB_BITS, out=carry)
        np.bitwise_and(limb, 2**_LIMB_BITS - 1, out=limb)
    return carry


def _bytes_of(products: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Numbers in limbs within ±2^53, reduced: shape (points, polynomials, `VALUE_BYTES`)."""
    limbs = _folded(products)
    limbs[0] -= _EXCESS * _carry(limbs)
    top = _carry(limbs)
    words = np.ascontiguousarray(limbs.transpose(1, 2, 0), dtype="<u2")
    values = np.zeros((*top.shape, VALUE_BYTES), dtype=np.uint8)
    values[:, :, :-1] = words.view(np.uint8)
    # Of random numbers about one in 2^200 is still not in [0, 2^256).
    for place in map(tuple, np.argwhere(top)):
        number = int.from_bytes(words[place].tobytes(), "little") + (int(top[place]) << 256)
        values[place] = np.frombuffer((number % PRIME).to_bytes(VALUE_BYTES, "little"), dtype=np.uint8)
    return values
