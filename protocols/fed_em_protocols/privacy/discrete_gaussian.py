"""The discrete Gaussian over the integers, drawn by inversion of a table.

P(x) ∝ exp(−x²/2σ²) for every integer x (Canonne, Kamath and Steinke 2020). A draw compares 128 uniform bits with the table of the
distribution function of |x|, and takes one more bit as the sign. Nothing in the table's making is floating point.

How far a draw is from that law, in total variation:

* *Tails.* |x| > t = 13σ is never drawn, and t in its place. Σ_x exp(−(x − c)²/2σ²) is largest at c = 0 (Poisson summation), hence
  E exp(uX) ≤ exp(u²σ²/2), and by Chernoff's bound the mass of these tails is at most 2 exp(−13²/2) < 2⁻¹²⁰.
* *Rounding.* The table holds C_k = ⌊2¹²⁸ F_k⌋, k = 0 … t − 1, where F is the distribution function of |x|, from integers of 256 bits.
  w_k = exp(−k²/2σ²) follows from w_{k+1} = w_k r_k and r_{k+1} = r_k q, r_0 = exp(−1/2σ²), q = exp(−1/σ²). The two series err by
  less than 2⁶ units of 2⁻²⁵⁶, as they have fewer than 2⁶ terms, each rounded down once. No factor exceeds one, so the errors of the
  factors add up: r_k errs by at most 65 (k + 1) units, w_k by 66 (k + 1)², and the sum of all by 132 (t + 1)³ < 2⁷⁶ units for σ ≤ 2¹⁹.
  The law's normaliser is within as much. As the first weight is divided by it, F errs by less than 2⁻¹⁸⁰. Hence C_k/2¹²⁸ = F_k + e_k
  with e_k in (−1 − 2⁻⁵², 2⁻⁵²]·2⁻¹²⁸; the mass of each |x| errs by |e_k − e_{k−1}| ≤ (1 + 2⁻⁵¹)·2⁻¹²⁸, and the total variation, half
  the sum over t + 1 of them, by (13σ + 1)(1 + 2⁻⁵¹)·2⁻¹²⁹.

Together less than (13σ + 2)·2⁻¹²⁹ + 2⁻¹²⁰: `DiscreteGaussian.error`, 2⁻¹¹¹ at σ = 2¹⁴.

The time of a draw depends on its value through the processor's caches: whoever can time a single draw, as another process on this
machine might, learns something of it. Peers see the time of a whole upload.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em_protocols.window import Randomness

LEAST_SIGMA, MOST_SIGMA = 1, 2**19
# No draw is further from zero, in σ.
REACH = 13

# A table takes 208 σ bytes: 3.4 MB at σ = 2¹⁴, 109 MB at 2¹⁹.
_TABLES_KEPT = 8
_WORKING_BITS = 256
_ONE = 1 << _WORKING_BITS
_COMPARED_BITS, _WORD_BITS = 128, 64
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
    weights = _weights(sigma, (_ONE << _WORKING_BITS) // _normaliser(sigma), REACH * sigma)
    shift, length = _WORKING_BITS - _COMPARED_BITS, _COMPARED_BITS // 8
    bounds = b"".join((reached >> shift).to_bytes(length, "little") for reached in accumulate(weights))
    low, high = np.frombuffer(bounds, _WORD).reshape(-1, 2).T
    return high.astype(np.uint64, order="C"), low.astype(np.uint64, order="C")


def _normaliser(sigma: int) -> int:
    """Σ exp(−x²/2σ²) over all integers, in units of 2⁻²⁵⁶.

    From σ = 16 on it is proportional to σ but for 2⁻⁷²⁰⁰ of it (Poisson summation: σ √2π (1 + 2 Σ_j exp(−2π²σ²j²))). Beyond 20 σ lie 2⁻²⁸⁷.
    """
    summed = min(sigma, 16)
    return sum(_weights(summed, _ONE, 20 * summed + 1)) * sigma // summed


def _weights(sigma: int, first: int, count: int) -> Iterator[int]:
    """first · exp(−k²/2σ²), twice that for k > 0 (both signs), for k = 0 … count − 1, in units of 2⁻²⁵⁶."""
    weight, ratio, quotient = first, _exp_of_minus_one_over(2 * sigma**2), _exp_of_minus_one_over(sigma**2)
    yield weight
    for _ in range(count - 1):
        weight = weight * ratio >> _WORKING_BITS
        ratio = ratio * quotient >> _WORKING_BITS
        yield 2 * weight


def _exp_of_minus_one_over(number: int) -> int:
    """exp(−1/number), number ≥ 1, in units of 2⁻²⁵⁶: its Taylor series."""
    total = term = _ONE
    power = 0
    while term:
        power += 1
        term //= number * power
        total += term if power % 2 == 0 else -term
    return total
