"""What so many right guesses about so many canaries prove about ε: the bound of Steinke, Nasr and Jagielski (2023).

"Privacy Auditing with One (1) Training Run", Theorem 5.2 and Corollary 5.4. Of m canaries each is put in or left out by a fair coin of its
own. From what a run releases the auditor guesses r of the coins and abstains from the others; v guesses are right. If the run is
(ε, δ)-differentially private towards every canary,

    P[at least v right] ≤ β + 2 m δ α,     β = P[W ≥ v],     α = max_i P[v − i ≤ W < v] / i,     W ~ Binomial(r, e^ε / (1 + e^ε)),

whatever the guesses depend on, as long as who abstains does not depend on the coins but through what was released. For δ = 0 that is
Theorem 5.1: no better than guessing r answers of randomised response. The least ε that is not refuted at a level is a lower bound of
the true one, with that confidence. Several runs with fresh coins and canaries are one run of all of them.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

from fed_em.errors import CallerError

# No ε beyond it is told apart: of fewer than 10^13 canaries all could be guessed.
_MOST = 32.0


def guess_p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The most that the probability of so many right guesses can be under (ε, δ)-differential privacy.

    Args:
        canaries: m, at least 1.
        guesses: r, in [0, m].
        correct: v, in [0, r].
        epsilon: ε, at least 0.
        delta: δ, in [0, 1).

    Raises:
        CallerError: a number is out of its range.
    """
    _check(canaries, guesses, correct, delta)
    if not epsilon >= 0:
        raise CallerError(f"ε = {epsilon} is below 0")
    accuracy = float(expit(epsilon))
    certain = float(binom.sf(correct - 1, guesses, accuracy))
    if not correct or not delta:
        return min(certain, 1.0)
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, accuracy))
    worst = float((below / np.arange(1, correct + 1)).max())
    return min(certain + 2 * canaries * delta * worst, 1.0)


def epsilon_lower_bound(canaries: int, guesses: int, correct: int, delta: float, level: float) -> float:
    """The least ε that so many right guesses do not refute: with probability 1 − `level` the true one is no less.

    Args:
        canaries, guesses, correct, delta: As in `guess_p_value`.
        level: In (0, 1).

    Raises:
        CallerError: a number is out of its range.
    """
    if not 0 < level < 1:
        raise CallerError(f"a level of {level} is not between 0 and 1")

    def excess(epsilon: float) -> float:
        return guess_p_value(canaries, guesses, correct, epsilon, delta) - level

    if excess(0.0) >= 0:
        return 0.0
    return float(brentq(excess, 0.0, _MOST, xtol=1e-9)) if excess(_MOST) > 0 else _MOST


def _check(canaries: int, guesses: int, correct: int, delta: float) -> None:
    if not 0 <= correct <= guesses <= canaries or canaries < 1:
        raise CallerError(f"{correct} of {guesses} guesses about {canaries} canaries cannot be right")
    if not 0 <= delta < 1:
        raise CallerError(f"δ = {delta} is not in [0, 1)")
