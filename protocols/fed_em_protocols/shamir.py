"""Shamir's secret sharing (1979) of 32-byte secrets over the prime field p = 2^256 + 297.

The holder with roster index i gets the value of a random polynomial of degree threshold − 1 at x = i + 1. Shares are 33 bytes:
p is a little larger than 2^256, so that every 32-byte string is a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import prod

import numpy as np

from fed_em.errors import CallerError
from fed_em_protocols.polynomials import PRIME, VALUE_BYTES, values_at

__all__ = ["PRIME", "SECRET_BYTES", "SHARE_BYTES", "combine", "split", "split_many"]

SECRET_BYTES = 32
SHARE_BYTES = VALUE_BYTES

# With fewer terms than this to add, for a few secrets and holders, secrets are shared one by one in less time than all at once.
_LEAST_TERMS_IN_A_PRODUCT = 512

# 48 bytes reduced modulo p: within 2^-127 of uniform.
_COEFFICIENT_BYTES = 48


def split(
    secret: bytes, threshold: int, holders: Sequence[int], randomness: Callable[[int], bytes]
) -> tuple[bytes, ...]:
    """Shares of `secret`, one a holder (roster indices), in order. Any `threshold` of them give it back, fewer say nothing.

    Args:
        secret: 32 bytes.
        threshold: At least 2 (a threshold of one is no sharing at all) and at most the number of holders.
        holders: Distinct roster indices, each at least 0.
        randomness: Fresh, secret, uniform bytes; must never be reused.
    """
    _check_sharing([secret], threshold, holders)
    fresh = randomness(_COEFFICIENT_BYTES * (threshold - 1))
    coefficients = [
        int.from_bytes(fresh[k : k + _COEFFICIENT_BYTES], "little") % PRIME
        for k in range(0, len(fresh), _COEFFICIENT_BYTES)
    ]
    constant = int.from_bytes(secret, "little")
    return tuple(_evaluate(constant, coefficients, holder + 1).to_bytes(SHARE_BYTES, "little") for holder in holders)


def split_many(
    secrets: Sequence[bytes], threshold: int, holders: Sequence[int], randomness: Callable[[int], bytes]
) -> tuple[bytes, ...]:
    """The shares that `split` makes of each of `secrets` in turn, end to end, one such table a holder.

    Draws the same bytes in the same order as those calls, and takes a fraction of their time for the secrets of a window.
    """
    _check_sharing(secrets, threshold, holders)
    if not secrets or len(secrets) * len(holders) * threshold < _LEAST_TERMS_IN_A_PRODUCT:
        rows = [split(secret, threshold, holders, randomness) for secret in secrets]
        return tuple(map(b"".join, zip(*rows, strict=True))) or (b"",) * len(holders)
    fresh = b"".join(randomness(_COEFFICIENT_BYTES * (threshold - 1)) for _ in secrets)
    coefficients = np.zeros((_COEFFICIENT_BYTES // 2, threshold, len(secrets)), dtype=np.uint16)
    constants = np.frombuffer(b"".join(secrets), dtype="<u2").reshape(len(secrets), -1)
    coefficients[: constants.shape[1], 0] = constants.T
    coefficients[:, 1:] = np.frombuffer(fresh, dtype="<u2").reshape(len(secrets), threshold - 1, -1).T
    return tuple(table.tobytes() for table in values_at(coefficients, [holder + 1 for holder in holders]))


def _check_sharing(secrets: Sequence[bytes], threshold: int, holders: Sequence[int]) -> None:
    for secret in secrets:
        if len(secret) != SECRET_BYTES:
            raise CallerError(f"a shared secret has {SECRET_BYTES} bytes, not {len(secret)}")
    if not 2 <= threshold <= len(holders):
        raise CallerError(f"threshold {threshold} is not between 2 and the {len(holders)} holders")
    if len(set(holders)) != len(holders) or min(holders) < 0:
        raise CallerError("holders must be distinct roster indices")


def _evaluate(constant: int, coefficients: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value + coefficient) * x % PRIME
    return (value + constant) % PRIME


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes | None:
    """The secret from the shares of at least `threshold` holders; the `threshold` smallest indices are used.

    Returns:
        The 32-byte secret, or None if the shares lie on no polynomial with a 32-byte secret (some share or the dealer is wrong).

    Raises:
        CallerError: fewer than `threshold` shares, or a share of the wrong length.
    """
    if threshold < 2 or len(shares) < threshold:
        raise CallerError(f"{len(shares)} shares cannot meet a threshold of {threshold}")
    if any(len(share) != SHARE_BYTES for share in shares.values()):
        raise CallerError(f"a share has {SHARE_BYTES} bytes")
    chosen = tuple(sorted(shares)[:threshold])
    weighted = zip(chosen, _weights_at_zero(chosen), strict=True)
    secret = sum(int.from_bytes(shares[holder], "little") * weight for holder, weight in weighted) % PRIME
    return secret.to_bytes(SHARE_BYTES, "little")[:SECRET_BYTES] if secret < 2**256 else None


# Many secrets of a round are rebuilt by the same holders. Weights are public: they depend on roster indices alone.
@lru_cache(maxsize=256)
def _weights_at_zero(holders: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's weights: the value at zero of a polynomial is the weighted sum of its values at these holders' points."""
    xs = [holder + 1 for holder in holders]
    numerator = prod(xs)
    denominators = [x * prod(other - x for other in xs if other != x) % PRIME for x in xs]
    return tuple(numerator * inverse % PRIME for inverse in _inverses(denominators))


def _inverses(values: Sequence[int]) -> list[int]:
    """Inverses modulo p of several numbers for the price of one (Montgomery's trick): divide a product by all but one."""
    products = [1]
    for value in values:
        products.append(products[-1] * value % PRIME)
    rest = pow(products[-1], -1, PRIME)
    inverses = []
    for before, value in zip(products[-2::-1], reversed(values), strict=True):
        inverses.append(rest * before % PRIME)
        rest = rest * value % PRIME
    return inverses[::-1]
