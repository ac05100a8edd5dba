"""What a latent-variable model is: two pure functions around a fixed-length sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fed_em.layout import Layout
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics

Rows = NDArray[np.float64]

# Every layout carries these two scalar statistics: the number of records and their log-likelihood.
COUNT = "count"
LOG_LIKELIHOOD = "log_likelihood"

# Every layout of a mixture carries the entropy of the components, given the rows: −Σ r log r, in nats.
ENTROPY = "entropy"

# And every layout of a model whose missing cells have a density: the entropy of those cells, given the component.
MISSING_ENTROPY = "missing_entropy"

# And of a model with unknowns that stay at a tenant and have a prior: its log density at their values, in nats.
LOCAL_LOG_PRIOR = "local_log_prior"


@runtime_checkable
class Summand(Protocol):
    """What a sum is taken of: a model, or several side by side (`fed_em.candidates`). Statistics of rows that add up."""

    @property
    def family(self) -> str:
        """The family's registered name, e.g. "gaussian-mixture"."""
        ...

    @property
    def n_columns(self) -> int:
        """D, the number of columns of a row."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """The description as JSON-able values; `fed_em.families.build_summand` turns it back into what it describes."""
        ...

    def layout(self, column_bounds: NDArray[np.float64] | None = None, radius: float | None = None) -> Layout:
        """The layout of these statistics.

        Args:
            column_bounds: `(D,)`, the largest |x_d| a row can hold in the coordinates of the E-step. Without
                them the layout says nothing useful about bounds and suits local use only.
            radius: Of the ball that the Gaussian cells of every row are in, all observed, in the coordinates of the E-step
                (`fed_em.ball.into_ball`); None if there is no ball. Positive. Without column bounds the ball alone bounds them.

        Raises:
            CallerError: bounds do not fit or are out of range; or there is a radius, but no bound of what one record changes.
        """
        ...

    def validate(self, parameters: Parameters) -> None:
        """Raise `CallerError`, naming the array, unless `parameters` are admissible."""
        ...

    def e_step(self, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None) -> Statistics:
        """Expected sufficient statistics of `rows` `(n, D)`, or of records, at `parameters`; n may be zero. Deterministic."""
        ...


@runtime_checkable
class Model(Summand, Protocol):
    """A frozen description (family, K, structure, priors). It holds no parameters and no data."""

    @property
    def n_free_parameters(self) -> int:
        """Number of free parameters, for information criteria."""
        ...

    def m_step(self, statistics: Statistics, parameters: Parameters) -> Parameters:
        """The parameters that maximise the expected complete-data log-likelihood plus log prior."""
        ...

    def free_energy(self, statistics: Statistics, parameters: Parameters) -> float:
        """F of Neal and Hinton (1998), in nats: Σ_i ( E_{r_i}[log p(x_i, z | θ)] + H(r_i) ), a lower bound of the log-likelihood.

        Args:
            statistics: Behind each row's terms is one set of responsibilities r_i, at whatever parameters.
            parameters: θ. If all r_i are the posterior at θ, F is the log-likelihood.
        """
        ...

    def log_prior(self, parameters: Parameters) -> float:
        """Log density of the prior at `parameters`, up to a constant; 0 without a prior."""
        ...

    def log_prob(self, parameters: Parameters, rows: Rows | Records) -> NDArray[np.float64]:
        """Log density of each row, `(n,)`, in nats: of its observed cells, where it holds NaN."""
        ...

    def sample(self, parameters: Parameters, n: int, generator: np.random.Generator) -> tuple[Rows, NDArray[np.int64]]:
        """`n` rows and the latent component of each."""
        ...


@runtime_checkable
class CountedSummand(Summand, Protocol):
    """What says how much of each record each component holds, as a count asks; of moments, the one component all of it."""

    @property
    def n_components(self) -> int:
        """K, the number of components."""
        ...

    @property
    def missing(self) -> bool:
        """Whether rows may have missing cells."""
        ...

    def responsibilities(self, parameters: Parameters, rows: Rows | Records) -> NDArray[np.float64]:
        """Posterior probability of each component for each row, `(n, K)`; rows sum to 1."""
        ...


@runtime_checkable
class CountedModel(Model, CountedSummand, Protocol):
    """A model of which components can be counted."""


@runtime_checkable
class ComponentModel(CountedModel, Protocol):
    """A model whose latent variable is one of finitely many components."""

    @property
    def component_blocks(self) -> tuple[str, ...]:
        """The moments that each component has its own of: their first axis is the component. Not how much it holds."""
        ...

    def m_step(self, statistics: Statistics, parameters: Parameters, held: tuple[int, ...] = ()) -> Parameters:
        """As `Model.m_step`; with `held`, the maximiser over what `hold` lets move.

        Args:
            statistics: The `component_blocks` of held components are not read.
            parameters: Those of the E-step.
            held: Distinct components, ascending.
        """
        ...

    def hold(self, before: Parameters, after: Parameters, held: tuple[int, ...]) -> Parameters:
        """`after`, except that what the moments of the `held` components would move is as in `before`."""
        ...
