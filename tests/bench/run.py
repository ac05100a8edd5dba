"""One run of all measurements, or of some sections."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fed_em_protocols.terms import Trust
from tests.bench.client_floor import measure_client
from tests.bench.e_step import measure_e_step
from tests.bench.figures import (
    Absent,
    AbsentSum,
    CaseFigures,
    ClientFigures,
    EStepFigures,
    FlowerFigures,
    GrpcFigures,
    OptimisersFigures,
    ServerFigures,
    ServingFigures,
    SumFigures,
    TrafficFigures,
    UtilityFigures,
)
from tests.bench.flower_rounds import measure_flower_rounds
from tests.bench.flower_sums import SYSTEM, TRUST, graph_name, measure_flower
from tests.bench.grpc_rounds import measure_grpc
from tests.bench.incomplete import measure_incomplete
from tests.bench.large_sums import measure_recovery, measure_server
from tests.bench.machine import Machine
from tests.bench.optimiser_rounds import measure_rounds, measure_starts
from tests.bench.our_sums import LOST_UPLOADS, NO_DROPOUT, measure_ours
from tests.bench.privacy_utility import measure_utility
from tests.bench.serving import measure_serving
from tests.bench.shapes import Shape
from tests.bench.sizes import Sizes, SumsOfSize
from tests.bench.straight_lines import with_estimates
from tests.bench.traffic import measure_traffic


@dataclass(frozen=True)
class Bench:
    """Everything that one run measured; None: not asked for.

    Attributes:
        seconds: How long each part took.
    """

    machine: Machine
    e_step: tuple[EStepFigures, ...] | None = None
    incomplete: tuple[CaseFigures, ...] | None = None
    rounds: OptimisersFigures | None = None
    privacy_utility: tuple[UtilityFigures, ...] | None = None
    client: tuple[ClientFigures, ...] | None = None
    server: tuple[ServerFigures, ...] | None = None
    sums: tuple[SumFigures | AbsentSum, ...] | None = None
    traffic: tuple[TrafficFigures, ...] | None = None
    grpc: GrpcFigures | None = None
    flower: FlowerFigures | Absent | None = None
    serving: ServingFigures | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def run_bench(
    sizes: Sizes, folder: Path, report: Callable[[str], None], sections: Collection[str] | None = None
) -> Bench:
    """Measure everything.

    Args:
        sizes: What, and how often.
        folder: On a disk like that of a tenant's state; what is written there goes away again.
        report: Told which part begins.
        sections: Which parts of `SECTIONS`; None: all.
    """
    machine, seconds, found = Machine.here(), dict[str, float](), dict[str, Any]()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for name, measure in SECTIONS.items():
            if sections is None or name in sections:
                report(name)
                began = time.monotonic()
                found[name] = measure(sizes, Path(scratch) / name)
                seconds[name] = time.monotonic() - began
    return Bench(machine, seconds=seconds, **found)


def _e_step(sizes: Sizes, folder: Path) -> tuple[EStepFigures, ...]:
    return tuple(measure_e_step(size, sizes.peers_seconds) for size in sizes.e_step)


def _rounds(sizes: Sizes, folder: Path) -> OptimisersFigures:
    return OptimisersFigures(
        measure_rounds(sizes.hard_mixtures, sizes.most_rounds),
        measure_starts(sizes.start_mixtures, sizes.start_seeds, sizes.start_seeds_of_others),
    )


def _client(sizes: Sizes, folder: Path) -> tuple[ClientFigures, ...]:
    return tuple(each for k in sizes.neighbours for each in measure_client(k, sizes.lengths, sizes.client_times))


def _server(sizes: Sizes, folder: Path) -> tuple[ServerFigures, ...]:
    found: list[ServerFigures] = []
    for case in sizes.server:
        found += measure_server(case.shape, case.length, case.percents, case.times)
        if case.recovers:
            found.append(measure_recovery(case.shape, case.length))
    return tuple(found)


def _traffic(sizes: Sizes, folder: Path) -> tuple[TrafficFigures, ...]:
    return tuple(
        measure_traffic(each, sizes.traffic_length, sizes.columns, sizes.components, sizes.window_rounds)
        for each in sizes.traffic
    )


def _sums(sizes: Sizes, folder: Path) -> tuple[SumFigures | AbsentSum, ...]:
    """All cases of all sizes: ours under both trusts, Flower's, each on the sparse and on the complete graph."""
    ours = (
        each
        for size in sizes.sums
        for neighbours in (size.shares - 1, 0)
        for trust in reversed(Trust)
        for each in measure_ours(Shape(size.tenants, trust, neighbours), size.lengths, size.ours)
    )
    measured = tuple(ours)
    deadline = time.monotonic() + sizes.theirs_seconds
    theirs = (
        each
        # What takes longest comes last: it is left out when time runs short.
        for shares in (True, False)
        for size in sizes.sums
        for each in _flower_sums(size, size.shares if shares else 0, deadline)
    )
    return (*measured, *with_estimates(tuple(theirs)))


def _flower_sums(size: SumsOfSize, shares: int, deadline: float) -> Iterator[SumFigures | AbsentSum]:
    for dropout in (LOST_UPLOADS, NO_DROPOUT):
        for length in size.lengths:
            wanted, late = shares or length in size.theirs_complete, time.monotonic() > deadline
            if wanted and not late:
                yield measure_flower(size.tenants, length, dropout, shares, size.theirs)
                continue
            reason = "no time left" if wanted else "left to --full, as it takes long"
            yield AbsentSum(SYSTEM, TRUST, graph_name(shares), size.tenants, length, dropout, reason)


SECTIONS: dict[str, Callable[[Sizes, Path], Any]] = {
    "e_step": _e_step,
    "incomplete": lambda sizes, _: measure_incomplete(sizes.incomplete, sizes.peers_seconds),
    "rounds": _rounds,
    "privacy_utility": lambda sizes, _: measure_utility(sizes.privacy),
    "client": _client,
    "server": _server,
    "sums": _sums,
    "traffic": _traffic,
    "grpc": lambda sizes, folder: measure_grpc(folder, sizes),
    "serving": lambda sizes, folder: measure_serving(sizes.served, folder),
    "flower": lambda sizes, folder: measure_flower_rounds(folder, sizes),
}
