"""Estimators with scikit-learn's interface. Only this module and `fed_em.mixed_estimators` import scikit-learn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from fed_em.coordinates import Coordinates
from fed_em.covariance import CovarianceStructure, Whitening, covariance_shape
from fed_em.description import check_real, check_whole_number, nearest
from fed_em.em import Fit, Iteration, Stopping
from fed_em.em import fit as run_em
from fed_em.errors import CallerError, FedEmError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.step_size import StepSize, step_size_of
from fed_em.stepwise import RunningStatistics, StepwiseTotal
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]

INITIALISATIONS = ("kmeans", "k-means++", "random", "random_from_data")


class GaussianMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Gaussian mixture by EM, interchangeable with `sklearn.mixture.GaussianMixture`.

    From the same start both take the same steps, up to rounding. Two differences: a prior can be given, and a
    start from single rows ('k-means++', 'random_from_data') is a distribution here, whose weights sum to 1
    and whose tied covariance counts those rows only. scikit-learn's weights sum to K/n there, which moves the
    first of `lower_bounds_`, and its tied covariance counts every row. And cells may be missing, NaN: then
    everything is exact where they are missing at random (`fed_em.missing_gaussian`), as long as each column has a
    value, and the starts see the mean of the column in place of a missing value.

    Parameters:
        n_components: K, at least 1.
        covariance_type: 'full', 'tied', 'diag' or 'spherical'.
        tol: Converged when the lower bound changes by less than this; at least 0.
        reg_covar: Added to every variance; at least 0.
        max_iter: EM iterations at most; 0 keeps the start.
        n_init: Number of starts, of which the best is kept.
        init_params: 'kmeans', 'k-means++', 'random' or 'random_from_data', as in scikit-learn.
        weights_init: `(K,)`, overrides the start's weights.
        means_init: `(K, D)`, overrides the start's means.
        precisions_init: Overrides the start's precisions, in the shape of `precisions_`.
        prior: Conjugate prior in the units of the rows, for MAP estimates; None for maximum likelihood.
        step_size: Of `partial_fit`: `DecayingStep`, `ConstantStep` or its number in (0, 1]; None for `DecayingStep()`.
        random_state: Seed or `numpy.random.RandomState` of the starts and of `sample`.
        warm_start: Continue from the last fit instead of starting anew; then `n_init` counts as 1.
        verbose: 1 or more prints every iteration.

    Attributes:
        weights_: `(K,)`.
        means_: `(K, D)`.
        covariances_: full `(K, D, D)`, tied `(D, D)`, diag `(K, D)`, spherical `(K,)`.
        precisions_: Their inverses, in the same shape.
        precisions_cholesky_: Upper triangular U with precision UUᵀ, or 1/σ.
        converged_: Whether the best start converged; never after `partial_fit`.
        n_iter_: Its number of iterations; after `partial_fit`, of batches.
        lower_bounds_: Its (log-likelihood + log prior) / n before every M-step, in nats a record.
        lower_bound_: The last of them.
        n_features_in_: D.
        feature_names_in_: `(D,)`, if the rows had column names that are strings.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: CovarianceStructure = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        prior: GaussianMixturePrior | None = None,
        step_size: StepSize | float | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.prior = prior
        self.step_size = step_size
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Fit to rows `(n, D)`; `y` is ignored.

        Raises:
            CallerError: a parameter is out of its range or the rows do not fit; it is a `ValueError`.
            FedEmError: a covariance is not positive definite, naming the component.
        """
        self.fit_predict(X, y)
        return self

    def fit_predict(self, X: ArrayLike, y: object = None) -> NDArray[np.int64]:  # noqa: ARG002
        """Fit to rows `(n, D)` and give the most probable component of each, `(n,)`; raises as `fit`."""
        rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=2, ensure_all_finite="allow-nan")
        self._check_parameters(len(rows))
        missing = np.isnan(rows)
        means = _means_of_observed(rows, missing)
        coordinates = Coordinates(means, np.ones(rows.shape[1]))
        model = self._model(coordinates, bool(missing.any()))
        filled = np.where(missing, means, rows)
        warm = self.warm_start and hasattr(self, "converged_")
        random_state = check_random_state(self.random_state)
        runs: list[Fit] = []
        for _ in range(1 if warm else self.n_init):
            start = self._last(coordinates) if warm else self._start(model, coordinates, filled, random_state)
            runs.append(self._run(model, coordinates.apply(rows), start, self._last_iteration if warm else None))
        self._running = RunningStatistics()
        self._keep(model, coordinates, max(runs, key=_objective))
        self._warn_unless_converged()
        return self.predict(X)

    def partial_fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002  scikit-learn's signature
        """One step of stepwise EM (`fed_em.stepwise`): average a batch `(n, D)` into the statistics so far; `y` is ignored.

        The first batch is the start as well, as in `fit`: it needs K rows at least, and a value in each column. After `fit` it goes
        on from the fitted parameters, with statistics of its own. With a step size of 1 each call is one iteration of `fit`.

        Raises:
            CallerError: a parameter is out of its range or the rows do not fit; it is a `ValueError`.
            FedEmError: a covariance is not positive definite, naming the component.
        """
        first = not hasattr(self, "_fitted")
        rows = validate_data(self, X, dtype=np.float64, reset=first, ensure_all_finite="allow-nan")
        step_size = step_size_of(_plain(self.step_size))
        model, coordinates, parameters = self._start_of_stream(rows) if first else self._going_on()
        total = StepwiseTotal(TotalOfRows(model, coordinates.apply(rows)), step_size, self._running)
        run = run_em(model, total, parameters, Stopping(0.0, 1), self._report)
        self._running = total.running
        self._keep(model, coordinates, run)
        self.n_iter_ = self._running.steps
        return self

    def _start_of_stream(self, rows: Vector) -> tuple[GaussianMixtureModel, Coordinates, Parameters]:
        self._check_parameters(len(rows))
        missing = np.isnan(rows)
        means = _means_of_observed(rows, missing)
        coordinates = Coordinates(means, np.ones(rows.shape[1]))
        # Whether later batches miss a cell is not known yet; complete ones are none the worse for it.
        model = self._model(coordinates, missing=True)
        self._running = RunningStatistics()
        random_state = check_random_state(self.random_state)
        return model, coordinates, self._start(model, coordinates, np.where(missing, means, rows), random_state)

    def _going_on(self) -> tuple[GaussianMixtureModel, Coordinates, Parameters]:
        model = self._fitted.model
        assert isinstance(model, GaussianMixtureModel)
        return replace(model, missing=True), self._fitted.coordinates, self._fitted.parameters

    def _check_parameters(self, n_rows: int) -> None:
        check_whole_number("n_components", _plain(self.n_components), 1)
        check_whole_number("max_iter", _plain(self.max_iter), 0)
        check_whole_number("n_init", _plain(self.n_init), 1)
        check_real("tol", _plain(self.tol), 0.0)
        if self.init_params not in INITIALISATIONS:
            remedy = nearest(str(self.init_params), INITIALISATIONS)
            raise CallerError(f"no init_params '{self.init_params}'", remedy=remedy)
        if n_rows < self.n_components:
            raise CallerError(
                f"n_samples = {n_rows} rows cannot make n_components = {self.n_components} components",
                remedy="fit fewer components",
            )

    def _model(self, coordinates: Coordinates, missing: bool) -> GaussianMixtureModel:
        prior = self.prior
        if isinstance(prior, GaussianMixturePrior):
            prior = prior.in_coordinates(coordinates)
        floor = _plain(self.reg_covar)
        return GaussianMixtureModel(
            _plain(self.n_components), coordinates.n_columns, self.covariance_type, floor, prior, missing
        )

    def _last(self, coordinates: Coordinates) -> Parameters:
        """The parameters of the last fit, in other coordinates."""
        means = coordinates.apply(self.means_)
        return Parameters({"weights": self.weights_, "means": means, "covariances": self.covariances_})

    def _start(
        self,
        model: GaussianMixtureModel,
        coordinates: Coordinates,
        rows: Vector,
        random_state: np.random.RandomState,
    ) -> Parameters:
        given: dict[str, Vector] = {}
        if self.weights_init is not None:
            given["weights"] = np.asarray(self.weights_init, dtype=np.float64)
        if self.means_init is not None:
            given["means"] = coordinates.apply(
                _of_shape("means_init", self.means_init, (model.n_components, rows.shape[1]))
            )
        if self.precisions_init is not None:
            given["covariances"] = _inverted("precisions_init", self.precisions_init, model)
        if len(given) < 3:
            responsibilities = self._responsibilities(rows, random_state)
            estimated = model.m_step_of_responsibilities(responsibilities, coordinates.apply(rows))
            given = {**estimated, **given}
        return Parameters(given)

    def _responsibilities(self, rows: Vector, random_state: np.random.RandomState) -> Vector:
        """scikit-learn's starts, drawing the same random numbers in the same order; `(n, K)`."""
        n, k = len(rows), self.n_components
        if self.init_params == "random":
            uniform = random_state.uniform(size=(n, k))
            return np.asarray(uniform / uniform.sum(axis=1, keepdims=True))
        responsibilities = np.zeros((n, k))
        if self.init_params == "kmeans":
            labels = KMeans(n_clusters=k, n_init=1, random_state=random_state).fit(rows).labels_
            responsibilities[np.arange(n), labels] = 1.0
        elif self.init_params == "k-means++":
            _, seeds = kmeans_plusplus(rows, k, random_state=random_state)
            responsibilities[seeds, np.arange(k)] = 1.0
        else:
            seeds = random_state.choice(n, size=k, replace=False)
            responsibilities[seeds, np.arange(k)] = 1.0
        return responsibilities

    def _run(self, model: GaussianMixtureModel, centred: Vector, start: Parameters, previous: Iteration | None) -> Fit:
        if self.max_iter == 0:
            model.validate(start)
            return Fit(start, False, ())
        stopping = Stopping(_plain(self.tol), _plain(self.max_iter))
        return run_em(model, TotalOfRows(model, centred), start, stopping, self._report, previous=previous)

    def _report(self, iteration: Iteration) -> None:
        if self.verbose:
            print(f"iteration {iteration.number}: {iteration.objective:.9f} nats a record")

    def _keep(self, model: GaussianMixtureModel, coordinates: Coordinates, run: Fit) -> None:
        whitening = model.whitening(run.parameters)
        self.weights_ = run.parameters["weights"].copy()
        self.means_ = coordinates.restore(run.parameters["means"])
        self.covariances_ = run.parameters["covariances"].copy()
        self.precisions_ = whitening.inverse()
        self.precisions_cholesky_ = whitening.precisions_cholesky()
        self.converged_ = run.converged
        self.n_iter_ = len(run.iterations)
        self.lower_bound_ = _objective(run)
        self.lower_bounds_ = [iteration.objective for iteration in run.iterations]
        self._last_iteration: Iteration | None = run.iterations[-1] if run.iterations else None
        provenance = {
            "converged": run.converged,
            "iterations": self.n_iter_,
            "lower_bounds": self.lower_bounds_,
        }
        columns = tuple(f"x{d}" for d in range(model.n_columns))
        self._fitted = FittedModel(model, coordinates, columns, run.parameters, provenance)

    def _warn_unless_converged(self) -> None:
        if not self.converged_ and self.max_iter > 0:
            warnings.warn(
                f"EM did not converge in {self.max_iter} iterations; raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=3,
            )

    def to_fitted_model(self, columns: Sequence[str] | None = None) -> FittedModel:
        """The fitted mixture as a `FittedModel`, to be saved or served.

        Args:
            columns: D distinct names; by default `feature_names_in_`, or x0, x1, … if the rows had no names.

        Raises:
            CallerError: the names are not distinct, or not D.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", self._fitted.columns) if columns is None else columns
        return replace(self._fitted, columns=tuple(str(name) for name in names))

    def _rows(self, X: ArrayLike) -> Vector:
        check_is_fitted(self)
        return np.asarray(validate_data(self, X, dtype=np.float64, reset=False, ensure_all_finite="allow-nan"))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """The most probable component of each row `(n, D)`, `(n,)`."""
        rows = self._rows(X)
        return self._fitted.predict(rows)

    def predict_proba(self, X: ArrayLike) -> Vector:
        """Posterior probability of each component for each row `(n, D)`, `(n, K)`."""
        rows = self._rows(X)
        return self._fitted.predict_proba(rows)

    def score_samples(self, X: ArrayLike) -> Vector:
        """Log density of each row `(n, D)`, `(n,)`, in nats."""
        rows = self._rows(X)
        return self._fitted.score_samples(rows)

    def score(self, X: ArrayLike, y: object = None) -> float:  # noqa: ARG002  scikit-learn's signature
        """Mean log density of the rows `(n, D)`, in nats; `y` is ignored."""
        return float(self.score_samples(X).mean())

    def bic(self, X: ArrayLike) -> float:
        """Bayesian information criterion on rows `(n, D)`, −2 log L + p log n; the lower the better."""
        densities = self.score_samples(X)
        return -2.0 * float(densities.sum()) + self._fitted.model.n_free_parameters * math.log(len(densities))

    def aic(self, X: ArrayLike) -> float:
        """Akaike information criterion on rows `(n, D)`, −2 log L + 2 p; the lower the better."""
        return -2.0 * float(self.score_samples(X).sum()) + 2.0 * self._fitted.model.n_free_parameters

    def sample(self, n_samples: int = 1) -> tuple[Vector, NDArray[np.int64]]:
        """Draw independent rows `(n_samples, D)` and the component of each `(n_samples,)`."""
        check_is_fitted(self)
        check_whole_number("n_samples", _plain(n_samples), 1)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        return self._fitted.sample(_plain(n_samples), seed)


def _means_of_observed(rows: Vector, missing: NDArray[np.bool_]) -> Vector:
    """The mean of each column's observed values, `(D,)`."""
    observed = (~missing).sum(axis=0)
    for d in np.flatnonzero(observed == 0):
        raise CallerError(f"column {d} holds no value at all", remedy="leave the column out")
    # As numpy's mean where nothing is missing, so that scikit-learn's numbers are met.
    return np.asarray(np.nanmean(rows, axis=0) if missing.any() else rows.mean(axis=0))


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's own number; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _objective(run: Fit) -> float:
    return run.iterations[-1].objective if run.iterations else -math.inf


def _of_shape(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Vector:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != shape:
        raise CallerError(f"{name} has shape {array.shape}, not {shape}")
    return array


def _inverted(name: str, precisions: ArrayLike, model: GaussianMixtureModel) -> Vector:
    """Covariances of given precisions."""
    k, d = model.n_components, model.n_columns
    array = _of_shape(name, precisions, covariance_shape(model.covariance, k, d))
    try:
        return Whitening.of(model.covariance, array, k, d).inverse()
    except FedEmError as error:
        raise CallerError(f"{name} is not positive definite", remedy="give positive definite precisions") from error
