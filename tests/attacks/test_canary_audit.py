"""The canary audit: it refutes a claim where there is too little noise, and leaves one that holds alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from gaussian_mechanism import Mechanism, in_ball, separation_of
from listening import listen, summed
from numpy.typing import NDArray
from scipy.special import expit
from small_tables import tables_of

from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em_simulations.attacks.canary_audit import CanaryAudit, axis_canaries, canary_audit, canary_scores
from fed_em_simulations.attacks.finding import Severity
from fed_em_simulations.attacks.overheard import Overheard, PublicFacts

RADIUS, DELTA = 3.0, 1e-5
FACTS = PublicFacts(("a", "b", "c"), 1, 3)


def runs(
    n: int, columns: int, claimed: float, quieter: float, sums: int, seed: int
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float64]]]:
    """Coins and scores of some runs with noise for `claimed`, divided by `quieter`."""
    generator = np.random.default_rng(seed)
    promised = Mechanism(GaussianMixtureModel(1, columns, "diag"), RADIUS, separation_of(claimed, DELTA), sums)
    real = Mechanism(promised.model, RADIUS, promised.separation * quieter, sums)
    tables = [in_ball(generator.standard_normal((20, columns)), RADIUS) for _ in range(3)]
    canaries = axis_canaries(columns, RADIUS)
    owners = [FACTS.tenants[j % 3] for j in range(len(canaries))]
    for _ in range(n):
        coins = generator.random(len(canaries)) < 0.5
        held = [
            np.concatenate([rows, canaries[coins & (np.arange(len(coins)) % 3 == k)]]) for k, rows in enumerate(tables)
        ]
        heard = Overheard.of(summed(real.model, real.points(), held, real.added, generator), FACTS)
        known = dict(zip(FACTS.tenants, tables, strict=True))
        yield coins, canary_scores(heard, known, owners, canaries, promised.of)


def audited(n: int, columns: int, claimed: float, quieter: float, sums: int = 1, seed: int = 0) -> CanaryAudit:
    """All runs as one."""
    coins, scores = zip(*runs(n, columns, claimed, quieter, sums, seed), strict=True)
    return canary_audit(np.concatenate(coins), np.concatenate(scores), DELTA, claimed)


def test_a_quarter_of_the_noise_is_found_out() -> None:
    found = audited(40, 25, 1.0, 4.0, sums=2)
    assert found.severity is Severity.EXPOSED and 1.0 < found.bound < 5.0
    assert "the claimed ε = 1 does not hold" in found.sentence


def test_the_noise_that_was_promised_is_not() -> None:
    """The claim holds, so a bound above it has a probability of 0.05 at most; it is far below on average."""
    found = audited(40, 25, 1.0, 1.0, sums=2)
    assert found.bound <= 1.0 and found.severity is not Severity.EXPOSED
    assert "stands" in found.sentence


def test_scores_are_log_odds() -> None:
    """Guesses are right as often as they say: in each range of log odds within four standard errors (false alarms: 2e-4)."""
    coins, scores = (np.concatenate(each) for each in zip(*runs(40, 25, 4.0, 1.0, 1, 3), strict=True))
    said, right = expit(np.abs(scores)), (scores > 0) == coins
    for low, high in ((0.5, 0.6), (0.6, 0.7), (0.7, 0.95)):
        some = (said > low) & (said < high)
        assert some.sum() > 300
        assert abs((right[some] - said[some]).mean()) < 4 * 0.5 / np.sqrt(some.sum())


def test_without_noise_every_coin_is_read_from_a_real_session() -> None:
    generator = np.random.default_rng(5)
    tables = tables_of(6, rows=30)
    canaries = np.array([[9.0, 0.0], [-9.0, 0.0], [0.0, 9.0], [0.0, -9.0], [6.0, 6.0], [-6.0, 6.0]])
    coins = generator.random(6) < 0.5
    names = tuple(f"t{k}" for k in range(6))
    held = [np.concatenate([rows, canaries[k : k + 1][coins[k : k + 1]]]) for k, rows in enumerate(tables)]
    heard, _ = listen(held, sums=3)
    scores = canary_scores(heard, dict(zip(names, tables, strict=True)), names, canaries)
    np.testing.assert_array_equal(scores > 0, coins)
    found = canary_audit(coins, scores, 0.0, shares=(1.0,))
    assert (found.correct, found.severity) == (6, Severity.EXPOSED) and math.isinf(found.claimed)
    assert found.bound == pytest.approx(math.log(0.05 ** (1 / 6) / (1 - 0.05 ** (1 / 6))), abs=1e-6)
    assert "no ε is claimed" in found.sentence and found.figures["epsilon_claimed"] is None


@pytest.mark.slow
def test_half_the_noise_is_found_out_and_all_of_it_is_not() -> None:
    """Of 80 000 canaries. With half the noise the bound is some 1.2 for a claim of 1, and falls below it with less than 1 %."""
    faulty = audited(400, 100, 1.0, 2.0)
    assert faulty.bound > 1.0 and faulty.severity is Severity.EXPOSED
    sound = audited(400, 100, 1.0, 1.0, seed=1)
    assert 0.2 < sound.bound <= 1.0 and sound.severity is Severity.BOUNDED
