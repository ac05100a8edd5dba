"""Starts from centres: what is summed, what one record can change of it, and where it leads, with and without noise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from fed_em.ball import into_ball
from fed_em.centres import CENTRE_ROUNDS, FIRST, MEANS, RECORDS, Centres, best_centres
from fed_em.em import Summed
from fed_em.errors import CallerError
from fed_em.families import build_summand
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics

K, D, RADIUS = 3, 2, 3.0
CENTRES = np.array([[-1.2, -0.4], [1.2, -0.4], [0.0, 1.4]])


def clustered(n: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Rows of three clusters apart, standardised, in the ball."""
    generator = np.random.default_rng(seed)
    rows = CENTRES[generator.integers(K, size=n)] + 0.15 * generator.normal(size=(n, D))
    return into_ball((rows - rows.mean(axis=0)) / rows.std(axis=0), RADIUS)


def moments_of(rows: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Parameters:
    return Parameters(
        {"weights": np.ones(1), "means": np.zeros((1, D)), "covariances": np.corrcoef(rows.T)[np.newaxis]}
    )


def test_counts_and_sums_are_those_of_the_nearest_centre() -> None:
    rows, means = clustered(500), np.random.default_rng(1).normal(size=(4, K, D))
    weights = np.random.default_rng(2).uniform(size=500)
    summed = Centres(4, K, D).e_step(Parameters({MEANS: means}), Records(rows, weights))
    for s in range(4):
        nearest = np.linalg.norm(rows[:, np.newaxis] - means[s], axis=2).argmin(axis=1)
        for k in range(K):
            assert summed[RECORDS][s, k] == pytest.approx(weights[nearest == k].sum())
            np.testing.assert_allclose(summed[FIRST][s, k], weights[nearest == k] @ rows[nearest == k], atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 12), starts=st.integers(1, 5))
def test_one_record_adds_no_more_than_the_norms_and_nearly_as_much(seed: int, n: int, starts: int) -> None:
    generator = np.random.default_rng(seed)
    centres, bounds = Centres(starts, K, D), np.full(D, 10.0)
    layout = centres.layout(bounds, RADIUS)
    rows = into_ball(generator.normal(size=(n, D)) * 5, RADIUS)
    pole = np.array([[RADIUS, 0.0]])
    parameters = Parameters({MEANS: generator.normal(size=(starts, K, D))})
    without, having = (centres.e_step(parameters, each, layout) for each in (rows, np.concatenate((rows, pole))))
    for name in (RECORDS, FIRST):
        moved = np.linalg.norm(having[name] - without[name])
        assert moved <= layout[name].norm * (1 + 1e-12)
        assert moved >= layout[name].norm * 0.999


def test_sums_of_parts_are_the_sum_of_all() -> None:
    rows, centres = clustered(300), Centres(3, K, D)
    parameters = Parameters({MEANS: np.random.default_rng(3).normal(size=(3, K, D))})
    parts = centres.e_step(parameters, rows[:100]) + centres.e_step(parameters, rows[100:])
    np.testing.assert_allclose(parts.vector, centres.e_step(parameters, rows).vector, atol=1e-10)


def best(rows: np.ndarray[tuple[int, int], np.dtype[np.float64]], noise: float = 0.0) -> tuple[Parameters, list[float]]:
    """The start, with noise of so many records and their radius in each sum, and what the best set explains in each round."""
    generator, explained = np.random.default_rng(7), []

    def total_for(centres: Centres):  # type: ignore[no-untyped-def]
        def total(parameters: Parameters) -> Summed:
            summed = centres.e_step(parameters, rows)
            return Summed(Statistics(summed.layout, summed.vector + noise * generator.normal(size=summed.layout.size)))

        return total

    def observe(number: int, of_sets: tuple[float, ...]) -> None:
        explained.append(max(of_sets))
        assert number == len(explained)

    start = best_centres(GaussianMixtureModel(K, D), total_for, moments_of(rows), RADIUS, 5, 6, observe)
    return start, explained


def test_without_noise_the_best_is_as_good_as_k_means() -> None:
    rows = clustered(2000)
    start, explained = best(rows)
    inertia = KMeans(K, n_init=10, random_state=0).fit(rows).inertia_
    ours = (np.linalg.norm(rows[:, np.newaxis] - start[MEANS], axis=2).min(axis=1) ** 2).sum()
    assert ours <= inertia * 1.0001
    assert len(explained) == CENTRE_ROUNDS
    assert all(after >= before - 1e-12 for before, after in pairwise(explained))
    within = np.linalg.eigvalsh(start["covariances"][0])
    assert within.max() < 0.5 and within.min() > 0


def test_noise_of_a_hundred_records_moves_no_centre_of_thousands_far() -> None:
    start, _ = best(clustered(20_000), noise=100.0)
    exact, _ = best(clustered(20_000))
    apart = np.linalg.norm(start[MEANS][:, np.newaxis] - exact[MEANS], axis=2).min(axis=1)
    assert apart.max() < 0.1


def test_mere_noise_still_gives_a_start() -> None:
    start, _ = best(clustered(50), noise=1e4)
    GaussianMixtureModel(K, D).validate(start)


def test_it_is_described_and_found_again() -> None:
    centres = Centres(2, 3, 4)
    assert build_summand(centres.describe()) == centres
    with pytest.raises(CallerError, match="n_starts"):
        build_summand({**centres.describe(), "n_starts": 0})
    with pytest.raises(CallerError, match="finite"):
        centres.validate(Parameters({MEANS: np.full((2, 3, 4), np.nan)}))


@pytest.mark.parametrize("k", [2, 5, 9])
def test_no_other_record_decides_which_of_two_equal_centres_a_record_belongs_to(k: int) -> None:
    """Whoever chooses centres can make all records ties; a matrix product breaks those at the end of its blocks in another way."""
    generator = np.random.default_rng(0)
    wide = 10
    rows = generator.normal(size=(60, wide))
    means = np.tile(generator.normal(size=wide), (1, k, 1))
    centres, at = Centres(1, k, wide), Parameters({MEANS: means})
    assert centres.e_step(at, rows)[RECORDS][0].tolist() == [60.0] + (k - 1) * [0.0]
    # A pair of centres on either side of a plane that holds all the records.
    rows[:, 0] = 0.0
    means = means.copy()
    means[0, :, 0] = np.where(np.arange(k) % 2, 1.0, -1.0)
    at = Parameters({MEANS: means})
    for n in range(1, 60):
        assert centres.e_step(at, rows[:n])[RECORDS][0].tolist() == [n] + (k - 1) * [0.0]
