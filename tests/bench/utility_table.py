"""Prints what differential privacy costs."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.figures import Absent, UtilityFigures
from tests.bench.table_cells import Page, number, verdict

# At this ε and as many rows, differential privacy is to cost no more nats a row.
AIM_EPSILON, AIM_ROWS, AIM_COST = 1.0, 200_000, 0.05


def print_utility(figures: Sequence[UtilityFigures], page: Page) -> None:
    """One table: what a held-out row loses against the fit without privacy."""
    first = figures[0]
    table = page.table(
        f"Held-out log-likelihood with differential privacy of records, {first.tenants} tenants, δ = {first.delta:.0e}",
        "rows",
        "ε",
        "noise inside the sum",
        "cost, nats a row",
        "local noise",
        "cost, nats a row",
    )
    for size in figures:
        table.add_row(number(size.rows), "∞", _nats(size.without), "", "", "")
        for fit in size.private:
            inside, local = _cost(size, fit.inside), _cost(size, fit.local)
            table.add_row("", f"{fit.epsilon:g}", _nats(fit.inside), inside, _nats(fit.local), local)
    page.print(table)
    page.print(
        f"The mixture that rows are from scores {first.truth:.3f}. Costs are against the fit without privacy (ε = ∞). All are sessions of "
        "the real protocol over the same rows. Local noise: each tenant adds all of it by itself."
    )
    for size in figures:
        for fit in size.private:
            if (fit.epsilon, size.rows) == (AIM_EPSILON, AIM_ROWS) and not isinstance(fit.inside, Absent):
                cost = size.cost(fit.inside)
                told = "not told" if cost is None else verdict(cost, AIM_COST)
                page.print(f"Aim at ε = {AIM_EPSILON:g} and {number(AIM_ROWS)} rows: {AIM_COST} nats a row: {told}.")


def _nats(score: float | Absent) -> str:
    return f"none: {score.reason}" if isinstance(score, Absent) else f"{score:.3f}"


def _cost(size: UtilityFigures, score: float | Absent) -> str:
    cost = size.cost(score)
    return "" if cost is None else f"{cost:.3f}"
