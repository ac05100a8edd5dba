"""Charts of a simulation's results: means over replicates as lines; thin bars from least to greatest, thick ones of a standard error.

Needs the extra `plots`: import it where that may be missing.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from fed_em_server.report_charts import WIDE
from fed_em_server.report_svg import THEME, component_colour, figure, inline_svg
from fed_em_simulations.experiment import Chart
from fed_em_simulations.results import Results, Value, text_of

# What a logarithmic axis shows at its foot.
_FOOT = 1e-5

# From this ratio of its ends on, values on the horizontal axis stand on a logarithmic scale.
_WIDE_RANGE = 20.0

_PANELS_ABREAST = 3
_LEGEND_ABREAST = 5
# Of four values beside each other in one panel; longer ones go on below.
_LETTERS_A_TICK = 24
_MARKERS = "osD^vP*Xhd"


@dataclass(frozen=True)
class Arrangement:
    """Which key of the results is where in a chart.

    Attributes:
        across: The key along the horizontal axis.
        lines: The key that tells lines apart; None for a single line.
        panels: The keys that tell panels apart.
    """

    across: str
    lines: str | None
    panels: tuple[str, ...]

    @classmethod
    def of(cls, results: Results, own: Sequence[str]) -> Arrangement:
        """The arrangement of results whose experiment has these `own` keys, the others being swept.

        Numbers go across: own ones rather than swept ones. What is left tells lines apart, own keys first, then panels.
        """
        swept = [key for key in results.keys if key not in own]
        numeric = [key for key in (*own, *swept) if all(_is_number(value) for value in results.values(key))]
        varied = [key for key in numeric if len(results.values(key)) > 1]
        across = (varied or numeric or [*swept, *own])[0]
        left = [key for key in (*own, *swept) if key != across]
        return cls(across, left[0] if left else None, tuple(left[1:]))


def field_in_words(name: str) -> str:
    """The last words of a field's dotted name: `mixing concentration`."""
    return " ".join(name.split(".")[-2:]).replace("_", " ")


def value_in_words(value: Value) -> str:
    """A swept value; a list of tables without the signs that a file needs: `bursts, leave = 0.05`."""
    return re.sub(r"[\[\]{}]|\bkind = ", "", text_of(value))


def results_chart(results: Results, chart: Chart, own: Sequence[str], number: int) -> str:
    """A chart as an `<svg>` element.

    Args:
        results: All of them.
        chart: What to show.
        own: Keys of the experiment's own.
        number: Of the chart in its page.
    """
    results = results.told
    arrangement = Arrangement.of(results, own)
    # A method has one colour in all charts of a page.
    lines = (None,) if arrangement.lines is None else results.values(arrangement.lines)
    shown = Results(
        tuple(row for row in results.rows if not {row[key] for key in own} & set(chart.leave_out)), results.keys
    )
    panels = list(product(*(shown.values(key) for key in arrangement.panels)))
    abreast = min(len(panels), _PANELS_ABREAST)
    deep = math.ceil(len(panels) / abreast)
    with figure(WIDE, 0.5 + 3.5 * deep) as drawn:
        grid = drawn.subplots(deep, abreast, sharey=True, squeeze=False).ravel()
        for axes, values in zip(grid, panels, strict=False):
            wanted = dict(zip(arrangement.panels, values, strict=True))
            _draw_panel(axes, shown.where(**wanted), chart, arrangement, lines)
            axes.set_title(
                ", ".join(f"{field_in_words(key)} {text_of(value)}" for key, value in wanted.items()),
                fontsize=9.5, color=THEME["muted"], loc="left",
            )  # fmt: skip
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[::abreast]:
            axes.set_ylabel(chart.unit)
        handles, labels = grid[0].get_legend_handles_labels()
        if len(labels) > 1:
            told = None if arrangement.lines is None or arrangement.lines in own else field_in_words(arrangement.lines)
            drawn.legend(
                handles,
                labels,
                loc="outside upper left",
                ncols=min(len(labels), _LEGEND_ABREAST),
                labelcolor=THEME["ink"],
                title=told,
                title_fontsize=9.5,
                alignment="left",
            )
        return inline_svg(
            drawn, f"chart-{number}", chart.title, f"{chart.note_on(results)} All values are in the table."
        )


def _draw_panel(axes: Axes, results: Results, chart: Chart, arrangement: Arrangement, lines: Sequence[Value]) -> None:
    across = results.values(arrangement.across)
    numbers = [float(value) for value in across if _is_number(value) and not isinstance(value, str | None)]
    ordered = len(numbers) == len(across)
    if not ordered:
        numbers = [float(place) for place in range(len(across))]
    for index, line in enumerate(lines):
        chosen = results if arrangement.lines is None else results.where(**{arrangement.lines: line})
        at = [chosen.where(**{arrangement.across: value}) for value in across]
        name = chart.unit if line is None else text_of(line)
        _draw_line(axes, numbers, at, chart, index, name, "-" if ordered else "none")
    _scale(axes, across, numbers, chart)
    axes.set_xlabel(field_in_words(arrangement.across))


def _draw_line(
    axes: Axes, numbers: Sequence[float], at: Sequence[Results], chart: Chart, index: int, name: str, joined: str
) -> None:
    """Points with their bars, joined by a line where there is something between one and the next."""
    here = [(x, group.summary(chart.column)) for x, group in zip(numbers, at, strict=True) if group.rows]
    here = [(x, summary) for x, summary in here if not math.isnan(summary.mean)]
    if not here:
        return
    foot = _FOOT if chart.logarithmic else -math.inf
    means, lows, highs = (
        np.maximum([getattr(summary, which) for _, summary in here], foot) for which in ("mean", "low", "high")
    )
    xs, colour = [x for x, _ in here], component_colour(index)
    axes.errorbar(
        xs, means, yerr=(np.maximum(means - lows, 0), np.maximum(highs - means, 0)), color=colour, linewidth=1.5, linestyle=joined,
        marker=_MARKERS[index % len(_MARKERS)], markersize=4.5, elinewidth=0.8, label=name, zorder=3,
    )  # fmt: skip
    errors = np.array([summary.error for _, summary in here])
    if np.isfinite(errors).any():
        thick = (np.minimum(errors, means - foot), errors)
        axes.errorbar(xs, means, yerr=thick, fmt="none", color=colour, elinewidth=3.0, alpha=0.5, zorder=2)
    if chart.predicted is not None:
        expected = [(x, g.summary(chart.predicted).mean) for x, g in zip(numbers, at, strict=True) if g.rows]
        dashes = "--" if joined != "none" else "_"
        axes.plot(*zip(*expected, strict=True), dashes, color=colour, linewidth=1.1, markersize=14)


def _scale(axes: Axes, across: Sequence[Value], numbers: Sequence[float], chart: Chart) -> None:
    if chart.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
    if min(numbers) > 0 and max(numbers) / min(numbers) >= _WIDE_RANGE:
        axes.set_xscale("log")
    axes.set_xticks(list(numbers), [textwrap.fill(value_in_words(value), _LETTERS_A_TICK) for value in across])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    axes.margins(x=0.05)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
