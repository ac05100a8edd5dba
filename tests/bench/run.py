"""One run of all measurements."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.bench.figures import Absent, AbsentSum, FlowerFigures, GrpcFigures, SumFigures
from tests.bench.flower_rounds import measure_flower_rounds
from tests.bench.flower_sums import SYSTEM, graph_name, measure_flower
from tests.bench.grpc_rounds import measure_grpc
from tests.bench.machine import Machine
from tests.bench.our_sums import AFTER_UPLOAD, BEFORE_UPLOAD, NO_DROPOUT, OurSums
from tests.bench.sizes import Sizes, SumsOfSize

T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """Everything that one run measured.

    Attributes:
        seconds: How long each part took.
    """

    machine: Machine
    grpc: GrpcFigures
    flower: FlowerFigures | Absent
    sums: tuple[SumFigures | AbsentSum, ...]
    seconds: dict[str, float]


def run_bench(sizes: Sizes, folder: Path, report: Callable[[str], None]) -> Bench:
    """Measure everything.

    Args:
        sizes: What, and how often.
        folder: On a disk like that of a tenant's state; what is written there goes away again.
        report: Told which part begins.
    """
    machine, seconds = Machine.here(), dict[str, float]()

    def part(name: str, measure: Callable[[], T]) -> T:
        report(name)
        began = time.monotonic()
        measured = measure()
        seconds[name] = time.monotonic() - began
        return measured

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        grpc = part("rounds over gRPC", lambda: measure_grpc(Path(scratch) / "grpc", sizes))
        sums = part("sums in memory", lambda: tuple(_measure_sums(sizes)))
        flower = part("rounds through Flower", lambda: measure_flower_rounds(Path(scratch) / "flower", sizes))
    return Bench(machine, grpc, flower, sums, seconds)


def _measure_sums(sizes: Sizes) -> Iterator[SumFigures | AbsentSum]:
    """All cases of all sizes: ours, Flower's sparse graph, Flower's complete graph."""
    deadline = time.monotonic() + sizes.sums_seconds
    for size in sizes.sums:
        ours = OurSums(size.tenants)
        for length in size.lengths:
            for dropout in (NO_DROPOUT, BEFORE_UPLOAD, AFTER_UPLOAD):
                yield ours.measure(length, dropout, size.dropouts, size.ours)
    for size in sizes.sums:
        for shares in (size.shares, 0) if size.shares else (0,):
            yield from _measure_flower_sums(size, shares, deadline)


def _measure_flower_sums(size: SumsOfSize, shares: int, deadline: float) -> Iterator[SumFigures | AbsentSum]:
    longest = 0.0
    for length in size.lengths:
        for dropout in (NO_DROPOUT, BEFORE_UPLOAD):
            began = time.monotonic()
            if began + longest > deadline:
                reason = f"no time left for about {longest:.0f} s"
                yield AbsentSum(SYSTEM, graph_name(shares), size.tenants, length, dropout, reason)
                continue
            yield measure_flower(size.tenants, length, dropout, size.dropouts, shares, size.theirs)
            longest = max(longest, time.monotonic() - began)
