"""The estimators of mixed tables, from a table of mixed kinds to what it says of missing cells."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from fed_em import LatentClass, MixedMixture, load_model, save_model
from fed_em.alignment import align
from fed_em.columns import ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.errors import CallerError, CollapsedComponent, FedEmError
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.model_file import FittedModel
from tests.fed_em.test_mixed_mixture import SCHEMA, blanked, mixed, parameters_of

ROWS = blanked(mixed().sample(parameters_of(), 600, np.random.default_rng(5))[0])
TABLE = SCHEMA.decode(ROWS)
OPTIONS: dict[str, Any] = {"schema": SCHEMA, "n_init": 4, "random_state": 0}


@pytest.fixture(scope="module")
def fitted() -> MixedMixture:
    return MixedMixture(2, **OPTIONS).fit(TABLE)


class TestFit:
    def test_it_finds_the_components(self, fitted: MixedMixture) -> None:
        assert fitted.converged_
        assert np.diff(fitted.lower_bounds_).min() > -1e-11
        assert (np.diff(fitted.weights_) <= 0).all(), "heaviest first"
        found = align(mixed(), parameters_of(), mixed(), fitted.parameters_)
        assert found.order.tolist() == [1, 0]
        assert found.distances.max() < 0.05
        assert (fitted.n_collapsed_, fitted.n_not_finite_, fitted.n_pruned_, fitted.n_merged_) == (0, 0, 0, 0)

    def test_what_is_fitted_is_named_by_column(self, fitted: MixedMixture) -> None:
        assert fitted.means_.shape == (2, 2)
        assert {name: array.shape for name, array in fitted.level_probabilities_.items()} == {
            "colour": (2, 3),
            "ward": (2, 2),
        }
        assert set(fitted.success_probabilities_) == {"smoker", "insured"}
        np.testing.assert_allclose(fitted.rates_["visits"], [2.0, 6.0], atol=0.5)
        assert fitted.n_features_in_ == 7
        assert fitted.feature_names_in_.tolist() == list(SCHEMA.names)

    def test_frames_mappings_and_rows_are_one_table(self, fitted: MixedMixture) -> None:
        for table in (pd.DataFrame(TABLE), pd.DataFrame(TABLE).convert_dtypes()):
            again = MixedMixture(2, **OPTIONS).fit(table)
            np.testing.assert_array_equal(again.means_, fitted.means_)
            np.testing.assert_array_equal(again.predict(table), fitted.predict(TABLE))

    def test_labels_of_fit_predict_are_those_of_predict(self, fitted: MixedMixture) -> None:
        np.testing.assert_array_equal(MixedMixture(2, **OPTIONS).fit_predict(TABLE), fitted.predict(TABLE))

    def test_a_schema_is_inferred(self) -> None:
        model = MixedMixture(2, n_init=1, random_state=0).fit(TABLE)
        assert [column.kind for column in model.schema_.columns] == [column.kind for column in SCHEMA.columns]

    @pytest.mark.slow
    @pytest.mark.parametrize("structure", ["full", pytest.param("tied", marks=pytest.mark.slow), "diag", "spherical"])
    @pytest.mark.parametrize("prior", ["weak", None])
    def test_the_objective_never_falls(self, structure: Any, prior: str | None) -> None:
        """One start: a fit tells of the bounds of its best one alone."""
        options = {**OPTIONS, "n_init": 1}
        model = MixedMixture(3, covariance_type=structure, prior=prior, tol=1e-9, **options).fit(TABLE)
        assert len(model.lower_bounds_) > 50
        assert np.diff(model.lower_bounds_).min() > -1e-11

    def test_scales_and_origins_do_not_matter(self) -> None:
        moved = ROWS.copy()
        moved[:, 1] = 1e3 * moved[:, 1] + 1e5
        moved[:, 4] = 1e-3 * moved[:, 4] - 7
        near = MixedMixture(2, tol=1e-10, **OPTIONS).fit(TABLE)
        far = MixedMixture(2, tol=1e-10, **OPTIONS).fit(SCHEMA.decode(moved))
        np.testing.assert_allclose((far.means_ - [1e5, -7]) / [1e3, 1e-3], near.means_, atol=1e-5)
        np.testing.assert_allclose(far.predict_proba(SCHEMA.decode(moved)), near.predict_proba(TABLE), atol=1e-5)

    def test_weights_are_repetitions(self) -> None:
        repeats = np.random.default_rng(1).integers(0, 4, 600)
        options = {**OPTIONS, "n_init": 8, "tol": 1e-11}
        weighted = MixedMixture(2, **options).fit(TABLE, sample_weight=repeats)
        repeated = MixedMixture(2, **options).fit(SCHEMA.decode(np.repeat(ROWS, repeats, axis=0)))
        assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, abs=1e-8)
        np.testing.assert_allclose(weighted.means_, repeated.means_, atol=1e-3)

    def test_labels_name_the_components(self) -> None:
        """A tenth of the rows are labelled, and the light component is called 0."""
        rows, labels = mixed().sample(parameters_of(), 600, np.random.default_rng(5))
        complete = SCHEMA.decode(rows)
        for names in ([0, 1], [1, 0]):
            admissible = np.ones((600, 2), dtype=bool)
            admissible[:60] = np.array(names)[labels[:60], np.newaxis] == np.arange(2)
            model = MixedMixture(2, **OPTIONS).fit(complete, admissible=admissible)
            right = np.mean(model.predict(complete) == np.array(names)[labels])
            assert right > 0.95

    def test_few_components_are_left_of_too_many(self) -> None:
        options = {**OPTIONS, "n_init": 1}
        crowded = MixedMixture(5, least_weight=0.06, least_distance=0.12, **options).fit(TABLE)
        assert crowded.n_components_ == len(crowded.weights_) == 5 - crowded.n_pruned_ - crowded.n_merged_
        assert crowded.n_components_ < 5
        assert crowded.weights_.min() >= 0.06
        assert crowded.converged_


class TestFaults:
    @pytest.mark.slow
    def test_starts_that_collapse_are_counted_and_survived(self) -> None:
        """A column with a spike: of the maximum-likelihood starts some shrink onto it, under the prior none."""
        generator = np.random.default_rng(0)
        spiked = np.concatenate(
            (np.zeros((60, 1)), generator.normal(size=(60, 1)), generator.normal(9, 1, size=(60, 1)))
        )
        schema = ColumnSchema((GaussianColumn("x"),))
        likelihood = MixedMixture(3, schema=schema, prior=None, n_init=12, random_state=0, max_iter=3000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                likelihood.fit(spiked)
            except CollapsedComponent:
                assert likelihood.n_collapsed_ == 12
        assert likelihood.n_collapsed_ > 0
        posterior = MixedMixture(3, schema=schema, n_init=12, random_state=0, max_iter=3000).fit(spiked)
        assert posterior.n_collapsed_ == 0
        assert posterior.converged_

    def test_if_all_collapse_the_component_is_named(self) -> None:
        rows = np.zeros((30, 2))
        schema = ColumnSchema((GaussianColumn("x"), GaussianColumn("y")))
        with pytest.raises(CollapsedComponent, match="component"):
            MixedMixture(2, schema=schema, prior=None, random_state=0).fit(rows)
        MixedMixture(2, schema=schema, random_state=0).fit(rows)

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"n_components": 0}, "n_components"),
            ({"n_init": 0}, "n_init"),
            ({"max_iter": 0}, "max_iter"),
            ({"tol": -1.0}, "tol"),
            ({"prior": "strong"}, "strong"),
            ({"prior": 3.0}, "prior"),
            ({"covariance_type": "ful"}, "ful"),
            ({"reg_covar": -1.0}, "covariance_floor"),
            ({"schema": "columns"}, "schema"),
            ({"least_weight": -0.1}, "least_weight"),
            ({"least_distance": -0.1}, "least_distance"),
        ],
    )
    def test_parameters_out_of_range_are_named(self, options: dict[str, Any], named: str) -> None:
        with pytest.raises(ValueError, match=named):
            MixedMixture(**{"n_components": 2, **OPTIONS, **options}).fit(TABLE)

    def test_weights_and_labels_must_fit(self) -> None:
        with pytest.raises(CallerError, match="1 weights"):
            MixedMixture(2, **OPTIONS).fit(TABLE, sample_weight=np.r_[-1.0, np.ones(599)])
        with pytest.raises(CallerError, match="labels are of 3 components"):
            MixedMixture(2, **OPTIONS).fit(TABLE, admissible=np.ones((600, 3), dtype=bool))
        with pytest.raises(CallerError, match="600 records admit no"):
            MixedMixture(2, **OPTIONS).fit(TABLE, admissible=np.zeros((600, 2), dtype=bool))
        with pytest.raises(CallerError, match="cannot be pruned"):
            MixedMixture(2, least_weight=0.1, **OPTIONS).fit(TABLE, admissible=np.ones((600, 2), dtype=bool))

    def test_a_column_without_a_value_is_named(self) -> None:
        with pytest.raises(CallerError, match="'height' holds no value"):
            MixedMixture(2, **OPTIONS).fit({**TABLE, "height": [None] * 600})

    def test_a_level_of_probability_zero_is_an_error_that_names_the_prior(self) -> None:
        schema = ColumnSchema.infer({"a": ["x", "y", "z"], "b": ["p", "q", "p"]})
        table = {"a": ["x", "y"] * 20, "b": ["p", "q"] * 20}
        unseen = {"a": ["z"], "b": ["p"]}
        with pytest.raises(FedEmError, match="use a prior"):
            MixedMixture(2, schema=schema, prior=None, random_state=0).fit(table).score_samples(unseen)
        assert np.isfinite(MixedMixture(2, schema=schema, random_state=0).fit(table).score_samples(unseen)).all()


class TestUse:
    def test_scores_are_of_the_observed_cells(self, fitted: MixedMixture) -> None:
        expected = mixed().log_prob(fitted.parameters_, ROWS)
        np.testing.assert_allclose(fitted.score_samples(TABLE), expected, rtol=1e-10)
        assert fitted.score(TABLE) == pytest.approx(expected.mean())
        assert fitted.bic(TABLE) == pytest.approx(-2 * expected.sum() + mixed().n_free_parameters * np.log(600))
        assert fitted.aic(TABLE) == pytest.approx(-2 * expected.sum() + mixed().n_free_parameters * 2)
        np.testing.assert_allclose(fitted.predict_proba(TABLE).sum(axis=1), 1.0)

    def test_an_anomaly_threshold_leaves_its_share_below(self, fitted: MixedMixture) -> None:
        below = np.mean(fitted.score_samples(TABLE) < fitted.anomaly_threshold(0.05))
        assert below == pytest.approx(0.05, abs=0.002)
        odd = {**{name: [None] for name in TABLE}, "height": [40.0]}
        assert fitted.score_samples(odd)[0] < fitted.anomaly_threshold(0.0)
        for q in (-0.1, 1.1):
            with pytest.raises(CallerError, match="q must be"):
                fitted.anomaly_threshold(q)

    def test_imputed_tables_have_no_hole_and_keep_what_was_there(self, fitted: MixedMixture) -> None:
        done = fitted.impute(TABLE, n_draws=3, random_state=1)
        table = fitted.schema_.decode(done.rows)
        for name, cells in TABLE.items():
            assert all(
                new is not None and (old is None or new == old) for old, new in zip(cells, table[name], strict=True)
            )
        assert done.draws.shape == (3, 600, 7)
        hidden = np.isnan(ROWS[:, 1])
        assert np.abs(done.draws[:, hidden, 1].mean(axis=0) - done.rows[hidden, 1]).mean() < 0.6
        again = fitted.impute(TABLE, n_draws=3, random_state=1)
        np.testing.assert_array_equal(again.draws, done.draws)
        assert not np.array_equal(fitted.impute(TABLE, 3, 2).draws, done.draws)

    def test_samples_are_of_the_mixture(self, fitted: MixedMixture) -> None:
        rows, labels = fitted.sample(20_000)
        fitted.schema_.decode(rows[:10])
        np.testing.assert_allclose(np.bincount(labels) / 20_000, fitted.weights_, atol=0.02)
        np.testing.assert_allclose(rows[:, [1, 4]].mean(axis=0), fitted.weights_ @ fitted.means_, atol=0.05)

    def test_it_can_be_cloned_pickled_and_saved(self, fitted: MixedMixture, tmp_path: Path) -> None:
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.score_samples(TABLE), fitted.score_samples(TABLE))
        with pytest.raises(NotFittedError):
            clone(fitted).predict(TABLE)
        save_model(tmp_path, fitted.to_fitted_model())
        loaded = load_model(tmp_path)
        np.testing.assert_array_equal(loaded.score_samples(ROWS), fitted.score_samples(TABLE))

    def test_a_prior_can_be_given_in_the_units_of_the_table(self) -> None:
        prior = MixedMixturePrior.weakly_informative(SCHEMA, 2, np.nanmean(ROWS, axis=0), np.nanvar(ROWS, axis=0))
        ours = MixedMixture(2, **{**OPTIONS, "prior": prior}).fit(TABLE)
        weak = MixedMixture(2, **OPTIONS).fit(TABLE)
        np.testing.assert_allclose(ours.means_, weak.means_, rtol=1e-9)


def test_densities_per_original_unit_count_observed_cells_only(fitted: MixedMixture) -> None:
    """In scaled coordinates a missing cell has no Jacobian."""
    inner = fitted.to_fitted_model()
    scale = np.array([1.0, 5.0, 1.0, 1.0, 0.2, 1.0, 1.0])
    arrays = dict(fitted.parameters_)
    arrays["means"] = arrays["means"] / scale[[1, 4]]
    arrays["covariances"] = arrays["covariances"] / np.outer(scale[[1, 4]], scale[[1, 4]])
    coordinates = type(inner.coordinates)(np.zeros(7), scale)
    scaled = FittedModel(inner.model, coordinates, inner.columns, type(fitted.parameters_)(arrays), {})
    np.testing.assert_allclose(scaled.score_samples(ROWS), fitted.score_samples(TABLE), rtol=1e-9)


class TestNewRows:
    """Of a model whose schema was inferred from other rows."""

    COUNTS = np.random.default_rng(2).poisson(3.0, 300)

    @pytest.fixture
    def of_counts(self) -> MixedMixture:
        return MixedMixture(1, n_init=1, prior=None).fit({"visits": self.COUNTS, "ward": ["a", "b"] * 150})

    def test_a_count_above_all_of_the_training_rows_is_scored(self, of_counts: MixedMixture) -> None:
        new = {"visits": [3, 60], "ward": ["a", "b"]}
        expected = scipy.stats.poisson(self.COUNTS.mean()).logpmf([3, 60]) + np.log(0.5)
        np.testing.assert_allclose(of_counts.score_samples(new), expected, rtol=1e-9)
        assert of_counts.score_samples(new)[1] < of_counts.anomaly_threshold(0.01)
        of_counts.predict(new)
        assert (of_counts.impute({"visits": [60], "ward": [None]}).rows[0, 0]) == 60

    def test_draws_are_not_cut_at_the_largest_count_that_was_seen(self) -> None:
        schema = ColumnSchema((PoissonColumn("visits", 1.0),))
        fitted = MixedMixture(1, n_init=1, prior=None, schema=schema, random_state=0).fit({"visits": self.COUNTS})
        mean = self.COUNTS.mean()
        # Six standard errors of the mean of 4000 draws: a false alarm in 5·10^8.
        slack = 6 * np.sqrt(mean / 4000)
        assert fitted.sample(4000)[0].mean() == pytest.approx(mean, abs=slack)
        done = fitted.impute({"visits": [None]}, n_draws=4000, random_state=0)
        assert done.rows[0, 0] == np.rint(mean)
        assert done.draws.mean() == pytest.approx(mean, abs=slack)

    def test_what_is_put_in_for_a_count_is_told_unrounded_too(self, of_counts: MixedMixture) -> None:
        done = of_counts.impute({"visits": [None, 2], "ward": ["a", None]})
        np.testing.assert_allclose(done.means[:, 0], [self.COUNTS.mean(), 2])
        assert np.isnan(done.means[:, 1]).all()

    def test_a_level_that_no_training_row_showed_is_refused_with_what_to_do(self, of_counts: MixedMixture) -> None:
        with pytest.raises(CallerError, match="1 values of column 'ward' are none of its 2 levels") as caught:
            of_counts.score_samples({"visits": [3, 4], "ward": ["a", "c"]})
        assert caught.value.remedy == "declare all levels, or leave such cells empty"


class TestLatentClass:
    def test_levels_are_inferred_whatever_they_are(self) -> None:
        generator = np.random.default_rng(0)
        table = {"a": generator.integers(1, 4, 200), "b": generator.choice(["no", "yes"], 200), "c": [0.0, 1.0] * 100}
        model = LatentClass(2, n_init=2, random_state=0).fit(table)
        assert [column.kind for column in model.schema_.columns] == ["categorical"] * 3
        assert model.level_probabilities_["a"].shape == (2, 3)
        array = LatentClass(2, n_init=2, random_state=0).fit(np.stack((table["a"], table["c"]), axis=1))
        assert array.feature_names_in_.tolist() == ["x0", "x1"]
        assert not hasattr(array, "means_")

    def test_it_is_a_mixed_mixture_of_its_own_parameters(self) -> None:
        assert set(LatentClass().get_params()) == set(MixedMixture().get_params()) - {
            "schema",
            "covariance_type",
            "reg_covar",
        }
        clone(LatentClass(3, prior=None))

    def test_records_can_be_weighted_cells_of_a_contingency_table(self) -> None:
        patterns = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
        counts = np.array([30, 6, 5, 9, 8, 7, 4, 31])
        weighted = LatentClass(2, prior=None, tol=1e-12, max_iter=50_000, random_state=0)
        weighted.fit(patterns, sample_weight=counts)
        repeated = clone(weighted).fit(np.repeat(patterns, counts, axis=0))
        assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, abs=1e-8)
