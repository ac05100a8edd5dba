"""Secure sums of this project in memory, n tenants of whom a few do all their work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

from tests.bench.cheap_tenants import cheap_tenants
from tests.bench.drive import AFTER_UPLOAD, BEFORE_UPLOAD, Drive
from tests.bench.figures import ExchangeFigures, Spread, SumFigures
from tests.bench.shapes import Shape
from tests.bench.traffic import WINDOW_ROUNDS, measure_window

NO_DROPOUT, LOST_UPLOADS, SILENT_AFTER = "no dropout", "10 % of the uploads lost", "10 % silent after the upload"
_WARM_UP_LENGTH = 8


def watched_of(n: int) -> frozenset[int]:
    """Tenants that a bench watches: three, none of whom is ever silent."""
    return frozenset({1, n // 2 + 1, n - 1})


def silent_of(n: int, percent: int) -> frozenset[int]:
    """Tenants that fall silent, evenly spread over the roster and its witnesses, none of them watched."""
    count = max(1, n * percent // 100) if percent else 0
    order = sorted(set(range(n)) - watched_of(n), key=lambda index: (index % 10, index))
    return frozenset(order[:count])


def window_for(rounds: int) -> int:
    """W for so many rounds in one window: the next one is set up when an eighth of it is left."""
    return rounds + rounds // 6


def measure_ours(shape: Shape, lengths: Sequence[int], times: int) -> Iterator[SumFigures]:
    """Sums of each length and with each dropout."""
    set_up = _window_of(shape.tenants, shape.neighbours)
    # Only dealers in earnest can be replaced, and only then: the window is as short as it may be.
    for dropouts, repeats in (((NO_DROPOUT, LOST_UPLOADS), times), ((SILENT_AFTER,), 1)):
        terms = shape.terms(window_for(1 + len(dropouts) * repeats * len(lengths)))
        drive = Drive(shape.roster(), terms, watched_of(shape.tenants), demanding=shape.sound)
        with cheap_tenants(drive, fake_deals=SILENT_AFTER not in dropouts):
            drive.sum(_WARM_UP_LENGTH)
            for dropout, length in product(dropouts, lengths):
                costs = [_sum(drive, length, dropout) for _ in range(repeats)]
                yield SumFigures(
                    system="fed-em",
                    trust=shape.trust.label,
                    graph=shape.graph,
                    tenants=shape.tenants,
                    length=length,
                    dropout=dropout,
                    tenant_cpu=Spread.of([tenant for tenant, _ in costs]),
                    server_cpu=Spread.of([server for _, server in costs]),
                    tenant_set_up_cpu=set_up.tenant_cpu / WINDOW_ROUNDS,
                    server_set_up_cpu=set_up.server_cpu / WINDOW_ROUNDS,
                )


@cache
def _window_of(n: int, neighbours: int) -> ExchangeFigures:
    """The set-up of a window. Trust makes no difference to it."""
    return measure_window(Shape(n, neighbours=neighbours))


def _sum(drive: Drive, length: int, dropout: str) -> tuple[float, float]:
    """Processor time of a watched tenant, and of the server."""
    drive.silent = silent_of(drive.roster.n, 0 if dropout == NO_DROPOUT else 10)
    drive.silent_at = AFTER_UPLOAD if dropout == SILENT_AFTER else BEFORE_UPLOAD
    drive.take_costs()
    opened = drive.sum(length)
    costs = drive.take_costs()
    lost = drive.silent if dropout == LOST_UPLOADS else frozenset()
    assert frozenset(opened.survivors) == frozenset(range(drive.roster.n)) - lost
    drive.recall()
    return costs.tenant, costs.server.cpu
