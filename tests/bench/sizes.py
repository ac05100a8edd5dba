"""What is measured, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LengthOfRounds:
    """Rounds of one vector length over gRPC."""

    length: int
    rounds: int


@dataclass(frozen=True)
class SumsOfSize:
    """Sums of `tenants` vectors in memory.

    Attributes:
        tenants: n.
        lengths: Vector lengths L.
        ours, theirs: How often each case is repeated, here and with Flower's SecAgg+.
        shares: Neighbours in Flower's sparse graph, the node itself included; 0 = complete graph only.
    """

    tenants: int
    lengths: tuple[int, ...]
    ours: int
    theirs: int
    shares: int = 0

    @property
    def dropouts(self) -> int:
        """One tenant in ten."""
        return max(1, self.tenants // 10)


@dataclass(frozen=True)
class Sizes:
    """One run of the measurements.

    Attributes:
        tenants: Tenant processes, and SuperNodes.
        rounds: Over gRPC.
        warm_up: Rounds before those that count, for each length.
        columns, components: Of the mixture whose statistics have about the first of those lengths; Flower's rounds sum them.
        flower_iterations: EM iterations over Flower, by its link.
        sums: In memory.
        sums_seconds, flower_seconds: The most time that each of the slow parts gets; without any, Flower's rounds are not asked for.
    """

    tenants: int
    rounds: tuple[LengthOfRounds, ...]
    warm_up: int
    columns: int
    components: int
    flower_iterations: Mapping[str, int]
    sums: tuple[SumsOfSize, ...]
    sums_seconds: float
    flower_seconds: float


# A mixture of 10 components with full covariances in 43 columns has about as many statistics as the first length.
FULL = Sizes(
    tenants=10,
    rounds=(LengthOfRounds(10_000, 100), LengthOfRounds(100_000, 40)),
    warm_up=5,
    columns=43,
    components=10,
    flower_iterations={"relay": 1, "stream": 30},
    sums=(
        SumsOfSize(10, (10_000, 100_000), ours=10, theirs=3),
        SumsOfSize(50, (10_000, 100_000), ours=5, theirs=1, shares=11),
    ),
    sums_seconds=260.0,
    flower_seconds=270.0,
)

SMALLEST = Sizes(
    tenants=3,
    rounds=(LengthOfRounds(50, 3),),
    warm_up=1,
    columns=2,
    components=2,
    flower_iterations={},
    sums=(SumsOfSize(4, (50,), ours=1, theirs=1, shares=3),),
    sums_seconds=60.0,
    flower_seconds=0.0,
)
