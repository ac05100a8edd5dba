"""Prints what a run measured."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from tests.bench.e_step_table import print_e_step, print_incomplete
from tests.bench.figures import Absent, FlowerFigures, GrpcFigures, RoundFigures, Spread
from tests.bench.machine import Machine
from tests.bench.rounds_table import print_optimisers
from tests.bench.run import Bench
from tests.bench.serving_table import print_serving
from tests.bench.sum_tables import print_client, print_server, print_sums, print_traffic
from tests.bench.table_cells import Page, ms, number, optional_ms, spread, verdict
from tests.bench.utility_table import print_utility

AIM_LENGTH, AIM_SECONDS = 10_000, 0.020
TIME_LIMIT = 2000.0
# A load above this before the start says that the machine had other work.
BUSY = 0.5

_GRPC_ROWS: tuple[tuple[str, Callable[[RoundFigures], str]], ...] = (
    ("round at the server, ms", lambda r: ms(r.round)),
    ("  until the last upload", lambda r: ms(r.upload)),
    ("  from then to the sum", lambda r: ms(r.opening)),
    ("same bytes echoed, no protocol, ms", lambda r: ms(r.echo.round)),
    ("round / echo", lambda r: f"{r.round.median / r.echo.round.median:.1f}"),
    ("CPU of the server, ms a round", lambda r: f"{1e3 * r.server_cpu:.1f}"),
    ("  of which the echo needs", lambda r: f"{1e3 * r.echo.server_cpu:.1f}"),
    ("CPU of a tenant, ms a round", lambda r: optional_ms(r.tenant_cpu)),
    ("  of which the echo needs", lambda r: optional_ms(r.echo.tenant_cpu)),
    ("kB up, a tenant", lambda r: f"{r.bytes_up / 1e3:.1f}"),
    ("kB down, a tenant", lambda r: f"{r.bytes_down / 1e3:.1f}"),
)


def print_bench(bench: Bench, console: Console, markdown: bool = False) -> None:
    """Everything, in one page."""
    page = Page(console, markdown)
    _print_machine(bench.machine, page)
    if bench.e_step:
        print_e_step(bench.e_step, page)
    if bench.incomplete:
        print_incomplete(bench.incomplete, page)
    if bench.rounds:
        print_optimisers(bench.rounds, page)
    if bench.privacy_utility:
        print_utility(bench.privacy_utility, page)
    if bench.client:
        print_client(bench.client, page)
    if bench.server:
        print_server(bench.server, page)
    if bench.sums:
        print_sums(bench.sums, page)
    if bench.traffic:
        print_traffic(bench.traffic, page)
    if bench.grpc:
        _print_grpc(bench.grpc, bench.machine, page)
    if bench.serving:
        print_serving(bench.serving, page)
    if bench.flower:
        _print_ways(bench.grpc, bench.flower, page)
    _print_seconds(bench.seconds, page)


def _print_machine(machine: Machine, page: Page) -> None:
    page.print(f"\n[bold]{machine.cpu}, {machine.cores} cores[/], {machine.system}, {machine.started}")
    page.print(", ".join(f"{name} {version}" for name, version in machine.versions.items()))
    page.print(f"Load before the start: {machine.load:.1f}. Medians (least to most). All on loopback, in this run.")
    if machine.load > BUSY:
        page.print("[yellow]Other programs kept this machine busy: the figures are too high, and compare badly.[/]")


def _print_grpc(grpc: GrpcFigures, machine: Machine, page: Page) -> None:
    table = page.table(
        f"A round over gRPC: {grpc.tenants} tenant processes, no E-step", "", *(_title(each) for each in grpc.rounds)
    )
    for name, cell in _GRPC_ROWS:
        table.add_row(name, *map(cell, grpc.rounds))
    floors = (_all_cpu(figures, grpc.tenants, machine.cores) for figures in grpc.rounds)
    table.add_row(f"all this CPU time on {machine.cores} cores, ms", *map(optional_ms, floors))
    page.print(table)
    page.print(
        f"Set-up of a window of {grpc.window_rounds} rounds, not part of a round: {ms(grpc.window)} ms, "
        f"{1e3 * grpc.window.median / grpc.window_rounds:.1f} a round. One durable mark alone: {ms(grpc.mark)} ms. "
        "Mutual TLS, signatures and a durable mark a tenant and round are in the rounds; parameters of 8·L bytes go down."
    )
    for figures in grpc.rounds:
        if figures.length == AIM_LENGTH:
            told = verdict(figures.round.median, AIM_SECONDS)
            page.print(f"Aim for {_title(figures)}: {1e3 * AIM_SECONDS:.0f} ms a round: {told}.")


def _title(figures: RoundFigures) -> str:
    return f"{figures.trust}, L = {number(figures.length)}"


def _all_cpu(figures: RoundFigures, tenants: int, cores: int) -> float | None:
    """No round on this machine can be shorter, as all parties share it."""
    if figures.tenant_cpu is None:
        return None
    return (figures.server_cpu + tenants * figures.tenant_cpu) / cores


def _print_ways(grpc: GrpcFigures | None, flower: FlowerFigures | Absent, page: Page) -> None:
    if isinstance(flower, Absent):
        page.print(f"\nRounds through Flower: absent: {flower.reason}.")
        return
    table = page.table(
        f"A round of {flower.nodes} tenants, by the way its messages take",
        "",
        "L",
        "seconds a round",
        "rounds",
        "ratio",
    )
    directly = [(f"gRPC, {each.trust}", each.length, each.round) for each in grpc.rounds] if grpc else []
    base = next((each.round for each in grpc.rounds), None) if grpc else None
    ways: list[tuple[str, int, Spread | Absent]] = [
        *directly,
        ("Flower, gRPC stream (Flower carries the tickets), malicious-server", flower.length, flower.stream),
        ("Flower, gRPC stream, semi-honest", flower.length, flower.semi_honest),
        ("Flower, relayed (every message through the SuperLink), malicious-server", flower.length, flower.relay),
    ]
    for name, length, seen in ways:
        if isinstance(seen, Absent):
            table.add_row(name, number(length), f"absent: {seen.reason}", "", "")
        else:
            ratio = f"{seen.median / base.median:,.1f}" if base else ""
            table.add_row(name, number(length), spread(seen, 1.0, 3), str(seen.count), ratio)
    page.print(table)
    page.print(f"SuperLink and {flower.nodes} SuperNodes took {flower.start:.0f} s to start.")
    if not isinstance(flower.relay_start, Absent):
        page.print(f"Relayed, a session takes {flower.relay_start:.0f} s to its first sum, window set-up included.")
    page.print("Flower's rounds are whole EM rounds of a mixture, with an E-step over 100 rows a tenant and an M-step.")


def _print_seconds(seconds: dict[str, float], page: Page) -> None:
    parts = ", ".join(f"{name} {spent:.0f}" for name, spent in seconds.items())
    page.print(f"\nThis run took {sum(seconds.values()):.0f} s of at most {TIME_LIMIT:.0f}: {parts}.")
