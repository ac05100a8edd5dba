"""What a report says in numbers: key figures, tenants, comparison and exposure of a session, from its record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

from fed_em_server.record import Happening, Participation, SessionRecord
from fed_em_server.report_summary import FEDERATED, POOLED, pooled_of
from fed_em_server.report_words import (
    blocks_in_words,
    bytes_in_words,
    decimal,
    ending_in_words,
    seconds_in_words,
    told,
    with_happening,
)


@dataclass(frozen=True)
class KeyFigure:
    """One number at the top of a report."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class TenantLine:
    """How often one tenant had which part."""

    name: str
    counts: tuple[int, ...]
    """In the order of `Participation`."""


@dataclass(frozen=True)
class ComparisonLine:
    """A model against the pooled one. `bar` is the width of its deficit, 0 to 1, on a logarithmic scale."""

    name: str
    rows: int
    log_likelihood: str
    difference: str
    bar: float
    leading: bool


@dataclass(frozen=True)
class Told:
    """A happening in words."""

    round: str
    second: str
    text: str


@dataclass(frozen=True)
class Exposure:
    """What this very session gave away beyond its sums.

    Attributes:
        smallest_sum: Tenants in the smallest sum.
        hidden_among: Tenants of the smallest block, among whom each is hidden whatever sums are subtracted; 0 without blocks.
        recovered: Masks that were taken off with shares.
        differences: Pairs of consecutive rounds whose sums differ by the presence of one tenant: (round, next round,
            tenant).
        smallest_component, smallest_weight: The component with the least weight at the end.
        most_held, held: How many components a mass gate kept shut at most, and which at the end.
    """

    smallest_sum: int
    hidden_among: int
    recovered: int
    differences: tuple[tuple[int, int, str], ...]
    smallest_component: int | None
    smallest_weight: float
    most_held: int
    held: tuple[int, ...]


def key_figures(record: SessionRecord) -> tuple[KeyFigure, ...]:
    """The numbers that sum a session up."""
    rounds = record.rounds
    complete = sum(opened.complete for opened in rounds)
    stale, terms = sum(opened.stale for opened in rounds), max(1, len(rounds) * len(record.tenants))
    iterations = max((opened.iteration for opened in rounds), default=0)
    last = next((r.log_likelihood for r in reversed(rounds) if r.log_likelihood is not None), None)
    return (
        KeyFigure("log-likelihood", "none" if last is None else decimal(last), "nats a row, standardised"),
        KeyFigure("iterations", str(iterations), ending_in_words(record)),
        KeyFigure("sums", str(len(rounds)), f"{complete} with every tenant"),
        KeyFigure("stale terms", f"{100 * stale / terms:.1f} %", "of an earlier round, over all sums"),
        KeyFigure("tenants", str(len(record.tenants)), f"{blocks_in_words(record)}, f = {record.colluders}"),
        KeyFigure("to the server", bytes_in_words(sum(r.bytes_up for r in rounds)), "all tenants together"),
        KeyFigure("from the server", bytes_in_words(sum(r.bytes_down for r in rounds)), "all tenants together"),
        KeyFigure("time", seconds_in_words(record.seconds), "from start to end, gathering included"),
    )


def tenant_lines(record: SessionRecord) -> tuple[TenantLine, ...]:
    """The participation chart in numbers."""
    return tuple(
        TenantLine(name, tuple(sum(r.participation[index] is part for r in record.rounds) for part in Participation))
        for index, name in enumerate(record.tenants)
    )


def comparison_lines(record: SessionRecord) -> tuple[ComparisonLine, ...]:
    """The comparison with differences to the pooled model, if that is among them."""
    pooled = pooled_of(record)
    if pooled is None:
        gaps = {line.name: 0.0 for line in record.comparison}
    else:
        best = pooled.held_out_log_likelihood
        gaps = {line.name: line.held_out_log_likelihood - best for line in record.comparison}
    widest = math.log1p(max((-gap for gap in gaps.values()), default=0.0))
    return tuple(
        ComparisonLine(
            name=line.name,
            rows=line.rows,
            log_likelihood=decimal(line.held_out_log_likelihood, 3),
            difference="" if pooled is None or line is pooled else decimal(gaps[line.name], 6, signed=True),
            bar=math.log1p(max(-gaps[line.name], 0.0)) / widest if widest else 0.0,
            leading=line.name in {FEDERATED, POOLED},
        )
        for line in record.comparison
    )


def happenings_told(record: SessionRecord) -> tuple[Told, ...]:
    """Happenings as sentences, swarms of them merged."""
    nothing: tuple[Happening, ...] = ()
    merged = reduce(with_happening, record.happenings, nothing)
    return tuple(
        Told(
            round=str(h.round) if h.round else "",
            second=f"{h.second:.2f}",
            text=f"{told(h)}.".replace("..", "."),
        )
        for h in merged
    )


def exposure_of(record: SessionRecord) -> Exposure:
    """What a reader who holds all sums could make of them, as far as the record tells."""
    sets = [(r.round, frozenset(i for i, p in enumerate(r.participation) if p.in_sum)) for r in record.rounds]
    differences = tuple(
        (a, b, record.tenants[min(before ^ after)])
        for (a, before), (b, after) in pairwise(sets)
        if len(before ^ after) == 1
    )
    weights = record.rounds[-1].weights if record.rounds else ()
    smallest = min(range(len(weights)), key=weights.__getitem__) if weights else None
    return Exposure(
        smallest_sum=min((len(members) for _, members in sets), default=0),
        hidden_among=min(map(len, record.block_members())) if record.blocks else 0,
        recovered=sum(r.participation.count(Participation.RECOVERED) for r in record.rounds),
        differences=differences,
        smallest_component=smallest,
        smallest_weight=0.0 if smallest is None else weights[smallest],
        most_held=max((len(opened.held) for opened in record.rounds), default=0),
        held=record.rounds[-1].held if record.rounds else (),
    )
