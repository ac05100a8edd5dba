"""Measured figures as frozen types; everything is in seconds or bytes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


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
        trust: Against whom the session protects.
        length: L, check words included.
        round: From the request for a sum to the sum, at the server.
        upload: Of that, from the request to the last upload.
        opening: The rest: endorsements if there are any, openings, the sum.
        bytes_up, bytes_down: A tenant and round.
        server_cpu, tenant_cpu: As in `EchoFigures`.
        echo: The floor.
    """

    trust: str
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
        semi_honest: The same under semi-honest trust.
    """

    nodes: int
    length: int
    start: float
    relay_start: float | Absent
    relay: Spread | Absent
    stream: Spread | Absent
    semi_honest: Spread | Absent


@dataclass(frozen=True)
class ClientFigures:
    """One upload of a tenant, CPU seconds by part, each the least that was seen.

    Attributes:
        neighbours, length: k and L.
        encoding: From statistics to the ring; not part of `upload`.
        agreement: k keys of masks.
        masking: The masks themselves.
        signing: Hash and signature.
        copying: The rest of the upload.
        upload: `tenant_upload`, all of it.
        floor: k + 1 bare keystreams.
    """

    neighbours: int
    length: int
    encoding: float
    agreement: float
    masking: float
    signing: float
    copying: float
    upload: float
    floor: float

    @property
    def ratio(self) -> float:
        """Masks and copies over the floor."""
        return (self.masking + self.copying) / self.floor


@dataclass(frozen=True)
class ServerFigures:
    """One round at the server.

    Attributes:
        percent: How many tenants are missing, per cent: `recovered` after their upload, else before.
        failure: Why there was no sum; empty if there was.
        cpu, wall: Seconds, of all the server's steps together.
        parts: CPU seconds by the message that a step took; the removal of masks and the deadlines apart.
        memory_vectors: The most memory that steps held, in vectors; None where time was measured.
    """

    tenants: int
    graph: str
    length: int
    percent: int
    recovered: bool
    failure: str
    cpu: float = 0.0
    wall: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    memory_vectors: float | None = None


@dataclass(frozen=True)
class ExchangeFigures:
    """What some messages cost: CPU seconds, and bytes a tenant.

    Attributes:
        tenant_cpu, witness_cpu: Of a tenant that is no witness (on the complete graph all are), and of one that is.
    """

    tenant_cpu: float
    witness_cpu: float
    server_cpu: float
    bytes_up: float
    bytes_down: float


@dataclass(frozen=True)
class GatedFigures:
    """A round of counts and one of the moments behind their gate, together.

    Attributes:
        row_cap: Of each tenant: with n it says which ring the counts fit in.
        missing: Whether cells may be missing, so that the observed cells of each column are counted too.
        counts_length, ring_bits: Of the vector of counts.
    """

    row_cap: int
    missing: bool
    counts_length: int
    ring_bits: int
    both: ExchangeFigures


@dataclass(frozen=True)
class TrafficFigures:
    """A window and its rounds.

    Attributes:
        window: The set-up for `window_rounds` rounds.
        plain: A round of increments.
        gated: Rounds behind a mass gate.
    """

    tenants: int
    graph: str
    length: int
    window_rounds: int
    window: ExchangeFigures
    plain: ExchangeFigures
    gated: tuple[GatedFigures, ...]


@dataclass(frozen=True)
class SumFigures:
    """Sums of one kind in memory.

    Attributes:
        system: Whose.
        trust: Against whom it protects.
        graph: Who masks with whom.
        tenants, length: n and L.
        dropout: Who falls silent, and when.
        tenant_cpu: A tenant and sum (the mean over tenants), keys agreed where `set_up_cpu` tells their price.
        server_cpu: A sum.
        tenant_set_up_cpu, server_set_up_cpu: The share of one sum in the set-up of its window; 0 where every sum agrees on keys anew.
        estimated_from: The two lengths that it is a straight line through, if it was not measured.
    """

    system: str
    trust: str
    graph: str
    tenants: int
    length: int
    dropout: str
    tenant_cpu: Spread
    server_cpu: Spread
    tenant_set_up_cpu: float = 0.0
    server_set_up_cpu: float = 0.0
    estimated_from: tuple[int, int] | None = None

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
    trust: str
    graph: str
    tenants: int
    length: int
    dropout: str
    reason: str


@dataclass(frozen=True)
class IterationFigures:
    """One EM iteration over rows in memory, the least that was seen.

    Attributes:
        name: Whose, and how.
        cpu: Seconds of all threads together.
        wall: Seconds of the clock.
    """

    name: str
    cpu: float
    wall: float


@dataclass(frozen=True)
class CaseFigures:
    """EM iterations of one case.

    Attributes:
        title: What is fitted.
        iterations: Ours first.
        floor: CPU seconds of what no such iteration can do without.
        floor_of: What that is.
    """

    title: str
    iterations: tuple[IterationFigures | Absent, ...]
    floor: float
    floor_of: str


@dataclass(frozen=True)
class OptimiserFigures:
    """One run of an optimiser.

    Attributes:
        name: Which.
        rounds: Until it was as near EM's optimum as counts, or above; None: it never was.
        taken: Until it stopped; of EM, until it was as near its optimum as counts if that is later.
        above: Where it ended less EM's optimum, nats a record.
    """

    name: str
    rounds: int | None
    taken: int
    above: float


@dataclass(frozen=True)
class RoundsFigures:
    """All optimisers on one mixture, from one start; EM first."""

    name: str
    rows: int
    optimisers: tuple[OptimiserFigures, ...]


@dataclass(frozen=True)
class StartFigures:
    """How many starts of one mixture lead to the best optimum known.

    Attributes:
        within: Nats a record up to which an optimum is as good as the best.
        seeds, shares: Starts by sums, and the share of them by how they were searched for and went on.
        seeds_of_others, share_of_others: Starts of scikit-learn.
    """

    name: str
    within: float
    seeds: int
    shares: dict[str, float]
    seeds_of_others: int
    share_of_others: float


@dataclass(frozen=True)
class OptimisersFigures:
    """Rounds, and starts."""

    rounds: tuple[RoundsFigures, ...]
    starts: tuple[StartFigures, ...]


@dataclass(frozen=True)
class EStepFigures:
    """EM iterations of one size, full covariances.

    Attributes:
        rows, columns, components: N, D and K.
        iterations: Ours first, on one thread with compiled loops.
        products, exponentials: The floor: CPU seconds of the two matrix products of all blocks, and of N·K exponentials.
    """

    rows: int
    columns: int
    components: int
    iterations: tuple[IterationFigures | Absent, ...]
    products: float
    exponentials: float


@dataclass(frozen=True)
class PrivateFit:
    """Two sessions with one ε; nats a held-out row of the model, or why there is none.

    Attributes:
        inside: All honest tenants together add the noise.
        local: Each adds all of it.
    """

    epsilon: float
    inside: float | Absent
    local: float | Absent


@dataclass(frozen=True)
class UtilityFigures:
    """Fits of one number of rows, of all tenants together; nats a held-out row.

    Attributes:
        truth: Of the mixture that the rows are from.
        without: Of the fit without differential privacy.
        private: By ε.
    """

    rows: int
    tenants: int
    delta: float
    truth: float
    without: float | Absent
    private: tuple[PrivateFit, ...]

    def cost(self, score: float | Absent) -> float | None:
        """How much lower a score is than without privacy; None if one of the two is missing."""
        return None if isinstance(score, Absent) or isinstance(self.without, Absent) else self.without - score


# The same bytes sent back by a process that does nothing else.
ECHO = "echo"


@dataclass(frozen=True)
class LatencyFigures:
    """Requests of one row against a served model, each client asking again as soon as it has its answer.

    Attributes:
        model, method, face: What was asked, and how: gRPC, HTTP, or an echo of the bytes, which is the floor.
        clients: How many ask at once.
        ahead: Whether server and client went ahead of all other programs of the machine, by real-time priority.
        requests: How many there were.
        median, p99, p999: From a request to its answer, at the client.
        throughput: Requests a second, of all clients.
        server_cpu: Of the server, a request, warm-up counted; None where it was not measured. Other programs do not change it much.
    """

    model: str
    method: str
    face: str
    clients: int
    ahead: bool
    requests: int
    median: float
    p99: float
    p999: float
    throughput: float
    server_cpu: float | None


@dataclass(frozen=True)
class RowCostFigures:
    """What one row costs in a process, without anything that carries it.

    Attributes:
        model, method: What.
        alone: A row whose pattern of missing cells was seen before.
        new_pattern: And one whose pattern was not; None of complete rows.
        table: As a table of one row, by the model's own E-step.
        many: A row of a table of `many_rows`, by that E-step.
    """

    model: str
    method: str
    alone: float
    new_pattern: float | None
    table: float
    many: float
    many_rows: int


@dataclass(frozen=True)
class ColdStartFigures:
    """`fed_em.impute_one` in a new process.

    Attributes:
        python: An interpreter that does nothing.
        numpy: That imports NumPy.
        ready: That has read a model and filled a first row.
        whole: The same by `fed_em.model_file`, which serves tables.
        row: One more row filled.
    """

    python: Spread
    numpy: Spread
    ready: Spread
    whole: Spread
    row: float


@dataclass(frozen=True)
class ServingFigures:
    """Models that are served."""

    requests: tuple[LatencyFigures, ...]
    rows: tuple[RowCostFigures, ...]
    cold: ColdStartFigures
