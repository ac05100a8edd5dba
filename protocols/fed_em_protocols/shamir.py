"""Shamir's secret sharing (1979) of 32-byte secrets over the prime field p = 2^256 + 297.

The holder with roster index i gets the value of a random polynomial of degree threshold − 1 at x = i + 1. Shares are 33 bytes:
p is a little larger than 2^256, so that every 32-byte string is a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fed_em.errors import CallerError

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33

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
    if len(secret) != SECRET_BYTES:
        raise CallerError(f"a shared secret has {SECRET_BYTES} bytes, not {len(secret)}")
    if not 2 <= threshold <= len(holders):
        raise CallerError(f"threshold {threshold} is not between 2 and the {len(holders)} holders")
    if len(set(holders)) != len(holders) or min(holders) < 0:
        raise CallerError("holders must be distinct roster indices")
    fresh = randomness(_COEFFICIENT_BYTES * (threshold - 1))
    coefficients = [
        int.from_bytes(fresh[k : k + _COEFFICIENT_BYTES], "little") % PRIME
        for k in range(0, len(fresh), _COEFFICIENT_BYTES)
    ]
    constant = int.from_bytes(secret, "little")
    return tuple(_evaluate(constant, coefficients, holder + 1).to_bytes(SHARE_BYTES, "little") for holder in holders)


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
    chosen = sorted(shares)[:threshold]
    xs = [holder + 1 for holder in chosen]
    secret = 0
    for holder, x in zip(chosen, xs, strict=True):
        numerator, denominator = 1, 1
        for other in xs:
            if other != x:
                numerator = numerator * other % PRIME
                denominator = denominator * (other - x) % PRIME
        weight = numerator * pow(denominator, -1, PRIME)
        secret = (secret + int.from_bytes(shares[holder], "little") * weight) % PRIME
    return secret.to_bytes(SHARE_BYTES, "little")[:SECRET_BYTES] if secret < 2**256 else None
