"""Drift: published numbers, false alarms and power by simulation, and bins that are merged."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from fed_em.columns import CategoricalColumn, ColumnSchema, GaussianColumn
from fed_em.errors import CallerError
from fed_em.measurement import Histogram, Measurement, ModelMeasured
from fed_em_server.operate.drift import (
    Counts,
    Thresholds,
    drift_between,
    kolmogorov_smirnov,
    merged_bins,
    stability_index,
)

SCHEMA = ColumnSchema((GaussianColumn("a"), GaussianColumn("b"), CategoricalColumn("c", ("u", "v", "w", "x"))))
CUTS = tuple(np.quantile(np.random.default_rng(0).standard_normal(100000), np.arange(1, 10) / 10).tolist())
LEVELS = (0.5, 1.5, 2.5)


def measurement(n: int, generator: np.random.Generator, shift: float = 0.0, levels: float = 0.4) -> Measurement:
    """n records of two Gaussian columns and one of levels, and their log-densities under a standard Gaussian."""
    rows = generator.standard_normal((n, 2)) + np.array([shift, 0.0])
    codes = generator.choice(4, n, p=[levels, 0.7 - levels, 0.29, 0.01])
    densities = -0.5 * (rows**2).sum(axis=1) - math.log(2 * math.pi)
    cut = (-5.0, -4.0, -3.5, -3.0, -2.6, -2.3, -2.1, -1.95)
    return Measurement(
        float(n),
        (ModelMeasured(float(densities.mean()), float(densities.var(ddof=1)), counted(cut, densities)),),
        {"a": counted(CUTS, rows[:, 0]), "b": counted(CUTS, rows[:, 1]), "c": counted(LEVELS, codes)},
    )


def counted(cut: tuple[float, ...], values: np.ndarray) -> Histogram:
    bins = np.bincount(np.searchsorted(cut, values, side="right"), minlength=len(cut) + 1)
    return Histogram(cut, tuple(map(float, bins)))


def excesses(n: int, m: int, repeats: int, significance: float, shift: float = 0.0, levels: float = 0.4) -> float:
    """The share of measurements with any excess."""
    generator, found = np.random.default_rng(n + m), 0
    for _ in range(repeats):
        then, now = measurement(m, generator), measurement(n, generator, shift, levels)
        drift = drift_between(then, now, SCHEMA, significance)
        found += Thresholds().score(drift) > 0
    return found / repeats


@pytest.mark.parametrize(("n", "m"), [(30, 30), (60, 1500), (500, 500)])
def test_without_drift_chance_alarms_no_more_often_than_the_significance(n: int, m: int) -> None:
    """250 measurements at a significance of 0.1: by Bonferroni at most 0.1 of them have an excess in expectation; that 0.1 + 4.5 standard
    errors are exceeded has a probability below 1e-5 (normal approximation of the binomial).
    """
    slack = 4.5 * math.sqrt(0.1 * 0.9 / 250)
    assert excesses(n, m, 250, 0.1) <= 0.1 + slack


def test_a_test_of_one_statistic_is_about_as_large_as_it_says() -> None:
    """So the critical values are no larger than they need be: of 2000 PSIs without drift 0.05 exceed theirs, give or take 4.5 standard
    errors (1e-5) and a hundredth for what χ² is only about.
    """
    generator, found = np.random.default_rng(1), 0
    for _ in range(2000):
        then, now = (generator.multinomial(n, np.full(10, 0.1)) for n in (3000, 1000))
        found += stability_index(Counts(then), Counts(now), True, 0.05).excess > 0
    assert abs(found / 2000 - 0.05) < 0.01 + 4.5 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.slow
def test_rare_levels_alarm_no_more_often_than_one_test_of_many_may() -> None:
    """Of 20000 PSIs without drift 8.7 exceed their critical value at the significance of one test of 23, if all is exact: more than 18 have
    a probability of 0.002 (Poisson). With half a record added to each bin, there are 27 on average.
    """
    generator, shares, alone = np.random.default_rng(2), np.array([0.9, *[0.01] * 10]), 0.01 / 23
    then, now = (generator.multinomial(n, shares, size=20_000).astype(float) for n in (1000, 100))
    found = sum(stability_index(Counts(q), Counts(p), False, alone).excess > 0 for q, p in zip(then, now, strict=True))
    assert found <= 18


@pytest.mark.parametrize("sigma", [3.0, 30.0])
def test_noise_in_the_counts_is_reckoned_with(sigma: float) -> None:
    """Of 2000 pairs without drift 0.05 have a PSI beyond its critical value, give or take 4.5 standard errors (1e-5) and 0.015 for what
    three cumulants leave; a KS beyond its own no more than that. Were noise not known, nearly all would (sigma of 30).
    """
    generator = np.random.default_rng(5)
    shares = np.array([0.05, 0.1, 0.15, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])
    noised = [
        [Counts(generator.multinomial(n, shares) + generator.normal(0.0, sigma, 9), sigma) for n in (4000, 2000)]
        for _ in range(2000)
    ]
    psi = sum(stability_index(*pair, True, 0.05).excess > 0 for pair in noised) / 2000
    ks = sum(kolmogorov_smirnov(*pair, 0.05).excess > 0 for pair in noised) / 2000
    slack = 4.5 * math.sqrt(0.05 * 0.95 / 2000)
    assert abs(psi - 0.05) < 0.015 + slack
    assert ks <= 0.05 + slack
    if sigma == 30.0:
        unknown = ([Counts(each.counts) for each in pair] for pair in noised[:200])
        assert sum(stability_index(*pair, True, 0.05).excess > 0 for pair in unknown) > 100


def test_a_shift_is_found_behind_noise_and_one_that_noise_hides_is_not() -> None:
    generator = np.random.default_rng(6)
    then, now = np.array([500.0, 500.0, 500.0, 500.0]), np.array([200.0, 400.0, 600.0, 800.0])
    for sigma, found in ((10.0, True), (1000.0, False)):
        pair = [Counts(counts + generator.normal(0.0, min(sigma, 10.0), 4), sigma) for counts in (then, now)]
        assert (stability_index(*pair, True, 0.01).excess > 0) is found
        assert (kolmogorov_smirnov(*pair, 0.01).excess > 0) is found


def test_a_shift_of_a_third_of_a_standard_deviation_is_found_among_a_thousand() -> None:
    """PSI of such a shift is about 0.11, and its critical value at 0.01 / 8 about 0.05: power is near one. Were it 0.95, fewer than 57 of
    60 would happen half of the time, fewer than 50 once in 10^4.
    """
    assert excesses(1000, 1000, 60, 0.01, shift=1 / 3) * 60 >= 50
    assert excesses(1000, 1000, 60, 0.01, levels=0.2) * 60 >= 50  # levels alone


def test_of_many_records_a_small_drift_is_significant_and_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    drift = drift_between(measurement(200000, generator), measurement(200000, generator, 0.05), SCHEMA, 0.01)
    assert drift.columns["a"].psi.excess > 0
    assert 0 < Thresholds().score(drift) < 0.5


def test_a_likelihood_drop_is_that_of_the_means_with_its_standard_error() -> None:
    generator = np.random.default_rng(0)
    then, now = measurement(500, generator), measurement(300, generator, 1.0)
    drift = drift_between(then, now, SCHEMA, 0.01)
    one, other = then.models[0], now.models[0]
    assert drift.drop.value == one.log_likelihood - other.log_likelihood
    assert drift.drop_error == pytest.approx(math.sqrt(one.variance / 500 + other.variance / 300))
    assert Thresholds(drop=0.05).worst(drift) in {name for name, _ in Thresholds().scores(drift)}


def test_numbers_by_hand() -> None:
    """Shares 0.25, 0.75 against 0.5, 0.5 of many records: 0.25 log 1.5 + 0.25 log 2."""
    found = stability_index(Counts(np.array([5e8, 5e8])), Counts(np.array([2.5e8, 7.5e8])), True, 0.05)
    assert found.value == pytest.approx(0.25 * math.log(1.5) + 0.25 * math.log(2.0), rel=1e-6)
    assert found.critical == pytest.approx(3.841459 * 2e-9, rel=1e-5)
    ks = kolmogorov_smirnov(Counts(np.array([50.0, 50.0])), Counts(np.array([25.0, 75.0])), 0.05)
    assert ks.value == 0.25
    assert ks.critical == pytest.approx(1.3581 * math.sqrt(1 / 100 + 1 / 100), rel=1e-4)


def test_ks_of_bins_is_that_of_values_where_every_value_is_a_bin() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.standard_normal(40), generator.standard_normal(30) + 0.4
    cut = tuple(np.sort(np.concatenate((one, other))).tolist())
    counts = [np.asarray(counted(cut, values).counts) for values in (one, other)]
    assert kolmogorov_smirnov(*map(Counts, counts), 0.05).value == pytest.approx(ks_2samp(one, other).statistic)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=12), st.booleans())
def test_merged_bins_expect_five_or_are_one(expected: list[float], ordered: bool) -> None:
    groups = merged_bins(np.array(expected), ordered)
    assert sorted(set(groups.tolist())) == list(range(groups.max() + 1))
    held = np.bincount(groups, weights=expected)
    assert len(held) == 1 or held.min() >= 5
    if ordered:
        assert (np.diff(groups) >= 0).all()


def test_of_too_few_records_nothing_follows() -> None:
    for n, m in product((0, 3), (0, 3)):
        found = stability_index(Counts(np.array([m, 0.0])), Counts(np.array([0.0, n])), True, 0.05)
        assert found.excess == -math.inf
    assert kolmogorov_smirnov(Counts(np.zeros(2)), Counts(np.ones(2)), 0.05).excess == -math.inf


def test_other_edges_and_columns_are_refused() -> None:
    generator = np.random.default_rng(0)
    then = measurement(50, generator)
    moved = Histogram((*CUTS[:-1], 3.0), then.columns["a"].counts)
    with pytest.raises(CallerError, match="other edges"):
        drift_between(then, Measurement(50.0, then.models, {**then.columns, "a": moved}), SCHEMA, 0.01)
    with pytest.raises(CallerError, match="other columns"):
        drift_between(then, Measurement(50.0, then.models, {"a": moved}), SCHEMA, 0.01)
    with pytest.raises(CallerError, match="significance"):
        Thresholds(significance=1.0)
