"""Estimators of mixtures over mixed columns, in scikit-learn's manner: `MixedMixture` and `LatentClass`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fed_em.column_evidence import ColumnEvidence
from fed_em.column_moments import ColumnMoments
from fed_em.columns import ColumnSchema, Table, evidence_of
from fed_em.coordinates import Coordinates
from fed_em.covariance import CovarianceStructure
from fed_em.description import check_real, check_whole_number
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.divergence import Mixture
from fed_em.em import Fit, Iteration, Stopping, Total
from fed_em.em import fit as run_em
from fed_em.errors import CallerError
from fed_em.final_components import Simplified, in_canonical_order
from fed_em.fit_progress import FitProgress, fit_progress
from fed_em.fitted_mixture import (
    FittedMixture,
    RandomState,
    columns_of_rows,
    objective_of,
    stream_of,
    training_records,
)
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.mixed_start import (
    embedded,
    random_responsibilities,
    responsibilities_about,
    start_from_responsibilities,
)
from fed_em.model_file import FittedModel
from fed_em.optimiser import EM, check_optimiser, optimiser_for
from fed_em.parameters import Parameters
from fed_em.priors import NONE, WEAK, check_prior_name
from fed_em.records import Records
from fed_em.row_stream import RecordStream, TableStream, TotalOfStream, survey
from fed_em.step_size import StepSize, step_size_of
from fed_em.stepwise import RunningStatistics, StepwiseTotal
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]


class MixedMixture(FittedMixture):
    """Mixture over Gaussian, categorical, Bernoulli and Poisson columns by EM; any cell may be missing at random.

    Tables are mappings of column names to cells, data frames, or arrays `(n, D)`. A missing cell is None, NaN or
    pandas' NA. `fit` also takes `fed_em.open_table`'s, which need not fit into memory: starts are fitted to a sample of
    `fed_em.row_stream.SAMPLE_ROWS` rows, and the best goes on over all rows.

    The default prior (`MixedMixturePrior.weakly_informative`) is that of Fraley and Raftery (2007) for Gaussian columns and one
    pseudo-record for the others. It bounds the likelihood, so no start collapses onto single values; `prior=None` is
    maximum likelihood, in which starts may, and are counted.

    Parameters:
        n_components: K, at least 1.
        schema: The columns; None to infer them from the table by the rule of `fed_em.column_evidence`, which `schema_` shows. Rows
            that come later may hold counts greater than any in the table; levels that it did not show are refused, and so is what is
            neither 0 nor 1 in a Bernoulli column.
        covariance_type: 'full', 'tied', 'diag' or 'spherical', of the Gaussian columns.
        prior: 'weak', a `MixedMixturePrior` in the units of the table, or None or 'none' for maximum likelihood.
        tol: Converged when the objective changes by less than this, in nats a record; at least 0.
        reg_covar: Added to every variance; at least 0. Above 0 the objective may fall by as little.
        max_iter: EM iterations at most, of each start; at least 1.
        n_init: Number of random starts, of which the best is kept. By turns they are about random rows far from each other, and
            from random responsibilities.
        optimiser: 'em', 'squarem' or 'lbfgs' (`fed_em.optimiser`), of `fit`.
        least_weight: Components of less weight are left out of the best fit, which then goes on; in [0, 1).
        least_distance: Components nearer than this Bhattacharyya distance are merged, likewise; at least 0.
        step_size: Of `partial_fit`: `DecayingStep`, `ConstantStep` or its number in (0, 1]; None for `DecayingStep()`.
        random_state: Seed or `numpy.random.RandomState` of the starts, of `sample` and of draws.
        progress: Whether passes over `open_table`'s tables show a bar; they never do where standard error is no terminal.

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
        log_densities_: Log-densities of the training records, ascending, `(n,)`, in nats; labels are not counted. Of the
            sample, after a fit to `open_table`'s.
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
        optimiser: str = EM,
        least_weight: float = 0.0,
        least_distance: float = 0.0,
        step_size: StepSize | float | None = None,
        random_state: RandomState = None,
        progress: bool = True,
    ) -> None:
        self.n_components = n_components
        self.schema = schema
        self.covariance_type = covariance_type
        self.prior = prior
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.optimiser = optimiser
        self.least_weight = least_weight
        self.least_distance = least_distance
        self.step_size = step_size
        self.random_state = random_state
        self.progress = progress

    def fit(
        self,
        X: Table | TableStream,
        y: object = None,  # noqa: ARG002  scikit-learn's signature
        sample_weight: ArrayLike | None = None,
        admissible: ArrayLike | None = None,
    ) -> Self:
        """Fit to a table.

        Args:
            X: The table, n rows.
            y: Ignored.
            sample_weight: `(n,)`, at least 0; a weight counts as so many equal rows. None for ones. Of `open_table`'s, the name of
                the column of weights.
            admissible: Partial labels: `(n, K)` booleans, whether the component may hold the row; or `(n,)` cells as in files
                (`fed_em.partial_labels`), such as "0|2". None if any may. Of `open_table`'s, the name of a column of such cells.

        Raises:
            CallerError: a parameter is out of its range or the table does not fit; it is a `ValueError`.
            FedEmError: every start ended in a singular covariance or in no number.
        """
        self._check_parameters()
        self._check_simplification(labelled=admissible is not None)
        if isinstance(X, TableStream):
            with fit_progress(None, self.progress) as shown:
                schema = self._schema_of(lambda: _evidence(X, shown, sample_weight, admissible))
                stream = stream_of(X, schema, sample_weight, admissible, self.n_components)
                self._fit_table(schema, shown.watching(stream), shown)
        else:
            schema = self._schema_of(lambda: evidence_of(X))
            records = training_records(schema.encode(X), sample_weight, admissible, self.n_components)
            records.check_labels(self.n_components)
            self._fit_records(schema, records)
        self._running = RunningStatistics()
        self._warn_unless_converged()
        return self

    def _fit_records(self, schema: ColumnSchema, records: Records) -> None:
        moments = ColumnMoments.of(records.rows, records.weights)
        moments.require_values(schema.names)
        coordinates = _centring(schema, moments)
        model = self._model(schema, moments, coordinates)
        inner = replace(records, rows=coordinates.apply(records.rows))
        run = self._best(model, inner, check_random_state(self.random_state))
        done = self._simplified(model, run, lambda fewer, start: self._run(fewer, TotalOfRows(fewer, inner), start))
        self._keep_final(done, coordinates, records)

    def _fit_table(self, schema: ColumnSchema, stream: RecordStream, shown: FitProgress) -> None:
        shown.says("moments of the columns, and a sample")
        seen = survey(stream)
        seen.moments.require_values(schema.names)
        coordinates = _centring(schema, seen.moments)
        model = self._model(schema, seen.moments, coordinates)
        inner = replace(seen.sample, rows=coordinates.apply(seen.sample.rows))
        start = self._best(model, inner, check_random_state(self.random_state), shown.says)
        shown.says("iteration 1")

        def go_on(fewer: Mixture, at: Parameters) -> Fit:
            return self._run(fewer, TotalOfStream(fewer, coordinates, stream), at, shown.iterated)

        done = self._simplified(model, go_on(model, start.parameters), go_on)
        self._keep_final(done, coordinates, seen.sample)

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
        self._check_stream()
        schema = self.schema_ if hasattr(self, "_fitted") else self._schema_of(lambda: evidence_of(X))
        n_components = self.n_components_ if hasattr(self, "_fitted") else self.n_components
        records = training_records(schema.encode(X), sample_weight, admissible, n_components)
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
        moments = ColumnMoments.of(batch.rows, batch.weights)
        moments.require_values(schema.names)
        coordinates = _centring(schema, moments)
        model = self._model(schema, moments, coordinates)
        inner = replace(batch, rows=coordinates.apply(batch.rows))
        random_state = check_random_state(self.random_state)
        self._running = RunningStatistics()
        return model, coordinates, self._start(model, inner, embedded(schema, inner.rows), 0, random_state)

    def _schema_of(self, evidence: Callable[[], Mapping[str, ColumnEvidence]]) -> ColumnSchema:
        """The schema that is given, or that of what the columns show."""
        if self.schema is not None and not isinstance(self.schema, ColumnSchema):
            raise CallerError(
                f"schema must be a ColumnSchema or None, not {type(self.schema).__name__}",
                remedy="read a file with fed_em.read_schema",
            )
        return ColumnSchema.of_evidence(evidence()) if self.schema is None else self.schema

    def _check_parameters(self) -> None:
        check_whole_number("n_components", self.n_components, 1)
        check_whole_number("max_iter", self.max_iter, 1)
        check_whole_number("n_init", self.n_init, 1)
        check_optimiser(self.optimiser)
        check_real("tol", self.tol, 0.0)
        if isinstance(self.prior, str):
            check_prior_name(self.prior, "a MixedMixturePrior")

    def _model(self, schema: ColumnSchema, moments: ColumnMoments, coordinates: Coordinates) -> MixedMixtureModel:
        prior = None if self.prior == NONE else self.prior
        if isinstance(prior, str):
            prior = MixedMixturePrior.weakly_informative(schema, self.n_components, moments.mean, moments.variance)
        model = MixedMixtureModel(self.n_components, schema, self.covariance_type, self.reg_covar, prior)
        if prior is None or model.gaussian is None:
            return model
        of_gaussian = Coordinates(coordinates.location[schema.gaussian], coordinates.scale[schema.gaussian])
        return replace(model, prior=prior.in_coordinates(of_gaussian))

    def _best(
        self,
        model: MixedMixtureModel,
        records: Records,
        random_state: np.random.RandomState,
        says: Callable[[str], None] = lambda _: None,
    ) -> Fit:
        """EM over rows in memory from every start; the best run."""
        points, total = embedded(model.schema, records.rows), TotalOfRows(model, records)

        def from_start(number: int) -> Fit:
            return self._run(model, total, self._start(model, records, points, number, random_state))

        return self._best_of(from_start, self.n_init, says)

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

    def _run(
        self,
        model: Mixture,
        total: Total,
        start: Parameters,
        observe: Callable[[Iteration], None] = lambda _: None,
    ) -> Fit:
        stopping, steps = Stopping(self.tol, self.max_iter), optimiser_for(self.optimiser, model)
        return run_em(model, total, start, stopping, observe, optimiser=steps)

    def _keep_final(self, done: Simplified, coordinates: Coordinates, records: Records) -> None:
        """Keep what is left, in canonical order; components that labels name stay where they are."""
        done = done if records.admissible is not None else in_canonical_order(done)
        assert isinstance(done.model, MixedMixtureModel)
        self._keep(done.model, done.fit, coordinates, records)

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
        self.lower_bound_ = objective_of(run)
        self.n_features_in_ = model.n_columns
        self.feature_names_in_ = names
        provenance = {"converged": run.converged, "iterations": self.n_iter_, "lower_bounds": self.lower_bounds_}
        self._fitted = FittedModel(model, coordinates, schema.names, run.parameters, provenance)
        self._keep_log_densities(records)

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

    def _schema_in(self, table: TableStream) -> ColumnSchema:  # noqa: ARG002  its columns are those of the fit
        check_is_fitted(self)
        return self.schema_


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
        optimiser: str = EM,
        least_weight: float = 0.0,
        least_distance: float = 0.0,
        step_size: StepSize | float | None = None,
        random_state: RandomState = None,
        progress: bool = True,
    ) -> None:
        self.n_components = n_components
        self.prior = prior
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.optimiser = optimiser
        self.least_weight = least_weight
        self.least_distance = least_distance
        self.step_size = step_size
        self.random_state = random_state
        self.progress = progress

    def _schema_of(self, evidence: Callable[[], Mapping[str, ColumnEvidence]]) -> ColumnSchema:
        seen = evidence()
        return ColumnSchema.of_evidence(seen, dict.fromkeys(seen, "categorical"))


def _evidence(table: TableStream, shown: FitProgress, *besides: object) -> Mapping[str, ColumnEvidence]:
    """What the columns of a table show, without those that hold weights and labels."""
    shown.says("kinds of the columns")
    seen = table.evidence(shown.passed)
    shown.passed_all()
    return {name: seen[name] for name in columns_of_rows(table, *besides)}


def _centring(schema: ColumnSchema, moments: ColumnMoments) -> Coordinates:
    """Gaussian columns about their means; all others as they are."""
    return schema.coordinates(Coordinates(moments.mean[schema.gaussian], np.ones(len(schema.gaussian))))


def _restored(model: MixedMixtureModel, parameters: Parameters, coordinates: Coordinates) -> Parameters:
    if model.gaussian is None:
        return parameters
    return Parameters(
        {**parameters, "means": parameters["means"] + coordinates.location[np.newaxis, model.schema.gaussian]}
    )


def _by_column(names: NDArray[Any], parameters: Parameters, array: str) -> dict[str, Vector]:
    return {name: parameters[array][:, j].copy() for j, name in enumerate(names)}
