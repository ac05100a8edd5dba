"""Measured figures as frozen types; everything is in seconds or bytes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median of `count` measurements, the least and the most."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Absent:
    """A figure that could not be measured in this run."""

    reason: str


@dataclass(frozen=True)
class EchoFigures:
    """As many bytes there and back as a round has, over the same kind of streams, without any protocol.

    Attributes:
        round: Wall time.
        server_cpu: A round.
        tenant_cpu: A tenant and round; None where the system does not tell.
    """

    round: Spread
    server_cpu: float
    tenant_cpu: float | None


@dataclass(frozen=True)
class RoundFigures:
    """Rounds of one length over gRPC.

    Attributes:
        length: L, check words included.
        round: From the request for a sum to the sum, at the server.
        upload: Of that, from the request to the last upload.
        opening: The rest: from the certificate to the sum.
        bytes_up, bytes_down: A tenant and round.
        server_cpu, tenant_cpu: As in `EchoFigures`.
        echo: The floor.
    """

    length: int
    round: Spread
    upload: Spread
    opening: Spread
    bytes_up: float
    bytes_down: float
    server_cpu: float
    tenant_cpu: float | None
    echo: EchoFigures


@dataclass(frozen=True)
class GrpcFigures:
    """Everything that was measured over gRPC.

    Attributes:
        tenants: Processes.
        window_rounds: W, rounds that one set-up serves.
        window: One set-up, wall time.
        mark: One durable round mark alone, with an idle disk.
        rounds: By length.
    """

    tenants: int
    window_rounds: int
    window: Spread
    mark: Spread
    rounds: tuple[RoundFigures, ...]


@dataclass(frozen=True)
class FlowerFigures:
    """EM rounds in Flower's deployment engine.

    Attributes:
        nodes: SuperNodes, one a tenant.
        length: Of the sums.
        start: From nothing to a registered fleet.
        relay_start: With every message relayed: from the start of the session to its first sum (of the moments), one window's
            set-up included.
        relay: A round, every message relayed.
        stream: A round, where Flower carried the tickets only.
    """

    nodes: int
    length: int
    start: float
    relay_start: float | Absent
    relay: Spread | Absent
    stream: Spread | Absent


@dataclass(frozen=True)
class SumFigures:
    """Sums of one kind in memory.

    Attributes:
        system: Whose.
        graph: Who masks with whom.
        tenants, length: n and L.
        dropout: Who falls silent, and when.
        tenant_cpu: A tenant and sum (the mean over tenants), keys agreed where `set_up_cpu` tells their price.
        server_cpu: A sum.
        tenant_set_up_cpu, server_set_up_cpu: The share of one sum in the set-up of its window; 0 where every sum agrees on keys anew.
    """

    system: str
    graph: str
    tenants: int
    length: int
    dropout: str
    tenant_cpu: Spread
    server_cpu: Spread
    tenant_set_up_cpu: float = 0.0
    server_set_up_cpu: float = 0.0

    @property
    def tenant_whole(self) -> float:
        """CPU seconds of a tenant for one sum, keys included."""
        return self.tenant_cpu.median + self.tenant_set_up_cpu

    @property
    def server_whole(self) -> float:
        """CPU seconds of the server for one sum, keys included."""
        return self.server_cpu.median + self.server_set_up_cpu


@dataclass(frozen=True)
class AbsentSum:
    """A case of `SumFigures` that was not measured."""

    system: str
    graph: str
    tenants: int
    length: int
    dropout: str
    reason: str
