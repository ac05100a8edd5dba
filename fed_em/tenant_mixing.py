"""Mixing weights of each tenant's own: p(x) = Σ_k π_ck p_k(x) for the rows of tenant c, with components that all share.

A hospital's patients are of the same kinds as everybody's, in shares of its own. A tenant never sends its π_c: they are the best ones
for its rows at the parameters that it is given (`fed_em.mixing_weights`), a function of both and of nothing else. So there is nothing to
remember between two rounds, or to lose: a term computed again is the same, bit for bit. E-step and M-step are those of the mixture,
at π_c in place of shared weights, and the sum over tenants is of the same statistics.

**What EM climbs** is the objective with the best weights put in,

    ℓ(θ) = Σ_c max_π ( Σ_i log Σ_k π_k p_k(x_i; θ) + (a/K) Σ_k log π_k ) + log prior(θ),

which never falls, up to the solver's tolerance: the M-step raises the bracket at the π_c of the E-step (Dempster, Laird and Rubin
1977), and the next maximum over π raises it again; an ECM algorithm (Meng and Rubin 1993), with π to its optimum. Likewise with stale
terms: F of `fed_em.em` rises over (π_c, r_i) of those who answer, then over θ. It needs two numbers more of each tenant, which are summed:

    mixing           Σ_k N_ck log π_ck       in place of Σ_k N_k log w_k
    local_log_prior  (a/K) Σ_k log π_ck

The shared `weights` are still there, as the M-step gives them: N_k / N of all rows together. They weigh components in reports, and for
rows of nobody in particular; no E-step reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from fed_em.description import check_real, nearest
from fed_em.errors import CallerError
from fed_em.layout import Block, Layout
from fed_em.mixing_weights import TOLERANCE, best_mixing_weights
from fed_em.model import LOCAL_LOG_PRIOR, ComponentModel, Model, Rows, Summand
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]

MIXING = "mixing"

# Keys of a model's description.
MIXING_KEYS = ("mixing", "mixing_records")
_SHARED, _TENANT = "shared", "tenant"

_WEIGHTS, _RESPONSIBILITIES = "weights", "responsibilities"


@dataclass(frozen=True)
class TenantMixing:
    """That mixing weights are each tenant's own.

    Attributes:
        records: a ≥ 0, pseudo-records in each tenant's weights, spread evenly over the components. Above 0 no component is
            impossible anywhere, so a tenant's next row may be of a kind that it has never seen.

    Raises:
        CallerError: it is out of its range.
    """

    records: float = 1.0

    def __post_init__(self) -> None:
        check_real("mixing_records", self.records, 0.0)

    @classmethod
    def taken_from(cls, fields: dict[str, Any]) -> TenantMixing | None:
        """What a model's description says of mixing, taken out of its fields: None if weights are shared.

        Raises:
            CallerError: `mixing` is neither "shared" nor "tenant", or `mixing_records` is out of its range or without a use.
        """
        mixing, records = fields.pop("mixing", _SHARED), fields.pop("mixing_records", None)
        if mixing not in (_SHARED, _TENANT):
            raise CallerError(f"no mixing '{mixing}'", remedy=nearest(str(mixing), (_SHARED, _TENANT)))
        if mixing == _TENANT:
            return cls() if records is None else cls(records)
        if records is not None:
            raise CallerError("mixing_records is of tenants' own weights", remedy=f'set mixing = "{_TENANT}"')
        return None

    def describe(self) -> Mapping[str, Any]:
        """The keys that `taken_from` takes."""
        return {"mixing": _TENANT, "mixing_records": self.records}

    def check_alone(self, weight_concentration: float) -> None:
        """Raise `CallerError` if there is a prior on shared weights besides."""
        if weight_concentration != 1.0:
            raise CallerError(
                "a prior's weight_concentration is of shared weights, and there are none",
                remedy="leave it at 1, and set mixing_records",
            )

    def blocks(self, n_components: int) -> tuple[Block, ...]:
        """What is summed besides a mixture's own statistics, with bounds a record.

        At the best weights π_k = (N_k + a/K) / (n + a). As log is concave, −Σ N_k log π_k ≤ n log K, and
        −(a/K) Σ log π_k ≤ a log(K (n + a)/a) ≤ a log K + n. The solver's tolerance is far below the slack; a tenant without
        rows has equal weights.
        """
        log_k, slack = math.log(max(n_components, 2)), 1.0 + 1e3 * TOLERANCE
        return (
            Block(MIXING, (), slack * (1.0 + self.records) * log_k, "log of the number of components"),
            Block(
                LOCAL_LOG_PRIOR, (), slack * (1.0 + self.records * log_k), "pseudo-records of tenants' mixing weights"
            ),
        )


@runtime_checkable
class TenantMixedModel(ComponentModel, Protocol):
    """A mixture whose weights may be each tenant's own."""

    @property
    def mixing(self) -> TenantMixing | None:
        """None if weights are shared."""
        ...

    @property
    def with_shared_weights(self) -> ComponentModel:
        """The same mixture with one set of weights for all rows."""
        ...


def has_own_weights(model: Summand) -> bool:
    """Whether the mixing weights of a model are each tenant's own."""
    return isinstance(model, TenantMixedModel) and model.mixing is not None


def check_no_own_weights(mixing: TenantMixing | None) -> None:
    """Raise `CallerError` if there are such weights: fitted to all rows of a tenant, they let one record move the terms of all others."""
    if mixing is not None:
        raise CallerError(
            "what one record changes has no bound where mixing weights are each tenant's own",
            remedy='set mixing = "shared", or fit without differential privacy',
        )


def no_chart() -> CallerError:
    """Why such a model has no chart (`fed_em.chart`)."""
    return CallerError(
        "mixing weights of each tenant's own are no coordinates of the model", remedy="fit it by plain EM"
    )


def at_home(model: Summand, parameters: Parameters, rows: Rows | Records) -> Parameters:
    """The parameters with the weights of the one tenant that holds these rows; as they are if weights are shared.

    Args:
        model: Any.
        parameters: Admissible ones; those of the rows' coordinates.
        rows: All rows `(n, D)` or records of the tenant; n may be 0. Weights and labels count as in an E-step.

    Raises:
        FedEmError: as `model.responsibilities` does.
    """
    if not isinstance(model, TenantMixedModel) or model.mixing is None:
        return parameters
    records = Records.of(rows).of_positive_weight()
    equal = np.full(model.n_components, 1.0 / model.n_components)
    counts = np.ones(len(records)) if records.weights is None else records.weights
    # Responsibilities at equal weights are densities, each row divided by its own sum.
    densities = model.responsibilities(Parameters({**parameters, _WEIGHTS: equal}), records)
    weights = best_mixing_weights(densities, counts, model.mixing.records)
    return Parameters({**parameters, _WEIGHTS: weights})


def _e_step(model: Model, parameters: Parameters, rows: Rows | Records, layout: Layout) -> Statistics:
    return model.e_step(parameters, rows, layout)


def e_step_at_home(
    model: TenantMixedModel,
    parameters: Parameters,
    rows: Rows | Records,
    layout: Layout | None,
    e_step: Callable[[Model, Parameters, Rows | Records, Layout], Statistics] = _e_step,
) -> Statistics:
    """The E-step of one tenant's rows at its own weights. Raises as the model's E-step with shared ones.

    Args:
        model: With own weights.
        parameters: Admissible ones.
        rows: All of the tenant's.
        layout: Of the result; the model's own if None.
        e_step: Sums with shared weights, once the own ones are in the parameters; it may do so in parts.
    """
    assert model.mixing is not None
    own, shared = at_home(model, parameters, rows), model.with_shared_weights
    statistics = e_step(shared, own, rows, shared.layout())
    parts: dict[str, Vector | float] = {block.name: statistics[block.name] for block in statistics.layout}
    parts[MIXING] = float(xlogy(statistics[_RESPONSIBILITIES], own[_WEIGHTS]).sum())
    parts[LOCAL_LOG_PRIOR] = float(xlogy(model.mixing.records / model.n_components, own[_WEIGHTS]).sum())
    return Statistics.of(model.layout() if layout is None else layout, parts)


def expected_log_weights(mixing: TenantMixing | None, statistics: Statistics, parameters: Parameters) -> float:
    """Σ_k N_k log w_k, or with tenants' own weights Σ_c Σ_k N_ck log π_ck: their part in the free energy, in nats."""
    if mixing is not None:
        return float(statistics[MIXING])
    return float(xlogy(np.maximum(statistics[_RESPONSIBILITIES], 0.0), parameters[_WEIGHTS]).sum())
