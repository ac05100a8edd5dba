"""Spends: against the closed form of the Gaussian mechanism in 60 digits, published values, dp-accounting's own composition; and discrete
mechanisms, enumerated."""

from __future__ import annotations

import math
import sys

import mpmath
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em_protocols.privacy import accounting
from fed_em_protocols.privacy.accounting import (
    LEAST_SHARE_SIGMA,
    Spend,
    delta_of,
    epsilon_of,
    gaussian_noise_multiplier,
    noise_for,
    sums_for,
)

multipliers = st.floats(0.3, 300.0)


def closed_form(noise: float, epsilon: float) -> float:
    """δ of the Gaussian mechanism (Balle and Wang 2018, Theorem 8)."""
    with mpmath.workdps(60):
        z, e = mpmath.mpf(noise), mpmath.mpf(epsilon)
        return float(mpmath.ncdf(1 / (2 * z) - e * z) - mpmath.exp(e) * mpmath.ncdf(-1 / (2 * z) - e * z))


@pytest.mark.parametrize("noise", [0.2, 1.0, 5.0, 80.0, 5000.0])
def test_delta_is_the_closed_form_from_above(noise: float) -> None:
    for deviations in (0.0, 0.5, 1.0, 2.2345, 4.0, 7.0):
        epsilon = max(0.0, 1 / (2 * noise**2) + deviations / noise)
        exact, found = closed_form(noise, epsilon), delta_of([Spend(noise, 1)], epsilon)
        assert exact * (1 - 1e-10) <= found <= exact * (1 + 1e-4)


@settings(max_examples=20, deadline=None)
@given(multipliers, st.floats(-20, -0.5))
def test_epsilon_is_that_of_the_closed_form_from_above(noise: float, log_delta: float) -> None:
    delta = 10**log_delta
    epsilon = epsilon_of([Spend(noise, 1)], delta)
    assert closed_form(noise, epsilon) <= delta * (1 + 1e-10)
    assert epsilon < 1e-6 or closed_form(noise, epsilon * (1 - 1e-5)) > delta


def test_published_values() -> None:
    """δ at σ = 1 and 1/3, ε = 1 (tests of Google's differential-privacy library); σ at ε = 1, δ = 10⁻⁵ (Balle and Wang's own code)."""
    assert delta_of([Spend(1.0, 1)], 1.0) == pytest.approx(0.12693674, abs=1e-8)
    assert delta_of([Spend(1.0 / 3.0, 1)], 1.0) == pytest.approx(0.78760074, abs=1e-7)
    assert noise_for(1.0, 1e-5, 1) == pytest.approx(3.730631634944469, rel=1e-6)


def test_many_sums_are_what_dp_accounting_composes() -> None:
    """Its self-composition over a grid is never below what we say by more than its own rounding."""
    one = privacy_loss_distribution.from_gaussian_mechanism(40.0, value_discretization_interval=1e-4)
    other = privacy_loss_distribution.from_gaussian_mechanism(25.0, value_discretization_interval=1e-4)
    composed = one.self_compose(60).compose(other.self_compose(9))
    spends = [Spend(40.0, 60), Spend(25.0, 9)]
    for delta in (1e-9, 1e-6, 1e-3):
        assert epsilon_of(spends, delta) == pytest.approx(composed.get_epsilon_for_delta(delta), rel=1e-3)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(multipliers, st.integers(0, 5)), max_size=4), st.permutations(range(4)))
def test_spends_add_up_in_any_order_and_in_any_parts(parts: list[tuple[float, int]], order: list[int]) -> None:
    spends = [Spend(noise, sums) for noise, sums in parts]
    apart = [Spend(spend.noise_multiplier, 1) for spend in spends for _ in range(spend.sums)]
    shuffled = [spends[place] for place in order if place < len(spends)]
    whole = epsilon_of(spends, 1e-6)
    assert epsilon_of(apart, 1e-6) == pytest.approx(whole, rel=1e-8)
    assert epsilon_of(shuffled, 1e-6) == pytest.approx(whole, rel=1e-8)
    assert epsilon_of([*spends, Spend(20.0, 1)], 1e-6) > whole


def test_nothing_spent_is_nothing() -> None:
    assert epsilon_of([], 1e-6) == epsilon_of([Spend(3.0, 0)], 1e-6) == delta_of([], 0.0) == 0.0


def test_almost_no_noise_is_no_privacy() -> None:
    assert epsilon_of([Spend(1e-300, 1)], 1e-6) == epsilon_of([Spend(0.1, 10**6)], 1e-6) == math.inf
    assert delta_of([Spend(1e-300, 1)], 100.0) == 1.0


@pytest.mark.parametrize(
    ("epsilon", "delta", "sums"), [(0.1, 1e-9, 1), (1.0, 1e-6, 100), (8.0, 1e-5, 3), (0.5, 1e-2, 777)]
)
def test_noise_and_sums_invert_epsilon(epsilon: float, delta: float, sums: int) -> None:
    noise = noise_for(epsilon, delta, sums)
    assert epsilon_of([Spend(noise, sums)], delta) <= epsilon < epsilon_of([Spend(noise * (1 - 3e-6), sums)], delta)
    assert sums_for(epsilon, delta, noise) == sums
    # One more would need this much.
    assert sums_for(epsilon, delta, noise * math.sqrt(1 + 1 / sums) * (1 - 1e-5)) == sums
    assert sums_for(epsilon, delta, noise_for(epsilon, delta, 1) * 0.99) == 0


def test_slack_of_samplers_is_charged_on_both_sides() -> None:
    """δ + (1 + e^ε) η: the least ε that bears its own charge; infinite where none does."""
    slack, delta = 1e-8, 1e-6
    spends = [Spend(2.0, 1, slack), Spend(3.0, 2, slack)]
    assert delta_of(spends, 1.5) == pytest.approx(
        delta_of([Spend(2.0, 1), Spend(3.0, 2)], 1.5) + 2 * slack * (1 + math.exp(1.5))
    )
    epsilon = epsilon_of(spends, delta)
    assert delta_of(spends, epsilon) <= delta * (1 + 1e-9) and delta_of(spends, epsilon * (1 - 1e-6)) > delta
    assert epsilon_of([Spend(2.0, 1, delta)], delta) == math.inf
    noise = noise_for(1.0, delta, 5, slack)
    assert noise > noise_for(1.0, delta, 5) and epsilon_of([Spend(noise, 5, slack)], delta) <= 1.0
    with pytest.raises(CallerError, match="the samplers alone cost more"):
        noise_for(4.0, delta, 1, 1e-7)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # What another test asked before would be answered from memory.
    accounting._privacy_loss.cache_clear()
    accounting.noise_for.cache_clear()
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    for asked in (lambda: epsilon_of([Spend(1.0, 1)], 1e-6), lambda: noise_for(1.0, 1e-6, 1)):
        with pytest.raises(CallerError) as raised:
            asked()
        assert raised.value.remedy == "pip install 'fed-em[privacy]'"


@pytest.mark.parametrize(
    "asked",
    [
        lambda: Spend(0.0, 1),
        lambda: Spend(math.nan, 1),
        lambda: Spend(1.0, -1),
        lambda: Spend(1.0, 1, 1.5),
        lambda: epsilon_of([], 0.0),
        lambda: delta_of([], -1.0),
        lambda: noise_for(0.0, 1e-6, 1),
        lambda: noise_for(1.0, 1.0, 1),
        lambda: noise_for(1.0, 1e-6, 0),
        lambda: noise_for(1.0, 1e-30, 1),
        lambda: sums_for(1.0, 1e-6, -1.0),
        lambda: gaussian_noise_multiplier(LEAST_SHARE_SIGMA - 1, 5, 1.0),
        lambda: gaussian_noise_multiplier(2**12, 0, 1.0),
        lambda: gaussian_noise_multiplier(2**12, 5, 0.0),
    ],
)
def test_values_out_of_range_are_refused(asked: object) -> None:
    with pytest.raises(CallerError):
        asked()  # type: ignore[operator]


def summed(sigma: float, shares: int) -> NDArray[np.float64]:
    """The law of a sum of discrete Gaussians over −r … r, by convolution; all terms are positive, so each keeps its digits."""
    reach = math.ceil(14 * sigma)
    one = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    law = one
    for _ in range(shares - 1):
        law = np.convolve(law, one)
    return law / law.sum()


def enumerated(
    laws: list[NDArray[np.float64]], moved: tuple[int, ...], epsilons: NDArray[np.float64]
) -> NDArray[np.float64]:
    """δ(ε) = Σ_n max(0, P(n) − e^ε P(n − moved)) over all integer points n; one law a dimension."""
    before, after = np.ones(1), np.ones(1)
    for law, step in zip(laws, moved, strict=True):
        still, shifted = np.pad(law, (0, step)), np.pad(law, (step, 0))
        before, after = np.multiply.outer(before, still).ravel(), np.multiply.outer(after, shifted).ravel()
    return np.array([np.maximum(0.0, before - math.exp(epsilon) * after).sum() for epsilon in epsilons])


_SHIFTS = [(1,), (4,), (17,), (60,), (3, 4), (1, 1), (12, 5)]


@pytest.mark.parametrize("moved", _SHIFTS)
@pytest.mark.parametrize("shares", [1, 2, 5])
def test_a_discrete_mechanism_is_as_private_as_claimed_and_not_much_more(moved: tuple[int, ...], shares: int) -> None:
    """δ(ε) of the integers themselves, enumerated, never exceeds that of the Gaussian mechanism that stands for them; that of one with
    3 % more noise than √(mσ²) it does exceed, so the claim has no room to be wrong in."""
    sigma = LEAST_SHARE_SIGMA
    multiplier = gaussian_noise_multiplier(sigma, shares, math.hypot(*moved))
    epsilons = 1 / (2 * multiplier**2) + np.linspace(0.0, 5.0, 26) / multiplier
    found = enumerated([summed(sigma, shares)] * len(moved), moved, epsilons)
    claimed = np.array([closed_form(multiplier, epsilon) for epsilon in epsilons])
    assert (found <= claimed * (1 + 1e-9)).all()
    optimistic = 1.03 * sigma * math.sqrt(shares) / math.hypot(*moved)
    assert (found > np.array([closed_form(optimistic, epsilon) for epsilon in epsilons])).any()


def test_sums_of_discrete_gaussians_are_discrete_gaussians() -> None:
    """Step 1 of the proof in figures: a factor of 1 to double precision at σ = 9, and far from 1 at σ = 0.5: small noise does not do."""

    def ratio(sigma: float, shares: int) -> float:
        law = summed(sigma, shares)
        points = np.arange(law.size) - law.size // 2
        near = np.abs(points) < 5 * sigma * math.sqrt(shares)
        other = np.exp(-(points.astype(float) ** 2) / (2 * shares * sigma**2))
        return float(np.ptp(np.log(law[near] / other[near])))

    assert ratio(LEAST_SHARE_SIGMA, 4) < 1e-11
    assert ratio(0.5, 2) > 1e-2
