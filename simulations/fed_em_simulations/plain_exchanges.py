"""What rounds without cryptography cost: bytes, and the virtual time that they take by the same prices as a session's.

A baseline sends numbers of eight bytes as they are: no masks, signatures or keys. The server sends each tenant what it is asked about, over
its own line and the tenant's; the tenant takes its E-steps, and its answer comes back the same way. What everybody gets at the end, and
sums that all methods have in common (moments, starts), is in none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fed_em_simulations.common_ground import CommonGround
from fed_em_simulations.costs import FederationPrices
from fed_em_simulations.memory_hub import Direction
from fed_em_simulations.work import Work


@dataclass(frozen=True)
class Spent:
    """What a method took.

    Attributes:
        rounds: How many there were.
        bytes_up, bytes_down: Of all tenants together, to and from the server.
        seconds: Virtual.
    """

    rounds: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Exchange:
    """A message to each of some tenants, and their answers.

    Attributes:
        tenants: Who answers.
        down, up: Numbers in each message.
        passes: E-steps that each takes over its rows.
    """

    tenants: Collection[str]
    down: int
    up: int
    passes: Mapping[str, int]


_BYTES_A_NUMBER = 8


def e_steps(ground: CommonGround, rows: float, passes: int) -> Work:
    """The work of E-steps over so many rows."""
    terms = round(rows) * passes
    return Work(densities=terms * ground.model.n_components, statistics=terms * ground.model.layout().size)


def spent_on(ground: CommonGround, exchanges: Sequence[Exchange]) -> Spent:
    """What exchanges took, one after the other."""
    prices = ground.costs.of_federation(len(ground.parts), ground.seed)
    return Spent(
        rounds=len(exchanges),
        bytes_up=sum(_BYTES_A_NUMBER * each.up * len(each.tenants) for each in exchanges),
        bytes_down=sum(_BYTES_A_NUMBER * each.down * len(each.tenants) for each in exchanges),
        seconds=sum(_seconds(ground, prices, each) for each in exchanges),
    )


def _seconds(ground: CommonGround, prices: FederationPrices, exchange: Exchange) -> float:
    """Until the last answer has passed the server's line, as messages of a session do."""
    down, up = (_BYTES_A_NUMBER * numbers for numbers in (exchange.down, exchange.up))
    leaves, arrivals = 0.0, []
    for index, (name, records) in enumerate(ground.parts.items()):
        if name in exchange.tenants:
            leaves += prices.passing_the_server(Direction.TO_TENANT, down)
            work = e_steps(ground, len(records), exchange.passes[name])
            there, back = (
                sum(prices.travelling(index, *message))
                for message in ((Direction.TO_TENANT, down), (Direction.TO_SERVER, up))
            )
            arrivals.append(leaves + there + prices.of_tenant(index, work) + back)
    ended = 0.0
    for arrives in sorted(arrivals):
        ended = max(ended, arrives) + prices.passing_the_server(Direction.TO_SERVER, up)
    return ended
