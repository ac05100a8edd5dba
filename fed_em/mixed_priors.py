"""Conjugate prior of a mixture over columns of mixed kinds, stated in pseudo-records.

    w      ~ Dirichlet(α, …, α)
    (μ, Σ) ~ normal-inverse-Wishart, as `fed_em.priors`
    p_l    ~ Dirichlet(1 + a/L, …, 1 + a/L)      probabilities of the L levels of a categorical column
    q      ~ Beta(1 + b/2, 1 + b/2)              probability of a Bernoulli column
    λ      ~ Gamma(1 + c λ₀, c)                  rate of a Poisson column

for every component and column, independently. The modes are those of the likelihood with a more records spread evenly
over the levels, b over 0 and 1, and c at the rate λ₀: for N observed records

    p_l = (N_l + a/L) / (N + a),   q = (N_1 + b/2) / (N + b),   λ = (Σ x + c λ₀) / (N + c),

so no probability is 0, and a component that nobody is left in has parameters still. Gelman et al. (2013), "Bayesian Data
Analysis", 3rd edition, sections 2.4, 2.6 and 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.columns import ColumnSchema
from fed_em.coordinates import Coordinates
from fed_em.description import check_real, read_mapping
from fed_em.errors import CallerError
from fed_em.priors import GaussianMixturePrior

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class MixedMixturePrior:
    """The symbols are those of the module's formulas; all zeros and a concentration of 1 are no prior at all.

    Attributes:
        gaussian: The prior of the Gaussian columns, in the coordinates of the E-step; None for none, and where there are no
            such columns. Its own `weight_concentration` must be 1.
        weight_concentration: α ≥ 1.
        level_records: a ≥ 0.
        bernoulli_records: b ≥ 0.
        poisson_records: c ≥ 0.
        poisson_rates: λ₀ of each Poisson column, at least 0; may be empty if c is 0.

    Raises:
        CallerError: a value is out of its range.
    """

    gaussian: GaussianMixturePrior | None = None
    weight_concentration: float = 1.0
    level_records: float = 0.0
    bernoulli_records: float = 0.0
    poisson_records: float = 0.0
    poisson_rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.gaussian, GaussianMixturePrior | None):
            raise CallerError(f"the prior of Gaussian columns is a {type(self.gaussian).__name__}")
        if self.gaussian is not None and self.gaussian.weight_concentration != 1.0:
            raise CallerError(
                "the prior of the Gaussian columns has a weight_concentration of its own",
                remedy="state it in the mixed prior",
            )
        check_real("the prior's weight_concentration", self.weight_concentration, 1.0)
        for name in ("level_records", "bernoulli_records", "poisson_records"):
            check_real(f"the prior's {name}", getattr(self, name), 0.0)
        if isinstance(self.poisson_rates, str) or not isinstance(self.poisson_rates, Sequence):
            raise CallerError("the prior's poisson_rates must be a list of numbers")
        object.__setattr__(self, "poisson_rates", tuple(self.poisson_rates))
        for rate in self.poisson_rates:
            check_real("the prior's rate of a Poisson column", rate, 0.0)

    @classmethod
    def weakly_informative(
        cls, schema: ColumnSchema, n_components: int, mean: Vector, variance: Vector
    ) -> MixedMixturePrior:
        """The default: `GaussianMixturePrior.weakly_informative`, and one pseudo-record for each column of other kinds.

        One more pseudo-record is spread over the weights, α = 1 + 1/K. The rates of Poisson columns are drawn
        towards the mean of all records.

        Args:
            schema: The columns.
            n_components: K.
            mean: The mean of each column over all records, `(D,)`; only those of Gaussian and Poisson columns are read.
            variance: The variance of each, `(D,)`; only those of Gaussian columns are read.
        """
        gaussian = None
        if len(schema.gaussian):
            places = schema.gaussian
            gaussian = GaussianMixturePrior.weakly_informative(
                n_components, mean[places].tolist(), variance[places].tolist()
            )
        return cls(gaussian, 1.0 + 1.0 / n_components, 1.0, 1.0, 1.0, tuple(mean[schema.poisson].tolist()))

    def describe(self) -> Mapping[str, Any]:
        """The prior as JSON-able values."""
        return {
            "gaussian": None if self.gaussian is None else self.gaussian.describe(),
            "weight_concentration": self.weight_concentration,
            "level_records": self.level_records,
            "bernoulli_records": self.bernoulli_records,
            "poisson_records": self.poisson_records,
            "poisson_rates": list(self.poisson_rates),
        }

    @classmethod
    def from_description(cls, description: object) -> MixedMixturePrior:
        """The prior that `describe` described; what is left out has no prior.

        Raises:
            CallerError: a key is unknown, or a value is out of its range.
        """
        keys = (
            "gaussian",
            "weight_concentration",
            "level_records",
            "bernoulli_records",
            "poisson_records",
            "poisson_rates",
        )
        fields = dict(read_mapping("a mixed prior", description, (), keys))
        if fields.get("gaussian") is not None:
            fields["gaussian"] = GaussianMixturePrior.from_description(fields["gaussian"])
        return cls(**fields)

    def in_coordinates(self, coordinates: Coordinates) -> MixedMixturePrior:
        """This prior, stated in original units, for Gaussian columns in `coordinates` (of these columns alone)."""
        if self.gaussian is None:
            return self
        return replace(self, gaussian=self.gaussian.in_coordinates(coordinates))

    def check_fits(self, schema: ColumnSchema) -> None:
        """Raise `CallerError` unless the prior is one of these columns."""
        if self.gaussian is not None and len(self.gaussian.mean) != len(schema.gaussian):
            raise CallerError(
                f"the prior has {len(self.gaussian.mean)} Gaussian columns, the schema {len(schema.gaussian)}"
            )
        if self.poisson_records > 0 and len(self.poisson_rates) != len(schema.poisson):
            raise CallerError(
                f"the prior has rates of {len(self.poisson_rates)} Poisson columns, the schema has {len(schema.poisson)}"
            )

    def rates_of(self, schema: ColumnSchema) -> Vector:
        """λ₀ of each Poisson column; zeros where there is no prior."""
        return np.array(self.poisson_rates) if self.poisson_records > 0 else np.zeros(len(schema.poisson))
