"""What the server spends on one round, from its request to its sum: n up to a thousand, whole or with dropouts.

Tenants are cheap (see `cheap_tenants`), their messages are not: the server's machine does all of its work on real ones. Memory is
that which the server's steps allocate and keep, as Python counts it; an upload that is being read is counted, others are not
there, and nor is the copy that the parser of Protocol Buffers makes of it.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from fed_em_protocols.coordinator_state import SumOpened
from tests.bench.cheap_tenants import cheap_tenants, light
from tests.bench.drive import AFTER_UPLOAD, BEFORE_UPLOAD, Drive
from tests.bench.figures import ServerFigures
from tests.bench.our_sums import silent_of, watched_of, window_for
from tests.bench.shapes import Shape

_WARM_UP_LENGTH = 8
_MEMORY_PERCENT = 10


class MemoryMeter:
    """The most that the server's steps hold at a time, in bytes."""

    def __init__(self) -> None:
        self.most = 0
        self._kept = 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count what the block allocates, and what of it stays."""
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        try:
            yield
        finally:
            after, peak = tracemalloc.get_traced_memory()
            self.most = max(self.most, self._kept + peak - before)
            self._kept += after - before


def measure_server(shape: Shape, length: int, percents: tuple[int, ...], times: int) -> Iterator[ServerFigures]:
    """Rounds in which so many per cent of the tenants do not upload; the cheapest of `times`. And memory, if a tenth is, or with blocks."""
    # After a round that fails there is another.
    window_rounds = window_for(2 + 2 * len(percents) * times)
    drive = _drive(shape, window_rounds)
    with cheap_tenants(drive, fake_deals=True), drive.apart():
        drive.sum(_WARM_UP_LENGTH, whole=True)
        for percent in percents:
            rounds = [_round(drive, shape, length, percent)]
            rounds += [_round(drive, shape, length, percent) for _ in range(times - 1) if not rounds[0].failure]
            yield min(rounds, key=lambda figures: figures.cpu)
        if shape.blocks or _MEMORY_PERCENT in percents:
            yield _memory(drive, shape, length, 0 if shape.blocks else _MEMORY_PERCENT)


def measure_recovery(shape: Shape, length: int) -> ServerFigures:
    """A round in which a tenth of the tenants falls silent after the upload, and is replaced from shares."""
    drive = _drive(shape, 2)
    with cheap_tenants(drive), drive.apart():
        drive.sum(_WARM_UP_LENGTH, whole=True)
        return _round(drive, shape, length, 10, at=AFTER_UPLOAD)


def _drive(shape: Shape, window_rounds: int) -> Drive:
    terms, watched = shape.terms(window_rounds), watched_of(shape.tenants)
    return Drive(shape.roster(), terms, watched, settle=light, demanding=shape.sound)


def _round(drive: Drive, shape: Shape, length: int, percent: int, at: type = BEFORE_UPLOAD) -> ServerFigures:
    drive.silent, drive.silent_at = silent_of(shape.tenants, percent), at
    drive.take_costs(), drive.take_traffic()
    outcome = drive.try_sum(length, whole=True)
    costs, messages = drive.take_costs(), drive.take_traffic()
    opened = isinstance(outcome, SumOpened)
    if not isinstance(outcome, SumOpened):
        assert ("up", "Opening") not in messages, "nobody opened anything"
    drive.recall()
    if not opened:
        drive.sum(
            _WARM_UP_LENGTH, whole=True
        )  # the session goes on: the round is closed as void, the next one is opened
    return ServerFigures(
        tenants=shape.tenants,
        graph=shape.graph,
        length=length,
        percent=percent,
        recovered=at is AFTER_UPLOAD,
        failure="" if isinstance(outcome, SumOpened) else outcome.reason.partition(";")[0],
        cpu=costs.server.cpu,
        wall=costs.server.wall,
        parts={name: spent.cpu for name, spent in costs.parts.items()},
    )


def _memory(drive: Drive, shape: Shape, length: int, percent: int) -> ServerFigures:
    meter = MemoryMeter()
    tracemalloc.start()
    drive.around, drive.network = meter.step, random.Random(0)
    try:
        figures = _round(drive, shape, length, percent)
    finally:
        drive.around, drive.network = nullcontext, None
        tracemalloc.stop()
    return ServerFigures(
        shape.tenants, shape.graph, length, percent, recovered=False, failure=figures.failure,
        memory_vectors=meter.most / (8 * length),
    )  # fmt: skip
