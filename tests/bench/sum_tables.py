"""Prints what the sums in memory cost: the client against its floor, the server's rounds, Flower beside them, bytes."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.figures import (
    AbsentSum,
    ClientFigures,
    ExchangeFigures,
    GatedFigures,
    ServerFigures,
    SumFigures,
    TrafficFigures,
)
from tests.bench.our_sums import LOST_UPLOADS, NO_DROPOUT, SILENT_AFTER
from tests.bench.table_cells import Page, kilobytes, number, verdict

AIM_RATIO, AIM_NEIGHBOURS, AIM_CLIENT_LENGTH = 1.2, 31, 100_000
# Seconds of the server, by n, for L and per cent missing.
AIMS = {100: 0.25, 1000: 2.0}
AIM_SERVER_LENGTH, AIM_PERCENT = 100_000, 10
AIM_VECTORS = 12


def print_client(client: Sequence[ClientFigures], page: Page) -> None:
    """A tenant's upload, part by part."""
    table = page.table(
        "A tenant's upload against the keystream floor, one thread: CPU ms",
        "k, L", "floor", "masks", "copies", "masks ÷ floor", "(masks + copies) ÷ floor", "k agreements", "hash, sign", "upload", "encoding",
    )  # fmt: skip
    for each in client:
        parts = (each.floor, each.masking, each.copying)
        others = (each.agreement, each.signing, each.upload, each.encoding)
        table.add_row(
            f"k = {each.neighbours}, L = {number(each.length)}", *(f"{1e3 * part:.2f}" for part in parts),
            f"{each.masking / each.floor:.2f}", f"{each.ratio:.2f}", *(f"{1e3 * part:.2f}" for part in others),
        )  # fmt: skip
    page.print(table)
    page.print(
        "Floor: k + 1 bare AES-128-CTR keystreams of 8·L bytes into a buffer that is there before, whole or in pieces of 128 KiB, "
        "whichever is faster. The upload is `tenant_upload`; encoding comes before it. Least of several measurements; masks and copies are "
        "those of the one upload in which both together took least."
    )
    judged = [e.ratio for e in client if e.length >= AIM_CLIENT_LENGTH and e.neighbours >= AIM_NEIGHBOURS]
    if judged:
        page.print(
            f"Aim for L ≥ {number(AIM_CLIENT_LENGTH)}, k ≥ {AIM_NEIGHBOURS}: {AIM_RATIO} times the floor, without agreement, encoding and "
            f"signing: {min(judged):.2f} to {max(judged):.2f}: {verdict(max(judged), AIM_RATIO)}."
        )


_PARTS = ("Upload", "Endorsement", "Opening", "Shares", "unmasking")


def print_server(server: Sequence[ServerFigures], page: Page) -> None:
    """The server's rounds."""
    table = page.table(
        "The server's part in one round, malicious-server trust: CPU ms",
        "n, graph, L, missing", "all", "clock", "uploads", "certificate", "openings", "shares", "unmasking", "rest",
    )  # fmt: skip
    timed = [each for each in server if each.memory_vectors is None]
    for each in timed:
        known = [each.parts.get(name, 0.0) for name in _PARTS]
        cells = [each.cpu, each.wall, *known, each.cpu - sum(known)]
        table.add_row(_case(each), *(f"{1e3 * cell:.0f}" for cell in cells))
    page.print(table)
    page.print(
        "From the request to the sum: parsing, hashing and verifying of every message, running sum, root and certificate, openings, masks "
        "taken off (in threads, one a core). Tenants' time and the network are left out. Graphs for which nobody may be missing in the "
        "set-up are refused by tenants whose policy demands as many colluders: `require_safe_graph` looks at the smallest window too."
    )
    for each in timed:
        if each.failure:
            page.print(
                f"{_case(each)}: no sum, nobody opened anything, the next round was a sum again. {each.failure}."
            )
        aim = AIMS.get(each.tenants)
        if aim and (each.length, each.percent, each.recovered) == (AIM_SERVER_LENGTH, AIM_PERCENT, False):
            page.print(
                f"Aim for {_case(each)}: {aim} s: {each.cpu:.2f} s of CPU: {verdict(each.cpu, aim)}; {each.wall:.2f} s by the clock: "
                f"{verdict(each.wall, aim)}."
            )
    for each in server:
        if each.memory_vectors is not None:
            page.print(
                f"Memory of the server, {_case(each)}: at most {each.memory_vectors:.1f} vectors beyond the uploads that wait; "
                f"aim {AIM_VECTORS}: {verdict(each.memory_vectors, AIM_VECTORS)}."
            )


def _case(each: ServerFigures) -> str:
    missing = f"{each.percent} % {'silent after the upload' if each.recovered else 'missing'}"
    return f"n = {each.tenants}, {each.graph}, L = {number(each.length)}, {missing}"


def print_sums(sums: Sequence[SumFigures | AbsentSum], page: Page) -> None:
    """CPU for a sum; ratios are to fed-em's on the same graph with the same dropout, under either trust."""
    measured = [each for each in sums if isinstance(each, SumFigures)]
    absent = [each for each in sums if isinstance(each, AbsentSum)]
    for tenants, length in sorted({(each.tenants, each.length) for each in measured}):
        table = page.table(
            f"The sum alone in memory, n = {tenants}, L = {number(length)}: CPU ms",
            "", "graph", "system, trust", "a tenant", "+ keys", "the server", "+ keys", "tenant ×", "server ×",
        )  # fmt: skip
        here = [each for each in measured if (each.tenants, each.length) == (tenants, length)]
        for graph in dict.fromkeys(each.graph for each in here):
            for dropout in (NO_DROPOUT, LOST_UPLOADS, SILENT_AFTER):
                cases = [each for each in here if (each.graph, each.dropout) == (graph, dropout)]
                ours = [each for each in cases if _is_ours(each)]
                for place, each in enumerate(cases):
                    table.add_row("" if place else dropout, graph, f"{each.system}, {each.trust}", *_costs(each, ours))
                table.add_section()
        page.print(table)
    for left_out in absent:
        size = f"n = {left_out.tenants}, L = {number(left_out.length)}"
        page.print(f"Not measured: {left_out.system}, {left_out.graph}, {size}, {left_out.dropout}: {left_out.reason}.")
    for lengths in sorted({each.estimated_from for each in measured if each.estimated_from}):
        page.print(
            f"≈: not measured, as it takes up to hours: a straight line through L = {' and '.join(map(number, lengths))} of the same case, "
            "which masks alone grow with. Longer vectors leave the caches and cost more. `--full` measures it."
        )
    page.print(_ABOUT_SUMS)


_ABOUT_SUMS = (
    'fed-em: from the bytes of each message to the bytes of its answer, signatures and hashing included; "+ keys" is a sum\'s share '
    "of the set-up of its window. Left out: E-step, encoding, durable marks, network.\n"
    "Flower: its own secaggplus_mod and SecAggPlusWorkflow in one process, which agree on keys anew for every sum. Left out, in its "
    "favour: network, its wire format (NumPy's bytes of masked vectors are in), local fit, quantisation and its inverse, the "
    "strategy. On the complete graph it has fed-em's threshold. Whoever falls silent after the upload costs Flower nothing extra, as it "
    "rebuilds every node's seed from shares in any case.\n"
    "k = 10 is for comparison: so few neighbours protect against few colluding tenants, here as there.\n"
    "\"×\": Flower's time over fed-em's, keys included on both sides: over that of malicious-server trust / of semi-honest trust. The two "
    "do not give the same: fed-em's sums are exact in 64 bits, from signed messages; Flower's are quantised to 22 bits, unsigned, under "
    "masks from a 32-bit seed."
)


def _is_ours(figures: SumFigures) -> bool:
    return figures.system == "fed-em"


def _costs(each: SumFigures, ours: Sequence[SumFigures]) -> tuple[str, ...]:
    def keys(seconds: float) -> str:
        return f"{1e3 * seconds:.2f}" if _is_ours(each) else "in it"

    def ratios(theirs: float, our: Sequence[float]) -> str:
        return "" if _is_ours(each) else about + " / ".join(f"{theirs / one:,.1f}" for one in our)

    about = "≈ " if each.estimated_from else ""
    return (
        f"{about}{1e3 * each.tenant_cpu.median:,.2f}",
        keys(each.tenant_set_up_cpu),
        f"{about}{1e3 * each.server_cpu.median:,.1f}",
        keys(each.server_set_up_cpu),
        ratios(each.tenant_whole, [one.tenant_whole for one in ours]),
        ratios(each.server_whole, [one.server_whole for one in ours]),
    )


def print_traffic(traffic: Sequence[TrafficFigures], page: Page) -> None:
    """Windows and rounds: bytes and time."""
    table = page.table(
        f"Windows and EM rounds, malicious-server trust, L = {number(traffic[0].length)}",
        "", "kB up, a tenant", "kB down, a tenant", "CPU ms, a tenant", "CPU ms, a witness", "CPU ms, the server",
    )  # fmt: skip
    for each in traffic:
        name = f"n = {each.tenants}, {each.graph}"
        for what, figures in (
            (f"window of {each.window_rounds} rounds", each.window),
            ("EM round", each.plain),
            *((_say_gated(gated), gated.both) for gated in each.gated),
        ):
            table.add_row(f"{name}: {what}", *_exchange(figures))
        table.add_section()
    page.print(table)
    page.print(
        "Mean bytes over all tenants; on the complete graph every tenant is a witness. Up and down include 8·L bytes of statistics and of "
        "parameters. A gated EM round is two sums: counts, so many words, which everybody recomputes from all uploads of them, and the "
        "moments. With holes, where cells may be missing, the observed cells of each column are counted too. Counts "
        "are in words of 32 bits only while the row caps of all tenants together stay below 2 048 rows: 20 fraction bits are the fewest "
        "that an encoding has."
    )


def _say_gated(gated: GatedFigures) -> str:
    kind = "gated EM round with holes" if gated.missing else "gated EM round"
    return f"{kind}, row caps {number(gated.row_cap)}: {number(gated.counts_length)} words of {gated.ring_bits} bits"


def _exchange(figures: ExchangeFigures) -> tuple[str, ...]:
    return (
        kilobytes(figures.bytes_up),
        kilobytes(figures.bytes_down),
        *(f"{1e3 * seconds:.1f}" for seconds in (figures.tenant_cpu, figures.witness_cpu, figures.server_cpu)),
    )
