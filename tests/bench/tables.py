"""Prints what a run measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Absent, AbsentSum, FlowerFigures, GrpcFigures, RoundFigures, Spread, SumFigures
from tests.bench.machine import Machine
from tests.bench.our_sums import AFTER_UPLOAD, BEFORE_UPLOAD, COMPLETE, NO_DROPOUT
from tests.bench.run import Bench

AIM_LENGTH, AIM_SECONDS = 10_000, 0.020
TIME_LIMIT = 600.0
# A load above this before the start says that the machine had other work.
BUSY = 0.5


_GRPC_ROWS: tuple[tuple[str, Callable[[RoundFigures], str]], ...] = (
    ("round at the server, ms", lambda r: _ms(r.round)),
    ("  until the last upload", lambda r: _ms(r.upload)),
    ("  from then to the sum", lambda r: _ms(r.opening)),
    ("same bytes echoed, no protocol, ms", lambda r: _ms(r.echo.round)),
    ("round / echo", lambda r: f"{r.round.median / r.echo.round.median:.1f}"),
    ("CPU of the server, ms a round", lambda r: f"{1e3 * r.server_cpu:.1f}"),
    ("  of which the echo needs", lambda r: f"{1e3 * r.echo.server_cpu:.1f}"),
    ("CPU of a tenant, ms a round", lambda r: _optional_ms(r.tenant_cpu)),
    ("  of which the echo needs", lambda r: _optional_ms(r.echo.tenant_cpu)),
    ("kB up, a tenant", lambda r: f"{r.bytes_up / 1e3:.1f}"),
    ("kB down, a tenant", lambda r: f"{r.bytes_down / 1e3:.1f}"),
)


def print_bench(bench: Bench, console: Console) -> None:
    """Everything, in one page."""
    _print_machine(bench.machine, console)
    _print_grpc(bench.grpc, bench.machine, console)
    _print_ways(bench.grpc, bench.flower, console)
    _print_sums(bench.sums, console)
    _print_seconds(bench.seconds, console)


def _print_machine(machine: Machine, console: Console) -> None:
    console.print(f"\n[bold]{machine.cpu}, {machine.cores} cores[/], {machine.system}, {machine.started}")
    console.print(", ".join(f"{name} {number}" for name, number in machine.versions.items()))
    console.print(f"Load before the start: {machine.load:.1f}. Medians (least to most). All on loopback, in this run.")
    if machine.load > BUSY:
        console.print("[yellow]Other programs kept this machine busy: the figures are too high, and compare badly.[/]")


def _print_grpc(grpc: GrpcFigures, machine: Machine, console: Console) -> None:
    table = _table(f"A round over gRPC: {grpc.tenants} tenant processes, no E-step", "", *map(_length, grpc.rounds))
    for name, cell in _GRPC_ROWS:
        table.add_row(name, *map(cell, grpc.rounds))
    floors = (_all_cpu(figures, grpc.tenants, machine.cores) for figures in grpc.rounds)
    table.add_row(f"all this CPU time on {machine.cores} cores, ms", *map(_optional_ms, floors))
    console.print(table)
    console.print(
        f"Set-up of a window of {grpc.window_rounds} rounds, not part of a round: {_ms(grpc.window)} ms, "
        f"{1e3 * grpc.window.median / grpc.window_rounds:.1f} a round. One durable mark alone: {_ms(grpc.mark)} ms. "
        "Mutual TLS, signatures and a durable mark a tenant and round are in the rounds; parameters of 8·L bytes go down."
    )
    for figures in grpc.rounds:
        if figures.length == AIM_LENGTH:
            verdict = "reached" if figures.round.median <= AIM_SECONDS else "missed"
            console.print(f"Aim for L = {_number(AIM_LENGTH)}: {1e3 * AIM_SECONDS:.0f} ms a round: [bold]{verdict}[/].")


def _all_cpu(figures: RoundFigures, tenants: int, cores: int) -> float | None:
    """No round on this machine can be shorter, as all parties share it."""
    if figures.tenant_cpu is None:
        return None
    return (figures.server_cpu + tenants * figures.tenant_cpu) / cores


def _print_ways(grpc: GrpcFigures, flower: FlowerFigures | Absent, console: Console) -> None:
    if isinstance(flower, Absent):
        console.print(f"\nRounds through Flower: absent: {flower.reason}.")
        return
    base = grpc.rounds[0]
    table = _table(f"A round of {grpc.tenants} tenants, three ways", "", "L", "seconds a round", "rounds", "ratio")
    ways = (
        ("gRPC", base.length, base.round),
        ("Flower, gRPC stream (Flower carries the tickets)", flower.length, flower.stream),
        ("Flower, relayed (every message through the SuperLink)", flower.length, flower.relay),
    )
    for name, length, spread in ways:
        if isinstance(spread, Absent):
            table.add_row(name, _number(length), f"absent: {spread.reason}", "", "")
        else:
            ratio = spread.median / base.round.median
            table.add_row(name, _number(length), _spread(spread, 1.0, 3), str(spread.count), f"{ratio:,.1f}")
    console.print(table)
    console.print(f"SuperLink and {flower.nodes} SuperNodes took {flower.start:.0f} s to start.")
    if not isinstance(flower.relay_start, Absent):
        console.print(f"Relayed, a session takes {flower.relay_start:.0f} s to its first sum, window set-up included.")
    console.print(
        "Flower's rounds are whole EM rounds of a mixture, with an E-step over 100 rows a tenant and an M-step."
    )


def _print_sums(sums: Sequence[SumFigures | AbsentSum], console: Console) -> None:
    """CPU for a sum; ratios are to fed-em's on the complete graph with the same dropout."""
    for tenants, length in sorted({(each.tenants, each.length) for each in sums}):
        table = _table(
            f"The sum alone in memory, n = {tenants}, L = {_number(length)}: CPU ms",
            "", "system, graph", "a tenant", "+ keys", "the server", "+ keys", "tenant ×", "server ×",
        )  # fmt: skip
        for dropout in (NO_DROPOUT, BEFORE_UPLOAD, AFTER_UPLOAD):
            cases = [each for each in sums if (each.tenants, each.length, each.dropout) == (tenants, length, dropout)]
            ours = next(each for each in cases if isinstance(each, SumFigures) and not _is_flowers(each))
            for place, each in enumerate(cases):
                cells = (f"absent: {each.reason}",) if isinstance(each, AbsentSum) else _costs(each, ours)
                table.add_row("" if place else dropout, f"{each.system}, {each.graph}", *cells)
            table.add_section()
        console.print(table)
    console.print(_ABOUT_SUMS)


_ABOUT_SUMS = (
    'fed-em: from the bytes of each message to the bytes of its answer, signatures and hashing included; "+ keys" is a sum\'s share '
    "of the set-up of its window. The server's time includes the memory hub's. Left out: E-step, encoding, durable marks, network.\n"
    "Flower: its own secaggplus_mod and SecAggPlusWorkflow in one process, which agree on keys anew for every sum. Left out, in its "
    "favour: network, its wire format (NumPy's bytes of masked vectors are in), local fit, quantisation and its inverse, the "
    f'strategy. Its graph "{COMPLETE}" has fed-em\'s threshold; fewer shares protect against fewer colluding nodes. Whoever falls '
    "silent after the upload costs Flower nothing extra, as it rebuilds every node's seed from shares in any case.\n"
    "\"×\": Flower's time over fed-em's, keys included on both sides. The two do not give the same: fed-em's sums are exact in 64 "
    "bits, from signed messages; Flower's are quantised to 22 bits, unsigned, under masks from a 32-bit seed."
)


def _is_flowers(figures: SumFigures) -> bool:
    return figures.system != "fed-em"


def _costs(each: SumFigures, ours: SumFigures) -> tuple[str, ...]:
    def keys(seconds: float) -> str:
        return "in it" if _is_flowers(each) else f"{1e3 * seconds:.2f}"

    def ratio(theirs: float, our: float) -> str:
        return f"{theirs / our:,.1f}" if _is_flowers(each) else ""

    return (
        _ms(each.tenant_cpu, 2),
        keys(each.tenant_set_up_cpu),
        _ms(each.server_cpu),
        keys(each.server_set_up_cpu),
        ratio(each.tenant_whole, ours.tenant_whole),
        ratio(each.server_whole, ours.server_whole),
    )


def _print_seconds(seconds: dict[str, float], console: Console) -> None:
    parts = ", ".join(f"{name} {spent:.0f}" for name, spent in seconds.items())
    console.print(f"\nThis run took {sum(seconds.values()):.0f} s of at most {TIME_LIMIT:.0f}: {parts}.")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    return table


def _length(figures: RoundFigures) -> str:
    return f"L = {_number(figures.length)}"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def _spread(spread: Spread, scale: float, digits: int) -> str:
    if spread.count == 1:
        return f"{scale * spread.median:.{digits}f}"
    return f"{scale * spread.median:.{digits}f} ({scale * spread.least:.{digits}f} to {scale * spread.most:.{digits}f})"


def _ms(spread: Spread, digits: int = 1) -> str:
    return _spread(spread, 1e3, digits)


def _optional_ms(seconds: float | None) -> str:
    return "not told here" if seconds is None else f"{1e3 * seconds:.1f}"
