"""Mean and variance of each column over its observed cells: what standardises columns whose cells may be missing.

A Gaussian with a diagonal covariance. The cells of a row are independent under it, so those that are missing drop out of the
likelihood, and counts, sums and sums of squares of the observed ones give its maximum in one M-step, whatever the parameters
before. Where cells are missing at random, these moments are biased (`fed_em.missing_gaussian` is not): they choose
coordinates and starts, in which EM then finds the same maximum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.description import check_whole_number, read_mapping
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import LOG_DENSITY_BOUND, GaussianMixtureModel
from fed_em.layout import Block, Layout
from fed_em.missing_gaussian import check_no_infinity
from fed_em.model import COUNT, LOG_LIKELIHOOD, Rows
from fed_em.parameters import Parameters
from fed_em.records import Records, weighted_sum
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]

FAMILY = "observed-moments"

OBSERVED = "observed"

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class ObservedMomentsModel:
    """One Gaussian with a diagonal covariance, of rows with missing cells (NaN). Implements `fed_em.model.CountedModel`.

    Parameters are those of one *full* Gaussian, zero off the diagonal, so that what follows from moments need not know which
    model gave them: `weights` `(1,)`, `means` `(1, D)`, `covariances` `(1, D, D)`.

    Statistics are `count` (), `log_likelihood` () in nats, and over the observed cells of each column `observed` `(D,)`, how
    many there are, `first` `(D,)` = Σ x and `second` `(D,)` = Σ x².

    Attributes:
        n_columns: D, at least 1.

    Raises:
        CallerError: a field is out of its range.
    """

    n_columns: int

    def __post_init__(self) -> None:
        check_whole_number("n_columns", self.n_columns, 1)

    @property
    def family(self) -> str:
        """The family's registered name."""
        return FAMILY

    @property
    def n_components(self) -> int:
        """1, which holds everybody."""
        return 1

    @property
    def missing(self) -> bool:
        """True: rows may have missing cells."""
        return True

    @property
    def n_free_parameters(self) -> int:
        """Number of free parameters, for information criteria."""
        return 2 * self.n_columns

    def describe(self) -> Mapping[str, Any]:
        """The description as JSON-able values."""
        return {"family": FAMILY, "n_columns": self.n_columns}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> ObservedMomentsModel:
        """The model that `describe` described. Raises `CallerError` if a key is unknown or missing, or a value out of range."""
        return cls(read_mapping("observed moments", description, ("family", "n_columns"))["n_columns"])

    @cached_property
    def _gaussian(self) -> GaussianMixtureModel:
        """The full Gaussian whose parameters these are."""
        return GaussianMixtureModel(1, self.n_columns, "full", covariance_floor=0.0)

    @cached_property
    def _diagonal(self) -> GaussianMixtureModel:
        """The one that sums the same moments."""
        return GaussianMixtureModel(1, self.n_columns, "diag", covariance_floor=0.0)

    def layout(self, column_bounds: Vector | None = None, radius: float | None = None) -> Layout:
        """Names, shapes, per-record bounds and norms of the statistics; as only observed cells are summed, they hold for each record.

        A complete record adds 1 to each entry of `observed`, so its norm is √D; those of the moments are of `fed_em.ball`, of
        squares. In coordinates of declared ranges, a box, all three are √D.

        Args:
            column_bounds, radius: As of `GaussianMixtureModel.layout`, which also says what is raised; here cells may be missing
                in a ball too.
        """
        of_columns = self._diagonal.layout(column_bounds, radius)
        shape = (self.n_columns,)
        moments = (replace(of_columns[name], shape=shape) for name in ("first", "second"))
        return Layout(
            (
                Block(COUNT, (), 1.0),
                Block(LOG_LIKELIHOOD, (), LOG_DENSITY_BOUND, "declared bound of a log-density"),
                Block(OBSERVED, shape, 1.0),
                *moments,
            )
        )

    def e_step(self, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None) -> Statistics:
        """The sums over `rows` `(n, D)`, NaN where a cell is missing; bit for bit the same for the same input.

        Args:
            parameters: As `validate` admits them; only the log-likelihood depends on them.
            rows: Any number of rows, or records with weights.
            layout: The layout to carry, which says the bounds; `self.layout()` if None.

        Raises:
            CallerError: rows have the wrong shape or hold an infinite value.
        """
        records = Records.of(rows)
        log_densities = self.log_prob(parameters, records)
        # In one order in memory, as the order of summation follows it.
        cells = np.ascontiguousarray(records.rows)
        seen = ~np.isnan(cells)
        weights = seen.astype(np.float64) if records.weights is None else seen * records.weights[:, np.newaxis]
        values = np.where(seen, cells, 0.0)
        parts: dict[str, Vector | float] = {
            COUNT: records.total_weight,
            LOG_LIKELIHOOD: weighted_sum(log_densities, records.weights),
            OBSERVED: weights.sum(axis=0),
            "first": (weights * values).sum(axis=0),
            "second": (weights * values**2).sum(axis=0),
        }
        return Statistics.of(self.layout() if layout is None else layout, parts)

    def m_step(self, statistics: Statistics, parameters: Parameters) -> Parameters:  # noqa: ARG002  as of any model
        """Mean and variance over the observed cells; the variance of a constant column is 0, or what rounding makes of it.

        Args:
            statistics: Of at least one observed cell a column.
            parameters: Not read.

        Raises:
            CallerError: nobody observed a column; names it by its index.
        """
        observed = statistics[OBSERVED]
        for d in np.flatnonzero(~(observed > 0)):
            raise CallerError(f"column {d} is missing in all records", remedy="leave the column out, it tells nothing")
        means = statistics["first"] / observed
        variances = np.maximum(statistics["second"] / observed - means**2, 0.0)
        return Parameters(
            {"weights": np.ones(1), "means": means[np.newaxis], "covariances": np.diag(variances)[np.newaxis]}
        )

    def free_energy(self, statistics: Statistics, parameters: Parameters) -> float:
        """The log-likelihood at `parameters`, in nats: nothing is latent, and what is missing drops out."""
        means, variances = _moments(parameters)
        observed, first = statistics[OBSERVED], statistics["first"]
        scatter = statistics["second"] - 2 * means * first + observed * means**2
        return -0.5 * float((observed * (_LOG_2PI + np.log(variances)) + scatter / variances).sum())

    def log_prior(self, parameters: Parameters) -> float:  # noqa: ARG002
        """There is no prior: 0."""
        return 0.0

    def validate(self, parameters: Parameters) -> None:
        """Raise `CallerError`, naming the array, unless `parameters` are those of one Gaussian with a diagonal covariance."""
        self._gaussian.validate(parameters)
        covariance = parameters["covariances"][0]
        if np.count_nonzero(covariance - np.diag(np.diag(covariance))):
            raise CallerError("parameter 'covariances' is not zero off the diagonal", remedy="set it to zero there")

    def log_prob(self, parameters: Parameters, rows: Rows | Records) -> Vector:
        """Log density of the observed cells of each row, `(n,)`, in nats; 0 of a row without any. Raises as `e_step`."""
        records = Records.of(rows)
        records.check_labels(1)
        cells = np.ascontiguousarray(records.rows)
        if cells.shape[1] != self.n_columns:
            raise CallerError(f"rows of shape {cells.shape} are not of {self.n_columns} columns")
        check_no_infinity(cells)
        means, variances = _moments(parameters)
        of_cells = -0.5 * (_LOG_2PI + np.log(variances) + (cells - means) ** 2 / variances)
        return np.asarray(np.where(np.isnan(cells), 0.0, of_cells).sum(axis=1))

    def responsibilities(self, parameters: Parameters, rows: Rows | Records) -> Vector:  # noqa: ARG002
        """Ones, `(n, 1)`."""
        return np.ones((len(rows), 1))

    def sample(self, parameters: Parameters, n: int, generator: np.random.Generator) -> tuple[Rows, NDArray[np.int64]]:
        """`n` complete rows `(n, D)`, and zeros `(n,)`."""
        return self._gaussian.sample(parameters, n, generator)


def _moments(parameters: Parameters) -> tuple[Vector, Vector]:
    """Mean and variance of each column, `(D,)` each."""
    return parameters["means"][0], np.diagonal(parameters["covariances"][0])
