"""What estimators of mixtures have in common once they are fitted, and how they take weights and labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fed_em.bootstrap import bootstrap, replicates_of
from fed_em.column_cells import cells_of
from fed_em.columns import ColumnSchema
from fed_em.criteria import Evidence
from fed_em.description import check_real, check_whole_number
from fed_em.divergence import Mixture
from fed_em.em import Fit, Total
from fed_em.errors import CallerError, CollapsedComponent, FedEmError
from fed_em.estimates import Estimates
from fed_em.final_components import Simplification, Simplified, simplified
from fed_em.fit_progress import fit_progress
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.held_out import HeldOut, summed_log_density
from fed_em.imputation import Imputation
from fed_em.model import Rows
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em.partial_labels import checked_components
from fed_em.records import Records, weighted_sum
from fed_em.row_stream import RecordStream, TableStream, TotalOfStream
from fed_em.standard_errors import standard_errors
from fed_em.statistic_products import StatisticProducts
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]
T = TypeVar("T", np.float64, np.int64)
RandomState = int | np.random.RandomState | None


class FittedMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """The part of an estimator that reads its fitted model.

    Attributes:
        log_densities_: Log-densities of the training records, ascending, in nats; labels are not counted.
        log_density_weights_: The weights of these records, in this order; None where all weigh the same.
    """

    _fitted: FittedModel
    log_densities_: Vector
    log_density_weights_: Vector | None
    n_collapsed_: int
    n_not_finite_: int
    n_pruned_: int
    n_merged_: int
    least_weight: float
    least_distance: float
    random_state: RandomState
    progress: bool

    def fit(self, X: Any, y: object = None, sample_weight: Any = None, admissible: Any = None) -> Self:
        """Fit to a table."""
        raise NotImplementedError

    def to_fitted_model(self) -> FittedModel:
        """The fitted mixture, to be saved or served."""
        raise NotImplementedError

    def _rows(self, X: Any) -> Vector:
        """Rows `(n, D)` of a table, in the coding of the fitted model; raises if there is none."""
        raise NotImplementedError

    def _schema_in(self, table: TableStream) -> ColumnSchema:
        """The columns of a table that the fitted model is over; raises if there is no model."""
        raise NotImplementedError

    def fit_predict(
        self,
        X: Any,
        y: object = None,
        sample_weight: ArrayLike | None = None,
        admissible: ArrayLike | None = None,
    ) -> NDArray[np.int64]:
        """Fit to a table and give the most probable component of each row, `(n,)`, labels not counted; as `fit`."""
        return self.fit(X, y, sample_weight, admissible).predict(X)

    def _best_of(
        self, from_start: Callable[[int], Fit], n_starts: int, says: Callable[[str], None] = lambda _: None
    ) -> Fit:
        """The run with the greatest objective, where several are equal the first; runs that cannot go on are counted.

        Args:
            from_start: The run from the start of a number, from 0.
            n_starts: At least 1.
            says: Told in words which start comes.

        Raises:
            FedEmError: no run went on: what the last one ended in.
        """
        self.n_collapsed_ = self.n_not_finite_ = 0
        runs: list[Fit] = []
        fault: FedEmError | None = None
        for number in range(n_starts):
            says(f"start {number + 1} of {n_starts}, on a sample of the rows")
            try:
                runs.append(from_start(number))
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
        return max(runs, key=objective_of)

    @property
    def _simplification(self) -> Simplification:
        return Simplification(plain(self.least_weight), plain(self.least_distance))

    def _check_simplification(self, *, labelled: bool) -> None:
        if self._simplification.wanted and labelled:
            raise CallerError(
                "components that labels name cannot be pruned or merged",
                remedy="leave least_weight and least_distance at 0",
            )

    def _check_stream(self) -> None:
        if self._simplification.wanted:
            raise CallerError(
                "components of a stream are not pruned or merged", remedy="leave least_weight and least_distance at 0"
            )

    def _simplified(self, model: Mixture, run: Fit, go_on: Callable[[Mixture, Parameters], Fit]) -> Simplified:
        """The best run without components that are too light or too near, run on until none is."""
        done = simplified(self._simplification, Simplified(model, run.parameters, run), go_on)
        self.n_pruned_, self.n_merged_ = done.n_pruned, done.n_merged
        return done

    def predict(self, X: Any) -> NDArray[np.int64]:
        """The most probable component of each row, `(n,)`; of `fed_em.open_table`'s tables too, as all that follows."""
        return self._of_blocks(X, FittedModel.predict)

    def predict_proba(self, X: Any) -> Vector:
        """Posterior probability of each component for each row, given its observed cells, `(n, K)`."""
        return self._of_blocks(X, FittedModel.predict_proba)

    def score_samples(self, X: Any) -> Vector:
        """Log density of the observed cells of each row, `(n,)`, in nats."""
        return self._of_blocks(X, FittedModel.score_samples)

    def _of_blocks(self, X: Any, of_rows: Callable[[FittedModel, Vector], NDArray[T]]) -> NDArray[T]:
        """What is found of the rows of a table, block by block where they are read anew, end to end."""
        found = [of_rows(self._fitted, rows) for rows in self._blocks(X)]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _blocks(self, X: Any) -> Iterator[Vector]:
        if not isinstance(X, TableStream):
            yield self._rows(X)
            return
        n_rows = 0
        with fit_progress(None, self.progress) as shown:
            shown.says("rows read")
            for block in X.rows(self._schema_in(X)):
                n_rows += len(block)
                yield block
                shown.passed(len(block))
        if not n_rows:
            raise CallerError("the table has no rows", remedy="give at least one row")

    def score(self, X: Any, y: object = None, sample_weight: ArrayLike | None = None) -> float:  # noqa: ARG002  scikit-learn's signature
        """Mean log density of the rows, in nats; `y` is ignored. Weights as in `fit`: give those of the fit to compare with it."""
        log_likelihood, n = self._log_likelihood(X, sample_weight)
        return log_likelihood / n

    def bic(self, X: Any, sample_weight: ArrayLike | None = None) -> float:
        """Bayesian information criterion, −2 log L + p log n; the lower the better. Weights as in `score`; n is their sum."""
        log_likelihood, n = self._log_likelihood(X, sample_weight)
        return -2.0 * log_likelihood + self._fitted.model.n_free_parameters * math.log(n)

    def aic(self, X: Any, sample_weight: ArrayLike | None = None) -> float:
        """Akaike information criterion, −2 log L + 2 p; the lower the better. Weights as in `score`."""
        return -2.0 * self._log_likelihood(X, sample_weight)[0] + 2.0 * self._fitted.model.n_free_parameters

    def icl(self, X: Any, sample_weight: ArrayLike | None = None) -> float:
        """Integrated completed likelihood of a table in memory, BIC − 2 Σ r log r: components that overlap cost; the lower the better."""
        return self.evidence(X, sample_weight).icl

    def _log_likelihood(self, X: Any, sample_weight: Any) -> tuple[float, float]:
        """Σ w log p of the rows of a table, in nats, and Σ w."""
        blocks: Iterable[Rows | Records]
        if sample_weight is None:
            blocks = self._blocks(X)
        elif isinstance(X, TableStream):
            blocks = stream_of(X, self._schema_in(X), sample_weight, None, 1)
        else:
            blocks = [training_records(self._rows(X), sample_weight, None, 1)]
        total = n = 0.0
        for block in blocks:
            records = Records.of(block).of_positive_weight()
            total += weighted_sum(self._fitted.score_samples(records.rows), records.weights)
            n += records.total_weight
        return total, n

    def evidence(self, X: Any, sample_weight: ArrayLike | None = None, held_out: HeldOut | None = None) -> Evidence:
        """What the rows of a table say of the fit, for all criteria at once.

        Args:
            X: The table, n rows, in memory.
            sample_weight: `(n,)`, at least 0; None for ones.
            held_out: Which rows are scored apart from the others; None if none.

        Raises:
            CallerError: no rows are held out where some should be.
        """
        model, there = self._fitted_to(X, sample_weight, None)
        parameters = self._fitted.parameters
        if held_out is None:
            return Evidence.of(model, model.e_step(parameters, there))
        kept, held = held_out.divide(there)
        if not held.total_weight:
            raise CallerError("no rows were drawn to be held out", remedy="hold out a larger share")
        score = summed_log_density(model, parameters, held) / held.total_weight
        return Evidence.of(model, model.e_step(parameters, kept), score)

    def standard_errors(
        self, X: Any, sample_weight: ArrayLike | None = None, admissible: ArrayLike | None = None
    ) -> Estimates:
        """The fitted parameters with their standard errors, of the table that they were fitted to.

        From outer products of scores (`fed_em.standard_errors`): those of maximum likelihood at the fitted parameters, so fit to
        convergence, with a small `tol`; a prior's part is not in them. `shift` of what is given tells how far from a maximum they are.

        Args:
            X: The table, as in `fit`: in memory, or `open_table`'s.
            sample_weight, admissible: As in `fit`.

        Raises:
            CallerError: the table does not fit, or there are too many parameters (`fed_em.statistic_products.MOST_STATISTICS`).
            FedEmError: a row has no density.
        """
        fitted = self.to_fitted_model()
        model = fitted.model
        assert isinstance(model, Mixture)
        total: Total
        if isinstance(X, TableStream):
            products = StatisticProducts(model)
            stream = stream_of(X, self._schema_in(X), sample_weight, admissible, model.n_components)
            total = TotalOfStream(products, fitted.coordinates, stream)
        else:
            model, records = self._fitted_to(X, sample_weight, admissible)
            products = StatisticProducts(model)
            total = TotalOfRows(products, records)
        errors = standard_errors(products, fitted.parameters, total(fitted.parameters).statistics)
        return Estimates.of(replace(fitted, errors=errors))

    def bootstrap(
        self,
        X: Any,
        n_replicates: int = 50,
        sample_weight: ArrayLike | None = None,
        admissible: ArrayLike | None = None,
        random_state: RandomState = None,
    ) -> Estimates:
        """The fitted parameters with standard errors by the bootstrap: the spread of fits to resampled rows (`fed_em.bootstrap`).

        Fits to replicates start from this one. `shift` of what is given is how far their mean is from it, in standard errors.

        Args:
            X: The table that it was fitted to, in memory.
            n_replicates: At least 2; the errors are off by 1 / √(2 · n_replicates), relative to them.
            sample_weight, admissible: As in `fit`.
            random_state: Seed or `numpy.random.RandomState` of how often rows count.

        Raises:
            CallerError: the table does not fit, or is one of `fed_em.open_table`'s; or a component collapsed in all replicates but one.
        """
        if isinstance(X, TableStream):
            raise CallerError(
                "a bootstrap goes over its rows some thousand times, and takes a table in memory",
                remedy="read the table, or a sample of it; `standard_errors` takes it as it is",
            )
        check_whole_number("n_replicates", plain(n_replicates), 2)
        model, records = self._fitted_to(X, sample_weight, admissible)
        replicates = replicates_of(model, plain(n_replicates), seed_of(random_state).to_bytes(8, "little"))
        fitted, n = self.to_fitted_model(), records.total_weight
        spread = bootstrap(replicates, TotalOfRows(replicates, records), fitted.parameters, n)
        return Estimates.of(replace(fitted, errors=spread.standard_errors(fitted.parameters)))

    def _fitted_to(
        self, X: Any, sample_weight: ArrayLike | None, admissible: ArrayLike | None
    ) -> tuple[Mixture, Records]:
        """The fitted model, which may see missing cells if there are any, and the records of a table in its coordinates."""
        rows, model = self._rows(X), self._fitted.model
        assert isinstance(model, Mixture)
        records = training_records(rows, sample_weight, admissible, model.n_components)
        if isinstance(model, GaussianMixtureModel) and np.isnan(records.rows).any():
            model = replace(model, missing=True)
        return model, replace(records, rows=self._fitted.coordinates.apply(records.rows))

    def anomaly_threshold(self, q: float) -> float:
        """The least log-density of a training row, in nats, that a share q in [0, 1] of all rows' weight is at or below.

        A row whose `score_samples` is less is as rare as those. Rows that show fewer cells have another scale of
        densities; compare those that show the same.
        """
        check_is_fitted(self)
        check_real("q", q, 0.0)
        if q > 1:
            raise CallerError(f"q must be at most 1, not {q}", remedy="give a share of the rows, such as 0.01")
        weights = np.ones(len(self.log_densities_)) if self.log_density_weights_ is None else self.log_density_weights_
        up_to = np.cumsum(weights)
        # Sums of weights are rounded: a row that reaches the share but for that is meant.
        place = np.searchsorted(up_to, q * up_to[-1] * (1 - 1e-12))
        return float(self.log_densities_[place])

    def _keep_log_densities(self, records: Records) -> None:
        records = records.of_positive_weight()
        found = self._fitted.score_samples(records.rows)
        order = np.argsort(found, kind="stable")
        self.log_densities_ = found[order]
        self.log_density_weights_ = None if records.weights is None else records.weights[order]

    def impute(self, X: Any, n_draws: int = 0, random_state: RandomState = None) -> Imputation:
        """Fill the missing cells of a table, n rows.

        Args:
            X: The table, in memory.
            n_draws: How often to draw the missing cells besides, for multiple imputation.
            random_state: Seed or `numpy.random.RandomState` of the draws.

        Raises:
            CallerError: the table is one of `fed_em.open_table`'s: take `impute_blocks`.
        """
        if isinstance(X, TableStream):
            raise CallerError(
                "a filled table is as large as the table, which need not fit into memory",
                remedy="go through it block by block with impute_blocks",
            )
        (filled,) = self.impute_blocks(X, n_draws, random_state)
        return filled

    def impute_blocks(self, X: Any, n_draws: int = 0, random_state: RandomState = None) -> Iterator[Imputation]:
        """As `impute`, of a table of any size: block after block of its rows. What is put in is the same; draws are others."""
        check_is_fitted(self)
        check_whole_number("n_draws", n_draws, 0)
        generator = np.random.default_rng(seed_of(random_state))
        for rows in self._blocks(X):
            yield self._fitted.impute(rows, n_draws, generator)

    def sample(self, n_samples: int = 1) -> tuple[Vector, NDArray[np.int64]]:
        """Draw independent complete rows `(n_samples, D)`, in the coding of the model, and the component of each `(n_samples,)`."""
        check_is_fitted(self)
        check_whole_number("n_samples", plain(n_samples), 1)
        return self._fitted.sample(plain(n_samples), seed_of(self.random_state))


def objective_of(run: Fit) -> float:
    """The last objective, in nats a record; −∞ before any iteration."""
    return run.iterations[-1].objective if run.iterations else -math.inf


def seed_of(random_state: RandomState) -> int:
    """The next seed of a random state."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def plain(value: Any) -> Any:
    """A numpy scalar as Python's own number; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def training_records(rows: Vector, sample_weight: ArrayLike | None, admissible: Any, n_components: int) -> Records:
    """Rows `(n, D)` with weights `(n,)` and labels, where they are given.

    Args:
        rows: The rows.
        sample_weight: At least 0.
        admissible: Booleans `(n, K)`, or cells `(n,)` as `fed_em.partial_labels` reads them.
        n_components: K.

    Raises:
        CallerError: shapes do not fit, or a value is out of its range.
    """
    weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weights is not None and weights.size and not weights.any():
        raise CallerError("every weight in sample_weight is zero", remedy="give at least one row that counts")
    largest = 1.0 if weights is None or not weights.size else float(weights.max())
    return Records(
        rows,
        weights,
        None if admissible is None else _labels(admissible, n_components),
        largest if math.isfinite(largest) and largest > 0 else 1.0,
    )


def _labels(admissible: Any, n_components: int) -> NDArray[Any]:
    flags = np.asarray(admissible)
    if flags.ndim != 1 or flags.dtype == np.bool_:
        return flags
    check_whole_number("n_components", n_components, 1)
    return checked_components("admissible", cells_of(admissible), n_components)


def stream_of(
    table: TableStream, schema: ColumnSchema, sample_weight: object, admissible: object, n_components: int
) -> RecordStream:
    """The records of a table that is not in memory, whose weights and labels are columns of it.

    Raises:
        CallerError: they are not given as the names of columns, or the table lacks one.
    """
    if sample_weight is None and admissible is None:
        return table.rows(schema)
    return table.records(
        schema, _column("sample_weight", sample_weight), _column("admissible", admissible), n_components
    )


def columns_of_rows(table: TableStream, *besides: object) -> tuple[str, ...]:
    """The columns of a table but those named besides."""
    return tuple(name for name in table.names if not any(isinstance(one, str) and one == name for one in besides))


def _column(argument: str, given: object) -> str | None:
    if not isinstance(given, str | None):
        raise CallerError(
            f"{argument} of a table that is not in memory is an array",
            remedy="give the name of a column of the table, or read the table into memory",
        )
    return given
