"""Gaussian mixtures: p(x) = Σ_k w_k N(x; μ_k, Σ_k), with four covariance structures and an optional conjugate
prior.

McLachlan and Peel (2000), "Finite Mixture Models", section 3.2, for the E- and M-steps; Fraley and Raftery
(2007) for the MAP M-step (`fed_em.priors`).

With held components the M-step is a conditional one (Meng and Rubin 1993): it maximises the expected complete-data
log-likelihood plus log prior over all weights, and over the means and covariances of the open components, so the
objective of the whole mixture still never falls. A tied covariance belongs to all and the scatter of the held is not
known: it stays as it is while any component is held.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.ball import Reach
from fed_em.blas import one_blas_thread
from fed_em.chart import Chart
from fed_em.covariance import (
    COVARIANCE_STRUCTURES,
    CovarianceStructure,
    Whitening,
    add_floor,
    covariance_matrices,
    covariance_shape,
    moved_scatter,
    n_covariance_parameters,
    n_second_moments,
    pool_scatter,
    raw_scatter,
    scatter_about,
)
from fed_em.description import check_real, check_whole_number, nearest, read_mapping
from fed_em.errors import CallerError, FedEmError, NotEvaluated
from fed_em.gaussian_chart import GaussianChart
from fed_em.gaussian_densities import GaussianDensities
from fed_em.gaussian_e_step import GaussianEStep
from fed_em.kernels import kernels_for
from fed_em.layout import Block, Layout
from fed_em.missing_gaussian import (
    MISSING_ENTROPY_BOUND,
    GaussianComponents,
    check_no_infinity,
    expected_sums,
    posterior_of_records,
    reach_of,
)
from fed_em.model import COUNT, ENTROPY, LOG_LIKELIHOOD, MISSING_ENTROPY, Rows
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
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

FAMILY = "gaussian-mixture"

# The declared bound of |log p(x)|, in nats a record on average. A log-density has no bound of its own; data
# within any sensible ranges stay far below this one, and an encoder refuses a sum that does not, it never
# clips.
LOG_DENSITY_BOUND = 2.0**16

# scikit-learn's guard of a component that no record belongs to.
_EMPTY_COMPONENT = 10 * np.finfo(np.float64).eps

_WEIGHT_SUM_TOLERANCE = 1e-6
_SYMMETRY_TOLERANCE = 1e-8


@dataclass(frozen=True)
class GaussianMixtureModel:
    """A Gaussian mixture's description. Implements `fed_em.model.ComponentModel`.

    Parameters are the arrays `weights` `(K,)`, `means` `(K, D)` and `covariances`, in scikit-learn's shapes:
    full `(K, D, D)`, tied `(D, D)`, diag `(K, D)`, spherical `(K,)`.

    Statistics are `count` (), `log_likelihood` () in nats, `entropy` () = −Σ_i Σ_k r_ik log r_ik in nats (for
    the integrated completed likelihood), `responsibilities` `(K,)` = N_k = Σ_i r_ik, `first` `(K, D)` = Σ_i
    r_ik x_i, and `second`: Σ_i r_ik vech(x_i x_iᵀ) `(K, D(D+1)/2)`, upper triangle row by row, for full and
    tied; only the squares Σ_i r_ik x_i² `(K, D)` for diag and spherical, which need no more. A model of rows with
    missing cells also has `missing_entropy` () in nats, and its moments are the expected ones (`fed_em.missing_gaussian`).

    Attributes:
        n_components: K, at least 1.
        n_columns: D, at least 1.
        covariance: The covariance structure.
        covariance_floor: Added to every variance after the M-step, as scikit-learn's `reg_covar`; at least 0.
            With a positive floor the M-step is only nearly a maximiser, as scikit-learn's is.
        prior: Conjugate prior in the coordinates of the E-step, or None for maximum likelihood.
        missing: Whether an E-step admits rows with missing cells, NaN. It is declared and not seen from the rows, as all
            parties must sum the same statistics, and the bounds of these are wider.
        mixing: Mixing weights of each tenant's own (`fed_em.tenant_mixing`): the rows of one E-step are those of one tenant. None if
            they are shared.

    Raises:
        CallerError: a field is out of its range.
    """

    n_components: int
    n_columns: int
    covariance: CovarianceStructure = "full"
    covariance_floor: float = 1e-6
    prior: GaussianMixturePrior | None = None
    missing: bool = False
    mixing: TenantMixing | None = None

    def __post_init__(self) -> None:
        check_whole_number("n_components", self.n_components, 1)
        check_whole_number("n_columns", self.n_columns, 1)
        check_real("covariance_floor", self.covariance_floor, 0.0)
        if not isinstance(self.missing, bool):
            raise CallerError(f"missing must be true or false, not {self.missing!r}")
        if self.covariance not in COVARIANCE_STRUCTURES:
            raise CallerError(
                f"no covariance structure '{self.covariance}'",
                remedy=nearest(str(self.covariance), COVARIANCE_STRUCTURES),
            )
        if self.prior is not None:
            self._check_prior(self.prior)

    def _check_prior(self, prior: GaussianMixturePrior) -> None:
        if not isinstance(prior, GaussianMixturePrior):
            raise CallerError(f"prior must be a GaussianMixturePrior or None, not {type(prior).__name__}")
        if len(prior.mean) != self.n_columns:
            raise CallerError(f"the prior has {len(prior.mean)} columns, the model {self.n_columns}")
        if self.covariance in ("full", "tied") and prior.degrees_of_freedom <= self.n_columns - 1:
            raise CallerError(
                f"the prior's degrees_of_freedom {prior.degrees_of_freedom} do not exceed n_columns − 1",
                remedy=f"use {self.n_columns + 2}",
            )
        if self.mixing is not None:
            self.mixing.check_alone(prior.weight_concentration)

    @property
    def family(self) -> str:
        """The family's registered name."""
        return FAMILY

    @property
    def n_free_parameters(self) -> int:
        """Number of free parameters, for information criteria."""
        means_and_weights = self.n_components * self.n_columns + self.n_components - 1
        return means_and_weights + n_covariance_parameters(self.covariance, self.n_components, self.n_columns)

    @property
    def gaussian(self) -> GaussianMixtureModel:
        """The mixture of the Gaussian columns alone, which are all."""
        return self

    @property
    def gaussian_places(self) -> NDArray[np.intp]:
        """Where the Gaussian columns stand in a row."""
        return np.arange(self.n_columns)

    @property
    def discrete(self) -> None:
        """There are no other columns."""
        return

    @cached_property
    def with_shared_weights(self) -> GaussianMixtureModel:
        """The same mixture with one set of weights for all rows."""
        return replace(self, mixing=None)

    @property
    def component_blocks(self) -> tuple[str, ...]:
        """The moments that each component has its own of."""
        return ("first", "second")

    def describe(self) -> Mapping[str, Any]:
        """The description as JSON-able values; it speaks of missing cells only where they are admitted."""
        return {
            "family": FAMILY,
            "n_components": self.n_components,
            "n_columns": self.n_columns,
            "covariance": self.covariance,
            "covariance_floor": self.covariance_floor,
            "prior": None if self.prior is None else self.prior.describe(),
            **({"missing": True} if self.missing else {}),
            **({} if self.mixing is None else self.mixing.describe()),
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> GaussianMixtureModel:
        """The model that `describe` described; all but `n_components` and `n_columns` may be left out.

        Raises:
            CallerError: a key is unknown or missing, or a value is out of its range.
        """
        optional = ("covariance", "covariance_floor", "prior", "missing", *MIXING_KEYS)
        fields = dict(
            read_mapping("a Gaussian mixture", description, ("family", "n_components", "n_columns"), optional)
        )
        del fields["family"]
        if fields.get("prior") is not None:
            fields["prior"] = GaussianMixturePrior.from_description(fields["prior"])
        mixing = TenantMixing.taken_from(fields)
        return cls(**fields, mixing=mixing)

    def layout(self, column_bounds: Vector | None = None, radius: float | None = None) -> Layout:
        """Names, shapes, per-record bounds and norms of the statistics.

        A block has one bound: that of its widest column, which `Block.source` names by its index. Where cells may be
        missing, the `reach_of` it for expected values, which `fed_em.imputed_reach` checks for each record.

        Norms, of one record of weight w ≤ 1 with responsibilities r on the simplex of K components: 1 for `count` and
        `responsibilities` (‖r‖₂ ≤ 1), log K for `entropy`, and for the moments those of `fed_em.ball`, reached by a record that one
        component has all of. A label only narrows the simplex. In a ball no cell is missing, and `missing_entropy` has norm 0.

        Args:
            column_bounds: `(D,)`, the largest |x_d| in the coordinates of the E-step, positive. Without them
                every column counts as bounded by 1, which is right for `Coordinates.of_ranges` and a
                placeholder otherwise; but with a radius the ball alone bounds them.
            radius: Of the ball that rows are in, positive; None if there is none.

        Raises:
            CallerError: not D bounds, or one is not positive and finite, naming the column by its index; or there is a radius and
                mixing weights are each tenant's own, so that one record moves the terms of all.
        """
        if radius is not None:
            check_no_own_weights(self.mixing)
        if column_bounds is None:
            return self._unit_layout if radius is None else self._layout_of(np.full(self.n_columns, radius), "", radius)
        bounds = np.asarray(column_bounds, dtype=np.float64)
        if bounds.shape != (self.n_columns,):
            raise CallerError(f"column bounds of shape {bounds.shape} do not fit {self.n_columns} columns")
        for d in np.flatnonzero(~(np.isfinite(bounds) & (bounds > 0))):
            raise CallerError(
                f"the bound of column {d} is {bounds[d]}",
                remedy="declare a positive, finite bound for each column",
            )
        return self._layout_of(bounds, f"column {int(np.argmax(bounds))}", radius)

    @cached_property
    def _unit_layout(self) -> Layout:
        return self._layout_of(np.ones(self.n_columns), "", None)

    def _layout_of(self, bounds: Vector, source: str, radius: float | None) -> Layout:
        k, d = self.n_components, self.n_columns
        incomplete = self.missing and radius is None
        if incomplete:
            bounds = np.full(d, reach_of(float(bounds.max())))
        reach = Reach.of(bounds, radius)
        of_missing = Block(
            MISSING_ENTROPY,
            (),
            MISSING_ENTROPY_BOUND,
            "declared bound of the entropy of missing cells",
            MISSING_ENTROPY_BOUND if incomplete else 0.0,
        )
        second = n_second_moments(self.covariance, d)
        return Layout(
            (
                Block(COUNT, (), 1.0),
                Block(LOG_LIKELIHOOD, (), LOG_DENSITY_BOUND, "declared bound of a log-density"),
                # With one component the entropy is 0, and any positive bound holds.
                Block(ENTROPY, (), math.log(max(k, 2)), "log of the number of components"),
                Block("responsibilities", (k,), 1.0, norm=1.0),
                Block("first", (k, d), reach.entry, source, reach.first),
                Block("second", (k, second), reach.entry * reach.entry, source, reach.second(self.covariance)),
                *((of_missing,) if self.missing else ()),
                *(() if self.mixing is None else self.mixing.blocks(k)),
            )
        )

    def e_step(self, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None) -> Statistics:
        """Expected sufficient statistics of `rows`; bit for bit the same for the same input.

        Complete rows are added in the order of their blocks (`fed_em.gaussian_e_step`), then those with missing cells in that of theirs
        (`fed_em.missing_gaussian`).

        Args:
            parameters: As `validate` admits them.
            rows: `(n, D)`, finite, or NaN where a cell is missing if the model admits that; n may be 0. Or
                records, with weights and labels.
            layout: The layout to carry, which says the bounds; `self.layout()` if None.

        Raises:
            CallerError: rows have the wrong shape or hold values that are not finite.
            FedEmError: a covariance is not positive definite (naming the component), or a row is so far from
                every component that its density is not a number.
        """
        if self.mixing is not None:
            return e_step_at_home(self, parameters, rows, layout)
        return self._e_steps([parameters], rows, layout)[0]

    def e_steps(self, points: Sequence[Parameters], rows: Rows | Records) -> list[Statistics]:
        """E-steps at several parameters, of complete rows by one product of all; arguments and errors are those of `e_step`."""
        if len(points) < 2 or self.mixing is not None:
            return [self.e_step(each, rows) for each in points]
        return self._e_steps(points, rows, None)

    def _e_steps(self, points: Sequence[Parameters], rows: Rows | Records, layout: Layout | None) -> list[Statistics]:
        records, n = self._checked(rows).of_positive_weight(), len(points)
        together, parameters = self._side_by_side(points) if n > 1 else (self, points[0])
        sums = together._e_step(parameters, records, n).sums(records)
        incomplete = records[sums.incomplete] if len(sums.incomplete) else None
        if incomplete is not None and not self.missing:
            raise _not_finite()
        # Each one's weights are an n-th of its own.
        complete_weight = records.total_weight - (0.0 if incomplete is None else incomplete.total_weight)
        log_likelihoods = sums.log_likelihoods + complete_weight * math.log(n)
        features = sums.features.reshape(n, self.n_components, -1)
        found = []
        for at, own, log_likelihood, entropy in zip(points, features, log_likelihoods, sums.entropies, strict=True):
            parts = self._of_complete_rows(own, log_likelihood, entropy)
            if incomplete is not None:
                with one_blas_thread(), np.errstate(all="ignore"):
                    others = expected_sums(self._components(at), at["weights"], incomplete)
                parts = {name: part + others[name] for name, part in parts.items()}
            if not math.isfinite(parts[LOG_LIKELIHOOD]):
                raise _no_density(records.rows)
            parts[COUNT] = records.total_weight
            found.append(Statistics.of(self._unit_layout if layout is None else layout, parts))
        return found

    def _side_by_side(self, points: Sequence[Parameters]) -> tuple[GaussianMixtureModel, Parameters]:
        """One mixture of the components of all, in their order; tied covariances as full ones, whose statistics are the same."""
        n, k = len(points), self.n_components
        arrays = {name: np.concatenate([each[name] for each in points]) for name in points[0]}
        tied = self.covariance == "tied"
        if tied:
            arrays["covariances"] = np.repeat(np.stack([each["covariances"] for each in points]), k, axis=0)
        together = replace(self, n_components=n * k, covariance="full" if tied else self.covariance, prior=None)
        return together, Parameters({**arrays, "weights": arrays["weights"] / n})

    def _of_complete_rows(self, features: Vector, log_likelihood: float, entropy: float) -> dict[str, Vector | float]:
        """The statistics by name, without the count."""
        columns = slice(1, 1 + self.n_columns)
        return {
            LOG_LIKELIHOOD: log_likelihood,
            ENTROPY: entropy,
            "responsibilities": features[:, 0],
            "first": features[:, columns],
            "second": features[:, columns.stop :],
            **({MISSING_ENTROPY: 0.0} if self.missing else {}),
        }

    def _components(self, parameters: Parameters) -> GaussianComponents:
        return GaussianComponents(self.covariance, parameters["means"], parameters["covariances"])

    def m_step(self, statistics: Statistics, parameters: Parameters, held: tuple[int, ...] = ()) -> Parameters:
        """The maximiser: scikit-learn's M-step, or with a prior the posterior mode of `fed_em.priors`.

        Args:
            statistics: Of at least one record. The moments of held components are not read.
            parameters: Those of the E-step; what `hold` keeps is theirs, nothing else is read.
            held: Distinct components, ascending; see `hold`.

        Raises:
            CallerError: the statistics are of no record at all, or `held` is not admissible.
            FedEmError: a covariance is not positive definite, naming the component.
        """
        if not float(statistics[COUNT]) > 0:
            raise CallerError("the statistics are of no record at all", remedy="give at least one row")
        if held:
            statistics = silence(self, statistics, held)
        # The rounding of an encoded sum can take the count of an empty component just below zero.
        counts = np.maximum(statistics["responsibilities"], 0.0)
        first, second = statistics["first"], statistics["second"]
        if self.prior is None:
            pooled = counts + _EMPTY_COMPONENT
            # As scikit-learn does: full covariances are exactly about the guarded mean, the others E x² − μ².
            weight = 2 * pooled - counts if self.covariance == "full" else pooled
        else:
            pooled, first, second = self.prior.with_pseudo_records(self.covariance, counts, first, second)
            weight = pooled
        means = first / pooled[:, np.newaxis]
        estimate = self._estimate(counts, pooled, means, raw_scatter(self.covariance, second, means, weight))
        # Held first: an estimate from silenced moments has no covariance worth a look.
        return self._positive_definite(self.hold(parameters, estimate, held) if held else estimate)

    def hold(self, before: Parameters, after: Parameters, held: tuple[int, ...]) -> Parameters:
        """`after`, except that the `held` components have mean and covariance of `before`, and all of them a tied covariance.

        Weights are those of `after`: they follow from how much each component holds, not from its moments.

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
        return keep_held(before, after, held, "weights", "covariances" if self.covariance == "tied" else None)

    def m_step_of_responsibilities(self, responsibilities: Vector, rows: Rows) -> Parameters:
        """The M-step of rows in memory whose responsibilities are known, for example from a clustering.

        It goes over the rows twice, means first, so it stays accurate where single rows make a component.

        Args:
            responsibilities: `(n, K)`, not negative.
            rows: `(n, D)`, finite; n at least 1.

        Raises:
            CallerError: shapes do not fit.
            FedEmError: a covariance is not positive definite, naming the component.
        """
        rows = self._checked_rows(rows)
        if len(rows) == 0 or responsibilities.shape != (len(rows), self.n_components):
            raise CallerError(
                f"responsibilities of shape {responsibilities.shape} do not fit "
                f"{len(rows)} rows and {self.n_components} components"
            )
        counts = responsibilities.sum(axis=0)
        pooled = counts + _EMPTY_COMPONENT
        if self.prior is not None:
            # The normal prior of a mean is a pseudo-record at its centre.
            precision = self.prior.mean_precision
            pooled = counts + precision
            rows = np.concatenate((rows, [self.prior.mean]))
            responsibilities = np.concatenate((responsibilities, np.full((1, self.n_components), precision)))
        means = responsibilities.T @ rows / pooled[:, np.newaxis]
        scatter = scatter_about(self.covariance, responsibilities, rows, means)
        return self._positive_definite(self._estimate(counts, pooled, means, scatter))

    def _estimate(self, counts: Vector, pooled: Vector, means: Vector, scatter: Vector) -> Parameters:
        if self.prior is None:
            weights = pooled
            covariances = pool_scatter(self.covariance, scatter, pooled)
        else:
            weights = counts + (self.prior.weight_concentration - 1.0) + _EMPTY_COMPONENT
            covariances = self.prior.posterior_covariances(self.covariance, scatter, counts)
        floored = add_floor(self.covariance, covariances, self.covariance_floor)
        return Parameters({"weights": weights / weights.sum(), "means": means, "covariances": floored})

    def _positive_definite(self, parameters: Parameters) -> Parameters:
        self.whitening(parameters)
        return parameters

    def free_energy(self, statistics: Statistics, parameters: Parameters) -> float:
        """F of Neal and Hinton (1998), in nats: exact, as it is linear in the statistics and their entropy.

            F = Σ_k N_k log w_k + Σ_k E_k + H,   E_k = −½ ( N_k (D log 2π + log |Σ_k|) + tr Σ_k⁻¹ A_k )

        with A_k = Σ_i r_ik (x_i − μ_k)(x_i − μ_k)ᵀ, the scatter about μ_k (its expectation, where cells are missing), and H the
        entropy of all that is not observed: components, and missing cells given the component.

        Args:
            statistics: Sums of terms at whatever parameters, each of all components: none silenced.
            parameters: As `validate` admits them.

        Returns:
            At most the log-likelihood; -inf if a component of weight zero holds records.

        Raises:
            FedEmError: a covariance is not positive definite, naming the component.
        """
        whitening, means = self.whitening(parameters), parameters["means"]
        counts, first = np.maximum(statistics["responsibilities"], 0.0), statistics["first"]
        scatter = moved_scatter(self.covariance, counts, first, statistics["second"], means)
        normalisers = whitening.log_determinants - 0.5 * self.n_columns * math.log(2 * math.pi)
        expected = expected_log_weights(self.mixing, statistics, parameters) + counts @ normalisers
        entropy = float(statistics[ENTROPY]) + (float(statistics[MISSING_ENTROPY]) if self.missing else 0.0)
        return float(expected) - 0.5 * whitening.summed_distances(scatter) + entropy

    def log_prior(self, parameters: Parameters) -> float:
        """Log density of the prior, up to a constant, in nats; 0 without a prior."""
        if self.prior is None:
            return 0.0
        return self.prior.log_density(parameters["weights"], parameters["means"], self.whitening(parameters))

    def chart(self, reference: Parameters) -> Chart:
        """A chart about `reference`; see `fed_em.sphere_chart` and `fed_em.gaussian_chart`.

        Raises:
            CollapsedComponent: a covariance of the reference is not above the floor.
            CallerError: mixing weights are each tenant's own.
        """
        if self.mixing is not None:
            raise no_chart()
        concentration = 1.0 if self.prior is None else self.prior.weight_concentration
        weights = WeightsChart(self.n_components, concentration)
        return Chart((weights, GaussianChart.about(self.covariance, self.covariance_floor, self.prior, reference)))

    def validate(self, parameters: Parameters) -> None:
        """Raise `CallerError`, naming the array, unless `parameters` are admissible.

        They are if exactly the arrays `weights`, `means` and `covariances` are there in their shapes, all
        finite, the weights are not negative and sum to 1 within 1e-6, and the covariances are symmetric and
        positive definite.
        """
        k, d = self.n_components, self.n_columns
        shapes = {"weights": (k,), "means": (k, d), "covariances": covariance_shape(self.covariance, k, d)}
        for name in parameters:
            if name not in shapes:
                raise CallerError(f"a Gaussian mixture has no parameter '{name}'", remedy=nearest(name, shapes))
        for name, shape in shapes.items():
            if parameters[name].shape != shape:
                raise CallerError(f"parameter '{name}' has shape {parameters[name].shape}, not {shape}")
            if not np.isfinite(parameters[name]).all():
                raise CallerError(f"parameter '{name}' holds values that are not finite")
        weights, covariances = parameters["weights"], parameters["covariances"]
        if (weights < 0).any() or abs(float(weights.sum()) - 1.0) > _WEIGHT_SUM_TOLERANCE:
            raise CallerError("parameter 'weights' is not a set of probabilities", remedy="make them sum to 1")
        if covariances.ndim >= 2 and self.covariance != "diag":
            asymmetry = np.abs(covariances - np.swapaxes(covariances, -1, -2)).max()
            if asymmetry > _SYMMETRY_TOLERANCE * np.abs(covariances).max():
                raise CallerError("parameter 'covariances' holds a matrix that is not symmetric")
        try:
            self.whitening(parameters)
        except FedEmError as error:
            raise CallerError(f"parameter 'covariances': {error.message}", remedy=error.remedy) from error

    def whitening(self, parameters: Parameters) -> Whitening:
        """The factorised covariances.

        Raises:
            FedEmError: a covariance is not positive definite, naming the component.
        """
        return Whitening.of(self.covariance, parameters["covariances"], self.n_components, self.n_columns)

    def log_prob(self, parameters: Parameters, rows: Rows | Records) -> Vector:
        """Log density of the observed cells of each row, and its label, `(n,)`, in nats; any model takes missing cells.

        Raises as `e_step` does.
        """
        return self._posterior(parameters, rows)[0]

    def responsibilities(self, parameters: Parameters, rows: Rows | Records) -> Vector:
        """Posterior probabilities of the components, `(n, K)`, rows summing to 1; as `log_prob`, without weights."""
        return self._posterior(parameters, rows)[1]

    def _posterior(self, parameters: Parameters, rows: Rows | Records) -> tuple[Vector, Vector]:
        records = self._checked(rows)
        log_densities, responsibilities, incomplete = self._e_step(parameters, records).posterior(records)
        if len(incomplete):
            with one_blas_thread(), np.errstate(all="ignore"):
                log_densities[incomplete], responsibilities[incomplete] = posterior_of_records(
                    self._components(parameters), parameters["weights"], records[incomplete]
                )
        if not np.isfinite(log_densities).all():
            raise _no_density(records.rows)
        return log_densities, responsibilities

    def _e_step(self, parameters: Parameters, records: Records, n_mixtures: int = 1) -> GaussianEStep:
        densities = GaussianDensities.of(parameters, self.whitening(parameters))
        return GaussianEStep(self.covariance, densities, kernels_for(*records.rows.shape), n_mixtures)

    def sample(self, parameters: Parameters, n: int, generator: np.random.Generator) -> tuple[Rows, NDArray[np.int64]]:
        """`n` independent rows `(n, D)` and the component `(n,)` that each was drawn from."""
        weights, means = parameters["weights"], parameters["means"]
        matrices = covariance_matrices(self.covariance, parameters["covariances"], means)
        labels = generator.choice(self.n_components, size=n, p=weights / weights.sum())
        rows = generator.standard_normal((n, self.n_columns))
        for k, lower in enumerate(np.linalg.cholesky(matrices)):
            members = labels == k
            rows[members] = means[k] + rows[members] @ lower.T
        return rows, labels

    def _checked(self, rows: Rows | Records) -> Records:
        self._checked_rows(rows.rows if isinstance(rows, Records) else rows)
        records = Records.of(rows)
        records.check_labels(self.n_components)
        return records

    def _checked_rows(self, rows: Rows) -> Rows:
        rows = np.asarray(rows, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.n_columns:
            raise CallerError(f"rows of shape {rows.shape} are not of {self.n_columns} columns")
        return rows


def _not_finite() -> FedEmError:
    return CallerError(
        "the rows hold values that are not finite",
        remedy="give a model that admits missing cells if they are missing, or leave out such rows",
    )


def _no_density(rows: Rows) -> FedEmError:
    """Why rows have no density."""
    check_no_infinity(rows)
    return NotEvaluated(
        "a row is so far from every component that its density is zero",
        remedy="scale the columns, raise the covariance floor, or start elsewhere",
    )
