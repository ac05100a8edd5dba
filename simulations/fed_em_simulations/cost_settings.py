"""What messages and work cost in virtual time, as a scenario states it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, PositiveFloat

from fed_em_protocols.configuration import Table
from fed_em_simulations.costs import CostModel
from fed_em_simulations.distributions import Constant, Distribution, Lognormal, OneApart, Pareto

_NotNegative = Annotated[FiniteFloat, Field(ge=0)]


class ConstantSettings(Table):
    """The same for all tenants."""

    over_tenants: Literal["constant"]
    value: _NotNegative
    """Of every tenant."""

    def distribution(self) -> Distribution:
        """As the cost model takes it."""
        return Constant(self.value)


class LognormalSettings(Table):
    """exp(N(log median, σ²)) over tenants: `fed_em_simulations.distributions.Lognormal`."""

    over_tenants: Literal["lognormal"]
    median: PositiveFloat
    sigma: _NotNegative

    def distribution(self) -> Distribution:
        """As the cost model takes it."""
        return Lognormal(self.median, self.sigma)


class ParetoSettings(Table):
    """A heavy tail over tenants: `fed_em_simulations.distributions.Pareto`."""

    over_tenants: Literal["pareto"]
    least: PositiveFloat
    alpha: PositiveFloat

    def distribution(self) -> Distribution:
        """As the cost model takes it."""
        return Pareto(self.least, self.alpha)


class OneApartSettings(Table):
    """The same for all tenants but one: `fed_em_simulations.distributions.OneApart`."""

    over_tenants: Literal["one-apart"]
    usual: _NotNegative
    apart: _NotNegative
    tenant: Annotated[int, Field(ge=0)] = 0

    def distribution(self) -> Distribution:
        """As the cost model takes it."""
        return OneApart(self.usual, self.apart, self.tenant)


OverTenants = Annotated[
    ConstantSettings | LognormalSettings | ParetoSettings | OneApartSettings, Field(discriminator="over_tenants")
]


class CostSettings(Table):
    """Fields of `fed_em_simulations.costs.CostModel`; what is left out is as there: an office's lines, servers' machines."""

    latency: OverTenants | None = None
    """Seconds that a message is under way."""
    upload: OverTenants | None = None
    """Bytes a second; 0: as fast as one likes."""
    download: OverTenants | None = None
    slowness: OverTenants | None = None
    """By how much longer a tenant's machine takes than that of a server."""

    def model(self) -> CostModel:
        """The cost model."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return CostModel(**{name: spread.distribution() for name, spread in given.items() if spread is not None})
