"""The discrete Gaussian over the integers, drawn by inversion of a table.

P(x) ∝ exp(−x²/2σ²) for every integer x (Canonne, Kamath and Steinke 2020). A draw compares 128 uniform bits with the table of the
distribution function of |x|, and takes one more bit as the sign. Nothing in the table's making is floating point.

How far a draw is from that law, in total variation:

* *Tails.* |x| > t = 13σ is never drawn, and t in its place. Σ_x exp(−(x − c)²/2σ²) is largest at c = 0 (Poisson summation), hence
  E exp(uX) ≤ exp(u²σ²/2), and by Chernoff's bound the mass of these tails is at most 2 exp(−13²/2) < 2⁻¹²⁰.
* *Rounding.* The table holds C_k = ⌊2¹²⁸ F_k⌋, k = 0 … t − 1, where F_k sums the weights w_0 … w_k of |x| as they are computed, in
  integers and units of 2⁻¹⁹⁶. The mass of each |x| is wrong by at most 2⁻¹²⁸, as two bounds are rounded down, and by the error of its
  weight. Weights follow from those 2048 to the left of them, as many at once: v ← v ρ, ρ ← ρ κ. The first v and ρ, and κ, are from
  256-bit integers, and each errs by less than two units: the exponentials that they are powers of err by 2⁻²⁵⁰, the powers by 2⁻²²⁰. No
  factor exceeds one, so the errors of factors add up, and a product is at most two units too small: after a steps ρ errs by at most
  4 (a + 1) units, v by 4 (a + 1)², which is less than 2⁻¹⁷⁰ for σ ≤ 2¹⁹. The total variation is half the sum over t + 1 masses, at
  most (13σ + 1)(1 + 2⁻⁴²)·2⁻¹²⁹.

Together less than (13σ + 2)·2⁻¹²⁹ + 2⁻¹²⁰: `DiscreteGaussian.error`, 2⁻¹¹¹ at σ = 2¹⁴.

The time of a draw depends on its value through the processor's caches: whoever can time a single draw, as another process on this
machine might, learns something of it. Peers see the time of a whole upload.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em_protocols.window import Randomness

LEAST_SIGMA, MOST_SIGMA = 1, 2**19
# No draw is further from zero, in σ.
REACH = 13

# A table takes 208 σ bytes: 3.4 MB at σ = 2¹⁴, 109 MB at 2¹⁹. A sum of several models has some four σ of its own for each of them, and
# without their tables in memory a second a sum goes into making them.
_TABLES_KEPT = 24
_WORKING_BITS = 256
_ONE = 1 << _WORKING_BITS
_LIMBS, _LIMB_BITS, _STRIDE = 7, 28, 2048
_LIMB_MASK = 2**_LIMB_BITS - 1
_WORD = np.dtype("<u8")

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class DiscreteGaussian:
    """The discrete Gaussian over the integers of parameter σ; it holds no randomness and no draw.

    Attributes:
        sigma: σ, 1 … 2¹⁹. The standard deviation is σ but for 10⁻⁷ of it (at σ = 1), and less than 10⁻³⁰ from σ = 2 on.

    Raises:
        CallerError: σ is not an integer of that range.
    """

    sigma: int

    def __post_init__(self) -> None:
        if not isinstance(self.sigma, int) or not LEAST_SIGMA <= self.sigma <= MOST_SIGMA:
            raise CallerError(
                f"σ of a discrete Gaussian is {self.sigma!r}",
                remedy=f"an integer from {LEAST_SIGMA} to {MOST_SIGMA}",
            )

    @property
    def error(self) -> float:
        """Total variation distance of one draw from the law, at most; that of n independent draws is at most n times as much."""
        return (REACH * self.sigma + 2) * 2.0**-129 + 2.0**-120

    @property
    def table_bytes(self) -> int:
        """Memory of the table, which all samplers of this σ share."""
        return sum(words.nbytes for words in _table(self.sigma))

    def sample(self, size: int, randomness: Randomness) -> NDArray[np.int64]:
        """Independent draws, `(size,)`, each within ±13σ.

        Args:
            size: How many, at least 0.
            randomness: Uniform secret bytes, such as `secrets.token_bytes`: 8·size, then 8 for each draw that 64 bits leave open, if there
                are such draws, then ⌈size/8⌉ for the signs. They must not be used again for anything.
        """
        high, low = _table(self.sigma)
        drawn = _words(randomness, size)
        magnitudes = np.searchsorted(high, drawn)
        (open_,) = np.nonzero(high[magnitudes] == drawn)
        if open_.size:
            magnitudes[open_] = _settled(high, low, drawn[open_], _words(randomness, open_.size))
        return np.where(_bits(randomness, size), -magnitudes, magnitudes).astype(np.int64, copy=False)


def _settled(high: Words, low: Words, drawn: Words, lower: Words) -> NDArray[np.intp]:
    """Magnitudes where the high word of the uniform number is one of the table: the low words decide."""
    first, after = np.searchsorted(high, drawn), np.searchsorted(high, drawn, side="right")
    return np.array(
        [
            start + np.searchsorted(low[start:stop], word, side="right")
            for start, stop, word in zip(first, after, lower, strict=True)
        ]
    )


def _words(randomness: Randomness, count: int) -> Words:
    return (
        np.frombuffer(randomness(8 * count), _WORD, count).astype(np.uint64, copy=False)
        if count
        else np.zeros(0, np.uint64)
    )


def _bits(randomness: Randomness, count: int) -> NDArray[np.bool_]:
    octets = -(-count // 8)
    return np.unpackbits(np.frombuffer(randomness(octets), np.uint8, octets), count=count).view(np.bool_)


@lru_cache(maxsize=_TABLES_KEPT)
def _table(sigma: int) -> tuple[Words, Words]:
    """High and low words of C_0 … C_{t−1}, ascending; |x| is how many of them do not exceed the uniform number.

    The last high word is the largest there is, as a mass below 2⁻⁶⁴ lies at t: `searchsorted` finds a place within for every word.
    """
    high, low = np.empty((2, REACH * sigma), np.uint64)
    weights, ratios, quotient, reached = _first_stride(sigma)
    for start in range(0, high.size, _STRIDE):
        sums = _carried(np.cumsum(weights, axis=1, dtype=np.uint64) + reached)
        reached = sums[:, -1:]
        place = slice(start, start + _STRIDE)
        high[place], low[place] = (words[: high.size - start] for words in _top_words(sums))
        weights, ratios = _product(weights, ratios), _product(ratios, quotient)
    return high, low


def _first_stride(sigma: int) -> tuple[Words, Words, Words, Words]:
    """The masses of ±k for k = 0 … 2047, what they are multiplied by for the next 2048, and this in turn; and what sums begin with.

    Zero has one sign only: sums begin with minus its mass, modulo one.
    """
    first = (_ONE << _WORKING_BITS) // _normaliser(sigma)
    root, square = _exp_of_minus_one_over(2 * sigma**2), _exp_of_minus_one_over(sigma**2)
    onwards = _power(square, _STRIDE)
    weights = _terms(2 * first, root, square, _STRIDE)
    ratios = _terms(_power(root, _STRIDE**2), onwards, _ONE, _STRIDE)
    return _limbs(weights), _limbs(ratios), _limbs([_power(onwards, _STRIDE)]), _limbs([_ONE - first])


def _normaliser(sigma: int) -> int:
    """Σ exp(−x²/2σ²) over all integers, in units of 2⁻²⁵⁶.

    From σ = 16 on it is proportional to σ but for 2⁻⁷²⁰⁰ of it (Poisson summation: σ √2π (1 + 2 Σ_j exp(−2π²σ²j²))). Beyond 20 σ lie 2⁻²⁸⁷.
    """
    summed = min(sigma, 16)
    root, square = _exp_of_minus_one_over(2 * summed**2), _exp_of_minus_one_over(summed**2)
    return (2 * sum(_terms(_ONE, root, square, 20 * summed + 1)) - _ONE) * sigma // summed


def _terms(term: int, ratio: int, quotient: int, count: int) -> Iterator[int]:
    """A sequence in units of 2⁻²⁵⁶, the ratios of whose terms are a geometric sequence."""
    for _ in range(count):
        yield term
        term = term * ratio >> _WORKING_BITS
        ratio = ratio * quotient >> _WORKING_BITS


def _power(base: int, exponent: int) -> int:
    """In units of 2⁻²⁵⁶; the exponent is a power of two."""
    for _ in range(exponent.bit_length() - 1):
        base = base * base >> _WORKING_BITS
    return base


def _limbs(numbers: Iterable[int]) -> Words:
    """Numbers below one, in units of 2⁻²⁵⁶, as columns of seven limbs of 28 bits, the lowest first: 196 bits behind the point."""
    cut = [number >> _WORKING_BITS - _LIMBS * _LIMB_BITS for number in numbers]
    return np.array([[each >> place * _LIMB_BITS & _LIMB_MASK for each in cut] for place in range(_LIMBS)], np.uint64)


def _product(numbers: Words, factors: Words) -> Words:
    """Products of columns of limbs, at most two units too small: partial products far below the last limb are left out."""
    least = _LIMBS - 2
    wide = np.zeros((_LIMBS + 2, numbers.shape[1]), np.uint64)
    for place in range(_LIMBS):
        skipped = max(0, least - place)
        wide[place + skipped - least : place + 2] += numbers[place] * factors[skipped:]
    return _carried(wide)[2:]


def _carried(limbs: Words) -> Words:
    """The same numbers with limbs below 2²⁸, modulo what leaves the highest."""
    for place in range(len(limbs) - 1):
        limbs[place + 1] += limbs[place] >> np.uint64(_LIMB_BITS)
    return limbs & np.uint64(_LIMB_MASK)


def _top_words(limbs: Words) -> tuple[Words, Words]:
    """The first 64 bits behind the point, and the next 64."""
    two, three, four, five, six = limbs[2:]
    return six << np.uint64(36) | five << np.uint64(8) | four >> np.uint64(20), (
        four << np.uint64(44) | three << np.uint64(16) | two >> np.uint64(12)
    )


def _exp_of_minus_one_over(number: int) -> int:
    """exp(−1/number), number ≥ 1, in units of 2⁻²⁵⁶: its Taylor series."""
    total = term = _ONE
    power = 0
    while term:
        power += 1
        term //= number * power
        total += term if power % 2 == 0 else -term
    return total
