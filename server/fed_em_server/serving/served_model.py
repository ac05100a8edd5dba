"""A fitted mixture that is ready for rows: one way for a few of them, another for many.

Dozens of rows go one by one through `fed_em.row_mixture`, which keeps what it has computed of the model and of each pattern of missing
cells; more go through the model's own E-step, which costs half a millisecond and more before the first one and little for each
further one. They meet at some thirty rows (measured: docs/serving.md). Both give the same numbers but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.divergence import Mixture
from fed_em.errors import CallerError, FedEmError, NotEvaluated
from fed_em.imputation import Imputation
from fed_em.model_file import FittedModel
from fed_em.named_cells import NamedCells
from fed_em.row_mixture import RowMixture, RowPosterior

Vector = NDArray[np.float64]

FEW_ROWS = 32

# Where a fit may keep the log-density below which a row is an anomaly, in nats per original unit.
THRESHOLD = "anomaly_threshold"


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A version that can answer. Threads share it.

    Attributes:
        version: Its id.
        fitted: The model.
        threshold: The log-density below which a complete row is an anomaly, in nats; None if there is none.
        columns: Reads and writes cells by name.
    """

    version: str
    fitted: FittedModel
    threshold: float | None
    columns: NamedCells
    _rows: RowMixture

    @classmethod
    def of(cls, version: str, fitted: FittedModel, threshold: float | None = None) -> ServedModel:
        """Prepare a model.

        Args:
            version: Its id.
            fitted: The model.
            threshold: Of anomalies; None for that in the model's provenance, if it has one.

        Raises:
            CallerError: it is none of mixtures, or its threshold is no number.
        """
        model = fitted.model
        if not isinstance(model, Mixture):
            raise CallerError(f"a model of the family '{model.family}' cannot be served", remedy="serve a mixture")
        if threshold is None:
            threshold = _threshold_of(fitted)
        rows = RowMixture(fitted.schema, model.covariance, fitted.coordinates, fitted.parameters)
        return cls(version, fitted, threshold, NamedCells(fitted.schema), rows)

    def warm_up(self) -> None:
        """Answer a row in every way, so that the first request finds everything loaded and computed."""
        row, _ = self.fitted.sample(1, 0)
        holes = np.full((1, row.shape[1]), np.nan)
        for rows in (row, holes, np.repeat(row, FEW_ROWS + 1, axis=0)):
            self.probabilities(rows)
            self.log_densities(rows)
            self.impute(rows, 1, 0)
        self.impute(holes, 0, None)

    def probabilities(self, rows: Vector) -> Vector:
        """Of each component for each row `(n, D)`, `(n, K)`. Raises `NotEvaluated`, naming the row."""
        if len(rows) <= FEW_ROWS:
            return np.array([found.responsibilities for found in self._posteriors(rows)])
        try:
            return self.fitted.predict_proba(rows)
        except FedEmError:
            return np.array([found.responsibilities for found in self._posteriors(rows)])

    def log_densities(self, rows: Vector) -> Vector:
        """Of each row's observed cells, `(n,)`, in nats per original unit. Raises as `probabilities`."""
        if len(rows) <= FEW_ROWS:
            return np.array([found.log_density for found in self._posteriors(rows)])
        try:
            return self.fitted.score_samples(rows)
        except FedEmError:
            return np.array([found.log_density for found in self._posteriors(rows)])

    def anomalies(self, rows: Vector, log_densities: Vector) -> list[bool | None]:
        """Whether each row is one. Of rows with missing cells it is not known: theirs is a density over fewer columns."""
        if self.threshold is None:
            return [None] * len(rows)
        each = zip(rows, log_densities.tolist(), strict=True)
        return [None if np.isnan(row).any() else density < self.threshold for row, density in each]

    def impute(self, rows: Vector, n_draws: int, seed: int | None) -> tuple[Imputation, Vector]:
        """The rows filled, and the probabilities of the components. Raises as `probabilities`."""
        if n_draws or len(rows) > FEW_ROWS:
            probabilities = self.probabilities(rows)
            return self.fitted.impute(rows, n_draws, np.random.default_rng(seed)), probabilities
        filled, deviations = rows.copy(), self._of_observed(rows, 0.0, numeric=True)
        means = rows + deviations  # of the columns of numbers, as 0 stands there
        certain = self._of_observed(rows, 1.0, numeric=False)
        posteriors = self._posteriors(rows)
        for i, posterior in enumerate(posteriors):
            done = self._rows.impute(rows[i], posterior.responsibilities)
            filled[i] = done.row
            for d, deviation in done.deviations.items():
                means[i, d], deviations[i, d] = done.means[d], deviation
            for d, shares in done.probabilities.items():
                certain[i, d] = shares.max()
        draws = np.empty((0, *rows.shape))
        return Imputation(filled, means, deviations, certain, draws), np.array([p.responsibilities for p in posteriors])

    def _of_observed(self, rows: Vector, value: float, numeric: bool) -> Vector:
        """`value` in the columns of numbers, or in all others, NaN elsewhere, `(n, D)`."""
        schema = self.fitted.schema
        places = np.concatenate(
            (schema.gaussian, schema.poisson) if numeric else (schema.categorical, schema.bernoulli)
        )
        out = np.full(rows.shape, np.nan)
        out[:, places] = value
        return out

    def _posteriors(self, rows: Vector) -> list[RowPosterior]:
        found = []
        for i, row in enumerate(rows):
            try:
                found.append(self._rows.posterior(row))
            except NotEvaluated as error:
                raise NotEvaluated(f"row {i}: {error.message}", remedy=error.remedy) from None
        return found


def _threshold_of(fitted: FittedModel) -> float | None:
    found = fitted.provenance.get(THRESHOLD)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise CallerError(f"'{THRESHOLD}' in the model's provenance is no number", remedy="give a log-density, in nats")
    return float(found)
