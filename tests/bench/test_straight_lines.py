"""Estimates of sums that are too long to be measured: marked as such, and never above what a dearer long vector costs."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from tests.bench.figures import AbsentSum, Spread, SumFigures
from tests.bench.straight_lines import with_estimates
from tests.bench.sum_tables import print_sums
from tests.bench.table_cells import Page


def _of_length(length: int, seconds: float) -> SumFigures:
    return SumFigures(
        "Flower", "semi-honest", "complete", 5, length, "no dropout", Spread.of([seconds]), Spread.of([7.0])
    )


SHORT, LONG = _of_length(10_000, 2.0), _of_length(100_000, 11.0)
ABSENT = AbsentSum("Flower", "semi-honest", "complete", 5, 1_000_000, "no dropout", "left out")


def test_a_longer_sum_lies_on_the_line_through_two_shorter_ones() -> None:
    (*kept, found) = with_estimates((LONG, SHORT, ABSENT))
    assert kept == [LONG, SHORT]
    assert isinstance(found, SumFigures) and found.estimated_from == (10_000, 100_000)
    assert (found.tenant_cpu.median, found.server_cpu.median) == (101.0, 7.0)


def test_of_other_kinds_or_of_one_length_nothing_is_estimated() -> None:
    elsewhere = replace(SHORT, graph="k = 10"), replace(SHORT, dropout="some"), replace(SHORT, tenants=6)
    for cases in ((LONG, ABSENT), (*elsewhere, LONG, ABSENT), (_of_length(2_000_000, 99.0), LONG, ABSENT)):
        assert with_estimates(cases) == cases


def test_estimates_are_marked_in_the_table() -> None:
    console = Console(file=io.StringIO(), width=200)
    print_sums(with_estimates((SHORT, LONG, ABSENT)), Page(console))
    page = console.file.getvalue()  # type: ignore[attr-defined]
    assert "≈ 101,000" in page and "≈ 2,000" not in page
    assert "≈: not measured" in page and "Not measured: Flower" not in page
