"""The estimator: scikit-learn's checks, scikit-learn's numbers."""

from __future__ import annotations

import math
import pickle
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture as ScikitLearn
from sklearn.utils.estimator_checks import estimator_checks_generator

from fed_em import GaussianMixture, GaussianMixturePrior, MixedMixture, load_model, open_table, save_model
from fed_em.divergence import Mixture
from fed_em.em import Fit, Stopping, fit
from fed_em.errors import CallerError, CollapsedComponent, FedEmError
from fed_em.final_components import Simplification, Simplified, simplified
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]

STRUCTURES = ("full", "tied", "diag", "spherical")
STARTS = ("kmeans", "k-means++", "random", "random_from_data")
SINGLE_ROWS = ("k-means++", "random_from_data")
FITTED = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


def blobs(n: int = 600) -> Vector:
    generator = np.random.default_rng(1)
    centres = 2.0 * generator.normal(size=(3, 4))
    return centres[generator.integers(3, size=n)] + generator.normal(size=(n, 4)) * [1.0, 0.5, 2.0, 1.0]


ROWS = blobs()


def name_of(check: Any) -> str:
    return str(getattr(check, "func", check).__name__)


# A start that draws a number for each row cannot be the same for a row of weight two and for two rows.
IMPOSSIBLE = {
    (2, "check_sample_weight_equivalence_on_dense_data"): pytest.mark.xfail(
        strict=True, reason="a random start of each row"
    )
}


@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pytest.param(
            *case,
            id=f"{case[0]!r}-{name_of(case[1])}",
            marks=IMPOSSIBLE.get((case[0].n_components, name_of(case[1])), ()),
        )
        for estimator in (
            GaussianMixture(),
            GaussianMixture(2, covariance_type="diag", init_params="random", warm_start=True),
        )
        for case in estimator_checks_generator(estimator)
    ],
)
def test_scikit_learns_own_checks_pass(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


def assert_same_fit(ours: GaussianMixture, theirs: ScikitLearn, shift: float = 0.0, first: int = 0) -> None:
    """Every number to 1e-8, relative to the largest entry of its array."""
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.converged_ == theirs.converged_
    for name in FITTED:
        mine, reference = getattr(ours, name), getattr(theirs, name)
        if name == "means_":
            mine = mine - shift
        assert mine.shape == reference.shape
        np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-8 * np.abs(reference).max(), err_msg=name)
    np.testing.assert_allclose(ours.lower_bounds_[first:], theirs.lower_bounds_[first:], rtol=1e-8)
    np.testing.assert_allclose(ours.lower_bound_, theirs.lower_bound_, rtol=1e-8)


@pytest.mark.parametrize(
    ("structure", "init"),
    # scikit-learn's tied start from single rows is another one: it counts rows that no component holds.
    [
        (structure, init)
        for structure in STRUCTURES
        for init in STARTS
        if structure != "tied" or init not in SINGLE_ROWS
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_start_leads_where_it_leads_in_scikit_learn(structure: str, init: str) -> None:
    options = {
        "covariance_type": structure,
        "init_params": init,
        "random_state": 3,
        "tol": 1e-6,
        "max_iter": 120,
        "n_init": 2,
    }
    ours, theirs = GaussianMixture(3, **options).fit(ROWS), ScikitLearn(3, **options).fit(ROWS)
    assert_same_fit(ours, theirs, first=1 if init in SINGLE_ROWS else 0)
    np.testing.assert_array_equal(ours.predict(ROWS), theirs.predict(ROWS))
    np.testing.assert_allclose(ours.predict_proba(ROWS), theirs.predict_proba(ROWS), atol=1e-8)
    np.testing.assert_allclose(ours.score_samples(ROWS), theirs.score_samples(ROWS), rtol=1e-8)
    np.testing.assert_allclose(ours.score(ROWS), theirs.score(ROWS), rtol=1e-8)
    np.testing.assert_allclose(ours.bic(ROWS), theirs.bic(ROWS), rtol=1e-8)
    np.testing.assert_allclose(ours.aic(ROWS), theirs.aic(ROWS), rtol=1e-8)


@pytest.mark.parametrize("init", SINGLE_ROWS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_start_from_single_rows_is_a_distribution_at_those_rows(structure: str, init: str) -> None:
    model = GaussianMixture(3, covariance_type=structure, init_params=init, max_iter=0, random_state=0).fit(ROWS)
    np.testing.assert_allclose(model.weights_, 1 / 3)
    np.testing.assert_allclose(np.abs(ROWS[:, np.newaxis] - model.means_).sum(axis=2).min(axis=0), 0, atol=1e-12)
    variances = model.covariances_ if structure in ("diag", "spherical") else np.linalg.eigvalsh(model.covariances_)
    np.testing.assert_allclose(variances, 1e-6)


def given_start(structure: str, shift: float) -> dict[str, Vector]:
    precision = np.diag([1.0, 2.0, 0.5, 1.0]) + 0.1
    return {
        "weights_init": np.array([0.2, 0.5, 0.3]),
        "means_init": ROWS[[5, 100, 200]] + shift,
        "precisions_init": {
            "full": np.stack([precision, 2 * precision, precision]),
            "tied": precision,
            "diag": np.abs(ROWS[:3]) + 0.2,
            "spherical": np.array([0.5, 1.0, 2.0]),
        }[structure],
    }


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("n_iterations", [1, 2, 7, 400])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_iteration_is_scikit_learns(structure: str, n_iterations: int) -> None:
    options = {"covariance_type": structure, "max_iter": n_iterations, "tol": 1e-7, **given_start(structure, 0.0)}
    assert_same_fit(GaussianMixture(3, **options).fit(ROWS), ScikitLearn(3, **options).fit(ROWS))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_distant_origin_changes_only_the_means(structure: str) -> None:
    """Rows about 1e4 give the fit of rows about 0; scikit-learn's own loses up to four digits there."""
    options = {"covariance_type": structure, "max_iter": 400, "tol": 1e-6}
    ours = GaussianMixture(3, **options, **given_start(structure, 1e4)).fit(ROWS + 1e4)
    theirs = ScikitLearn(3, **options, **given_start(structure, 0.0)).fit(ROWS)
    assert_same_fit(ours, theirs, shift=1e4)


def test_full_covariances_agree_with_scikit_learn_at_a_distant_origin() -> None:
    options = {"max_iter": 400, "tol": 1e-6, **given_start("full", 1e4)}
    assert_same_fit(GaussianMixture(3, **options).fit(ROWS + 1e4), ScikitLearn(3, **options).fit(ROWS + 1e4))


@pytest.mark.parametrize("given", ["weights_init", "means_init", "precisions_init"])
def test_a_start_given_in_part_is_completed(given: str) -> None:
    options = {"random_state": 0, given: given_start("full", 0.0)[given]}
    assert_same_fit(GaussianMixture(3, **options).fit(ROWS), ScikitLearn(3, **options).fit(ROWS))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_goes_on_where_the_last_fit_stopped() -> None:
    options = {"max_iter": 1, "warm_start": True, "random_state": 0, "tol": 1e-4}
    ours, theirs = GaussianMixture(3, **options), ScikitLearn(3, **options)
    for n_fits in range(1, 300):
        ours.fit(ROWS)
        theirs.fit(ROWS)
        assert ours.converged_ == theirs.converged_, n_fits
        if theirs.converged_:
            break
    assert n_fits > 5
    assert_same_fit(ours, theirs)
    single = GaussianMixture(3, random_state=0, tol=1e-4, max_iter=300).fit(ROWS)
    assert single.n_iter_ == n_fits
    np.testing.assert_allclose(single.means_, ours.means_, rtol=1e-9)


def test_no_iterations_keep_the_start() -> None:
    ours = GaussianMixture(3, max_iter=0, **given_start("full", 0.0)).fit(ROWS)
    np.testing.assert_allclose(ours.means_, given_start("full", 0.0)["means_init"])
    np.testing.assert_allclose(ours.precisions_, given_start("full", 0.0)["precisions_init"])
    assert ours.n_iter_ == 0
    assert ours.lower_bounds_ == []
    assert ours.lower_bound_ == -math.inf
    assert not ours.converged_


def test_it_warns_when_it_did_not_converge() -> None:
    with pytest.warns(ConvergenceWarning, match="2 iterations"):
        GaussianMixture(3, max_iter=2, tol=0.0, random_state=0).fit(ROWS)


def test_more_starts_never_end_lower() -> None:
    bounds = [
        GaussianMixture(5, n_init=n, init_params="random", random_state=0, max_iter=300).fit(ROWS).lower_bound_
        for n in (1, 4)
    ]
    assert bounds[1] >= bounds[0]


def test_labels_of_fit_predict_are_those_of_predict() -> None:
    model = GaussianMixture(3, random_state=0)
    np.testing.assert_array_equal(model.fit_predict(ROWS), model.predict(ROWS))


def test_samples_come_from_the_mixture() -> None:
    model = GaussianMixture(3, random_state=0).fit(ROWS)
    rows, labels = model.sample(20_000)
    np.testing.assert_allclose(rows.mean(axis=0), model.weights_ @ model.means_, atol=0.1)
    np.testing.assert_allclose(np.bincount(labels) / 20_000, model.weights_, atol=0.02)
    np.testing.assert_array_equal(model.sample(5)[0], model.sample(5)[0])
    with pytest.raises(CallerError, match="n_samples"):
        model.sample(0)


def test_a_prior_is_in_the_units_of_the_rows() -> None:
    near = GaussianMixturePrior.weakly_informative(3, ROWS.mean(axis=0), ROWS.var(axis=0))
    far = GaussianMixturePrior.weakly_informative(3, ROWS.mean(axis=0) + 1e4, ROWS.var(axis=0))
    options = {"random_state": 0, "tol": 1e-9, "max_iter": 2000, "reg_covar": 0.0}
    ours = GaussianMixture(3, prior=near, **options).fit(ROWS)
    moved = GaussianMixture(3, prior=far, **options).fit(ROWS + 1e4)
    plain = GaussianMixture(3, **options).fit(ROWS)
    np.testing.assert_allclose(moved.means_ - 1e4, ours.means_, atol=1e-6)
    np.testing.assert_allclose(moved.covariances_, ours.covariances_, atol=1e-6)
    assert moved.lower_bound_ == pytest.approx(ours.lower_bound_, rel=1e-9)
    assert np.abs(plain.means_ - ours.means_).max() > 1e-2
    assert np.diff(ours.lower_bounds_).min() > -1e-10


def test_a_prior_makes_identical_rows_harmless() -> None:
    rows = np.repeat(np.eye(2), 10, axis=0)
    prior = GaussianMixturePrior.weakly_informative(2, [0.5, 0.5], [0.25, 0.25])
    GaussianMixture(2, prior=prior, reg_covar=0.0, random_state=0).fit(rows)
    with pytest.raises(FedEmError, match="component 0's covariance is not positive definite"):
        GaussianMixture(2, reg_covar=0.0, random_state=0).fit(rows)


def test_it_can_be_cloned_and_pickled() -> None:
    model = GaussianMixture(3, random_state=0).fit(ROWS)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_samples(ROWS), model.score_samples(ROWS))
    with pytest.raises(NotFittedError):
        clone(model).predict(ROWS)


class TestFittedModel:
    def test_it_survives_its_files(self, tmp_path: Path) -> None:
        frame = load_iris(as_frame=True).data
        model = GaussianMixture(3, random_state=0).fit(frame)
        save_model(tmp_path, model.to_fitted_model())
        loaded = load_model(tmp_path)
        assert loaded.columns == tuple(frame.columns) == tuple(model.feature_names_in_)
        np.testing.assert_array_equal(loaded.score_samples(frame.to_numpy()), model.score_samples(frame))
        np.testing.assert_array_equal(loaded.predict(frame.to_numpy()), model.predict(frame))

    def test_columns_can_be_named(self) -> None:
        model = GaussianMixture(2, random_state=0).fit(ROWS)
        assert model.to_fitted_model().columns == ("x0", "x1", "x2", "x3")
        assert model.to_fitted_model(list("abcd")).columns == ("a", "b", "c", "d")
        with pytest.raises(CallerError, match="3 column names"):
            model.to_fitted_model(list("abc"))
        with pytest.raises(CallerError, match="same name"):
            model.to_fitted_model(list("aabc"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_components": 0}, "n_components"),
        ({"n_components": 1.5}, "n_components"),
        ({"n_components": 601}, "601"),
        ({"covariance_type": "ful"}, "ful"),
        ({"tol": -1.0}, "tol"),
        ({"tol": "small"}, "tol"),
        ({"reg_covar": -1.0}, "covariance_floor"),
        ({"max_iter": -1}, "max_iter"),
        ({"n_init": 0}, "n_init"),
        ({"init_params": "kmean"}, "kmean"),
        ({"prior": "strong"}, "no prior .strong."),
        ({"prior": GaussianMixturePrior.weakly_informative(3, [0.0], [1.0])}, "the prior has 1 columns"),
        ({"weights_init": [0.5, 0.5]}, "weights"),
        ({"weights_init": [0.5, 0.4, 0.2]}, "weights"),
        ({"means_init": np.zeros((3, 5))}, "means_init"),
        ({"means_init": np.full((3, 4), np.nan)}, "means"),
        ({"precisions_init": np.zeros((3, 4))}, "precisions_init"),
        ({"precisions_init": np.zeros((3, 4, 4))}, "precisions_init"),
    ],
)
def test_parameters_out_of_range_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        GaussianMixture(**{"n_components": 3, "random_state": 0, **options}).fit(ROWS)


def test_numpy_numbers_are_numbers() -> None:
    model = GaussianMixture(np.int64(3), tol=np.float32(1e-3), max_iter=np.int32(50), random_state=0)
    assert model.fit(ROWS).n_iter_ > 0
    assert len(model.sample(np.int64(4))[0]) == 4


def test_verbose_tells_every_iteration(capsys: pytest.CaptureFixture[str]) -> None:
    model = GaussianMixture(2, random_state=0, verbose=1).fit(ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == model.n_iter_
    assert lines[-1].startswith(f"iteration {model.n_iter_}: {model.lower_bound_:.9f}")


class TestWeightsLabelsAndHoles:
    """What mixtures of mixed columns also do, by the same names."""

    def holed(self) -> Vector:
        return np.where(np.random.default_rng(3).random(ROWS.shape) < 0.15, np.nan, ROWS)

    @pytest.mark.parametrize("structure", STRUCTURES)
    def test_weights_are_repetitions(self, structure: Any) -> None:
        """From one start, so that nothing but the weights differs."""
        repeats = np.random.default_rng(1).integers(0, 4, len(ROWS))
        first = GaussianMixture(3, covariance_type=structure, random_state=0).fit(ROWS)
        start = {"weights_init": first.weights_, "means_init": first.means_, "precisions_init": first.precisions_}
        options: dict[str, Any] = {"covariance_type": structure, "tol": 1e-10, "max_iter": 1000, **start}
        weighted = GaussianMixture(3, **options).fit(ROWS, sample_weight=repeats)
        repeated = GaussianMixture(3, **options).fit(np.repeat(ROWS, repeats, axis=0))
        assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, abs=1e-9)
        np.testing.assert_allclose(weighted.means_, repeated.means_, atol=1e-7)
        assert len(weighted.log_densities_) == np.count_nonzero(repeats)

    @pytest.mark.parametrize("init", STARTS)
    def test_rows_without_weight_do_not_count_in_any_start(self, init: str) -> None:
        wild = np.concatenate((ROWS, np.full((50, 4), 1e3)))
        weights = np.r_[np.ones(len(ROWS)), np.zeros(50)]
        model = GaussianMixture(3, init_params=init, random_state=0, tol=1e-6, max_iter=500).fit(
            wild, sample_weight=weights
        )
        assert np.abs(model.means_).max() < 10
        with pytest.raises(CallerError, match="is zero"):
            GaussianMixture(3).fit(ROWS, sample_weight=np.zeros(len(ROWS)))

    @pytest.mark.parametrize("missing", [False, True])
    def test_labels_name_the_components(self, missing: bool) -> None:
        rows = self.holed() if missing else ROWS
        found = GaussianMixture(3, random_state=0, n_init=5).fit(ROWS).predict(ROWS)
        for names in ([0, 1, 2], [2, 0, 1]):
            admissible = np.ones((len(rows), 3), dtype=bool)
            admissible[:90] = np.array(names)[found[:90], np.newaxis] == np.arange(3)
            model = GaussianMixture(3, random_state=0, n_init=5).fit(rows, admissible=admissible)
            assert np.mean(model.predict(rows) == np.array(names)[found]) > 0.9
        with pytest.raises(CallerError, match="labels are of 2 components"):
            GaussianMixture(3).fit(rows, admissible=np.ones((len(rows), 2), dtype=bool))

    def test_missing_cells_are_filled_with_their_conditional_moments(self) -> None:
        rows, model = self.holed(), GaussianMixture(1)
        model.fit(rows)
        done = model.impute(rows, n_draws=400, random_state=1)
        hole = np.isnan(rows)
        np.testing.assert_array_equal(np.where(hole, 0, done.rows), np.where(hole, 0, rows))
        assert (done.deviations[~hole] == 0).all() and np.isnan(done.probabilities).all()
        i = int(np.flatnonzero((hole.sum(axis=1) == 1) & hole[:, 2])[0])
        o, covariance = [0, 1, 3], model.covariances_[0]
        slope = np.linalg.solve(covariance[np.ix_(o, o)], covariance[o, 2])
        mean = model.means_[0, 2] + slope @ (rows[i, o] - model.means_[0, o])
        assert done.rows[i, 2] == pytest.approx(mean)
        assert done.deviations[i, 2] == pytest.approx(np.sqrt(covariance[2, 2] - slope @ covariance[o, 2]))
        # Of 400 draws: a mean beyond 4 standard errors comes once in 16 000 seeds.
        error = (done.draws[:, i, 2].mean() - mean) / done.deviations[i, 2] * np.sqrt(400)
        assert abs(error) < 4
        np.testing.assert_array_equal(model.impute(rows, 400, random_state=1).draws, done.draws)

    def test_an_anomaly_threshold_leaves_its_share_below(self) -> None:
        model = GaussianMixture(3, random_state=0).fit(ROWS)
        assert np.mean(model.score_samples(ROWS) < model.anomaly_threshold(0.05)) == pytest.approx(0.05, abs=0.002)
        assert model.score_samples(np.full((1, 4), 40.0))[0] < model.anomaly_threshold(0.0)
        with pytest.raises(CallerError, match="q must be"):
            model.anomaly_threshold(1.1)
        with pytest.raises(NotFittedError):
            GaussianMixture().anomaly_threshold(0.1)

    def test_an_anomaly_threshold_counts_a_row_as_often_as_it_weighs(self) -> None:
        weights = np.random.default_rng(0).integers(0, 9, len(ROWS))
        weighted = GaussianMixture(2, random_state=0).fit(ROWS, sample_weight=weights.astype(float))
        found = weighted.score_samples(np.repeat(ROWS, weights, axis=0))
        for q in (0.0, 0.01, 0.05, 0.5, 1.0):
            assert weighted.anomaly_threshold(q) == np.quantile(found, q, method="inverted_cdf")


class TestStartsBySums:
    def test_they_lead_to_the_published_likelihood_from_every_seed(self) -> None:
        rows = load_iris().data
        for seed in range(3):
            model = GaussianMixture(
                3, init_params="sums", reg_covar=0.0, tol=1e-11, max_iter=5000, optimiser="lbfgs", random_state=seed
            ).fit(rows)
            assert model.score_samples(rows).sum() == pytest.approx(-180.185477, abs=2e-6)

    def test_columns_that_say_the_same_or_nothing_weights_and_labels_are_no_hindrance(self) -> None:
        generator = np.random.default_rng(0)
        kinds = np.repeat([0, 1], 60)
        one = 8.0 * kinds + generator.standard_normal(120)
        rows = np.column_stack((one, 3.0 * one, np.full(120, 7.0), generator.standard_normal(120)))
        admissible = np.ones((120, 2), dtype=bool)
        admissible[:5, 1], admissible[60:65, 0] = False, False
        model = GaussianMixture(2, init_params="sums", reg_covar=1e-3, random_state=0)
        model.fit(rows, sample_weight=1.0 + kinds, admissible=admissible)
        np.testing.assert_allclose(model.weights_, [1 / 3, 2 / 3], atol=1e-3)
        np.testing.assert_array_equal(model.predict(rows), kinds)


class TestStartsThatEnd:
    SPIKED = np.concatenate((np.zeros(20), np.random.default_rng(0).normal(np.repeat([-6.0, 6.0], 60))))[:, np.newaxis]
    OPTIONS: ClassVar[dict[str, Any]] = {"reg_covar": 0.0, "init_params": "random_from_data", "random_state": 0}

    def test_one_that_collapses_is_counted_and_survived(self) -> None:
        """Of starts in turn from the same numbers some shrink onto the spike, and the best of the others is kept."""
        found, state = list[float](), np.random.RandomState(0)
        for _ in range(8):
            try:
                alone = GaussianMixture(3, **{**self.OPTIONS, "random_state": state}).fit(self.SPIKED)
                found.append(alone.lower_bound_)
            except CollapsedComponent:
                found.append(-math.inf)
        assert 0 < found.count(-math.inf) < 8
        fitted = GaussianMixture(3, n_init=8, **self.OPTIONS).fit(self.SPIKED)
        assert (fitted.n_collapsed_, fitted.n_not_finite_) == (found.count(-math.inf), 0)
        assert fitted.lower_bound_ == max(found)

    def test_if_all_do_the_component_is_named(self) -> None:
        fitted = GaussianMixture(2, n_init=3, **self.OPTIONS)
        with pytest.raises(CollapsedComponent, match="component"):
            fitted.fit(np.zeros((20, 1)))
        assert fitted.n_collapsed_ == 3

    def test_without_any_they_are_none(self) -> None:
        fitted = GaussianMixture(2, n_init=2, random_state=0).fit(ROWS)
        assert (fitted.n_collapsed_, fitted.n_not_finite_) == (0, 0)


@pytest.mark.parametrize("estimator", [GaussianMixture, MixedMixture])
class TestOfWeightsAndLabels:
    WEIGHTS = np.random.default_rng(4).integers(0, 4, 120)

    def fitted(self, estimator: Any, rows: Vector, **given: Any) -> Any:
        return estimator(3, n_init=1, random_state=0, max_iter=5, tol=1e9).fit(rows, **given)

    def test_criteria_count_a_weight_as_so_many_rows(self, estimator: Any, tmp_path: Path) -> None:
        rows, repeated = ROWS[:120], np.repeat(ROWS[:120], self.WEIGHTS, axis=0)
        model = self.fitted(estimator, rows, sample_weight=self.WEIGHTS)
        path = tmp_path / "rows.csv"
        header = ",".join([*map(str, model.to_fitted_model().columns), "w"])
        np.savetxt(path, np.column_stack((rows, self.WEIGHTS)), fmt="%.17g", delimiter=",", header=header, comments="")
        columns = model.to_fitted_model().columns
        for name in ("score", "bic", "aic"):
            measure = getattr(model, name)
            expected = measure(repeated)
            assert measure(rows) != pytest.approx(expected, rel=1e-6)
            assert measure(rows, sample_weight=self.WEIGHTS) == pytest.approx(expected, rel=1e-12)
            table = open_table(path, columns=[*columns, "w"])
            if estimator is MixedMixture:
                assert measure(table, sample_weight="w") == pytest.approx(expected, rel=1e-12)
        assert model.icl(rows, sample_weight=self.WEIGHTS) == pytest.approx(model.icl(repeated), rel=1e-12)

    def test_labels_in_memory_are_cells_as_in_files(self, estimator: Any) -> None:
        rows = ROWS[:120]
        cells = ["0|2", "1", None, 2, " 1 "] * 24
        admissible = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1], [0, 1, 0]] * 24, dtype=bool)
        by_cells, by_flags = (self.fitted(estimator, rows, admissible=each) for each in (cells, admissible))
        np.testing.assert_array_equal(by_cells.means_, by_flags.means_)
        with pytest.raises(CallerError, match="24 values of admissible are no components from 0 to 2"):
            self.fitted(estimator, rows, admissible=["0", "1", "2", None, "3"] * 24)
        with pytest.raises(CallerError, match="do not fit"):
            self.fitted(estimator, rows, admissible=np.ones(120, dtype=bool))


class TestFewerComponents:
    """Three groups apart, fitted with five components."""

    ROWS = np.concatenate([np.random.default_rng(k).normal(6.0 * k, 1.0, size=(200, 2)) for k in range(3)])

    def crowded(self, **options: Any) -> GaussianMixture:
        return GaussianMixture(5, tol=1e-6, max_iter=500, random_state=0, **options)

    def test_those_that_are_too_near_are_merged_and_the_fit_goes_on(self) -> None:
        rows = self.ROWS
        fitted = self.crowded(least_distance=0.5).fit(rows)
        assert fitted.n_components_ == len(fitted.weights_) == 5 - fitted.n_pruned_ - fitted.n_merged_ == 3
        again = GaussianMixture(3, tol=1e-9, max_iter=500, means_init=fitted.means_, random_state=0).fit(rows)
        assert fitted.score(rows) == pytest.approx(again.score(rows), abs=1e-5)
        assert fitted.to_fitted_model().model.n_components == 3

    def test_those_that_are_too_light_are_left_out(self) -> None:
        few = 40.0 + np.random.default_rng(0).normal(size=(6, 2))
        rows = np.concatenate((self.ROWS, few))
        full = GaussianMixture(4, random_state=0).fit(rows)
        assert full.weights_.min() < 0.02
        fitted = GaussianMixture(4, random_state=0, least_weight=0.02).fit(rows)
        assert (fitted.n_components_, fitted.n_pruned_, fitted.n_merged_) == (3, 1, 0)
        assert fitted.weights_.min() > 0.02

    def test_a_warm_start_goes_on_with_what_is_left(self) -> None:
        rows = self.ROWS
        fitted = self.crowded(least_distance=0.5, warm_start=True).fit(rows)
        before = fitted.lower_bound_
        # And again, when the fit before left none out.
        for _ in range(2):
            assert fitted.fit(rows).n_components_ == 3
            assert fitted.lower_bound_ >= before - 1e-9

    def test_a_warm_start_goes_on_from_a_stream(self) -> None:
        fitted = GaussianMixture(3, warm_start=True, random_state=0).partial_fit(self.ROWS)
        assert fitted.fit(self.ROWS).n_components_ == 3

    def test_a_fit_that_cannot_go_on_with_what_is_left_stays_as_it_is(self) -> None:
        model, fitted = GaussianMixtureModel(5, 2), self.crowded().fit(self.ROWS).to_fitted_model()
        whole = fit(model, TotalOfRows(model, self.ROWS), fitted.parameters, Stopping(1e-3, 1))

        def collapses(fewer: Mixture, start: Parameters) -> Fit:
            assert fewer.n_components == len(start["weights"]) < 5
            raise CollapsedComponent("it shrank onto a value")

        before = Simplified(model, fitted.parameters, whole)
        assert simplified(Simplification(least_distance=0.5), before, collapses) is before

    def test_nothing_is_left_out_unless_asked_for(self) -> None:
        fitted = self.crowded().fit(self.ROWS)
        assert (fitted.n_components_, fitted.n_pruned_, fitted.n_merged_) == (5, 0, 0)

    def test_labels_and_streams_keep_their_components(self) -> None:
        rows = self.ROWS
        with pytest.raises(CallerError, match="components that labels name cannot be pruned"):
            self.crowded(least_weight=0.1).fit(rows, admissible=np.ones((len(rows), 5), dtype=bool))
        with pytest.raises(CallerError, match="not pruned or merged"):
            self.crowded(least_weight=0.1).partial_fit(rows)

    @pytest.mark.parametrize("options", [{"least_weight": 1.0}, {"least_weight": -0.1}, {"least_distance": -1.0}])
    def test_what_is_out_of_range_is_named(self, options: dict[str, float]) -> None:
        with pytest.raises(CallerError, match=next(iter(options))):
            self.crowded(**options).fit(self.ROWS)


class TestPriorsByName:
    def test_weak_is_the_prior_about_the_moments_of_the_rows(self) -> None:
        rows = blobs() * [1.0, 30.0, 0.1, 2.0] + [5.0, -200.0, 0.0, 3.0]
        weak = GaussianMixturePrior.weakly_informative(3, rows.mean(axis=0).tolist(), rows.var(axis=0).tolist())
        named, given = (GaussianMixture(3, prior=prior, random_state=0).fit(rows) for prior in ("weak", weak))
        np.testing.assert_allclose(named.means_, given.means_, rtol=1e-9)
        np.testing.assert_allclose(named.covariances_, given.covariances_, rtol=1e-9)
        unlike = GaussianMixture(3, random_state=0).fit(rows)
        assert np.abs(unlike.covariances_ / named.covariances_ - 1).max() > 1e-3

    def test_none_is_maximum_likelihood(self) -> None:
        named, without = (GaussianMixture(3, prior=prior, random_state=0).fit(blobs()) for prior in ("none", None))
        np.testing.assert_array_equal(named.means_, without.means_)

    @pytest.mark.parametrize("estimator", [GaussianMixture(2, prior="strong"), MixedMixture(2, prior="strong")])
    def test_another_name_is_refused_with_those_that_there_are(self, estimator: Any) -> None:
        with pytest.raises(CallerError, match=r"no prior 'strong'.*'weak', 'none'"):
            estimator.fit(blobs())
