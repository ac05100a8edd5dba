"""Picking components and covariance structure of a mixture, with scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils.validation import check_is_fitted

from fed_em.criteria import BIC, CRITERIA, HELD_OUT, Evidence, best_of, check_criterion
from fed_em.errors import CallerError, CollapsedComponent
from fed_em.fitted_mixture import FittedMixture, RandomState, seed_of
from fed_em.held_out import HeldOut
from fed_em.row_stream import TableStream

Vector = NDArray[np.float64]


class MixtureSearch(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Fits a mixture for every number of components and covariance structure, and keeps the best by one criterion.

    It is to mixtures what `sklearn.model_selection.GridSearchCV` is to models that are scored by cross-validation. `predict`,
    `predict_proba`, `score_samples` and `score` are the best mixture's.

    Parameters:
        estimator: `GaussianMixture`, `MixedMixture` or `LatentClass`; a clone of it is fitted for each candidate.
        n_components: Numbers of components to try.
        covariance_types: Structures to try; None for the estimator's own.
        criterion: 'bic', 'aic', 'icl' or 'held-out' (`fed_em.criteria`). Where several tie, the fewest parameters win.
        held_out: The share of rows that are only scored, in (0, 1); None for a fifth with criterion 'held-out', and none with the
            others. The best candidate is then fitted anew, to all rows.
        random_state: Seed or `numpy.random.RandomState` of which rows are held out.

    Attributes:
        best_estimator_: The best mixture, fitted.
        best_index_: Its place in `results_`.
        best_params_: Its `n_components`, and `covariance_type` if several were tried.
        results_: By name, one value for each candidate, as data frames take: `n_components`, `covariance_type`, `n_parameters`,
            `log_likelihood`, `bic`, `aic`, `icl`, `held_out` (nats a row), `converged`. NaN where a component collapsed.
    """

    def __init__(
        self,
        estimator: FittedMixture,
        n_components: Sequence[int] = (1, 2, 3, 4, 5, 6),
        *,
        covariance_types: Sequence[str] | None = None,
        criterion: str = BIC,
        held_out: float | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.n_components = n_components
        self.covariance_types = covariance_types
        self.criterion = criterion
        self.held_out = held_out
        self.random_state = random_state

    def fit(self, X: Any, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit all candidates to a table in memory and keep the best.

        Args:
            X: As the estimator takes it; no `open_table`'s.
            y: Ignored.
            sample_weight: `(n,)`, at least 0; None for ones.

        Raises:
            CallerError: a parameter is out of its range, the table does not fit, or every candidate collapsed.
        """
        check_criterion(self.criterion)
        if isinstance(X, TableStream):
            raise CallerError(
                "a search is over tables in memory", remedy="read it, or use `fed-em fit` with a [selection]"
            )
        held_out, settings = self._held_out(), self._settings()
        fitted: list[FittedMixture | None] = []
        evidence: list[Evidence | None] = []
        for setting in settings:
            weights = self._weights(held_out, X, sample_weight)
            try:
                one = clone(self.estimator).set_params(**setting).fit(X, y, sample_weight=weights)
            except CollapsedComponent:
                fitted.append(None)
                evidence.append(None)
                continue
            fitted.append(one)
            evidence.append(one.evidence(X, sample_weight, held_out))
        self.best_index_ = best_of(self.criterion, evidence)
        self.best_params_ = settings[self.best_index_]
        self.results_ = _results(settings, fitted, evidence)
        best = fitted[self.best_index_]
        assert best is not None
        again = held_out is not None
        self.best_estimator_: FittedMixture = clone(best).fit(X, y, sample_weight) if again else best
        return self

    def _settings(self) -> list[dict[str, Any]]:
        structures: Sequence[str | None] = (None,) if self.covariance_types is None else tuple(self.covariance_types)
        of_structure = ({} if one is None else {"covariance_type": one} for one in structures)
        settings = [{"n_components": k, **more} for more, k in product(of_structure, self.n_components)]
        if not settings:
            raise CallerError("there is nothing to search", remedy="give n_components, such as (1, 2, 3)")
        return settings

    def _held_out(self) -> HeldOut | None:
        share = 0.2 if self.held_out is None and self.criterion == HELD_OUT else self.held_out
        return None if share is None else HeldOut(share, seed_of(self.random_state).to_bytes(8, "little"))

    @staticmethod
    def _weights(held_out: HeldOut | None, X: Any, sample_weight: ArrayLike | None) -> ArrayLike | None:
        """Weights that leave out held-out rows. All rows are still looked at for the levels of their columns."""
        if held_out is None:
            return sample_weight
        n = _n_rows(X)
        weights = np.ones(n) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64).copy()
        weights[held_out.of(n)] = 0.0
        return weights

    def predict(self, X: Any) -> NDArray[np.int64]:
        """The most probable component of each row, `(n,)`."""
        return self._best.predict(X)

    def predict_proba(self, X: Any) -> Vector:
        """Posterior probability of each component for each row, `(n, K)`."""
        return self._best.predict_proba(X)

    def score_samples(self, X: Any) -> Vector:
        """Log density of each row, `(n,)`, in nats."""
        return self._best.score_samples(X)

    def score(self, X: Any, y: object = None) -> float:
        """Mean log density of the rows, in nats; `y` is ignored."""
        return self._best.score(X, y)

    @property
    def _best(self) -> FittedMixture:
        check_is_fitted(self)
        return self.best_estimator_


def _n_rows(X: Any) -> int:
    """Of an array, a data frame, or a mapping of names to cells."""
    return len(next(iter(X.values()))) if isinstance(X, dict) else len(X)


def _results(
    settings: Sequence[dict[str, Any]], fitted: Sequence[FittedMixture | None], evidence: Sequence[Evidence | None]
) -> dict[str, NDArray[Any]]:
    nan = float("nan")
    columns: dict[str, list[Any]] = {name: [one.get(name) for one in settings] for name in settings[0]}
    columns["n_parameters"] = [nan if one is None else one.n_free_parameters for one in evidence]
    columns["log_likelihood"] = [nan if one is None else one.log_likelihood for one in evidence]
    for name in CRITERIA:
        values = [None if one is None else one.value(name) for one in evidence]
        columns[name.replace("-", "_")] = [nan if value is None else value for value in values]
    columns["converged"] = [one is not None and bool(getattr(one, "converged_", False)) for one in fitted]
    return {name: np.array(values) for name, values in columns.items()}
