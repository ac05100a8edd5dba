"""The chart of a report that shows who was in which sum, and how much of each sum was stale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_server.record import Participation, RoundRecord, SessionRecord
from fed_em_server.report_charts import MANY, WIDE, whole_ticks
from fed_em_server.report_svg import THEME, figure, inline_svg

# Room between blocks, in lines.
_BETWEEN_BLOCKS = 0.5

_HEIGHTS = {
    Participation.STALE: (-0.17, 0.17),
    Participation.LATE: (0.08, 0.4),
    Participation.AWAY: (-0.03, 0.03),
}


def participation_chart(record: SessionRecord) -> str:
    """Who was in which sum: a line for each tenant, block by block, a cell for each round; below, how much was stale."""
    n, rounds = len(record.tenants), record.rounds
    last = max(r.round for r in rounds)
    lines = _lines_of(record)
    lowest = max(lines.values())
    lacking = any(r.stale or r.missing for r in rounds)
    tall = 0.75 + 0.27 * lowest
    with figure(WIDE, tall + 0.2 + (0.75 if lacking else 0)) as drawn:
        heights = [tall, 0.75] if lacking else [tall]
        axes, *below = drawn.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        axes.grid(visible=False)
        for index in range(n):
            for start, width, part in _stretches(rounds, index):
                axes.add_patch(_cells(part, start - 0.5, lines[index], width))
                if part is Participation.RECOVERED:
                    marks = np.arange(start, start + width)
                    axes.plot(marks, [lines[index]] * width, "D", color=THEME["paper"], markersize=2.6)
        if last <= MANY:
            axes.vlines(np.arange(0.5, last + 1), -0.5, lowest + 0.5, color=THEME["paper"], linewidth=1.0)
        for failed in _failures(record):
            axes.annotate("✕", (failed, -0.75), ha="center", va="center", color=THEME["late"], fontsize=7)
        axes.set_xlim(0.5, last + 0.5)
        axes.set_ylim(lowest + 0.5, -1.0 if _failures(record) else -0.5)
        axes.set_yticks([lines[index] for index in range(n)], record.tenants)
        axes.tick_params(axis="y", labelcolor=THEME["ink"])
        _name_blocks(axes, record, lines)
        for lower in below:
            _draw_stale(lower, rounds, n)
        (below or [axes])[-1].set_xlabel("round")
        whole_ticks((below or [axes])[-1])
        stale, terms = sum(r.stale for r in rounds), n * len(rounds)
        return inline_svg(
            drawn, "participation", "Who was in which sum",
            f"A grid of {n} tenants and {last} rounds; the table of tenants gives the same in numbers. "
            f"{stale} of {terms} terms were of an earlier round.",
        )  # fmt: skip


def _lines_of(record: SessionRecord) -> dict[int, float]:
    """The height of every tenant's line: blocks together, with some room between them."""
    places = [(index, number) for number, block in enumerate(record.block_members()) for index in block]
    return {index: line + _BETWEEN_BLOCKS * number for line, (index, number) in enumerate(places)}


def _name_blocks(axes: Axes, record: SessionRecord, lines: dict[int, float]) -> None:
    if record.n_blocks < 2:
        return
    for number, block in enumerate(record.block_members()):
        middle = (lines[block[0]] + lines[block[-1]]) / 2
        axes.annotate(
            f"block {number + 1}", (1.0, middle), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", color=THEME["muted"], annotation_clip=False,
        )  # fmt: skip


def _failures(record: SessionRecord) -> list[int]:
    """Rounds that were started and opened no sum."""
    told = {h.round for h in record.happenings if h.kind == NoticeKind.ROUND_FAILED.value}
    used = {number for r in record.rounds for number in (r.first_number, r.round)}
    return sorted(told - used - {0})


def _draw_stale(axes: Axes, rounds: Sequence[RoundRecord], n: int) -> None:
    numbers = [r.round for r in rounds]
    axes.bar(numbers, [r.stale for r in rounds], width=0.8, color=THEME["stale"])
    axes.bar(numbers, [r.missing for r in rounds], width=0.8, bottom=[r.stale for r in rounds], color=THEME["away"])
    axes.set_ylim(0, n)
    axes.set_yticks([0, n])
    axes.set_ylabel("stale", rotation=0, ha="right", va="center")


def _stretches(rounds: Sequence[RoundRecord], index: int) -> Iterator[tuple[int, int, Participation]]:
    """Runs of rounds in which a tenant had the same part: first round, length, part."""
    start, width = rounds[0].first_number, 0
    part = rounds[0].participation[index]
    for opened in rounds:
        now, spent = opened.participation[index], 1 + opened.round - opened.first_number
        if now is part and opened.first_number == start + width:
            width += spent
            continue
        yield start, width, part
        start, width, part = opened.first_number, spent, now
    yield start, width, part


def _cells(part: Participation, left: float, line: float, width: int) -> Rectangle:
    """Full height in the sum, a band if stale, low if late, a thin line if away: readable without colour."""
    low, high = _HEIGHTS.get(part, (-0.4, 0.4))
    role = "in" if part is Participation.SUMMED else part.value
    return Rectangle((left, line + low), width, high - low, facecolor=THEME[role], edgecolor="none")
