"""Estimators of mixtures over mixed columns, in scikit-learn's manner: `MixedMixture` and `LatentClass`."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fed_em.alignment import canonical_order, reordered
from fed_em.columns import ColumnSchema, Table
from fed_em.coordinates import Coordinates
from fed_em.covariance import CovarianceStructure
from fed_em.description import check_real, check_whole_number
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.em import Fit, Stopping
from fed_em.em import fit as run_em
from fed_em.errors import CallerError, CollapsedComponent, FedEmError
from fed_em.imputation import Imputation, impute
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.mixed_start import (
    ColumnMoments,
    embedded,
    random_responsibilities,
    responsibilities_about,
    start_from_responsibilities,
)
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em.pruning import merge, prune
from fed_em.records import Records
from fed_em.step_size import StepSize, step_size_of
from fed_em.stepwise import RunningStatistics, StepwiseTotal
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]
RandomState = int | np.random.RandomState | None

WEAK = "weak"


class MixedMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Mixture over Gaussian, categorical, Bernoulli and Poisson columns by EM; any cell may be missing at random.

    Tables are mappings of column names to cells, data frames, or arrays `(n, D)`. A missing cell is None, NaN or
    pandas' NA.

    The default prior (`MixedMixturePrior.weakly_informative`) is that of Fraley and Raftery (2007) for Gaussian columns and one
    pseudo-record for the others. It bounds the likelihood, so no start collapses onto single values; `prior=None` is
    maximum likelihood, in which starts may, and are counted.

    Parameters:
        n_components: K, at least 1.
        schema: The columns; None to infer them from the table, where no column is then taken for a count.
        covariance_type: 'full', 'tied', 'diag' or 'spherical', of the Gaussian columns.
        prior: 'weak', a `MixedMixturePrior` in the units of the table, or None.
        tol: Converged when the objective changes by less than this, in nats a record; at least 0.
        reg_covar: Added to every variance; at least 0. Above 0 the objective may fall by as little.
        max_iter: EM iterations at most, of each start; at least 1.
        n_init: Number of random starts, of which the best is kept. By turns they are about random rows far from each other, and
            from random responsibilities.
        least_weight: Components of less weight are left out of the best fit, which then goes on; in [0, 1).
        least_distance: Components nearer than this Bhattacharyya distance are merged, likewise; at least 0.
        step_size: Of `partial_fit`: `DecayingStep`, `ConstantStep` or its number in (0, 1]; None for `DecayingStep()`.
        random_state: Seed or `numpy.random.RandomState` of the starts, of `sample` and of draws.

    Attributes:
        schema_: The columns.
        n_components_: K of the fit, after pruning and merging.
        n_pruned_, n_merged_: Components that were left out and merged.
        parameters_: The fitted `Parameters` of `MixedMixtureModel`, in the units of the table.
        weights_: `(K,)`; components are in descending order of weight, ties in ascending order of mean, unless labels
            were given, whose numbers they keep.
        means_, covariances_: Of the Gaussian columns, `(K, G)` and as scikit-learn's; absent without such columns.
        level_probabilities_: By categorical column, `(K, L)`.
        success_probabilities_, rates_: By Bernoulli and Poisson column, `(K,)`.
        converged_, n_iter_: Of the best start, or of what went on from it with fewer components.
        lower_bounds_: Its (log-likelihood + log prior) / records before every M-step.
        lower_bound_: The last of them.
        n_collapsed_: Starts that ended in a singular covariance.
        n_not_finite_: Starts that ended because an objective or a density was no number.
        log_densities_: Log-densities of the training records, ascending, `(n,)`, in nats; labels are not counted.
        n_features_in_: D.
        feature_names_in_: `(D,)`.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        schema: ColumnSchema | None = None,
        covariance_type: CovarianceStructure = "full",
        prior: MixedMixturePrior | str | None = WEAK,
        tol: float = 1e-6,
        reg_covar: float = 0.0,
        max_iter: int = 1000,
        n_init: int = 10,
        least_weight: float = 0.0,
        least_distance: float = 0.0,
        step_size: StepSize | float | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.n_components = n_components
        self.schema = schema
        self.covariance_type = covariance_type
        self.prior = prior
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.least_weight = least_weight
        self.least_distance = least_distance
        self.step_size = step_size
        self.random_state = random_state

    def fit(
        self,
        X: Table,
        y: object = None,  # noqa: ARG002  scikit-learn's signature
        sample_weight: ArrayLike | None = None,
        admissible: ArrayLike | None = None,
    ) -> Self:
        """Fit to a table.

        Args:
            X: The table, n rows.
            y: Ignored.
            sample_weight: `(n,)`, at least 0; a weight counts as so many equal rows. None for ones.
            admissible: `(n, K)` booleans, whether the component may hold the row: partial labels. None if any may.

        Raises:
            CallerError: a parameter is out of its range or the table does not fit; it is a `ValueError`.
            FedEmError: every start ended in a singular covariance or in no number.
        """
        self._check_parameters()
        if admissible is not None and (self.least_weight > 0 or self.least_distance > 0):
            raise CallerError(
                "components that labels name cannot be pruned or merged",
                remedy="leave least_weight and least_distance at 0",
            )
        schema = self._schema_of(X)
        records = _records(schema.encode(X), sample_weight, admissible)
        records.check_labels(self.n_components)
        moments = ColumnMoments.of(schema, records)
        coordinates = _centring(schema, moments)
        model = self._model(schema, moments, coordinates)
        inner = replace(records, rows=coordinates.apply(records.rows))
        run = self._best(model, inner, check_random_state(self.random_state))
        model, run = self._simplified(model, inner, run)
        if admissible is None:
            run = _in_canonical_order(model, run)
        self._running = RunningStatistics()
        self._keep(model, run, coordinates, records)
        self._warn_unless_converged()
        return self

    def partial_fit(
        self,
        X: Table,
        y: object = None,  # noqa: ARG002  scikit-learn's signature
        sample_weight: ArrayLike | None = None,
        admissible: ArrayLike | None = None,
    ) -> Self:
        """One step of stepwise EM (`fed_em.stepwise`): average a batch into the statistics so far; arguments as `fit`.

        The first batch is the start as well, about rows of it that are far from each other; a weak prior is about its moments, and
        without a `schema` its columns and their levels are all there will be: a later batch that holds others is refused. After `fit` it
        goes on from the fitted parameters, with statistics of its own. Components keep their order, and `log_densities_` are of the last
        batch. With a step size of 1 each call is one iteration of EM.

        Raises:
            CallerError: a parameter is out of its range or the table does not fit; it is a `ValueError`.
            FedEmError: a covariance is singular, or a density no number.
        """
        self._check_parameters()
        step_size = step_size_of(self.step_size)
        if self.least_weight > 0 or self.least_distance > 0:
            raise CallerError(
                "components of a stream are not pruned or merged", remedy="leave least_weight and least_distance at 0"
            )
        schema = self.schema_ if hasattr(self, "_fitted") else self._schema_of(X)
        records = _records(schema.encode(X), sample_weight, admissible)
        model, coordinates, parameters = self._before(schema, records)
        inner = replace(records, rows=coordinates.apply(records.rows))
        total = StepwiseTotal(TotalOfRows(model, inner), step_size, self._running)
        run = run_em(model, total, parameters, Stopping(0.0, 1))
        self._running = total.running
        self._keep(model, run, coordinates, records)
        self.n_iter_ = self._running.steps
        return self

    def _before(self, schema: ColumnSchema, batch: Records) -> tuple[MixedMixtureModel, Coordinates, Parameters]:
        """What the last fit has left to go on from; before there is one, a start from a batch."""
        if hasattr(self, "_fitted"):
            model = self._fitted.model
            assert isinstance(model, MixedMixtureModel)
            return model, self._fitted.coordinates, self._fitted.parameters
        batch.check_labels(self.n_components)
        moments = ColumnMoments.of(schema, batch)
        coordinates = _centring(schema, moments)
        model = self._model(schema, moments, coordinates)
        inner = replace(batch, rows=coordinates.apply(batch.rows))
        random_state = check_random_state(self.random_state)
        self._running = RunningStatistics()
        return model, coordinates, self._start(model, inner, embedded(schema, inner.rows), 0, random_state)

    def fit_predict(
        self,
        X: Table,
        y: object = None,
        sample_weight: ArrayLike | None = None,
        admissible: ArrayLike | None = None,
    ) -> NDArray[np.int64]:
        """Fit to a table and give the most probable component of each row, `(n,)`, labels not counted; as `fit`."""
        return self.fit(X, y, sample_weight, admissible).predict(X)

    def _schema_of(self, X: Table) -> ColumnSchema:
        if self.schema is not None and not isinstance(self.schema, ColumnSchema):
            raise CallerError(f"schema must be a ColumnSchema or None, not {type(self.schema).__name__}")
        return ColumnSchema.infer(X) if self.schema is None else self.schema

    def _check_parameters(self) -> None:
        check_whole_number("n_components", self.n_components, 1)
        check_whole_number("max_iter", self.max_iter, 1)
        check_whole_number("n_init", self.n_init, 1)
        check_real("tol", self.tol, 0.0)
        check_real("least_weight", self.least_weight, 0.0)
        check_real("least_distance", self.least_distance, 0.0)
        if isinstance(self.prior, str) and self.prior != WEAK:
            raise CallerError(f"no prior '{self.prior}'", remedy=f"give '{WEAK}', a MixedMixturePrior, or None")

    def _model(self, schema: ColumnSchema, moments: ColumnMoments, coordinates: Coordinates) -> MixedMixtureModel:
        prior = self.prior
        if isinstance(prior, str):
            prior = MixedMixturePrior.weakly_informative(schema, self.n_components, moments.mean, moments.variance)
        model = MixedMixtureModel(self.n_components, schema, self.covariance_type, self.reg_covar, prior)
        if prior is None or model.gaussian is None:
            return model
        of_gaussian = Coordinates(coordinates.location[schema.gaussian], coordinates.scale[schema.gaussian])
        return replace(model, prior=prior.in_coordinates(of_gaussian))

    def _best(self, model: MixedMixtureModel, records: Records, random_state: np.random.RandomState) -> Fit:
        """EM from every start; the run with the greatest objective, where several are equal the first."""
        self.n_collapsed_ = self.n_not_finite_ = 0
        runs: list[Fit] = []
        fault: FedEmError | None = None
        points = embedded(model.schema, records.rows)
        for number in range(self.n_init):
            start = self._start(model, records, points, number, random_state)
            try:
                runs.append(self._run(model, records, start))
            except CallerError:
                raise
            except CollapsedComponent as error:
                self.n_collapsed_ += 1
                fault = error
            except FedEmError as error:
                self.n_not_finite_ += 1
                fault = error
        if not runs and fault is not None:
            raise fault
        return max(runs, key=_objective)

    def _start(
        self,
        model: MixedMixtureModel,
        records: Records,
        points: Vector,
        number: int,
        random_state: np.random.RandomState,
    ) -> Parameters:
        n, k = len(records), model.n_components
        if number % 2 == 0 and k <= n:
            centres, _ = kmeans_plusplus(points, k, random_state=random_state)
            responsibilities = responsibilities_about(points, centres)
        else:
            responsibilities = random_responsibilities(n, k, random_state)
        return start_from_responsibilities(model, responsibilities, records)

    def _run(self, model: MixedMixtureModel, records: Records, start: Parameters) -> Fit:
        return run_em(model, TotalOfRows(model, records), start, Stopping(self.tol, self.max_iter))

    def _simplified(self, model: MixedMixtureModel, records: Records, run: Fit) -> tuple[MixedMixtureModel, Fit]:
        """The fit without components that are too light or too near, run on until none is."""
        self.n_pruned_ = self.n_merged_ = 0
        while True:
            fewer, parameters = prune(model, run.parameters, self.least_weight)
            self.n_pruned_ += model.n_components - fewer.n_components
            merged, parameters = merge(fewer, parameters, self.least_distance)
            self.n_merged_ += fewer.n_components - merged.n_components
            if merged.n_components == model.n_components:
                return model, run
            assert isinstance(merged, MixedMixtureModel)
            model, run = merged, self._run(merged, records, parameters)

    def _keep(self, model: MixedMixtureModel, run: Fit, coordinates: Coordinates, records: Records) -> None:
        schema, parameters = model.schema, _restored(model, run.parameters, coordinates)
        self.schema_: ColumnSchema = schema
        self.n_components_ = model.n_components
        self.parameters_ = parameters
        self.weights_ = parameters["weights"].copy()
        if model.gaussian is not None:
            self.means_, self.covariances_ = parameters["means"].copy(), parameters["covariances"].copy()
        names = np.array(schema.names, dtype=object)
        levels = zip(names[schema.categorical], schema.level_slices, strict=True)
        self.level_probabilities_ = {name: parameters[LEVEL_PROBABILITIES][:, part].copy() for name, part in levels}
        self.success_probabilities_ = _by_column(names[schema.bernoulli], parameters, SUCCESS_PROBABILITIES)
        self.rates_ = _by_column(names[schema.poisson], parameters, RATES)
        self.converged_ = run.converged
        self.n_iter_ = len(run.iterations)
        self.lower_bounds_ = [iteration.objective for iteration in run.iterations]
        self.lower_bound_ = _objective(run)
        self.n_features_in_ = model.n_columns
        self.feature_names_in_ = names
        provenance = {"converged": run.converged, "iterations": self.n_iter_, "lower_bounds": self.lower_bounds_}
        self._fitted = FittedModel(model, coordinates, schema.names, run.parameters, provenance)
        self.log_densities_ = np.sort(self._fitted.score_samples(records.of_positive_weight().rows))

    def _warn_unless_converged(self) -> None:
        if not self.converged_:
            warnings.warn(
                f"EM did not converge in {self.max_iter} iterations; raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=3,
            )

    def to_fitted_model(self) -> FittedModel:
        """The fitted mixture as a `FittedModel`, to be saved or served; its rows are `schema_.encode`'s."""
        check_is_fitted(self)
        return self._fitted

    def _rows(self, X: Table) -> Vector:
        check_is_fitted(self)
        return self.schema_.encode(X)

    def predict_proba(self, X: Table) -> Vector:
        """Posterior probability of each component for each row, given its observed cells, `(n, K)`."""
        rows = self._rows(X)
        return self._fitted.predict_proba(rows)

    def predict(self, X: Table) -> NDArray[np.int64]:
        """The most probable component of each row, `(n,)`."""
        rows = self._rows(X)
        return self._fitted.predict(rows)

    def score_samples(self, X: Table) -> Vector:
        """Log density of the observed cells of each row, `(n,)`, in nats."""
        rows = self._rows(X)
        return self._fitted.score_samples(rows)

    def score(self, X: Table, y: object = None) -> float:  # noqa: ARG002  scikit-learn's signature
        """Mean log density of the rows, in nats; `y` is ignored."""
        return float(self.score_samples(X).mean())

    def bic(self, X: Table) -> float:
        """Bayesian information criterion, −2 log L + p log n; the lower the better."""
        densities = self.score_samples(X)
        return -2.0 * float(densities.sum()) + self._fitted.model.n_free_parameters * math.log(len(densities))

    def aic(self, X: Table) -> float:
        """Akaike information criterion, −2 log L + 2 p; the lower the better."""
        return -2.0 * float(self.score_samples(X).sum()) + 2.0 * self._fitted.model.n_free_parameters

    def anomaly_threshold(self, q: float) -> float:
        """The log-density, in nats, below which a share q in [0, 1] of the training rows lies.

        A row whose `score_samples` is less is as rare as those. Rows that show fewer cells have another scale of
        densities; compare those that show the same.
        """
        check_is_fitted(self)
        check_real("q", q, 0.0)
        if q > 1:
            raise CallerError(f"q must be at most 1, not {q}", remedy="give a share of the rows, such as 0.01")
        return float(np.quantile(self.log_densities_, q))

    def impute(self, X: Table, n_draws: int = 0, random_state: RandomState = None) -> Imputation:
        """Fill the missing cells of a table; `schema_.decode` turns the rows of the result into a table.

        Args:
            X: The table, n rows.
            n_draws: How often to draw the missing cells besides, for multiple imputation.
            random_state: Seed or `numpy.random.RandomState` of the draws.
        """
        rows = self._rows(X)
        check_whole_number("n_draws", n_draws, 0)
        coordinates, model = self._fitted.coordinates, self._fitted.model
        assert isinstance(model, MixedMixtureModel)
        generator = np.random.default_rng(_seed(check_random_state(random_state)))
        inner = impute(model, self._fitted.parameters, coordinates.apply(rows), n_draws, generator)
        restored = np.where(np.isnan(rows), coordinates.restore(inner.rows), rows)
        draws = np.empty(inner.draws.shape)
        for draw, drawn in zip(draws, inner.draws, strict=True):
            draw[...] = np.where(np.isnan(rows), coordinates.restore(drawn), rows)
        return replace(inner, rows=restored, draws=draws)

    def sample(self, n_samples: int = 1) -> tuple[Vector, NDArray[np.int64]]:
        """Draw independent complete rows `(n_samples, D)`, in the coding of `schema_`, and the component of each."""
        check_is_fitted(self)
        check_whole_number("n_samples", n_samples, 1)
        return self._fitted.sample(n_samples, _seed(check_random_state(self.random_state)))


class LatentClass(MixedMixture):
    """Latent class analysis: a mixture over categorical columns alone, whose levels are those of the training table.

    Parameters and attributes are those of `MixedMixture` that apply.
    """

    schema = None
    covariance_type: CovarianceStructure = "full"
    reg_covar = 0.0

    def __init__(
        self,
        n_components: int = 1,
        *,
        prior: MixedMixturePrior | str | None = WEAK,
        tol: float = 1e-6,
        max_iter: int = 1000,
        n_init: int = 20,
        least_weight: float = 0.0,
        least_distance: float = 0.0,
        step_size: StepSize | float | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.n_components = n_components
        self.prior = prior
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.least_weight = least_weight
        self.least_distance = least_distance
        self.step_size = step_size
        self.random_state = random_state

    def _schema_of(self, X: Table) -> ColumnSchema:
        names = [f"x{d}" for d in range(np.shape(X)[1])] if isinstance(X, np.ndarray) else [str(name) for name in X]
        return ColumnSchema.infer(X, dict.fromkeys(names, "categorical"))


def _records(rows: Vector, sample_weight: ArrayLike | None, admissible: ArrayLike | None) -> Records:
    weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    largest = 1.0 if weights is None or not weights.size else float(weights.max())
    return Records(
        rows,
        weights,
        None if admissible is None else np.asarray(admissible),
        largest if math.isfinite(largest) and largest > 0 else 1.0,
    )


def _centring(schema: ColumnSchema, moments: ColumnMoments) -> Coordinates:
    """Gaussian columns about their means; all others as they are."""
    return schema.coordinates(Coordinates(moments.mean[schema.gaussian], np.ones(len(schema.gaussian))))


def _restored(model: MixedMixtureModel, parameters: Parameters, coordinates: Coordinates) -> Parameters:
    if model.gaussian is None:
        return parameters
    return Parameters(
        {**parameters, "means": parameters["means"] + coordinates.location[np.newaxis, model.schema.gaussian]}
    )


def _in_canonical_order(model: MixedMixtureModel, run: Fit) -> Fit:
    return replace(run, parameters=reordered(model, run.parameters, canonical_order(run.parameters)))


def _by_column(names: NDArray[Any], parameters: Parameters, array: str) -> dict[str, Vector]:
    return {name: parameters[array][:, j].copy() for j, name in enumerate(names)}


def _objective(run: Fit) -> float:
    return run.iterations[-1].objective


def _seed(random_state: np.random.RandomState) -> int:
    return int(random_state.randint(np.iinfo(np.int32).max))
