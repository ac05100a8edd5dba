"""The end of a session in the terminal: models compared, and what was done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fed_em_server.record import Comparison, Participation, SessionRecord
from fed_em_server.report_words import (
    blocks_in_words,
    bytes_in_words,
    decimal,
    doubt_of_ends,
    ending_in_words,
    ends_in_words,
    names_in_words,
    privacy_in_words,
    seconds_in_words,
    starts_in_words,
)

# Lines of a comparison with a meaning of their own; every other line is a tenant's model, fitted to its rows alone.
FEDERATED, POOLED = "federated", "pooled"

# Parts of a tenant that keep its block out of a sum.
_CAUSES = {Participation.LATE, Participation.AWAY}


def pooled_of(record: SessionRecord) -> Comparison | None:
    """The line that the others are measured against, if there is one."""
    return next((line for line in record.comparison if line.name == POOLED), None)


def comparison_table(record: SessionRecord) -> Table:
    """Held-out log-likelihood of the federated model, the pooled one, and of each tenant alone."""
    pooled = pooled_of(record)
    table = Table(title="Rows that no model was trained on", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("model")
    table.add_column("trained on", justify="right")
    table.add_column("log-likelihood a row", justify="right")
    if pooled is not None:
        table.add_column("against pooled", justify="right")
    for line in record.comparison:
        cells = [line.name, str(line.rows), decimal(line.held_out_log_likelihood, 3)]
        if pooled is not None:
            difference = line.held_out_log_likelihood - pooled.held_out_log_likelihood
            cells.append("" if line is pooled else decimal(difference, 6, signed=True))
        table.add_row(*cells, style="bold" if line.name in {FEDERATED, POOLED} else None)
    return table


def summary_panel(record: SessionRecord, folder: Path, files: Sequence[str]) -> Panel:
    """Whether it converged, how many rounds it took, and where everything is."""
    rounds = record.rounds
    complete = sum(opened.complete for opened in rounds)
    up, down = sum(r.bytes_up for r in rounds), sum(r.bytes_down for r in rounds)
    how = ending_in_words(record)
    last = next((r.log_likelihood for r in reversed(rounds) if r.log_likelihood is not None), None)
    starts = "; ".join(filter(None, (starts_in_words(record), ends_in_words(record.ends))))
    lines = {
        **({"start": starts} if starts else {}),
        "fit": how if last is None else f"{how}, at {decimal(last)} nats a row",
        "rounds": f"{len(rounds)}: {complete} with every tenant in the sum, {len(rounds) - complete} with some",
        **_standard_errors(record),
        "trust": f"{record.trust}, f = {record.colluders}, {blocks_in_words(record)}",
        **({"privacy": privacy_in_words(record)} if record.privacy else {}),
        "traffic": f"{bytes_in_words(up)} to the server, {bytes_in_words(down)} from it",
        "time": seconds_in_words(record.seconds),
        "folder": str(folder),
        "files": ", ".join(files),
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in (*lines.items(), *_stale_blocks(record)):
        grid.add_row(Text(name, "dim"), Text(value, overflow="fold"))
    of_ends = filter(None, [doubt_of_ends(record.ends)])
    for warning in (*([] if record.certified else [record.banner]), *record.warnings, *record.doubts, *of_ends):
        grid.add_row(Text("!", "bold red"), Text(warning, overflow="fold"))
    return Panel(grid, title=record.title, title_align="left", box=box.ROUNDED, expand=False, padding=(1, 2))


def _standard_errors(record: SessionRecord) -> dict[str, str]:
    found = record.standard_errors
    if found is None:
        return {}
    of = f"{found.records:g} records of {len(found.tenants)} of {len(record.tenants)} tenants, in the model and the report"
    return {"standard errors": f"none: {found.failure}" if found.failure else of}


def _stale_blocks(record: SessionRecord) -> Iterator[tuple[str, str]]:
    """Which blocks were not whole for a while, and what stood in for them."""
    heading = "stale"
    for block in record.block_members() if record.blocks else ():
        rounds = [opened for opened in record.rounds if 0 < opened.bases[block[0]] < opened.round]
        if rounds:
            cause = [i for i in block if any(r.participation[i] in _CAUSES for r in rounds)]
            why = f", for {names_in_words([record.tenants[i] for i in cause])}" if cause else ""
            names = names_in_words([record.tenants[i] for i in block])
            yield heading, f"{names} in {len(rounds)} sums{why}: the terms that they gave before stood in the total"
            heading = ""
