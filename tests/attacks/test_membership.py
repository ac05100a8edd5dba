"""Membership: certain without noise for who knows all others, as good as theory has it with noise, and no better than promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gaussian_mechanism import Mechanism, in_ball, separation_of
from listening import listen, summed
from numpy.typing import NDArray
from scipy.stats import norm
from small_tables import tables_of

from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em_simulations.attacks.finding import Severity
from fed_em_simulations.attacks.membership import Membership, membership, strong_scores, weak_scores
from fed_em_simulations.attacks.overheard import Overheard, PublicFacts

FACTS = PublicFacts(("a", "b", "c"), 1, 3)


def by_fresh_releases(separation: float, trials: int, seed: int = 0) -> Membership:
    """The strong adversary against one record in so many releases with it, and as many without."""
    generator, columns, radius = np.random.default_rng(seed), 2, 3.0
    mechanism = Mechanism(GaussianMixtureModel(1, columns, "diag"), radius, separation)
    tables = [in_ball(generator.standard_normal((10, columns)), radius) for _ in range(3)]
    record = radius * np.eye(columns)[:1]
    scores: dict[bool, list[float]] = {False: [], True: []}
    for member in (False, True):
        held = [np.concatenate([tables[0], record[: int(member)]]), *tables[1:]]
        for _ in range(trials):
            heard = Overheard.of(summed(mechanism.model, mechanism.points(), held, mechanism.added, generator), FACTS)
            known = dict(zip(FACTS.tenants, held, strict=True))
            scores[member] += strong_scores(heard, known, ["a"], record, member, mechanism.of).tolist()
    return membership("strong", np.array(scores[True]), np.array(scores[False]))


@pytest.mark.parametrize("separation", [0.5, 2.0])
def test_the_strong_adversary_is_as_good_as_theory_has_it(separation: float) -> None:
    """N(μ, 1) against N(0, 1): AUC Φ(μ/√2), TPR Φ(μ − 2.33). False alarms: at most 0.002 each, of 3.1 standard errors."""
    found = by_fresh_releases(separation, 100)
    auc = norm.cdf(separation / math.sqrt(2))
    low, high = found.auc_interval
    assert abs(found.auc - auc) < 3.1 / 1.96 * (high - low) / 2


@pytest.mark.slow
def test_what_is_promised_is_kept() -> None:
    """ε = 1: at one false alarm in a hundred at most e/100 + δ are found. The interval is above that with probability 0.025 at most."""
    found = by_fresh_releases(separation_of(1.0, 1e-5), 450, seed=1)
    assert found.found_interval[0] < math.e / 100 + 1e-5
    assert found.severity is not Severity.EXPOSED


def records_of(tables: list[NDArray[np.float64]]) -> tuple[list[str], NDArray[np.float64]]:
    """All of them, and whose they are."""
    return [f"t{k}" for k, rows in enumerate(tables) for _ in rows], np.concatenate(tables)


def test_without_noise_the_strong_adversary_errs_never() -> None:
    tables = tables_of(6, rows=20)
    heard, _ = listen(tables, sums=3)
    known = {f"t{k}": rows for k, rows in enumerate(tables)}
    others = np.concatenate(tables_of(6, rows=20, seed=9))
    owners, records = records_of(tables)
    found = membership(
        "strong", strong_scores(heard, known, owners, records, True), strong_scores(heard, known, owners, others, False)
    )
    assert (found.auc, found.found, found.severity) == (1.0, 1.0, Severity.EXPOSED)
    assert found.auc_interval[0] > 0.95 and "finds 100% of the members" in found.sentence


def test_the_weak_adversary_tells_members_of_few_records_and_not_of_many() -> None:
    """One release a size: the members of 60 are told apart; of 2100 the AUC is near ½ by 4 standard errors and 0.02 (false alarms 1e-4)."""
    population = np.concatenate(tables_of(1, rows=12_000, seed=3))
    others = np.concatenate(tables_of(1, rows=300, seed=4))
    found = []
    for rows, seed in ((20, 0), (700, 1)):
        tables = tables_of(3, rows=rows, seed=seed)
        heard, _ = listen(tables, sums=2)
        members = np.concatenate(tables)[:300]
        found.append(
            membership("weak", weak_scores(heard, population, members), weak_scores(heard, population, others))
        )
    few, many = found
    assert few.severity is not Severity.NONE and few.auc > 0.6 and few.auc_interval[0] > 0.5
    assert abs(many.auc - 0.5) < 4 * math.sqrt(1 / (6 * 300)) + 0.02


def test_noise_takes_that_from_the_weak_adversary() -> None:
    """Noise of ε = 0.5 about 60 records. An AUC that is 4 standard errors from ½ would be a false alarm of 1e-4."""
    generator, radius = np.random.default_rng(2), 3.0
    mechanism = Mechanism(GaussianMixtureModel(1, 2, "diag"), radius, separation_of(0.5, 1e-5))
    population = in_ball(generator.standard_normal((6_000, 2)), radius)
    tables, others = (
        [population[20 * k : 20 * k + 20] for k in range(3)],
        in_ball(generator.standard_normal((300, 2)), radius),
    )
    members = np.concatenate(tables)

    def scored(noise: bool) -> Membership:
        added, of = (mechanism.added, mechanism.of) if noise else (None, None)
        heard = Overheard.of(summed(mechanism.model, mechanism.points(), tables, added, generator), FACTS)
        told = {} if of is None else {"noise": of}
        return membership("weak", *(weak_scores(heard, population[60:], rows, **told) for rows in (members, others)))

    assert abs(scored(True).auc - 0.5) < 4 * math.sqrt((1 / 60 + 1 / 300) / 12)


def test_too_few_to_tell() -> None:
    with pytest.raises(CallerError, match="100 others"):
        membership("weak", np.ones(5), np.ones(99))
    heard, _ = listen(tables_of(6), sums=2)
    with pytest.raises(CallerError, match="a sample of 30"):
        weak_scores(heard, np.ones((30, 2)), np.ones((1, 2)))
    with pytest.raises(CallerError, match="no sum of statistics"):
        weak_scores(Overheard((), {}), np.ones((30, 2)), np.ones((1, 2)))


def test_intervals() -> None:
    """Newcombe's method is symmetric, and Clopper and Pearson's share of none of 10 is [0, 0.308]."""
    generator = np.random.default_rng(0)
    members, others = generator.normal(1, 1, 50), generator.normal(0, 1, 200)
    one, other = membership("weak", members, others), membership("weak", -members, -others)
    assert one.auc_interval == pytest.approx(tuple(1 - x for x in reversed(other.auc_interval)))
    none = membership("weak", np.full(10, -9.0), others)
    assert (
        none.found == 0.0 and none.found_interval[0] == 0.0 and none.found_interval[1] == pytest.approx(0.355, abs=1e-3)
    )
    assert membership("weak", np.full(10, 9.0), others).found_interval[1] == 1.0


def test_the_interval_of_who_is_found_covers_the_truth() -> None:
    """N(2, 1) against N(0, 1): of 200 intervals at 95 % more than 20 miss the truth with probability 1e-3. And they are not idle."""
    generator, truth = np.random.default_rng(1), norm.cdf(2 - norm.ppf(0.99))
    drawn = [membership("weak", generator.normal(2, 1, 500), generator.normal(0, 1, 500)) for _ in range(200)]
    assert sum(not low <= truth <= high for low, high in (each.found_interval for each in drawn)) <= 20
    assert np.mean([each.found_interval[0] for each in drawn]) > truth / 4
