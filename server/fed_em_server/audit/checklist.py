"""A verification as a list for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fed_em_server.audit.verify import Check, Verdict, Verification

_MARKS = {
    Verdict.PASSED: ("✓", "green"),
    Verdict.FAILED: ("✗", "bold red"),
    Verdict.NOTED: ("·", "yellow"),
    Verdict.NOT_REACHED: ("–", "dim"),
}


def checklist(found: Verification) -> RenderableType:
    """The checks, one below the other, and what they come to."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(ratio=1)
    for check in found.checks:
        mark, style = _MARKS[check.verdict]
        table.add_row(Text(mark, style), Text(check.name, style), Text(_said(check)))
    failed = sum(check.verdict is Verdict.FAILED for check in found.checks)
    ending = Text("verified", "bold green") if found.passed else Text(f"NOT verified: {failed} failed", "bold red")
    return Group(table, ending)


def _said(check: Check) -> str:
    where = f"{check.place}: " if check.place is not None else ""
    return where + check.said + (f"\nproves: {check.proves}" if check.proves else "")
