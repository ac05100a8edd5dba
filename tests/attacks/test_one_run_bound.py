"""The bound of the one-run audit: published values, closed forms, brute force, and randomised response, whose ε is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom

from fed_em.errors import CallerError
from fed_em_simulations.attacks.canary_audit import canary_audit
from fed_em_simulations.attacks.one_run_bound import epsilon_lower_bound, guess_p_value


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "published"),
    [(1000, 100, 75, 1e-4, 0.673), (100_000, 1510, 1439, 1e-5, 2.675)],
)
def test_the_published_values(canaries: int, guesses: int, correct: int, delta: float, published: float) -> None:
    """Appendix D and section 7 of the paper, which rounds the first and cuts the second."""
    assert epsilon_lower_bound(canaries, guesses, correct, delta, 0.05) == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 4.0])
def test_pure_privacy_is_randomised_response(epsilon: float) -> None:
    q = 1 / (1 + math.exp(-epsilon))
    for correct in range(13):
        exact = math.fsum(math.comb(12, k) * q**k * (1 - q) ** (12 - k) for k in range(correct, 13))
        assert guess_p_value(20, 12, correct, epsilon, 0.0) == pytest.approx(exact, rel=1e-9)


def test_all_right() -> None:
    """(e^ε / (1 + e^ε))^m = level."""
    q = 0.05 ** (1 / 50)
    assert epsilon_lower_bound(50, 50, 50, 0.0, 0.05) == pytest.approx(math.log(q / (1 - q)), abs=1e-6)


def test_delta_by_brute_force() -> None:
    m, r, v, epsilon, delta = 40, 15, 12, 0.8, 1e-3
    law = binom(r, expit(epsilon))
    worst = max(sum(law.pmf(j) for j in range(v - i, v)) / i for i in range(1, v + 1))
    assert guess_p_value(m, r, v, epsilon, delta) == pytest.approx(law.sf(v - 1) + 2 * m * delta * worst, rel=1e-9)
    assert guess_p_value(m, r, v, epsilon, 0.9) == 1.0


def test_more_right_guesses_prove_more_and_delta_less() -> None:
    bounds = [epsilon_lower_bound(200, 100, correct, 1e-5, 0.05) for correct in range(50, 101, 5)]
    assert bounds == sorted(bounds) and bounds[0] == 0.0 and bounds[-1] > 3
    assert epsilon_lower_bound(200, 100, 90, 1e-3, 0.05) < epsilon_lower_bound(200, 100, 90, 0.0, 0.05)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_it_does_not_refute_randomised_response(epsilon: float) -> None:
    """True at ε exactly, so each of 200 audits at 95 % is wrong with probability 0.05 at most; more than 22 with less than 3e-4."""
    generator = np.random.default_rng(7)
    coins = generator.random((200, 200)) < 0.5
    truthful = generator.random((200, 200)) < expit(epsilon)
    answers = np.where(coins == truthful, 1.0, -1.0)
    bounds = [canary_audit(c, a, 0.0, epsilon, shares=(1.0,)).bound for c, a in zip(coins, answers, strict=True)]
    assert binom.sf(22, 200, 0.05) < 3e-4
    assert sum(bound > epsilon for bound in bounds) <= 22
    assert np.mean(bounds) > 0.4 * epsilon


def test_numbers_that_cannot_be() -> None:
    for numbers in ((10, 5, 6, 0.0), (10, 11, 6, 0.0), (0, 0, 0, 0.0), (10, 5, 3, 1.0)):
        with pytest.raises(CallerError):
            guess_p_value(*numbers[:3], 1.0, numbers[3])
    with pytest.raises(CallerError, match="below 0"):
        guess_p_value(10, 5, 3, -1.0, 0.0)
    with pytest.raises(CallerError, match="not between 0 and 1"):
        epsilon_lower_bound(10, 5, 3, 0.0, 1.0)
    with pytest.raises(CallerError, match="2 scores of 3 canaries"):
        canary_audit(np.ones(3, bool), np.ones(2), 0.0)
