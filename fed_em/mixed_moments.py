"""What one round of sums tells of mixed columns: the observed cells of each, as if all were independent in one component.

Mean and variance of Gaussian columns, frequencies of levels, shares of yes and rates of counts. These standardise the
Gaussian columns and say where EM starts (`start_from_mixed_moments`). As in `fed_em.observed_moments` cells that are missing
drop out, so one M-step gives the maximum, whatever the parameters before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.columns import ColumnSchema
from fed_em.description import read_mapping
from fed_em.discrete_columns import (
    EXPOSURE,
    FAILURES,
    LEVEL_COUNTS,
    LEVEL_PROBABILITIES,
    LOG_FACTORIALS,
    RATES,
    SUCCESS_PROBABILITIES,
    SUCCESSES,
    DiscreteColumns,
)
from fed_em.errors import CallerError
from fed_em.initialisation import standard_gaussian, start_from_moments
from fed_em.layout import Block, Layout
from fed_em.mixed_mixture import MixedMixtureModel, bound_of_log_density
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.model import COUNT, LOG_LIKELIHOOD, Rows
from fed_em.observed_moments import OBSERVED, ObservedMomentsModel
from fed_em.parameters import Parameters
from fed_em.records import Records, weighted_sum
from fed_em.row_blocks import rows_in_block
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]

FAMILY = "mixed-moments"

# What is left of a probability or a rate that noise made impossible.
_LEAST = 1e-3


@dataclass(frozen=True)
class MixedMomentsModel:
    """One component of independent columns, of rows with missing cells (NaN). Implements `fed_em.model.CountedModel`.

    Parameters are those of a mixed mixture of one component with a full covariance, zero off the diagonal. Statistics are those of
    `ObservedMomentsModel` over the Gaussian columns, `count` and `log_likelihood` alone if there are none, and those of
    `DiscreteColumns` for one component.

    Attributes:
        schema: The columns.
    """

    schema: ColumnSchema

    @property
    def family(self) -> str:
        """The family's registered name."""
        return FAMILY

    @property
    def n_columns(self) -> int:
        """D, the number of columns of all kinds."""
        return len(self.schema.columns)

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
        return 2 * len(self.schema.gaussian) + self.discrete.n_free_parameters

    @cached_property
    def gaussian(self) -> ObservedMomentsModel | None:
        """The Gaussian columns alone; None if there are none."""
        return ObservedMomentsModel(len(self.schema.gaussian)) if len(self.schema.gaussian) else None

    @cached_property
    def discrete(self) -> DiscreteColumns:
        """The other columns."""
        return DiscreteColumns(self.schema)

    @cached_property
    def _one_component(self) -> MixedMixtureModel:
        """The mixture whose parameters these are."""
        return MixedMixtureModel(1, self.schema, "full", covariance_floor=0.0)

    def describe(self) -> Mapping[str, Any]:
        """The description as JSON-able values."""
        return {"family": FAMILY, "columns": self.schema.describe()}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> MixedMomentsModel:
        """The model that `describe` described. Raises `CallerError` if a key is unknown or missing, or a value out of range."""
        fields = read_mapping("mixed moments", description, ("family", "columns"))
        return cls(ColumnSchema.from_description(fields["columns"]))

    def layout(self, column_bounds: Vector | None = None, radius: float | None = None) -> Layout:
        """Names, shapes, per-record bounds and norms of the statistics; as only observed cells are summed, they hold for each record.

        Norms are those of `ObservedMomentsModel` and of `DiscreteColumns.blocks`.

        Args:
            column_bounds, radius: As of `MixedMixtureModel.layout`, which also says what is raised.
        """
        of_mixture = self._one_component.layout(column_bounds, radius)
        shared: tuple[Block, ...] = (Block(COUNT, (), 1.0), bound_of_log_density(self.schema))
        if self.gaussian is not None:
            of_gaussian = None if column_bounds is None else np.asarray(column_bounds)[self.schema.gaussian]
            blocks = self.gaussian.layout(of_gaussian, radius).blocks[len(shared) :]
            source = of_mixture["first"].source
            shared += tuple(block if block.name == OBSERVED else replace(block, source=source) for block in blocks)
        return Layout((*shared, *self.discrete.blocks(1)))

    def e_step(self, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None) -> Statistics:
        """The sums over `rows` `(n, D)`, NaN where a cell is missing; bit for bit the same for the same input.

        Args:
            parameters: As `validate` admits them; only the log-likelihood depends on them.
            rows: Any number of rows, or records with weights.
            layout: The layout to carry, which says the bounds; `self.layout()` if None.

        Raises:
            CallerError: rows do not fit the schema, naming the column.
        """
        records = Records.of(rows).of_positive_weight()
        statistics = Statistics.zero(self.layout() if layout is None else layout)
        statistics[COUNT][...] = records.total_weight
        statistics[LOG_LIKELIHOOD][...] = weighted_sum(self.log_prob(parameters, records), records.weights)
        if self.gaussian is not None:
            part = replace(records, rows=np.ascontiguousarray(records.rows[:, self.schema.gaussian]))
            moments = self.gaussian.e_step(_of_gaussian(parameters), part)
            for name in (OBSERVED, "first", "second"):
                statistics[name][...] = moments[name]
        sums = np.zeros(self.discrete.n_features)
        for _, block in self._blocks(records):
            weights = np.ones(len(block)) if block.weights is None else block.weights
            sums += self.discrete.features(block.rows) @ weights
            if len(self.schema.poisson):
                statistics[LOG_FACTORIALS][...] += self.discrete.log_factorials(block.rows.T) @ weights
        for name, places in self.discrete.statistic_slices.items():
            statistics[name][...] = sums[places]
        return statistics

    def _blocks(self, records: Records) -> Iterator[tuple[slice, Records]]:
        return records.blocks(rows_in_block(self.discrete.n_features + 1))

    def m_step(self, statistics: Statistics, parameters: Parameters) -> Parameters:
        """The moments of the observed cells.

        Args:
            statistics: Of at least one observed cell a column.
            parameters: Not read.

        Raises:
            CallerError: nobody observed a column, naming it.
        """
        for name, observed in zip(self.schema.names, self._observed(statistics), strict=True):
            if not observed > 0:
                raise CallerError(
                    f"column '{name}' is missing in all records", remedy="leave the column out, it tells nothing"
                )
        arrays: dict[str, Vector] = {"weights": np.ones(1)}
        if self.gaussian is not None:
            sums = {block.name: statistics[block.name] for block in self.gaussian.layout()}
            arrays |= dict(self.gaussian.m_step(Statistics.of(self.gaussian.layout(), sums), parameters))
        return Parameters(arrays | self.discrete.estimate(statistics, parameters, MixedMixturePrior()))

    def _observed(self, statistics: Statistics) -> Vector:
        """The mass of the observed cells of each column, `(D,)`."""
        observed, schema = np.zeros(self.n_columns), self.schema
        if self.gaussian is not None:
            observed[schema.gaussian] = statistics[OBSERVED]
        if len(schema.categorical):
            observed[schema.categorical] = [statistics[LEVEL_COUNTS][0, part].sum() for part in schema.level_slices]
        if len(schema.bernoulli):
            observed[schema.bernoulli] = (statistics[SUCCESSES] + statistics[FAILURES])[0]
        if len(schema.poisson):
            observed[schema.poisson] = statistics[EXPOSURE][0]
        return observed

    def free_energy(self, statistics: Statistics, parameters: Parameters) -> float:
        """The log-likelihood at `parameters`, in nats: nothing is latent, and what is missing drops out."""
        total = self.discrete.expected_log_density(statistics, parameters)
        if self.gaussian is None:
            return total
        sums = {block.name: statistics[block.name] for block in self.gaussian.layout()}
        return total + self.gaussian.free_energy(Statistics.of(self.gaussian.layout(), sums), _of_gaussian(parameters))

    def log_prior(self, parameters: Parameters) -> float:  # noqa: ARG002
        """There is no prior: 0."""
        return 0.0

    def validate(self, parameters: Parameters) -> None:
        """Raise `CallerError`, naming the array, unless `parameters` are those of one component of independent columns."""
        self._one_component.validate(parameters)
        if self.gaussian is not None:
            self.gaussian.validate(_of_gaussian(parameters))

    def log_prob(self, parameters: Parameters, rows: Rows | Records) -> Vector:
        """Log density of the observed cells of each row, `(n,)`, in nats; 0 of a row without any. Raises as `e_step`."""
        records = Records.of(rows)
        records.check_labels(1)
        self.schema.check_rows(records.rows)
        coefficients, out = self.discrete.coefficients(parameters), np.zeros(len(records))
        for part, block in self._blocks(records):
            out[part] = self.discrete.log_densities(coefficients, self.discrete.features(block.rows))[0]
            out[part] -= self.discrete.log_factorials(block.rows.T)
        if self.gaussian is not None:
            out += self.gaussian.log_prob(_of_gaussian(parameters), records.rows[:, self.schema.gaussian])
        return out

    def responsibilities(self, parameters: Parameters, rows: Rows | Records) -> Vector:  # noqa: ARG002
        """Ones, `(n, 1)`."""
        return np.ones((len(rows), 1))

    def sample(self, parameters: Parameters, n: int, generator: np.random.Generator) -> tuple[Rows, NDArray[np.int64]]:
        """`n` complete rows `(n, D)`, and zeros `(n,)`."""
        return self._one_component.sample(parameters, n, generator)


def _of_gaussian(parameters: Parameters) -> Parameters:
    return Parameters({name: parameters[name] for name in ("weights", "means", "covariances")})


def standard_columns(schema: ColumnSchema) -> Parameters:
    """Parameters at which to evaluate `MixedMomentsModel`: mean 0, covariance I, all levels alike, rates 1."""
    discrete = DiscreteColumns(schema)
    arrays: dict[str, Vector] = dict(standard_gaussian(len(schema.gaussian))) if len(schema.gaussian) else {}
    arrays["weights"] = np.ones(1)
    for name, size in discrete.parameter_shapes.items():
        arrays[name] = np.full((1, size), 1.0 if name == RATES else 0.5)
    for levels in schema.level_slices:
        arrays[LEVEL_PROBABILITIES][:, levels] = 1.0 / (levels.stop - levels.start)
    return Parameters(arrays)


def possible(schema: ColumnSchema, moments: Parameters) -> Parameters:
    """Moments of sums with noise, in which no level, answer or count is impossible: nobody could show it, and some record may.

    Those of real records stay as they are, but for levels, answers and counts that no record shows.
    """
    arrays = dict(moments)
    if LEVEL_PROBABILITIES in moments:
        levels = arrays[LEVEL_PROBABILITIES] = moments[LEVEL_PROBABILITIES].copy()
        for part in schema.level_slices:
            if not levels[:, part].all():
                raised = np.maximum(levels[:, part], _LEAST)
                levels[:, part] = raised / raised.sum(axis=1, keepdims=True)
    if SUCCESS_PROBABILITIES in moments:
        shares = moments[SUCCESS_PROBABILITIES]
        arrays[SUCCESS_PROBABILITIES] = np.where(
            (shares > 0) & (shares < 1), shares, np.clip(shares, _LEAST, 1 - _LEAST)
        )
    if RATES in moments:
        arrays[RATES] = np.where(moments[RATES] > 0, moments[RATES], _LEAST)
    return Parameters(arrays)


def start_from_mixed_moments(model: MixedMixtureModel, moments: Parameters, seed: int) -> Parameters:
    """Components drawn about the moments of all records, with equal weights.

    Gaussian columns start as in `fed_em.initialisation.start_from_moments`. The probabilities of the levels of a column are
    half their frequencies and half uniform on the simplex, so that each component leaves every level open; those of a
    Bernoulli column likewise. Rates are half the rate of all records and half an exponential about it. Uniforms and exponentials come
    from the stream of `PCG64(seed)` after one jump of 2^127, in the order of these sentences, component after component.

    Args:
        model: The mixture to start.
        moments: Parameters of `MixedMomentsModel`, in the coordinates of the E-step.
        seed: At least 0.

    Raises:
        CallerError: the moments do not fit the model, a covariance is singular, or the seed is negative.
    """
    MixedMomentsModel(model.schema).validate(moments)
    k = model.n_components
    arrays: dict[str, Vector] = {"weights": np.full(k, 1.0 / k)}
    if model.gaussian is not None:
        arrays |= dict(start_from_moments(model.gaussian, _of_gaussian(moments), seed))
    generator = np.random.Generator(np.random.PCG64(seed).jumped())
    if LEVEL_PROBABILITIES in moments:
        arrays[LEVEL_PROBABILITIES] = np.empty((k, model.schema.n_levels))
        for levels in model.schema.level_slices:
            draws = generator.standard_exponential((k, levels.stop - levels.start))
            uniform = draws / draws.sum(axis=1, keepdims=True)
            arrays[LEVEL_PROBABILITIES][:, levels] = (moments[LEVEL_PROBABILITIES][:, levels] + uniform) / 2
    if SUCCESS_PROBABILITIES in moments:
        shares = moments[SUCCESS_PROBABILITIES]
        arrays[SUCCESS_PROBABILITIES] = (shares + generator.random((k, shares.shape[1]))) / 2
    if RATES in moments:
        rates = moments[RATES]
        arrays[RATES] = rates * (1 + generator.standard_exponential((k, rates.shape[1]))) / 2
    return Parameters(arrays)
