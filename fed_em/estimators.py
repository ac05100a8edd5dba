"""Gaussian mixtures with scikit-learn's interface. Only estimators (this module, `fed_em.mixed_estimators` and what they have in
common, `fed_em.fitted_mixture`) import scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from fed_em.column_moments import ColumnMoments
from fed_em.columns import ColumnSchema, GaussianColumn
from fed_em.coordinates import Coordinates
from fed_em.covariance import CovarianceStructure, Whitening, covariance_shape
from fed_em.description import check_real, check_whole_number, nearest
from fed_em.divergence import Mixture
from fed_em.em import Fit, Iteration, Stopping, Total
from fed_em.em import fit as run_em
from fed_em.errors import CallerError, FedEmError
from fed_em.final_components import Simplified
from fed_em.fit_progress import FitProgress, fit_progress
from fed_em.fitted_mixture import FittedMixture, columns_of_rows, objective_of, plain, stream_of, training_records
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_start import within_labels
from fed_em.model_file import FittedModel
from fed_em.optimiser import EM, check_optimiser, optimiser_for
from fed_em.parameters import Parameters
from fed_em.priors import NONE, GaussianMixturePrior, check_prior_name
from fed_em.records import Records
from fed_em.row_stream import RecordStream, TableStream, TotalOfStream, survey
from fed_em.rows_start import responsibilities_by_sums
from fed_em.step_size import StepSize, step_size_of
from fed_em.stepwise import RunningStatistics, StepwiseTotal
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]

INITIALISATIONS = ("kmeans", "k-means++", "random", "random_from_data", "sums")


class GaussianMixture(FittedMixture):
    """Gaussian mixture by EM, interchangeable with `sklearn.mixture.GaussianMixture`.

    From the same start both take the same steps, up to rounding. Two differences: a prior can be given, and a
    start from single rows ('k-means++', 'random_from_data') is a distribution here, whose weights sum to 1
    and whose tied covariance counts those rows only. scikit-learn's weights sum to K/n there, which moves the
    first of `lower_bounds_`, and its tied covariance counts every row. And cells may be missing, NaN: then
    everything is exact where they are missing at random (`fed_em.missing_gaussian`), as long as each column has a
    value, and the starts see the mean of the column in place of a missing value.

    Components are in the order of the start, as scikit-learn's are: two fits can differ by it (`fed_em.align`, `fed_em.canonical_order`).

    `fit` also takes `fed_em.open_table`'s tables, which need not fit into memory: unless all of a start is given, starts are
    fitted to a sample of `fed_em.row_stream.SAMPLE_ROWS` rows, and the best goes on over all rows.

    Parameters:
        n_components: K, at least 1.
        covariance_type: 'full', 'tied', 'diag' or 'spherical'.
        tol: Converged when the lower bound changes by less than this; at least 0.
        reg_covar: Added to every variance; at least 0.
        max_iter: EM iterations at most; 0 keeps the start.
        n_init: Number of starts, of which the best is kept.
        init_params: 'kmeans', 'k-means++', 'random' or 'random_from_data', as in scikit-learn; or 'sums', the best of twenty draws
            and a split start after a few rounds together, as sessions start (`fed_em.starts`).
        weights_init: `(K,)`, overrides the start's weights.
        means_init: `(K, D)`, overrides the start's means.
        precisions_init: Overrides the start's precisions, in the shape of `precisions_`.
        prior: For MAP estimates: 'weak' (`GaussianMixturePrior.weakly_informative`, about the moments of the rows), as sessions fit by
            default, or a `GaussianMixturePrior` in the units of the rows. None, or 'none', for maximum likelihood.
        optimiser: 'em', 'squarem' or 'lbfgs' (`fed_em.optimiser`), of `fit`. With EM the steps are scikit-learn's; the others take
            fewer, to an optimum that is usually the same.
        least_weight: Components of less weight are left out of the best fit, which then goes on; in [0, 1).
        least_distance: Components nearer than this Bhattacharyya distance are merged, likewise; at least 0.
        step_size: Of `partial_fit`: `DecayingStep`, `ConstantStep` or its number in (0, 1]; None for `DecayingStep()`.
        random_state: Seed or `numpy.random.RandomState` of the starts and of `sample`.
        warm_start: Continue from the last fit instead of starting anew; then `n_init` counts as 1.
        verbose: 1 or more prints every iteration.
        progress: Whether passes over `open_table`'s tables show a bar; they never do where standard error is no terminal.

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
        n_components_: K of the fit, after pruning and merging.
        n_pruned_, n_merged_: Components that were left out and merged.
        n_collapsed_: Starts of `fit` that ended in a singular covariance.
        n_not_finite_: Starts that ended because an objective or a density was no number.
        log_densities_: Log-densities of the training rows, ascending, `(n,)`, in nats; labels are not counted. Of the
            sample, after a fit to `open_table`'s.
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
        prior: GaussianMixturePrior | str | None = None,
        optimiser: str = EM,
        least_weight: float = 0.0,
        least_distance: float = 0.0,
        step_size: StepSize | float | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        progress: bool = True,
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
        self.optimiser = optimiser
        self.least_weight = least_weight
        self.least_distance = least_distance
        self.step_size = step_size
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.progress = progress

    def fit(
        self,
        X: ArrayLike | TableStream,
        y: object = None,  # noqa: ARG002  scikit-learn's signature
        sample_weight: ArrayLike | None = None,
        admissible: ArrayLike | None = None,
    ) -> Self:
        """Fit to rows `(n, D)`.

        Args:
            X: The rows, or `open_table`'s.
            y: Ignored.
            sample_weight: `(n,)`, at least 0; a weight counts as so many equal rows. None for ones. Of `open_table`'s, the name of
                the column of weights.
            admissible: Partial labels: `(n, K)` booleans, whether the component may hold the row; or `(n,)` cells as in files
                (`fed_em.partial_labels`), such as "0|2". None if any may. Of `open_table`'s, the name of a column of such cells.

        Raises:
            CallerError: a parameter is out of its range or the rows do not fit; it is a `ValueError`.
            FedEmError: every start ended in a covariance that is not positive definite, naming the component, or in no number.
        """
        self._check_simplification(labelled=admissible is not None)
        if isinstance(X, TableStream):
            names = columns_of_rows(X, sample_weight, admissible)
            schema, k = ColumnSchema(tuple(map(GaussianColumn, names))), plain(self.n_components)
            with fit_progress(None, self.progress) as shown:
                stream = stream_of(X, schema, sample_weight, admissible, k)
                self._fit_table(names, shown.watching(stream), shown)
        else:
            rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=2, ensure_all_finite="allow-nan")
            self._check_parameters(len(rows))
            records = training_records(rows, sample_weight, admissible, plain(self.n_components))
            records.check_labels(plain(self.n_components))
            self._fit_records(records)
        self._running = RunningStatistics()
        self._warn_unless_converged()
        return self

    def _fit_records(self, records: Records) -> None:
        means = _means_of_observed(records)
        coordinates = Coordinates(means, np.ones(len(means)))
        model = self._model(coordinates, bool(np.isnan(records.rows).any()), _moments_of(records))
        inner = _inner(coordinates, records)

        def go_on(fewer: Mixture, start: Parameters) -> Fit:
            return self._run(fewer, TotalOfRows(fewer, inner), start, None, self._report)

        self._keep_final(self._simplified(model, self._best(model, coordinates, records), go_on), coordinates)
        self._keep_log_densities(records)

    def _fit_table(self, names: tuple[str, ...], stream: RecordStream, shown: FitProgress) -> None:
        shown.says("moments of the columns, and a sample")
        seen = survey(stream)
        self._check_parameters(seen.n_rows)
        seen.moments.require_values(names)
        self.n_collapsed_ = self.n_not_finite_ = 0
        coordinates = Coordinates(seen.moments.mean, np.ones(stream.n_columns))
        model, previous = self._model(coordinates, seen.has_missing, lambda: seen.moments), None
        if self._warm:
            start, previous = self._last(coordinates), self._last_iteration
        else:
            given = self._given(model, coordinates)
            start = given if len(given) == 3 else self._best(model, coordinates, seen.sample, shown.says).parameters
        shown.says("iteration 1")
        run = self._run(model, TotalOfStream(model, coordinates, stream), start, previous, shown.iterated)
        self.n_features_in_, self.feature_names_in_ = stream.n_columns, np.array(names, dtype=object)

        def go_on(fewer: Mixture, at: Parameters) -> Fit:
            return self._run(fewer, TotalOfStream(fewer, coordinates, stream), at, None, shown.iterated)

        self._keep_final(self._simplified(model, run, go_on), coordinates)
        self._keep_log_densities(seen.sample)

    def _best(
        self,
        model: GaussianMixtureModel,
        coordinates: Coordinates,
        records: Records,
        says: Callable[[str], None] = lambda _: None,
    ) -> Fit:
        """EM over rows in memory from every start; the best run."""
        total = TotalOfRows(model, _inner(coordinates, records))
        if self._warm:
            last = self._last(coordinates)
            return self._best_of(lambda _: self._run(model, total, last, self._last_iteration, self._report), 1)
        filled = replace(records, rows=np.where(np.isnan(records.rows), coordinates.location, records.rows))
        random_state = check_random_state(self.random_state)

        def from_start(_: int) -> Fit:
            start = self._start(model, coordinates, filled, random_state)
            return self._run(model, total, start, None, self._report)

        return self._best_of(from_start, self.n_init, says)

    @property
    def _warm(self) -> bool:
        return bool(self.warm_start and hasattr(self, "converged_"))

    def partial_fit(
        self,
        X: ArrayLike,
        y: object = None,  # noqa: ARG002  scikit-learn's signature
        sample_weight: ArrayLike | None = None,
        admissible: ArrayLike | None = None,
    ) -> Self:
        """One step of stepwise EM (`fed_em.stepwise`): average a batch `(n, D)` into the statistics so far; arguments as `fit`.

        The first batch is the start as well, as in `fit`: it needs K rows at least, and a value in each column. After `fit` it goes
        on from the fitted parameters, with statistics of its own. `log_densities_` are of the last batch. With a step size of 1 each
        call is one iteration of EM.

        Raises:
            CallerError: a parameter is out of its range or the rows do not fit; it is a `ValueError`.
            FedEmError: a covariance is not positive definite, naming the component.
        """
        self._check_stream()
        first = not hasattr(self, "_fitted")
        rows = validate_data(self, X, dtype=np.float64, reset=first, ensure_all_finite="allow-nan")
        step_size = step_size_of(plain(self.step_size))
        n_components = plain(self.n_components) if first else len(self.weights_)
        records = training_records(rows, sample_weight, admissible, n_components)
        model, coordinates, parameters = self._start_from_batch(records) if first else self._going_on()
        inner = replace(records, rows=coordinates.apply(rows))
        total = StepwiseTotal(TotalOfRows(model, inner), step_size, self._running)
        run = run_em(model, total, parameters, Stopping(0.0, 1), self._report)
        self._running = total.running
        self._keep(model, coordinates, run)
        self.n_iter_ = self._running.steps
        self._keep_log_densities(records)
        return self

    def _start_from_batch(self, batch: Records) -> tuple[GaussianMixtureModel, Coordinates, Parameters]:
        self._check_parameters(len(batch))
        batch.check_labels(plain(self.n_components))
        means = _means_of_observed(batch)
        coordinates = Coordinates(means, np.ones(len(means)))
        # Whether later batches miss a cell is not known yet; complete ones are none the worse for it.
        model = self._model(coordinates, True, _moments_of(batch))
        self._running = RunningStatistics()
        filled = replace(batch, rows=np.where(np.isnan(batch.rows), means, batch.rows))
        return model, coordinates, self._start(model, coordinates, filled, check_random_state(self.random_state))

    def _going_on(self) -> tuple[GaussianMixtureModel, Coordinates, Parameters]:
        model = self._fitted.model
        assert isinstance(model, GaussianMixtureModel)
        return replace(model, missing=True), self._fitted.coordinates, self._fitted.parameters

    def _check_parameters(self, n_rows: int) -> None:
        check_whole_number("n_components", plain(self.n_components), 1)
        check_whole_number("max_iter", plain(self.max_iter), 0)
        check_whole_number("n_init", plain(self.n_init), 1)
        check_real("tol", plain(self.tol), 0.0)
        if self.init_params not in INITIALISATIONS:
            remedy = nearest(str(self.init_params), INITIALISATIONS)
            raise CallerError(f"no init_params '{self.init_params}'", remedy=remedy)
        check_optimiser(self.optimiser)
        if isinstance(self.prior, str):
            check_prior_name(self.prior, "a GaussianMixturePrior")
        if n_rows < self.n_components:
            raise CallerError(
                f"n_samples = {n_rows} rows cannot make n_components = {self.n_components} components",
                remedy="fit fewer components",
            )

    def _model(
        self, coordinates: Coordinates, missing: bool, moments: Callable[[], ColumnMoments]
    ) -> GaussianMixtureModel:
        k = plain(self.n_components)
        if self._warm and self._simplification.wanted:  # what it goes on from may have lost components
            k = min(k, self.n_components_)
        prior = None if self.prior == NONE else self.prior
        if isinstance(prior, str):
            seen = moments()
            prior = GaussianMixturePrior.weakly_informative(k, seen.mean.tolist(), seen.variance.tolist())
        if isinstance(prior, GaussianMixturePrior):
            prior = prior.in_coordinates(coordinates)
        floor = plain(self.reg_covar)
        return GaussianMixtureModel(k, coordinates.n_columns, self.covariance_type, floor, prior, missing)

    def _last(self, coordinates: Coordinates) -> Parameters:
        """The parameters of the last fit, in other coordinates."""
        means = coordinates.apply(self.means_)
        return Parameters({"weights": self.weights_, "means": means, "covariances": self.covariances_})

    def _given(self, model: GaussianMixtureModel, coordinates: Coordinates) -> Parameters:
        """The parameters that the caller starts from, as far as they are given."""
        given: dict[str, Vector] = {}
        if self.weights_init is not None:
            given["weights"] = np.asarray(self.weights_init, dtype=np.float64)
        if self.means_init is not None:
            given["means"] = coordinates.apply(
                _of_shape("means_init", self.means_init, (model.n_components, model.n_columns))
            )
        if self.precisions_init is not None:
            given["covariances"] = _inverted("precisions_init", self.precisions_init, model)
        return Parameters(given)

    def _start(
        self,
        model: GaussianMixtureModel,
        coordinates: Coordinates,
        records: Records,
        random_state: np.random.RandomState,
    ) -> Parameters:
        """A start from records without missing cells, in the units of the rows."""
        given = self._given(model, coordinates)
        if len(given) == 3:
            return given
        if self.init_params == "sums":
            seed = int(random_state.randint(2**31 - 1))
            responsibilities = responsibilities_by_sums(model, records, seed)
        else:
            responsibilities = self._responsibilities(records, random_state)
        if records.admissible is not None:
            responsibilities = within_labels(responsibilities, records)
        if records.weights is not None:
            responsibilities = responsibilities * records.weights[:, np.newaxis]
        estimated = model.m_step_of_responsibilities(responsibilities, coordinates.apply(records.rows))
        return Parameters({**estimated, **given})

    def _responsibilities(self, records: Records, random_state: np.random.RandomState) -> Vector:
        """scikit-learn's starts, drawing the same random numbers in the same order; `(n, K)`, without weights."""
        rows, weights = records.rows, records.weights
        n, k = len(rows), self.n_components
        if self.init_params == "random":
            uniform = random_state.uniform(size=(n, k))
            return np.asarray(uniform / uniform.sum(axis=1, keepdims=True))
        responsibilities = np.zeros((n, k))
        if self.init_params == "kmeans":
            means = KMeans(n_clusters=k, n_init=1, random_state=random_state).fit(rows, sample_weight=weights)
            responsibilities[np.arange(n), means.labels_] = 1.0
        elif self.init_params == "k-means++":
            _, seeds = kmeans_plusplus(rows, k, sample_weight=weights, random_state=random_state)
            responsibilities[seeds, np.arange(k)] = 1.0
        else:
            shares = None if weights is None else weights / weights.sum()
            seeds = random_state.choice(n, size=k, replace=False, p=shares)
            responsibilities[seeds, np.arange(k)] = 1.0
        return responsibilities

    def _run(
        self,
        model: Mixture,
        total: Total,
        start: Parameters,
        previous: Iteration | None,
        observe: Callable[[Iteration], None],
    ) -> Fit:
        if self.max_iter == 0:
            model.validate(start)
            return Fit(start, False, ())
        stopping, steps = Stopping(plain(self.tol), plain(self.max_iter)), optimiser_for(self.optimiser, model)
        return run_em(model, total, start, stopping, observe, previous=previous, optimiser=steps)

    def _report(self, iteration: Iteration) -> None:
        if self.verbose:
            print(f"iteration {iteration.number}: {iteration.objective:.9f} nats a record")

    def _keep_final(self, done: Simplified, coordinates: Coordinates) -> None:
        assert isinstance(done.model, GaussianMixtureModel)
        self._keep(done.model, coordinates, done.fit)

    def _keep(self, model: GaussianMixtureModel, coordinates: Coordinates, run: Fit) -> None:
        whitening = model.whitening(run.parameters)
        self.n_components_ = model.n_components
        self.weights_ = run.parameters["weights"].copy()
        self.means_ = coordinates.restore(run.parameters["means"])
        self.covariances_ = run.parameters["covariances"].copy()
        self.precisions_ = whitening.inverse()
        self.precisions_cholesky_ = whitening.precisions_cholesky()
        self.converged_ = run.converged
        self.n_iter_ = len(run.iterations)
        self.lower_bound_ = objective_of(run)
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

    def _schema_in(self, table: TableStream) -> ColumnSchema:
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", table.names)
        if len(names) != self.n_features_in_:
            raise CallerError(f"the table has {len(names)} columns, the rows of the fit had {self.n_features_in_}")
        return ColumnSchema(tuple(GaussianColumn(str(name)) for name in names))


def _moments_of(records: Records) -> Callable[[], ColumnMoments]:
    return lambda: ColumnMoments.of(records.rows, records.weights)


def _inner(coordinates: Coordinates, records: Records) -> Vector | Records:
    inner = replace(records, rows=coordinates.apply(records.rows))
    return inner.rows if inner.bare else inner


def _means_of_observed(records: Records) -> Vector:
    """The mean of each column's observed values, `(D,)`."""
    rows, weights = records.rows, records.weights
    if weights is not None:
        moments = ColumnMoments.of(rows, weights)
        moments.require_values([str(d) for d in range(rows.shape[1])])
        return moments.mean
    missing = np.isnan(rows)
    for d in np.flatnonzero(missing.all(axis=0)):
        raise CallerError(f"column '{d}' holds no value at all", remedy="leave the column out")
    # As numpy's mean where nothing is missing, so that scikit-learn's numbers are met.
    return np.asarray(np.nanmean(rows, axis=0) if missing.any() else rows.mean(axis=0))


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
