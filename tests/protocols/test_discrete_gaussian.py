"""The table sampler: its law against 400-bit arithmetic, its draws against an oracle, its error bound against the exact sum; and tests of
fit that can fail."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fed_em.errors import CallerError
from fed_em_protocols.privacy.discrete_gaussian import MOST_SIGMA, REACH, DiscreteGaussian, _table
from fed_em_protocols.window import Randomness
from fed_em_simulations.simulated_parties import seeded_randomness

# Each test of fit rejects a right sampler with this probability; seeds are fixed, so it is a matter of the seed chosen.
FALSE_ALARM = 1e-6

_BITS = 400
KNOWN = [[-1, 1, 1, 0, 0, -2], [-2203, 6318, 3316, 304, 2074, -6751], [-35242, 101083, 53051, 4860, 33181, -108016]]


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    with mpmath.workprec(_BITS + 64):
        yield


def law(sigma: int, reach: int) -> list[Fraction]:
    """P(|X| = k), k = 0 … reach, to 400 bits: no truncation, and another normaliser than the table's."""
    total = mpmath.jtheta(3, 0, mpmath.exp(mpmath.mpf(-1) / (2 * sigma**2)))
    masses = ((1 if k == 0 else 2) * mpmath.exp(mpmath.mpf(-k * k) / (2 * sigma**2)) / total for k in range(reach + 1))
    return [Fraction(int(mpmath.nint(mpmath.ldexp(mass, _BITS))), 2**_BITS) for mass in masses]


def bounds_of(sigma: int) -> list[int]:
    return [(int(high) << 64) + int(low) for high, low in zip(*_table(sigma), strict=True)]


def drawn_law(sigma: int) -> list[Fraction]:
    """What the sampler really draws: P(|x| = k), k = 0 … t, exactly, from the table."""
    bounds = [0, *bounds_of(sigma), 2**128]
    return [Fraction(after - before, 2**128) for before, after in pairwise(bounds)]


def fed(*pieces: bytes) -> Randomness:
    """Gives these bytes in turn, each of the length asked for, and no more."""
    left = list(pieces)

    def draw(length: int) -> bytes:
        piece = left.pop(0)
        assert len(piece) == length
        return piece

    return draw


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def chi_square(draws: NDArray[np.int64], sigma: float, cells: int = 64) -> float:
    """p-value of the draws under the discrete Gaussian of any real σ, in cells of nearly equal probability."""
    support = np.arange(-math.ceil(12 * sigma), math.ceil(12 * sigma) + 1)
    mass = np.exp(-(support.astype(float) ** 2) / (2 * sigma**2))
    reached = np.cumsum(mass / mass.sum())
    last = np.unique(np.searchsorted(reached, np.arange(1, cells) / cells))
    observed = np.bincount(np.searchsorted(support[last], draws), minlength=last.size + 1)
    expected = np.diff(np.concatenate(([0.0], reached[last], [1.0]))) * draws.size
    return float(stats.chisquare(observed, expected).pvalue)


@pytest.mark.parametrize("sigma", [1, 2, 3, 9, 15, 16, 17, 200])
def test_total_variation_is_within_the_bound_that_is_stated(sigma: int) -> None:
    """Σ |p − q| / 2 over all integers, in exact fractions; the bound is at most 200 times too large (at σ = 1, by its tails)."""
    drawn = drawn_law(sigma)
    true = law(sigma, REACH * sigma)
    beyond = 1 - sum(true)
    found = (sum(abs(p - q) for p, q in zip(true, drawn, strict=True)) + beyond) / 2
    # The law itself is known to 2⁻⁴⁰⁰ a term.
    assert found + Fraction(len(true), 2**_BITS) < Fraction(DiscreteGaussian(sigma).error) < 200 * found
    assert sum(drawn) == 1


def test_bounds_of_a_large_table_are_right_to_the_last_bit_but_one() -> None:
    """Where a table is too long to go through, F_k from the other end: sums of the tail, at some k."""
    sigma = 2**8
    bounds = bounds_of(sigma)
    total = mpmath.jtheta(3, 0, mpmath.exp(mpmath.mpf(-1) / (2 * sigma**2)))
    for k in (0, 1, 1000, 5 * sigma, REACH * sigma - 1):
        beyond = (
            2 * mpmath.fsum(mpmath.exp(mpmath.mpf(-x * x) / (2 * sigma**2)) for x in range(k + 1, 20 * sigma)) / total
        )
        assert abs(bounds[k] - int(mpmath.floor(mpmath.ldexp(1 - beyond, 128)))) <= 1


@pytest.mark.slow
def test_the_largest_table_keeps_its_bound() -> None:
    sigma = MOST_SIGMA
    high, low = _table(sigma)
    assert high.size == REACH * sigma and high[-1] == np.iinfo(np.uint64).max
    assert (np.diff(high.astype(object)[:: sigma // 16]) >= 0).all()
    root = mpmath.sqrt(2 * mpmath.pi) * sigma
    for k in (0, sigma, 6 * sigma):
        # Euler and Maclaurin: the sum up to k is the integral up to k + 1/2 less the third-order term, f'/24.
        reached = mpmath.erf((k + mpmath.mpf("0.5")) / (sigma * mpmath.sqrt(2)))
        place = k + mpmath.mpf("0.5")
        reached += place / sigma**2 * mpmath.exp(-(place**2) / (2 * sigma**2)) / (12 * root)
        assert (
            abs(mpmath.mpf(int(high[k])) / 2**64 + mpmath.mpf(int(low[k])) / 2**128 - reached)
            < mpmath.mpf(1) / sigma**4
        )


def test_known_answers() -> None:
    """For ever: a fixed stream gives these draws."""
    drawn = [DiscreteGaussian(sigma).sample(6, seeded_randomness("known")).tolist() for sigma in (1, 2**12, 2**16)]
    assert drawn == KNOWN


@pytest.mark.parametrize("sigma", [1, 7, 300])
def test_draws_are_those_of_an_oracle_that_counts(sigma: int) -> None:
    """|x| is the number of k with F_k ≤ u, by 400-bit arithmetic; the sign is the bit, most significant first."""
    stream, size = seeded_randomness("oracle"), 200
    uniform, signs = stream(8 * size), stream(25)
    found = DiscreteGaussian(sigma).sample(size, fed(uniform, signs))
    reached = np.cumsum(law(sigma, 12 * sigma))
    for place, draw in enumerate(found):
        u = Fraction(int.from_bytes(uniform[8 * place : 8 * place + 8], "little"), 2**64)
        magnitude = int(np.searchsorted(reached, u, side="right"))
        assert draw == (-magnitude if signs[place // 8] >> (7 - place % 8) & 1 else magnitude)


@pytest.mark.parametrize("sigma", [1, 50])
def test_the_low_word_decides_where_the_high_word_is_in_the_table(sigma: int) -> None:
    """At a bound, one below and one above; and in the tail, where hundreds of bounds share a high word."""
    bounds = bounds_of(sigma)
    asked = sorted({u for bound in bounds for u in (bound - 1, bound, bound + 1) if u < 2**128} | {2**128 - 1})
    asked = [u for u in asked if u >> 64 in {bound >> 64 for bound in bounds}]
    mask = 2**64 - 1
    signs = bytes(-(-len(asked) // 8))
    found = DiscreteGaussian(sigma).sample(
        len(asked), fed(words(*(u >> 64 for u in asked)), words(*(u & mask for u in asked)), signs)
    )
    assert found.tolist() == [sum(bound <= u for bound in bounds) for u in asked]
    assert found.max() == REACH * sigma and len(asked) >= 2 * len(bounds)


@pytest.mark.parametrize("sigma", [1, 3, 2**12, 2**14])
def test_large_samples_fit_and_those_of_a_sigma_two_percent_off_do_not(sigma: int) -> None:
    draws = DiscreteGaussian(sigma).sample(200_000, seeded_randomness(f"fit {sigma}"))
    assert chi_square(draws, sigma) > FALSE_ALARM
    assert chi_square(draws, 1.02 * sigma) < FALSE_ALARM
    assert chi_square(draws, 0.98 * sigma) < FALSE_ALARM


def test_signs_and_neighbours_are_independent_and_a_wrong_sign_is_seen() -> None:
    """Correlation of neighbours, and the number of negative draws among those that are not zero: z-tests at the false-alarm rate."""
    draws = DiscreteGaussian(2**12).sample(200_000, seeded_randomness("signs"))
    limit = stats.norm.isf(FALSE_ALARM / 2)
    root = math.sqrt(draws.size)

    def excess(values: NDArray[np.int64]) -> float:
        return abs(float(np.sign(values).sum())) / root

    assert excess(draws) < limit < excess(np.where(np.arange(draws.size) % 50 == 0, np.abs(draws), draws))
    for lag in (1, 8):
        assert abs(float(draws[lag:] @ draws[:-lag])) / (2.0**24 * root) < limit


def test_moments() -> None:
    """Mean, variance and fourth moment, against those of the law; at the false-alarm rate each."""
    for sigma in (1, 5, 2**13):
        draws = DiscreteGaussian(sigma).sample(200_000, seeded_randomness(f"moments {sigma}")).astype(float)
        support = np.arange(-13 * sigma, 13 * sigma + 1, dtype=float)
        mass = np.exp(-(support**2) / (2 * sigma**2))
        mass /= mass.sum()
        for power in (1, 2, 4):
            mean, square = mass @ support**power, mass @ support ** (2 * power)
            error = math.sqrt((square - mean**2) / draws.size)
            assert abs((draws**power).mean() - mean) < stats.norm.isf(FALSE_ALARM / 2) * error


def test_no_draws_and_nothing_asked_of_the_stream() -> None:
    assert DiscreteGaussian(5).sample(0, bytes).tolist() == []


def test_a_stream_that_gives_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="buffer"):
        DiscreteGaussian(5).sample(3, lambda length: bytes(length // 2))


@pytest.mark.parametrize("sigma", [0, -1, 1.5, MOST_SIGMA + 1, math.nan])
def test_a_sigma_without_a_table_is_refused(sigma: float) -> None:
    with pytest.raises(CallerError, match="σ of a discrete Gaussian"):
        DiscreteGaussian(sigma)  # type: ignore[arg-type]


def test_tables_are_made_once_and_tell_their_size() -> None:
    sampler = DiscreteGaussian(100)
    assert _table(100)[0] is _table(100)[0]
    assert sampler.table_bytes == 16 * REACH * 100
    assert repr(sampler) == "DiscreteGaussian(sigma=100)"
