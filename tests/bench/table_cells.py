"""How figures are written, and where."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench.figures import Spread


@dataclass(frozen=True)
class Page:
    """A terminal, or a page of Markdown."""

    console: Console
    markdown: bool = False

    def table(self, title: str, *columns: str) -> Table:
        """An empty table, its first column of names."""
        style = box.MARKDOWN if self.markdown else box.HEAVY_HEAD
        table = Table(title=title, title_justify="left", title_style="bold", box=style)
        for place, column in enumerate(columns):
            table.add_column(column, justify="left" if place == 0 else "right")
        return table

    def print(self, what: str | Table) -> None:
        """A table, or a paragraph with markup."""
        self.console.print(what)


def number(value: int) -> str:
    """Thousands apart."""
    return f"{value:,}".replace(",", " ")


def spread(values: Spread, scale: float, digits: int) -> str:
    """Median (least to most)."""
    median = f"{scale * values.median:.{digits}f}"
    if values.count == 1:
        return median
    return f"{median} ({scale * values.least:.{digits}f} to {scale * values.most:.{digits}f})"


def ms(values: Spread, digits: int = 1) -> str:
    """The same in milliseconds."""
    return spread(values, 1e3, digits)


def optional_ms(seconds: float | None) -> str:
    """Milliseconds, if the system tells them."""
    return "not told here" if seconds is None else f"{1e3 * seconds:.1f}"


def kilobytes(size: float) -> str:
    """1000 bytes each."""
    return f"{size / 1e3:,.1f}".replace(",", " ")


def verdict(seen: float, aim: float) -> str:
    """Whether an aim was reached."""
    return "[bold]reached[/]" if seen <= aim else "[bold]missed[/]"
