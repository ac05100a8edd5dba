"""Maximum log-likelihoods that others have published, and that two independent programs agree on: by estimators, and as sessions fit.

Old Faithful: mclust (Scrucca, Fop, Murphy and Raftery, 2016, The R Journal 8/1) and scikit-learn. Iris: the
same two, data as shipped with scikit-learn. With missing values: two implementations of EM.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

from fed_em import GaussianMixture, LatentClass, MixedMixture
from fed_em.covariance import CovarianceStructure
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from tests.fed_em.published_tables import classes_of, fitted_by_sums, table_of


def best_log_likelihood(rows: np.ndarray, n_components: int, structure: str) -> float:
    model = GaussianMixture(
        n_components,
        covariance_type=structure,
        reg_covar=0.0,
        tol=1e-11,
        max_iter=5000,
        n_init=5,
        random_state=0,
    )
    return float(model.fit(rows).score_samples(rows).sum())


@pytest.mark.parametrize(
    ("n_components", "structure", "published"),
    [
        (2, "full", -1130.263960),
        pytest.param(3, "tied", -1126.315928, marks=pytest.mark.slow),
        (2, "diag", -1147.806353),
    ],
)
def test_old_faithful(shared_data: Callable[[str], Path], n_components: int, structure: str, published: float) -> None:
    rows = np.loadtxt(shared_data("faithful.csv"), delimiter=",", skiprows=1)
    assert rows.shape == (272, 2)
    assert best_log_likelihood(rows, n_components, structure) == pytest.approx(published, abs=2e-6)


@pytest.mark.parametrize(("n_components", "published"), [(2, -214.354704), (3, -180.185477)])
def test_iris(n_components: int, published: float) -> None:
    rows = load_iris().data
    assert best_log_likelihood(rows, n_components, "full") == pytest.approx(published, abs=2e-6)


def likelihood_of_one_gaussian(rows: np.ndarray) -> float:
    """The maximum log-likelihood of a Gaussian with a mean and a full covariance."""
    model = GaussianMixture(1, reg_covar=0.0, tol=1e-13, max_iter=20_000).fit(rows)
    return float(model.score_samples(rows).sum())


def test_apple_crops_with_missing_infestation(shared_data: Callable[[str], Path]) -> None:
    """Little and Rubin, after Snedecor and Cochran; in the R package mvnmle: six trees of which the size alone is known."""
    rows = table_of(shared_data("apple.csv"), ["size", "worms"])
    assert np.isnan(rows).sum() == 6
    assert likelihood_of_one_gaussian(rows) == pytest.approx(-101.785632, abs=2e-6)


def test_heart_disease_of_four_hospitals_with_missing_values(shared_data: Callable[[str], Path]) -> None:
    rows = table_of(shared_data("heart4_clean.csv"), ["age", "trestbps", "chol", "thalach", "oldpeak"])
    rows[:, 1:3][rows[:, 1:3] == 0] = np.nan
    assert rows.shape == (920, 5)
    assert likelihood_of_one_gaussian(rows) == pytest.approx(-16242.668078, abs=2e-5)


@pytest.mark.parametrize(("n_components", "published"), [(2, -317.256837), (3, -293.704979)])
def test_carcinoma_latent_classes(shared_data: Callable[[str], Path], n_components: int, published: float) -> None:
    """Seven pathologists, 118 slides (Agresti 2002, table 13.1): poLCA (Linzer and Lewis 2011, J. Stat. Soft. 42/10)."""
    table = table_of(shared_data("carcinoma.csv"), list("ABCDEFG"))
    assert table.shape == (118, 7)
    model = LatentClass(n_components, prior=None, tol=1e-12, max_iter=20_000, random_state=0).fit(table)
    assert float(model.score_samples(table).sum()) == pytest.approx(published, abs=2e-6)


SEEDS = range(3)


def check_by_sums(model: GaussianMixtureModel | MixedMixtureModel, rows: np.ndarray, published: float) -> None:
    """Declared ranges, one sum for the moments, 20 starts by sums, L-BFGS on two tracks: from every seed."""
    for seed in SEEDS:
        found, standardised = fitted_by_sums(model, rows, seed)
        assert found.fit.converged
        log_likelihood = model.log_prob(found.fit.parameters, standardised).sum()
        assert log_likelihood + len(rows) * found.coordinates.log_jacobian == pytest.approx(published, abs=2e-6)


@pytest.mark.parametrize(
    ("n_components", "structure", "published"),
    [(2, "full", -1130.263960), (3, "tied", -1126.315928), (2, "diag", -1147.806353)],
)
def test_old_faithful_by_the_road_of_sessions(
    shared_data: Callable[[str], Path], n_components: int, structure: CovarianceStructure, published: float
) -> None:
    rows = np.loadtxt(shared_data("faithful.csv"), delimiter=",", skiprows=1)
    check_by_sums(GaussianMixtureModel(n_components, 2, structure, covariance_floor=0.0), rows, published)


@pytest.mark.parametrize(("n_components", "published"), [(2, -214.354704), (3, -180.185477)])
def test_iris_by_the_road_of_sessions(n_components: int, published: float) -> None:
    check_by_sums(GaussianMixtureModel(n_components, 4, covariance_floor=0.0), load_iris().data, published)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "columns", "n_components", "published"),
    [
        ("carcinoma", tuple("ABCDEFG"), 2, -317.256837),
        ("carcinoma", tuple("ABCDEFG"), 3, -293.704979),
        # The manual of poLCA 1.4: 242 of 500 calls ended in one of four lower maxima.
        ("gss82", ("PURPOSE", "ACCURACY", "UNDERSTA", "COOPERAT"), 3, -2754.545405),
    ],
)
def test_latent_classes_by_the_road_of_sessions(
    shared_data: Callable[[str], Path], table: str, columns: tuple[str, ...], n_components: int, published: float
) -> None:
    schema, rows = classes_of(shared_data(f"{table}.csv"), columns)
    check_by_sums(MixedMixtureModel(n_components, schema), rows, published)


@pytest.mark.parametrize(
    ("n_components", "structure", "published"),
    [
        (2, "full", -1130.263960),
        pytest.param(3, "tied", -1126.315928, marks=pytest.mark.slow),
        (2, "diag", -1147.806353),
    ],
)
def test_old_faithful_by_the_estimator_of_mixed_columns(
    shared_data: Callable[[str], Path], n_components: int, structure: CovarianceStructure, published: float
) -> None:
    rows = np.loadtxt(shared_data("faithful.csv"), delimiter=",", skiprows=1)
    model = MixedMixture(
        n_components, covariance_type=structure, prior=None, tol=1e-12, max_iter=20_000, random_state=0
    )
    assert float(model.fit(rows).score_samples(rows).sum()) == pytest.approx(published, abs=2e-6)


@pytest.mark.parametrize(("n_components", "published"), [(2, -214.354704), (3, -180.185477)])
def test_iris_by_the_estimator_of_mixed_columns(n_components: int, published: float) -> None:
    rows = load_iris().data
    model = MixedMixture(n_components, prior=None, tol=1e-12, max_iter=20_000, random_state=0).fit(rows)
    assert float(model.score_samples(rows).sum()) == pytest.approx(published, abs=2e-6)


def test_heart_disease_as_a_mixed_column_block(shared_data: Callable[[str], Path]) -> None:
    rows = table_of(shared_data("heart4_clean.csv"), ["age", "trestbps", "chol", "thalach", "oldpeak"])
    rows[:, 1:3][rows[:, 1:3] == 0] = np.nan
    model = MixedMixture(1, prior=None, tol=1e-13, max_iter=20_000, n_init=1).fit(rows)
    assert float(model.score_samples(rows).sum()) == pytest.approx(-16242.668078, abs=2e-5)
