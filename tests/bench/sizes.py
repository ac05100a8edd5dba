"""What is measured, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.bench.hard_mixtures import FOR_STARTS, HARD, OVERLAPPING, SEPARATED, Digits, HardMixture
from tests.bench.shapes import Shape, sparse_shape


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
        shares: Of a node on Flower's sparse graph, itself included; our k is one less.
        theirs_complete: Lengths that Flower is asked to sum on the complete graph, where a sum takes minutes.
    """

    tenants: int
    lengths: tuple[int, ...]
    ours: int
    theirs: int
    shares: int
    theirs_complete: tuple[int, ...]


@dataclass(frozen=True)
class ServerRounds:
    """Rounds at the server.

    Attributes:
        shape: n, the graph, and the trust.
        percents: How many tenants are missing, per cent; one case each.
        times: Repetitions.
        recovers: Whether a tenth falls silent after the upload in one more case.
    """

    shape: Shape
    length: int
    percents: tuple[int, ...]
    times: int
    recovers: bool


@dataclass(frozen=True)
class EStepSize:
    """EM iterations over `rows` rows of `columns` columns with `components` components, each measured `times` times."""

    rows: int
    columns: int
    components: int
    times: int


@dataclass(frozen=True)
class PrivateFits:
    """Gaussian mixtures fitted with differential privacy.

    Attributes:
        rows: N of all tenants together, one case each.
        epsilons: ε, each with noise inside the sum and with local noise.
        tenants, components, columns: n, K and D.
        held_out: Rows that models are scored on.
    """

    rows: tuple[int, ...]
    epsilons: tuple[float, ...]
    tenants: int
    components: int
    columns: int
    held_out: int


@dataclass(frozen=True)
class ServedRows:
    """Requests to served models.

    Attributes:
        clients: How many ask at once, one case each.
        requests: Of each case.
        rows_in_process: Of each model.
        cold_starts: New processes of each kind.
    """

    clients: tuple[int, ...]
    requests: int
    rows_in_process: int
    cold_starts: int


@dataclass(frozen=True)
class GatedRounds:
    """What the vector of counts depends on besides the model.

    Attributes:
        row_cap: Of each tenant.
        missing: Whether cells may be missing.
    """

    row_cap: int
    missing: bool = False


@dataclass(frozen=True)
class MeasuredTraffic:
    """A federation whose bytes are counted."""

    shape: Shape
    gated: tuple[GatedRounds, ...]


_USUAL = (GatedRounds(5000), GatedRounds(5000, missing=True))


@dataclass(frozen=True)
class Sizes:
    """One run of the measurements.

    Attributes:
        e_step: EM iterations over rows in memory.
        incomplete: The same with missing cells under full covariances, and over mixed columns.
        peers_seconds: The most time that each package of others gets for one of those; 0: not asked for.
        hard_mixtures, most_rounds: Fitted by every optimiser, and the most rounds that those other than EM get.
        start_mixtures, start_seeds, start_seeds_of_others: Fitted from as many starts by sums, and from scikit-learn's.
        privacy: Mixtures fitted with differential privacy.
        neighbours, lengths, client_times: k and L of a tenant's upload, and how often each is measured.
        server: Rounds at the server.
        traffic, traffic_length: Federations whose bytes are counted, and L.
        window_rounds: W of those.
        tenants: Tenant processes, and SuperNodes.
        rounds: Over gRPC.
        warm_up: Rounds before those that count, for each length.
        columns, components: Of the mixture whose statistics have about the first of those lengths; Flower's rounds sum them, and gates
            are over its counts.
        flower_iterations: EM iterations over Flower, by its link.
        sums: In memory.
        served: Requests to served models.
        theirs_seconds, flower_seconds: The most time that each of the slow parts gets; without any, Flower's rounds are not asked for.
    """

    e_step: tuple[EStepSize, ...]
    incomplete: tuple[EStepSize, EStepSize]
    peers_seconds: float
    hard_mixtures: tuple[HardMixture, ...]
    most_rounds: int
    start_mixtures: tuple[HardMixture | Digits, ...]
    start_seeds: int
    start_seeds_of_others: int
    privacy: PrivateFits
    neighbours: tuple[int, ...]
    lengths: tuple[int, ...]
    client_times: int
    server: tuple[ServerRounds, ...]
    traffic: tuple[MeasuredTraffic, ...]
    traffic_length: int
    window_rounds: int
    tenants: int
    rounds: tuple[LengthOfRounds, ...]
    warm_up: int
    columns: int
    components: int
    flower_iterations: Mapping[str, int]
    sums: tuple[SumsOfSize, ...]
    served: ServedRows
    theirs_seconds: float
    flower_seconds: float


def ordinary(whole: bool) -> Sizes:
    """What `make bench` measures. `whole`: also what takes very long."""
    # A mixture of 10 components with full covariances in 43 columns has about 10 000 statistics.
    thousand = sparse_shape(1000, witnesses=80, corrupt=100, dropouts=100)
    # k = 92, which is enough as long as nobody is missing in the set-up itself.
    lean = sparse_shape(1000, witnesses=70, corrupt=100, dropouts=100, window=1000)
    # Three in ten missing need more neighbours, and more witnesses: 340 of 1000 is the least number (in tens) that will do.
    sturdy = sparse_shape(1000, witnesses=340, corrupt=100, dropouts=300, window=1000)
    lengths = (10_000, 100_000, 1_000_000)
    # On the complete graph Flower takes a quarter of an hour, or more, for a sum of the longest: a line through the others stands in.
    complete = lengths if whole else lengths[:2]
    return Sizes(
        e_step=(EStepSize(10**6, 10, 10, times=3), EStepSize(2 * 10**5, 50, 20, times=3)),
        incomplete=(EStepSize(2 * 10**4, 20, 8, times=3), EStepSize(10**5, 15, 10, times=5)),
        peers_seconds=240.0,
        hard_mixtures=HARD,
        most_rounds=1000,
        start_mixtures=FOR_STARTS,
        start_seeds=8,
        start_seeds_of_others=20,
        privacy=PrivateFits(
            (5_000, 50_000, 200_000), (8.0, 3.0, 1.0, 0.5), 20, components=5, columns=10, held_out=20_000
        ),
        neighbours=(31, 63, 92),
        lengths=(10_000, 100_000, 1_000_000),
        client_times=15,
        server=(
            ServerRounds(Shape(100), 100_000, (0, 10, 30), times=3, recovers=True),
            ServerRounds(thousand, 100_000, (0, 10), times=1, recovers=whole),
            ServerRounds(lean, 100_000, (0, 10, 30), times=1, recovers=False),
            ServerRounds(sturdy, 100_000, (30,), times=1, recovers=False),
            # For its memory: what came of an incomplete block is kept apart. As many blocks as a session of 100 has by default.
            ServerRounds(Shape(100, blocks=14), 100_000, (), times=0, recovers=False),
        ),
        traffic=(
            # The 2 000 rows of ten such tenants are about as many as leave the counts in the ring of 32 bits.
            MeasuredTraffic(Shape(10), (GatedRounds(200), GatedRounds(200, missing=True), *_USUAL)),
            MeasuredTraffic(Shape(50), _USUAL),
            MeasuredTraffic(Shape(100), _USUAL),
            MeasuredTraffic(thousand, _USUAL),
        ),
        traffic_length=10_000,
        window_rounds=64,
        tenants=10,
        rounds=(LengthOfRounds(10_000, 60), LengthOfRounds(100_000, 25)),
        warm_up=5,
        columns=43,
        components=10,
        flower_iterations={"relay": 1, "stream": 30},
        sums=(
            SumsOfSize(50, lengths, 2, 1, 11, theirs_complete=complete),
            SumsOfSize(100, lengths, 2, 1, 11, theirs_complete=complete),
        ),
        served=ServedRows((1, 8, 32), 4000, 400, 5),
        theirs_seconds=36_000.0 if whole else 600.0,
        flower_seconds=270.0,
    )


SMALLEST = Sizes(
    e_step=(EStepSize(2000, 2, 2, times=1),),
    incomplete=(EStepSize(100, 3, 2, times=1), EStepSize(500, 15, 2, times=1)),
    peers_seconds=0.0,
    hard_mixtures=(HardMixture(3, 2, OVERLAPPING, rows=50),),
    most_rounds=100,
    start_mixtures=(HardMixture(3, 2, SEPARATED, rows=50),),
    start_seeds=1,
    start_seeds_of_others=2,
    privacy=PrivateFits((), (), 4, components=2, columns=2, held_out=100),
    neighbours=(3,),
    lengths=(50,),
    client_times=1,
    server=(ServerRounds(Shape(5), 50, (0, 10), times=1, recovers=True),),
    traffic=(MeasuredTraffic(Shape(5), (GatedRounds(400), GatedRounds(5000, missing=True))),),
    traffic_length=50,
    window_rounds=8,
    tenants=3,
    rounds=(LengthOfRounds(50, 3),),
    warm_up=1,
    columns=2,
    components=2,
    flower_iterations={},
    sums=(SumsOfSize(6, (50,), ours=1, theirs=1, shares=5, theirs_complete=(50,)),),
    served=ServedRows((1, 2), 20, 5, 1),
    theirs_seconds=60.0,
    flower_seconds=0.0,
)
