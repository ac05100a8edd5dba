"""Prints what a served row costs."""

from __future__ import annotations

from tests.bench.figures import ECHO, ColdStartFigures, ServingFigures
from tests.bench.table_cells import Page, ms, number, verdict

# Of one client that asks row after row, on loopback.
AIM_P99 = 0.005


def print_serving(figures: ServingFigures, page: Page) -> None:
    """Requests, rows by themselves, and the cold start."""
    columns = (
        "clients at once",
        "requests",
        "median, ms",
        "p99, ms",
        "p99.9, ms",
        "requests a second",
        "CPU of the server, µs",
    )
    table = page.table("One row a request from a served model, K = 8, D = 20, on loopback", "", *columns)
    for each in figures.requests:
        seconds = (f"{1e3 * value:.2f}" for value in (each.median, each.p99, each.p999))
        cpu = "" if each.server_cpu is None else f"{1e6 * each.server_cpu:.0f}"
        what = "the bytes of a request echoed" if each.face == ECHO else f"{each.method} over {each.face}, {each.model}"
        what += ", ahead of other programs" if each.ahead else ""
        table.add_row(what, str(each.clients), number(each.requests), *seconds, number(round(each.throughput)), cpu)
    page.print(table)
    of_one = [each for each in figures.requests if each.clients == 1 and each.face != ECHO]
    for alone, how in (
        ([each for each in of_one if each.ahead], " ahead of other programs"),
        ([each for each in of_one if not each.ahead], ""),
    ):
        if not alone:
            continue
        worst = max(each.p99 for each in alone)
        page.print(
            f"Aim of one client{how}: p99 of {1e3 * AIM_P99:g} ms: {verdict(worst, AIM_P99)} (at worst {1e3 * worst:.2f} ms)."
        )
    table = page.table(
        "One row in a process, K = 8, D = 20, µs",
        "",
        "by itself",
        "of a new pattern",
        "as a table of one",
        "in a table of many",
    )
    for row in figures.rows:
        fresh = "" if row.new_pattern is None else f"{1e6 * row.new_pattern:.0f}"
        cells = (
            f"{1e6 * row.alone:.0f}",
            fresh,
            f"{1e6 * row.table:.0f}",
            f"{1e6 * row.many:.1f} ({number(row.many_rows)} rows)",
        )
        table.add_row(f"{row.method}, {row.model}", *cells)
    page.print(table)
    _print_cold(figures.cold, page)


def _print_cold(cold: ColdStartFigures, page: Page) -> None:
    table = page.table("A new process until its first filled row, ms", "", "")
    for name, values in (
        ("Python that does nothing", cold.python),
        ("that imports NumPy", cold.numpy),
        ("fed_em.impute_one: imported, model read, a row filled", cold.ready),
        ("the same by fed_em.model_file", cold.whole),
    ):
        table.add_row(name, ms(values, 0))
    page.print(table)
    page.print(f"One more row by impute_one: {1e6 * cold.row:.0f} µs.")
