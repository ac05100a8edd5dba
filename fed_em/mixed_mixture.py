"""Mixtures over columns of every kind, any cell of which may be missing at random.

    p(x) = Σ_k w_k N(x_g; μ_k, Σ_k) Π_categorical p_k,x Π_Bernoulli q_k^x (1 − q_k)^(1 − x) Π_Poisson λ_k^x e^(−λ_k) / x!

The Gaussian columns are one block with a covariance structure; all others are independent given the component (local
independence). Latent class analysis is the case of categorical columns only: Lazarsfeld and Henry (1968); McLachlan and
Peel (2000), "Finite Mixture Models", chapter 5, for mixed columns (the location model). Missing cells: `fed_em.missing_gaussian`
and `fed_em.discrete_columns`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

from fed_em.chart import Chart, PartialChart
from fed_em.columns import ColumnSchema
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure, covariance_matrices, covariance_shape
from fed_em.description import check_real, check_whole_number, nearest, read_mapping
from fed_em.discrete_chart import DiscreteChart
from fed_em.discrete_columns import LOG_FACTORIALS, DiscreteColumns
from fed_em.errors import CallerError
from fed_em.gaussian_chart import GaussianChart
from fed_em.gaussian_mixture import LOG_DENSITY_BOUND, GaussianMixtureModel
from fed_em.kernels import kernels_for
from fed_em.layout import Block, Layout
from fed_em.missing_gaussian import GaussianComponents
from fed_em.mixed_e_step import MixedEStep
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.model import COUNT, ENTROPY, LOG_LIKELIHOOD, MISSING_ENTROPY, Rows
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.silence import check_held, keep_held, silence
from fed_em.sphere_chart import WeightsChart
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import (
    MIXING_KEYS,
    TenantMixing,
    check_no_own_weights,
    e_step_at_home,
    expected_log_weights,
    no_chart,
)

Vector = NDArray[np.float64]

FAMILY = "mixed-mixture"

RESPONSIBILITIES = "responsibilities"
_WEIGHTS, _MEANS, _COVARIANCES = "weights", "means", "covariances"

# scikit-learn's guard of a component that no record belongs to.
_EMPTY_COMPONENT = 10 * np.finfo(np.float64).eps

_WEIGHT_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class MixedMixtureModel:
    """A mixture's description over a schema of columns. Implements `fed_em.model.ComponentModel`.

    Parameters are `weights` `(K,)`; for G Gaussian columns `means` `(K, G)` and `covariances`, as in
    `fed_em.gaussian_mixture`; for other columns those of `fed_em.discrete_columns.DiscreteColumns`.

    Statistics are `count`, `log_likelihood`, `entropy` and `responsibilities` of every mixture; for Gaussian columns `first`,
    `second` and `missing_entropy`, over all records; for the others the sums of `DiscreteColumns`, over observed cells.

    Rows are `(n, D)` in the coding of `fed_em.columns`, NaN where a cell is missing.

    Attributes:
        n_components: K, at least 1.
        schema: The columns.
        covariance: The structure of the Gaussian block.
        covariance_floor: Added to every variance after the M-step; at least 0. With a positive floor the M-step is
            only nearly a maximiser.
        prior: Conjugate prior, its Gaussian part in the coordinates of the E-step; None for maximum likelihood.
        mixing: As of a Gaussian mixture.

    Raises:
        CallerError: a field is out of its range.
    """

    n_components: int
    schema: ColumnSchema
    covariance: CovarianceStructure = "full"
    covariance_floor: float = 1e-6
    prior: MixedMixturePrior | None = None
    mixing: TenantMixing | None = None

    def __post_init__(self) -> None:
        check_whole_number("n_components", self.n_components, 1)
        check_real("covariance_floor", self.covariance_floor, 0.0)
        if not isinstance(self.schema, ColumnSchema):
            raise CallerError(f"schema must be a ColumnSchema, not {type(self.schema).__name__}")
        if self.covariance not in COVARIANCE_STRUCTURES:
            remedy = nearest(str(self.covariance), COVARIANCE_STRUCTURES)
            raise CallerError(f"no covariance structure '{self.covariance}'", remedy=remedy)
        if not isinstance(self.prior, MixedMixturePrior | None):
            raise CallerError(f"prior must be a MixedMixturePrior or None, not {type(self.prior).__name__}")
        if self.prior is not None:
            self.prior.check_fits(self.schema)
            if self.mixing is not None:
                self.mixing.check_alone(self.prior.weight_concentration)
        _ = self.gaussian  # its fields are checked too

    @cached_property
    def gaussian(self) -> GaussianMixtureModel | None:
        """The Gaussian columns alone, as a mixture that admits missing cells; None if there are none."""
        n_columns = len(self.schema.gaussian)
        prior = None if self.prior is None else self.prior.gaussian
        if n_columns == 0:
            return None
        return GaussianMixtureModel(
            self.n_components, n_columns, self.covariance, self.covariance_floor, prior, True, self.mixing
        )

    @property
    def gaussian_places(self) -> NDArray[np.intp]:
        """Where the Gaussian columns stand in a row."""
        return self.schema.gaussian

    @cached_property
    def discrete(self) -> DiscreteColumns:
        """The other columns."""
        return DiscreteColumns(self.schema)

    @property
    def family(self) -> str:
        """The family's registered name."""
        return FAMILY

    @property
    def n_columns(self) -> int:
        """D, the number of columns of all kinds."""
        return len(self.schema.columns)

    @property
    def n_free_parameters(self) -> int:
        """Number of free parameters, for information criteria."""
        weights = self.n_components - 1
        of_gaussian = 0 if self.gaussian is None else self.gaussian.n_free_parameters - weights
        return weights + of_gaussian + self.n_components * self.discrete.n_free_parameters

    @cached_property
    def with_shared_weights(self) -> MixedMixtureModel:
        """The same mixture with one set of weights for all rows."""
        return replace(self, mixing=None)

    @property
    def missing(self) -> bool:
        """True: rows may have missing cells."""
        return True

    @property
    def component_blocks(self) -> tuple[str, ...]:
        """The moments that each component has its own of."""
        of_gaussian = () if self.gaussian is None else self.gaussian.component_blocks
        return (*of_gaussian, *self.discrete.statistic_slices)

    def describe(self) -> Mapping[str, Any]:
        """The description as JSON-able values."""
        return {
            "family": FAMILY,
            "n_components": self.n_components,
            "columns": self.schema.describe(),
            "covariance": self.covariance,
            "covariance_floor": self.covariance_floor,
            "prior": None if self.prior is None else self.prior.describe(),
            **({} if self.mixing is None else self.mixing.describe()),
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> MixedMixtureModel:
        """The model that `describe` described; `covariance`, `covariance_floor` and `prior` may be left out.

        Raises:
            CallerError: a key is unknown or missing, or a value is out of its range.
        """
        optional = ("covariance", "covariance_floor", "prior", *MIXING_KEYS)
        fields = dict(read_mapping("a mixed mixture", description, ("family", "n_components", "columns"), optional))
        del fields["family"]
        fields["schema"] = ColumnSchema.from_description(fields.pop("columns"))
        if fields.get("prior") is not None:
            fields["prior"] = MixedMixturePrior.from_description(fields["prior"])
        mixing = TenantMixing.taken_from(fields)
        return cls(**fields, mixing=mixing)

    def layout(self, column_bounds: Vector | None = None, radius: float | None = None) -> Layout:
        """Names, shapes, per-record bounds and norms of the statistics.

        Norms of Gaussian columns are those of `GaussianMixtureModel.layout`, of the others those of `DiscreteColumns.blocks`.

        Args:
            column_bounds: `(D,)`, the largest |x_d| in the coordinates of the E-step. Those of Gaussian columns are read and
                must be positive; the schema bounds the others. Without them as `GaussianMixtureModel.layout`.
            radius: Of the ball that the Gaussian cells of every row are in, all observed; other cells may be missing in it.

        Raises:
            CallerError: not D bounds, or one of a Gaussian column is not positive and finite, naming the column; or as
                `GaussianMixtureModel.layout` with a radius.
        """
        if radius is not None:
            check_no_own_weights(self.mixing)
        if column_bounds is None:
            return self._unit_layout if radius is None else self._layout_of(None, radius)
        bounds = np.asarray(column_bounds, dtype=np.float64)
        if bounds.shape != (self.n_columns,):
            raise CallerError(f"column bounds of shape {bounds.shape} do not fit {self.n_columns} columns")
        for d in self.schema.gaussian:
            if not (math.isfinite(bounds[d]) and bounds[d] > 0):
                raise CallerError(
                    f"the bound of column '{self.schema.names[d]}' is {bounds[d]}",
                    remedy="declare a positive, finite bound for each Gaussian column",
                )
        return self._layout_of(bounds, radius)

    @cached_property
    def _unit_layout(self) -> Layout:
        return self._layout_of(None, None)

    def _layout_of(self, bounds: Vector | None, radius: float | None) -> Layout:
        if self.gaussian is None:
            shared: tuple[Block, ...] = (
                Block(COUNT, (), 1.0),
                bound_of_log_density(self.schema),
                Block(ENTROPY, (), math.log(max(self.n_components, 2)), "log of the number of components"),
                Block(RESPONSIBILITIES, (self.n_components,), 1.0, norm=1.0),
                *(() if self.mixing is None else self.mixing.blocks(self.n_components)),
            )
        else:
            of_gaussian = None if bounds is None else bounds[self.schema.gaussian]
            blocks = self.gaussian.layout(of_gaussian, radius).blocks
            shared = tuple(bound_of_log_density(self.schema) if b.name == LOG_LIKELIHOOD else b for b in blocks)
            if of_gaussian is not None:
                # The Gaussian mixture knows its columns by their place among themselves.
                name = self.schema.names[int(self.schema.gaussian[np.argmax(of_gaussian)])]
                moments = self.gaussian.component_blocks
                shared = tuple(replace(b, source=f"column '{name}'") if b.name in moments else b for b in shared)
        return Layout((*shared, *self.discrete.blocks(self.n_components)))

    def e_step(self, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None) -> Statistics:
        """Expected sufficient statistics of `rows`; bit for bit the same for the same input, however many threads there are.

        Args:
            parameters: As `validate` admits them.
            rows: `(n, D)`, NaN where a cell is missing, or records with weights and labels; n may be 0.
            layout: The layout to carry, which says the bounds; `self.layout()` if None.

        Raises:
            CallerError: rows do not fit the schema, naming the column.
            FedEmError: a covariance is not positive definite (naming the component), or no component can show a row.
        """
        if self.mixing is not None:
            return e_step_at_home(self, parameters, rows, layout)
        records = self._checked(rows).of_positive_weight()
        sums = self._e_step(parameters, records).sums(records)
        parts: dict[str, Vector | float] = {
            COUNT: records.total_weight,
            LOG_LIKELIHOOD: sums.log_likelihood,
            ENTROPY: sums.entropy,
            RESPONSIBILITIES: sums.responsibilities,
        }
        if sums.moments is not None:
            parts |= {"first": sums.moments.first, "second": sums.moments.second}
            parts[MISSING_ENTROPY] = sums.moments.missing_entropy
        if len(self.schema.poisson):
            parts[LOG_FACTORIALS] = sums.log_factorials
        parts |= {name: sums.discrete[:, place] for name, place in self.discrete.statistic_slices.items()}
        return Statistics.of(self.layout() if layout is None else layout, parts)

    def _checked(self, rows: Rows | Records) -> Records:
        records = Records.of(rows)
        self.schema.check_width(records.rows)
        records.check_labels(self.n_components)
        return records

    def _e_step(self, parameters: Parameters, records: Records) -> MixedEStep:
        components = None
        if self.gaussian is not None:
            components = GaussianComponents(self.covariance, parameters[_MEANS], parameters[_COVARIANCES])
        coefficients, kernels = self.discrete.coefficients(parameters), kernels_for(*records.rows.shape)
        return MixedEStep(self.discrete, coefficients, components, parameters[_WEIGHTS], kernels)

    def m_step(self, statistics: Statistics, parameters: Parameters, held: tuple[int, ...] = ()) -> Parameters:
        """The maximiser: the posterior modes of `fed_em.priors` and `fed_em.mixed_priors`, without a prior the likelihood's.

        Args:
            statistics: Of at least one record. The moments of held components are not read.
            parameters: Those of the E-step. What `hold` keeps is theirs, and what a component without observed
                records of a column, and without a prior, has there.
            held: Distinct components, ascending; see `hold`.

        Raises:
            CallerError: the statistics are of no record at all, or `held` is not admissible.
            FedEmError: a covariance is not positive definite, naming the component.
        """
        if not float(statistics[COUNT]) > 0:
            raise CallerError("the statistics are of no record at all", remedy="give at least one row")
        if held:
            statistics = silence(self, statistics, held)
        prior = MixedMixturePrior() if self.prior is None else self.prior
        weights = np.maximum(statistics[RESPONSIBILITIES], 0.0) + (prior.weight_concentration - 1.0) + _EMPTY_COMPONENT
        arrays: dict[str, Vector] = {_WEIGHTS: weights / weights.sum()}
        if self.gaussian is not None:
            updated = self.gaussian.m_step(self._of_gaussian(statistics), self._gaussian_part(parameters), held)
            arrays |= {_MEANS: updated[_MEANS], _COVARIANCES: updated[_COVARIANCES]}
        arrays |= self.discrete.estimate(statistics, parameters, prior)
        return self.hold(parameters, Parameters(arrays), held)

    def _of_gaussian(self, statistics: Statistics) -> Statistics:
        """The statistics of the Gaussian columns."""
        assert self.gaussian is not None
        layout = self.gaussian.layout()
        return Statistics.of(layout, {block.name: statistics[block.name] for block in layout})

    @staticmethod
    def _gaussian_part(parameters: Parameters) -> Parameters:
        return Parameters({name: parameters[name] for name in (_WEIGHTS, _MEANS, _COVARIANCES)})

    def hold(self, before: Parameters, after: Parameters, held: tuple[int, ...]) -> Parameters:
        """`after`, except that all of the `held` components but their weights is as in `before`, and so is a tied covariance.

        Args:
            before: Admissible parameters.
            after: Parameters whose held components need not be admissible.
            held: Distinct components, ascending.

        Returns:
            `after` itself if none is held.

        Raises:
            CallerError: `held` is not admissible.
        """
        check_held(held, self.n_components)
        return keep_held(before, after, held, _WEIGHTS, _COVARIANCES if self.covariance == "tied" else None)

    def free_energy(self, statistics: Statistics, parameters: Parameters) -> float:
        """F of Neal and Hinton (1998), in nats: exact, as it is linear in the statistics and the entropy of all that is missing.

        Args:
            statistics: Sums of terms at whatever parameters, each of all components: none silenced.
            parameters: As `validate` admits them.

        Returns:
            At most the log-likelihood; -inf if a component holds records that it cannot show.

        Raises:
            FedEmError: a covariance is not positive definite, naming the component.
        """
        of_discrete = self.discrete.expected_log_density(statistics, parameters)
        if self.gaussian is not None:
            shared = self.gaussian.free_energy(self._of_gaussian(statistics), self._gaussian_part(parameters))
            return shared + of_discrete
        of_weights = expected_log_weights(self.mixing, statistics, parameters)
        return of_weights + float(statistics[ENTROPY]) + of_discrete

    def log_prior(self, parameters: Parameters) -> float:
        """Log density of the prior, up to a constant, in nats; 0 without a prior."""
        if self.prior is None:
            return 0.0
        total = self.discrete.log_prior(parameters, self.prior)
        total += float(xlogy(self.prior.weight_concentration - 1.0, parameters[_WEIGHTS]).sum())
        if self.gaussian is not None:
            total += self.gaussian.log_prior(self._gaussian_part(parameters))
        return total

    def chart(self, reference: Parameters) -> Chart:
        """A chart about `reference`; see `fed_em.sphere_chart`, `fed_em.gaussian_chart` and `fed_em.discrete_chart`.

        Raises:
            CollapsedComponent: a covariance of the reference is not above the floor.
            CallerError: mixing weights are each tenant's own.
        """
        if self.mixing is not None:
            raise no_chart()
        prior = MixedMixturePrior() if self.prior is None else self.prior
        parts: list[PartialChart] = [WeightsChart(self.n_components, prior.weight_concentration)]
        if self.gaussian is not None:
            parts.append(GaussianChart.about(self.covariance, self.covariance_floor, prior.gaussian, reference))
        if self.discrete.n_features:
            parts.append(DiscreteChart.about(self.discrete, prior, reference))
        return Chart(tuple(parts))

    def validate(self, parameters: Parameters) -> None:
        """Raise `CallerError`, naming the array, unless `parameters` are admissible.

        They are if exactly the arrays of the model's kinds of columns are there in their shapes, all finite, weights and
        probabilities sum to 1 within 1e-6, rates are not negative, and covariances are symmetric and positive definite.
        """
        k = self.n_components
        shapes: dict[str, tuple[int, ...]] = {_WEIGHTS: (k,)}
        if self.gaussian is not None:
            n_columns = self.gaussian.n_columns
            shapes |= {_MEANS: (k, n_columns), _COVARIANCES: covariance_shape(self.covariance, k, n_columns)}
        shapes |= {name: (k, size) for name, size in self.discrete.parameter_shapes.items()}
        for name in parameters:
            if name not in shapes:
                raise CallerError(f"this mixture has no parameter '{name}'", remedy=nearest(name, shapes))
        for name, shape in shapes.items():
            if parameters[name].shape != shape:
                raise CallerError(f"parameter '{name}' has shape {parameters[name].shape}, not {shape}")
            if not np.isfinite(parameters[name]).all():
                raise CallerError(f"parameter '{name}' holds values that are not finite")
        weights = parameters[_WEIGHTS]
        if (weights < 0).any() or abs(float(weights.sum()) - 1.0) > _WEIGHT_SUM_TOLERANCE:
            raise CallerError("parameter 'weights' is not a set of probabilities", remedy="make them sum to 1")
        if self.gaussian is not None:
            self.gaussian.validate(self._gaussian_part(parameters))
        self.discrete.validate(parameters)

    def log_prob(self, parameters: Parameters, rows: Rows | Records) -> Vector:
        """Log density of the observed cells of each row, and its label, `(n,)`, in nats; raises as `e_step` does."""
        records = self._checked(rows)
        return self._e_step(parameters, records).posterior(records)[0]

    def responsibilities(self, parameters: Parameters, rows: Rows | Records) -> Vector:
        """Posterior probabilities of the components, `(n, K)`, rows summing to 1, without weights; raises as `e_step` does."""
        records = self._checked(rows)
        return self._e_step(parameters, records).posterior(records)[1]

    def sample(self, parameters: Parameters, n: int, generator: np.random.Generator) -> tuple[Rows, NDArray[np.int64]]:
        """`n` independent complete rows `(n, D)` and the component `(n,)` that each was drawn from."""
        weights = parameters[_WEIGHTS]
        labels = generator.choice(self.n_components, size=n, p=weights / weights.sum())
        rows = np.empty((n, self.n_columns))
        if self.gaussian is not None:
            means = parameters[_MEANS]
            matrices = covariance_matrices(self.covariance, parameters[_COVARIANCES], means)
            cells = generator.standard_normal((n, self.gaussian.n_columns))
            for k, lower in enumerate(np.linalg.cholesky(matrices)):
                cells[labels == k] = means[k] + cells[labels == k] @ lower.T
            rows[:, self.schema.gaussian] = cells
        self.discrete.sample(parameters, labels, rows, generator)
        return rows, labels


def bound_of_log_density(schema: ColumnSchema) -> Block:
    """The declared bound of |log p(x)|, in nats a record on average: of counts x ≤ u at rates in [1, u] with certainty, as

    0 ≥ x log λ − λ − log x! ≥ −u − log u!
    """
    upper = schema.upper_counts
    of_counts = float((upper + gammaln(upper + 1)).sum()) if len(upper) else 0.0
    return Block(LOG_LIKELIHOOD, (), LOG_DENSITY_BOUND + of_counts, "declared bound of a log-density")
