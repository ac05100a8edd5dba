"""`partial_fit` of the estimators: one step of stepwise EM a batch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from fed_em import GaussianMixture, GaussianMixturePrior, LatentClass, MixedMixture
from fed_em.errors import CallerError
from fed_em.step_size import ConstantStep, DecayingStep
from tests.fed_em.test_mixed_estimators import ROWS as MIXED_ROWS
from tests.fed_em.test_mixed_estimators import SCHEMA

GENERATOR = np.random.default_rng(3)
ROWS = np.concatenate((GENERATOR.normal(-2, 1, (300, 3)), GENERATOR.normal(2, 0.5, (200, 3))))[
    GENERATOR.permutation(500)
]
PRIOR = GaussianMixturePrior((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), mean_precision=0.1, degrees_of_freedom=5.0)


@pytest.mark.parametrize(
    ("structure", "prior"), [("full", None), ("tied", PRIOR), ("diag", None), ("spherical", PRIOR)]
)
def test_with_a_step_of_one_a_call_is_an_iteration_of_fit(structure: Any, prior: GaussianMixturePrior | None) -> None:
    options: dict[str, Any] = {"covariance_type": structure, "prior": prior, "random_state": 0, "tol": 0.0}
    stream = GaussianMixture(2, step_size=1.0, **options)
    for number in range(1, 4):
        stream.partial_fit(ROWS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            batch = GaussianMixture(2, max_iter=number, **options).fit(ROWS)
        for name in ("weights_", "means_", "covariances_", "precisions_"):
            assert getattr(stream, name).tobytes() == getattr(batch, name).tobytes()
        np.testing.assert_allclose(stream.lower_bound_, batch.lower_bound_, rtol=1e-12)
        assert stream.n_iter_ == number and not stream.converged_


def test_with_a_step_of_one_a_mixed_call_is_an_iteration_of_em() -> None:
    """Twice from one start: by two calls, and by the fit that goes on until two iterations are over."""
    table = SCHEMA.decode(MIXED_ROWS)
    options: dict[str, Any] = {"schema": SCHEMA, "n_init": 1, "random_state": 0, "tol": 0.0}
    stream = MixedMixture(2, step_size=1.0, **options).partial_fit(table).partial_fit(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        batch = MixedMixture(2, max_iter=2, **options).fit(table)
    order = np.argsort(-stream.weights_)
    for name in stream.parameters_:
        np.testing.assert_array_equal(stream.parameters_[name][order], batch.parameters_[name])


def test_weights_count_as_rows_do_and_labels_are_obeyed() -> None:
    counts = np.arange(len(ROWS)) % 3
    options: dict[str, Any] = {"init_params": "random", "means_init": [[-1.0] * 3, [1.0] * 3], "random_state": 0}
    batch = GaussianMixture(2, **options).partial_fit(ROWS)
    copied, weighted = clone(batch).partial_fit(ROWS), clone(batch).partial_fit(ROWS)
    copied.partial_fit(np.repeat(ROWS, counts, axis=0))
    weighted.partial_fit(ROWS, sample_weight=counts)
    np.testing.assert_allclose(weighted.means_, copied.means_, rtol=1e-9)
    np.testing.assert_array_equal(weighted.log_densities_, np.sort(weighted.score_samples(ROWS[counts > 0])))
    swapped = (ROWS[:, :1] > 0) == [True, False]
    labelled = GaussianMixture(2, random_state=0).partial_fit(ROWS, admissible=swapped)
    assert labelled.means_[0, 0] > 1 > -1 > labelled.means_[1, 0]


def test_many_small_batches_come_near_the_fit_of_all() -> None:
    stream = GaussianMixture(2, step_size=DecayingStep(0.8), random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for turn in range(8):
            for part in np.array_split(np.random.default_rng(turn).permutation(ROWS), 10):
                stream.partial_fit(part)
    whole = GaussianMixture(2, random_state=0, tol=1e-8).fit(ROWS)
    assert whole.score(ROWS) - stream.score(ROWS) < 0.01
    assert stream.n_iter_ == 80 and len(stream.lower_bounds_) == 1


def test_later_batches_may_have_holes_and_single_rows() -> None:
    stream = GaussianMixture(2, random_state=0).partial_fit(ROWS[:50])
    holes = ROWS[50:60].copy()
    holes[::2, 1] = np.nan
    stream.partial_fit(holes).partial_fit(ROWS[60:61])
    assert stream.n_iter_ == 3 and np.isfinite(stream.score_samples(holes)).all()


def test_it_goes_on_from_a_fit_and_a_fit_forgets_it() -> None:
    fitted = GaussianMixture(2, random_state=0).fit(ROWS)
    means = fitted.means_.copy()
    fitted.partial_fit(ROWS)
    assert fitted.n_iter_ == 1
    np.testing.assert_allclose(fitted.means_, means, atol=0.02)
    again = fitted.fit(ROWS)
    np.testing.assert_array_equal(again.means_, means)
    fresh = clone(fitted).partial_fit(ROWS[:100])
    assert fresh.n_iter_ == 1


def test_a_saved_stream_is_a_model_like_any_other() -> None:
    stream = GaussianMixture(2, random_state=0).partial_fit(ROWS)
    np.testing.assert_array_equal(stream.to_fitted_model().score_samples(ROWS), stream.score_samples(ROWS))


@pytest.mark.parametrize("step_size", [0.0, 1.5, "0.7", DecayingStep])
def test_step_sizes_are_checked(step_size: Any) -> None:
    for estimator in (GaussianMixture(2, step_size=step_size), MixedMixture(2, step_size=step_size)):
        with pytest.raises(CallerError, match="step size"):
            estimator.partial_fit(ROWS)


def test_the_first_batch_has_to_make_the_components() -> None:
    with pytest.raises(CallerError, match="fit fewer components"):
        GaussianMixture(3).partial_fit(ROWS[:2])


class TestMixed:
    def test_batches_with_weights_and_labels_come_near_the_truth(self) -> None:
        stream = MixedMixture(2, schema=SCHEMA, step_size=DecayingStep(0.8), random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for turn in range(6):
                for part in np.array_split(np.random.default_rng(turn).permutation(MIXED_ROWS), 6):
                    stream.partial_fit(SCHEMA.decode(part), sample_weight=np.full(len(part), 2.0))
        whole = MixedMixture(2, schema=SCHEMA, n_init=4, random_state=0).fit(SCHEMA.decode(MIXED_ROWS))
        table = SCHEMA.decode(MIXED_ROWS)
        assert whole.score(table) - stream.score(table) < 0.02
        assert len(stream.log_densities_) == 100

    def test_components_keep_their_labels(self) -> None:
        admissible = np.zeros((len(MIXED_ROWS), 2), dtype=bool)
        admissible[:, 0] = True
        stream = MixedMixture(2, schema=SCHEMA, random_state=0).partial_fit(
            SCHEMA.decode(MIXED_ROWS), admissible=admissible
        )
        assert stream.weights_[0] > 0.999, "but for the weak prior's pseudo-record"

    def test_levels_are_those_of_the_first_batch(self) -> None:
        stream = LatentClass(2, random_state=0).partial_fit({"a": ["x", "y"] * 20, "b": ["u", "u", "v", "v"] * 10})
        stream.partial_fit({"a": ["x"], "b": ["v"]})
        with pytest.raises(CallerError, match="'a'"):
            stream.partial_fit({"a": ["z"], "b": ["v"]})
        assert stream.n_iter_ == 2

    def test_a_constant_step_forgets(self) -> None:
        """After a change of the levels' frequencies: the rest of the first batch is 0.5^8 of the average."""
        stream = LatentClass(1, step_size=ConstantStep(0.5), prior=None, random_state=0)
        stream.partial_fit({"a": ["x", "y"] * 20})
        for _ in range(8):
            stream.partial_fit({"a": ["x"] * 40})
        np.testing.assert_allclose(stream.level_probabilities_["a"][0], [1 - 0.5**9, 0.5**9], rtol=1e-9)

    def test_streams_are_not_pruned(self) -> None:
        with pytest.raises(CallerError, match="least_weight"):
            MixedMixture(2, schema=SCHEMA, least_weight=0.1).partial_fit(SCHEMA.decode(MIXED_ROWS))
