"""What noised sums spend of a privacy budget: spends are data, and ε, δ, noise and number of sums follow from them.

The noise of a sum is as good as Gaussian noise (`gaussian_noise_multiplier`). With noise multiplier z, the statistics of two
neighbours are told apart no better than N(0, 1) from N(1/z, 1), whatever an adversary saw before. Privacy losses of sums add up, and
those of Gaussians are Gaussian again: any spends, chosen in the light of earlier sums or not, are one Gaussian mechanism of noise
multiplier (Σ sums / z²)^(−1/2) (Dong, Roth and Su 2022, Corollary 3.3; Smith and Thakurta 2022 where z is chosen in that light too).
Its privacy loss distribution is that of dp-accounting, rounded so that no ε or δ is too small (Koskela et al. 2020; Doroshenko et al.
2022).

Samplers that are η from the law they should have, in total variation, let δ grow by (1 + e^ε) η: η on either side of
P(A) ≤ e^ε Q(A) + δ.

Neighbours differ in one unit, a record or a tenant, that is there or counts for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import count
from typing import Any

from fed_em.errors import CallerError

# s²: the variance that rounding to integers takes from the continuous noise; see `gaussian_noise_multiplier`.
ROUNDING_VARIANCE = 36
LEAST_SHARE_SIGMA = 9

# Losses are rounded to multiples of this, in standard deviations of the loss: ε is at most some 10⁻⁷ of it too large.
_GRID = 1e-3
# ln of the mass of large losses that is counted as infinite loss: no δ below 2·10⁻²² is promised.
_CUT = -50.0
# By how much ε is overstated so that its search ends, and by how much, at least, the least noise.
_PRECISION, _STEP = 1e-9, 1e-7
# With less noise, ε is in the thousands: there is no privacy to speak of.
_LEAST_NOISE, _LARGE_EPSILON = 0.01, 700.0


@dataclass(frozen=True)
class Spend:
    """What some noised sums cost; what a ledger holds.

    Attributes:
        noise_multiplier: z > 0 of each sum, relative to its joint L2 sensitivity.
        sums: How many were noised so, at least 0.
        slack: Total variation, 0 … 1, of all their samplers from the laws that they should have, together.

    Raises:
        CallerError: a value is not of that range.
    """

    noise_multiplier: float
    sums: int
    slack: float = 0.0

    def __post_init__(self) -> None:
        _require_positive("noise multiplier", self.noise_multiplier)
        if self.sums < 0:
            raise CallerError(f"a spend of {self.sums} sums", remedy="a whole number, 0 or more")
        if not 0 <= self.slack <= 1:
            raise CallerError(f"the samplers' slack is {self.slack!r}", remedy="a number from 0 to 1")


def epsilon_of(spends: Sequence[Spend], delta: float) -> float:
    """The least ε ≥ 0 known, such that all spends together are (ε, δ)-differentially private; infinite if there is none.

    Raises:
        CallerError: δ is not between 0 and 1, or dp-accounting is not installed.
    """
    _require_delta(delta)
    noise, slack = _composed(spends)
    epsilon = 0.0
    # The charge for slack grows with ε: from below to the least ε that bears its own.
    while (left := delta - _charge(slack, epsilon)) > 0:
        needed = _epsilon(noise, left)
        if needed <= epsilon:
            return epsilon
        epsilon = needed * (1 + _PRECISION)
    return math.inf


def delta_of(spends: Sequence[Spend], epsilon: float) -> float:
    """The least δ known, at most 1, such that all spends together are (ε, δ)-differentially private.

    Raises:
        CallerError: ε is negative or not a number, or dp-accounting is not installed.
    """
    if not epsilon >= 0:
        raise CallerError(f"ε is {epsilon!r}", remedy="a number, 0 or more")
    noise, slack = _composed(spends)
    return min(1.0, _delta(noise, epsilon) + _charge(slack, epsilon))


# A session's file is described many times, each time with the same numbers.
@lru_cache(maxsize=64)
def noise_for(epsilon: float, delta: float, sums: int, slack: float = 0.0) -> float:
    """The least noise multiplier z, but for some 10⁻⁶ of it, with which so many sums are (ε, δ)-differentially private.

    Args:
        epsilon, delta: What is wanted, ε > 0 and 0 < δ < 1.
        sums: How many, at least 1.
        slack: Of all of them together, as in `Spend`.

    Raises:
        CallerError: a value is not of that range, no noise achieves it, or dp-accounting is not installed.
    """
    _require_positive("ε", epsilon)
    _require_delta(delta)
    if sums < 1:
        raise CallerError(f"noise for {sums} sums", remedy="at least one sum")
    if _charge(slack, epsilon) + math.exp(_CUT) >= delta:
        raise CallerError(
            f"no noise achieves δ = {delta:g}: the samplers alone cost more", remedy="a larger δ, or a smaller ε"
        )
    # In closed form (Balle and Wang 2018); then as much more as its rounded distribution needs.
    one = float(_dp_accounting().get_sigma_gaussian(epsilon, delta - _charge(slack, epsilon)))
    candidates = (one * math.sqrt(sums) * (1 + _STEP * 2.0**doublings) for doublings in count())
    return next(z for z in candidates if epsilon_of([Spend(z, sums, slack)], delta) <= epsilon)


def sums_for(epsilon: float, delta: float, noise_multiplier: float) -> int:
    """The most sums of one noise multiplier that are (ε, δ)-differentially private together (exact up to a million); 0 if one is too many.

    Raises:
        CallerError: a value is not positive, δ is not below one, or dp-accounting is not installed.
    """
    _require_positive("noise multiplier", noise_multiplier)
    sums = math.floor((noise_multiplier / noise_for(epsilon, delta, 1)) ** 2) + 1
    while epsilon_of([Spend(noise_multiplier, sums)], delta) > epsilon:
        sums -= 1
    return sums


def gaussian_noise_multiplier(share_sigma: int, shares: int, integer_sensitivity: float) -> float:
    """The noise multiplier √(mσ² − 36)/Δ of a Gaussian mechanism that is no more private than an integer vector to which m tenants add
    discrete Gaussians.

    Whatever (ε, δ) that Gaussian mechanism has, the sum has (but for a factor of 1 ± 2⁻⁹⁰⁰ in probabilities, below the precision of
    any figure here). Proof, in d dimensions, with D_v the discrete Gaussian over Z^d of parameter √v and G_v the continuous one of
    variance v:

    1. *Sums of discrete Gaussians.* X ~ D_u and Y ~ D_v are independent; one coordinate of X + Y is n with probability proportional to
       Σ_x exp(−x²/2u − (n − x)²/2v) = exp(−n²/2(u + v)) Σ_x exp(−(x − cn)²/2w), with c = u/(u + v) and w = uv/(u + v). By Poisson
       summation the second sum is √(2πw) (1 + 2 Σ_j exp(−2π²wj²) cos(2πjcn)): constant but for a factor of 1 ± 2⁻¹⁰²², if w ≥ 36. So
       X + Y is D_{u+v} but for such factors (Peikert 2010, Theorem 3.1; Kairouz, Liu and Steinke 2021 bound the same). Adding up m of
       D_{σ²} in turn, w ≥ σ²/2 ≥ 36 as σ ≥ 9. What remains is below 2⁻⁹⁰⁰ for m, d ≤ 2⁶⁰.
    2. *Rounding.* Given y in R^d, let R(y) be n in Z^d with probability proportional to exp(−‖n − y‖²/2s²), s² = 36; the sum of these
       is (s√2π)^d but for a factor of 1 ± 2⁻¹⁰²² in each dimension, whatever y is. So R(G_{v−s²}) is n with probability proportional,
       up to this factor, to the density of G_{v−s²} + G_{s²} = G_v at n: R(G_{v−s²}) is D_v (Peikert 2010, Theorem 3.1).
    3. For integer x, R(x + y) and x + R(y) have one law. Hence x + D_{mσ²} is the Gaussian mechanism x + G_{mσ²−36}, and then R, which
       knows nothing of the data: post-processing. Two neighbours' x differ by at most Δ.

    Others' discrete Gaussians in the same sum are added after that, so they are post-processing too, whether or not an adversary knows
    them; those of colluding tenants do not count among the m. Where blocks with σ_b and Δ_b of their own are released side by side,
    divide each by its noise: the joint multiplier is (Σ_b z_b⁻²)^(−1/2).

    Args:
        share_sigma: σ of each tenant's discrete Gaussian (`DiscreteGaussian`), at least 9.
        shares: m, how many of them the adversary does not know, at least 1.
        integer_sensitivity: Δ > 0, the L2 norm of the difference of two neighbours' integer vectors, at most.

    Raises:
        CallerError: a value is not of that range.
    """
    if share_sigma < LEAST_SHARE_SIGMA:
        raise CallerError(
            f"σ = {share_sigma} of a tenant's noise is too small for its sums to count as Gaussian",
            remedy=f"at least {LEAST_SHARE_SIGMA}: encode with more fraction bits",
        )
    if shares < 1:
        raise CallerError(
            f"noise of {shares} tenants", remedy="at least one tenant's noise must be unknown to the adversary"
        )
    _require_positive("integer sensitivity", integer_sensitivity)
    return math.sqrt(shares * share_sigma**2 - ROUNDING_VARIANCE) / integer_sensitivity


def _composed(spends: Iterable[Spend]) -> tuple[float, float]:
    """The noise multiplier of the one Gaussian mechanism that the spends are, and their slack."""
    spends = tuple(spends)
    lost = math.fsum(spend.sums * (1 / spend.noise_multiplier) * (1 / spend.noise_multiplier) for spend in spends)
    return 1 / math.sqrt(lost) if lost else math.inf, math.fsum(spend.slack for spend in spends)


def _charge(slack: float, epsilon: float) -> float:
    """What slack adds to δ."""
    return slack * (1 + math.exp(min(epsilon, _LARGE_EPSILON)))


def _epsilon(noise: float, delta: float) -> float:
    if noise == math.inf:
        return 0.0
    return float(_privacy_loss(noise).get_epsilon_for_delta(delta)) if noise >= _LEAST_NOISE else math.inf


def _delta(noise: float, epsilon: float) -> float:
    if noise == math.inf:
        return 0.0
    return float(_privacy_loss(noise).get_delta_for_epsilon(epsilon)) if noise >= _LEAST_NOISE else 1.0


@lru_cache(maxsize=16)
def _privacy_loss(noise: float) -> Any:
    """The privacy loss distribution of the Gaussian mechanism, pessimistically rounded."""
    return _dp_accounting().pld.privacy_loss_distribution.from_gaussian_mechanism(
        noise, pessimistic_estimate=True, value_discretization_interval=_GRID / noise, log_mass_truncation_bound=_CUT
    )


def _dp_accounting() -> Any:
    """The package, loaded when it is first needed: it is an extra, and takes a second or two."""
    try:
        return import_module("dp_accounting")
    except ImportError as error:
        raise CallerError(
            "dp-accounting is not installed, which differential privacy needs",
            remedy="pip install 'fed-em[privacy]'",
        ) from error


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise CallerError(f"{name} is {value!r}", remedy="a positive number")


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise CallerError(f"δ is {delta!r}", remedy="a number between 0 and 1")
