"""The search as a user of scikit-learn meets it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture as Peer

from fed_em import GaussianMixture, LatentClass, MixtureSearch, open_table
from fed_em.errors import CallerError

IRIS = np.asarray(load_iris().data)


def clusters(seed: int = 0) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    return np.concatenate([generator.normal(centre, 0.5, (80, 2)) for centre in ((-3, 0), (0, 3), (3, 0))])


@pytest.mark.parametrize(("criterion", "best"), [("bic", 3), ("icl", 3), ("held-out", 3)])
def test_it_finds_three_clusters(criterion: str, best: int) -> None:
    search = MixtureSearch(
        GaussianMixture(random_state=0, n_init=2), (1, 2, 3, 4), covariance_types=["full", "spherical"],
        criterion=criterion, random_state=3,
    ).fit(clusters())  # fmt: skip
    assert search.best_params_ == {"n_components": best, "covariance_type": "spherical"}
    assert list(search.results_["n_components"]) == [1, 2, 3, 4] * 2
    assert len(set(search.predict(clusters(1)))) == 3
    assert search.predict_proba(clusters(1)).shape == (240, 3)
    assert search.score(clusters(1)) == pytest.approx(search.score_samples(clusters(1)).mean())
    assert search.best_estimator_.converged_


def test_its_numbers_are_scikit_learns_and_the_estimators_own() -> None:
    search = MixtureSearch(GaussianMixture(random_state=0, tol=1e-6, max_iter=500), [1, 2, 3]).fit(IRIS)
    for k, bic, aic in zip(
        search.results_["n_components"], search.results_["bic"], search.results_["aic"], strict=True
    ):
        peer = Peer(int(k), random_state=0, tol=1e-6, max_iter=500).fit(IRIS)
        assert bic == pytest.approx(peer.bic(IRIS), rel=1e-6)
        assert aic == pytest.approx(peer.aic(IRIS), rel=1e-6)
    assert search.best_estimator_.bic(IRIS) == pytest.approx(min(search.results_["bic"]), rel=1e-12)
    assert np.isnan(search.results_["held_out"]).all()


def test_held_out_rows_are_no_part_of_the_fits_and_the_best_is_of_all_rows() -> None:
    rows = clusters()
    search = MixtureSearch(GaussianMixture(random_state=0), [2, 3], held_out=0.4, random_state=1).fit(rows)
    assert np.isfinite(search.results_["held_out"]).all()
    assert len(search.best_estimator_.log_densities_) == 240
    again = clone(search).fit(rows)
    np.testing.assert_array_equal(again.results_["held_out"], search.results_["held_out"])
    other = clone(search).set_params(random_state=2).fit(rows)
    assert (other.results_["held_out"] != search.results_["held_out"]).all()


def test_weights_count_as_rows() -> None:
    rows = clusters()
    twice = MixtureSearch(GaussianMixture(random_state=0), [3]).fit(np.concatenate((rows, rows)))
    weighted = MixtureSearch(GaussianMixture(random_state=0), [3]).fit(rows, sample_weight=np.full(240, 2.0))
    assert weighted.results_["bic"][0] == pytest.approx(twice.results_["bic"][0], rel=1e-4)


def test_latent_classes_of_a_table_with_a_level_that_only_held_out_rows_show() -> None:
    generator = np.random.default_rng(5)
    kind = generator.integers(2, size=150)
    table = {
        name: [("yes" if generator.random() < (0.9 if k else 0.1) else "no") for k in kind]
        for name in ("a", "b", "c", "d")
    }
    search = MixtureSearch(LatentClass(n_init=4, random_state=0), [1, 2, 3], criterion="held-out", random_state=0)
    table["a"][7] = "perhaps"
    assert search.fit(table).best_params_ == {"n_components": 2}


def test_whoever_collapses_is_left_out() -> None:
    rows = np.concatenate((clusters(), np.full((60, 2), 7.0)))
    search = MixtureSearch(GaussianMixture(random_state=0, reg_covar=0.0), [1, 4]).fit(rows)
    assert search.best_params_ == {"n_components": 1}
    assert np.isnan(search.results_["bic"][1]) and not search.results_["converged"][1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"criterion": "bik"}, "no criterion"),
        ({"n_components": []}, "nothing to search"),
        ({"held_out": 1.5}, "below 1"),
    ],
)
def test_impossible_searches_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CallerError, match=message):
        MixtureSearch(GaussianMixture()).set_params(**changes).fit(clusters())


def test_tables_that_need_not_fit_into_memory_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(CallerError, match="in memory"):
        MixtureSearch(GaussianMixture()).fit(open_table([path]))
