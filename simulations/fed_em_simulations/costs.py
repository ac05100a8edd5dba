"""What work and messages cost in virtual time: prices of units, times how slow each tenant's machine and line are.

Units are counted as the machines do them (`fed_em_simulations.work`), so nothing here knows the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from fed_em.description import check_real
from fed_em.errors import CallerError
from fed_em_simulations.distributions import Constant, Distribution, generator_of
from fed_em_simulations.memory_hub import Direction
from fed_em_simulations.work import Work


@dataclass(frozen=True)
class UnitPrices:
    """Seconds of one core for a unit of each kind of work (`Work`).

    The defaults are those of a core of an x86-64 server, as this repository's benches measure them: AES-CTR at 9 GB/s; E-steps over two
    thousand rows of one to thirty columns with full covariances, what each E-step costs at least included (`tests/bench/e_step_prices.py`).
    """

    agreements: float = 31e-6
    signatures: float = 50e-6
    verifications: float = 103e-6
    derivations: float = 3e-6
    masks: float = 6e-6
    mask_bytes: float = 1 / 9e9
    shares: float = 9e-6
    densities: float = 40e-9
    statistics: float = 0.6e-9

    def __post_init__(self) -> None:
        for each in fields(self):
            check_real(f"the price of {each.name}", getattr(self, each.name), 0.0)

    def of(self, work: Work) -> float:
        """Seconds that an amount of work takes."""
        amounts = vars(work)
        return float(sum(price * amounts[name] for name, price in vars(self).items()))


# An office's line, and a machine like the one that the prices are of.
_PRICES = UnitPrices()
_LATENCY, _UPLOAD, _DOWNLOAD, _AS_PRICED = Constant(0.02), Constant(2.5e6), Constant(12.5e6), Constant(1.0)


@dataclass(frozen=True)
class CostModel:
    """What a simulated federation is charged. Everything drawn is drawn by the federation's seed.

    Attributes:
        latency: Seconds a message is under way, over tenants.
        upload, download: Bytes a second of a tenant's line; `Constant(0)`: as fast as one likes.
        slowness: By how much longer a tenant's machine takes than the prices say.
        server_line: Bytes a second of the server's own line, each way, which all messages share; 0: as fast as one likes.
        server_slowness: As for tenants.
        prices: Of units of work.
    """

    latency: Distribution = _LATENCY
    upload: Distribution = _UPLOAD
    download: Distribution = _DOWNLOAD
    slowness: Distribution = _AS_PRICED
    server_line: float = 125e6
    server_slowness: float = 1.0
    prices: UnitPrices = _PRICES

    def __post_init__(self) -> None:
        check_real("server_line", self.server_line, 0.0)
        check_real("server_slowness", self.server_slowness, 0.0)

    def of_federation(self, n: int, seed: int) -> FederationPrices:
        """The prices of `n` tenants. Raises `CallerError` if a distribution is of a tenant that there is not."""
        drawn = {
            name: getattr(self, name).draw(n, generator_of(seed, "costs", name)).tolist()
            for name in ("latency", "upload", "download", "slowness")
        }
        for name, values in drawn.items():
            if min(values) < 0:
                raise CallerError(f"the {name} of a tenant is negative", remedy="draw it from another distribution")
        lines = {Direction.TO_SERVER: drawn["upload"], Direction.TO_TENANT: drawn["download"]}
        return FederationPrices(self, drawn["latency"], lines, drawn["slowness"])


TYPICAL = CostModel()

FREE = CostModel(Constant(0.001), Constant(0), Constant(0), Constant(0), server_line=0, server_slowness=0)
"""A millisecond of latency, and nothing else costs anything."""


@dataclass(frozen=True)
class FederationPrices:
    """Prices of each tenant. Implements `fed_em_simulations.memory_hub.Prices`."""

    costs: CostModel
    latency: list[float]
    lines: dict[Direction, list[float]]
    slowness: list[float]

    def travelling(self, tenant: int, direction: Direction, size: int) -> tuple[float, float]:
        """See `Prices`."""
        line = self.lines[direction][tenant]
        return size / line if line else 0.0, self.latency[tenant]

    def passing_the_server(self, direction: Direction, size: int) -> float:
        """See `Prices`."""
        return size / self.costs.server_line if self.costs.server_line else 0.0

    def of_tenant(self, tenant: int, work: Work) -> float:
        """See `Prices`."""
        return self.slowness[tenant] * self.costs.prices.of(work)

    def of_server(self, work: Work) -> float:
        """See `Prices`."""
        return self.costs.server_slowness * self.costs.prices.of(work)
