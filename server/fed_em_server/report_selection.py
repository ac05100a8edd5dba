"""The pick of a session's model, as the report shows it: criteria over numbers of components or structures, and in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fed_em.criteria import CRITERIA, HELD_OUT
from fed_em_server.record import CandidateRecord, SelectionRecord
from fed_em_server.report_charts import WIDE, whole_ticks
from fed_em_server.report_svg import THEME, component_colour, figure, inline_svg
from fed_em_server.report_words import decimal
from fed_em_server.selection_record import IN_WORDS, doubts_in_words, reason_in_words

_MARKERS = ("o", "s", "^", "D")
_TITLES = {**IN_WORDS, HELD_OUT: "held-out log-likelihood"}


@dataclass(frozen=True)
class CandidateLine:
    """One model in the table: its values are words, aligned with the criteria of the section."""

    structure: str
    components: int
    parameters: int
    values: tuple[str, ...]
    best: tuple[bool, ...]
    ending: str
    picked: bool


@dataclass(frozen=True)
class SelectionSection:
    """What the section says."""

    reason: str
    doubts: tuple[str, ...]
    criteria: tuple[str, ...]
    structures: bool
    lines: tuple[CandidateLine, ...]


def selection_section(selection: SelectionRecord) -> SelectionSection:
    """The section of a pick."""
    known = criteria_of(selection)
    structures = any(one.covariance for one in selection.candidates)
    lines = tuple(_line(selection, number, known) for number in range(len(selection.candidates)))
    names = tuple(_TITLES[name] for name in known)
    return SelectionSection(reason_in_words(selection), doubts_in_words(selection), names, structures, lines)


def criteria_of(selection: SelectionRecord) -> tuple[str, ...]:
    """The criteria that are known, the one that decided first."""
    known = [name for name in CRITERIA if name in selection.candidates[selection.picked].criteria]
    return (selection.criterion, *(name for name in known if name != selection.criterion))


def _line(selection: SelectionRecord, number: int, known: tuple[str, ...]) -> CandidateLine:
    one = selection.candidates[number]
    values = tuple(_value(one, name) for name in known)
    ending = "" if one.converged else "stopped early" if one.criteria else "collapsed"
    best = tuple(one.criteria.get(name) == _best(selection, name) for name in known)
    return CandidateLine(
        one.covariance or "", one.components, one.parameters, values, best, ending, number == selection.picked
    )


def _value(one: CandidateRecord, name: str) -> str:
    return decimal(one.criteria[name], 4 if name == HELD_OUT else 1) if name in one.criteria else ""


def _best(selection: SelectionRecord, name: str) -> float:
    values = [one.criteria[name] for one in selection.candidates if name in one.criteria]
    return max(values) if name == HELD_OUT else min(values)


def selection_chart(selection: SelectionRecord) -> str:
    """A panel for each criterion: its value over the numbers of components, a line for each covariance structure.

    With one number of components a dot for each structure.
    """
    several = len({one.components for one in selection.candidates}) > 1
    return _curves(selection) if several else _dots(selection)


def _curves(selection: SelectionRecord) -> str:
    known = criteria_of(selection)
    with figure(WIDE, 3.4) as drawn:
        panels = drawn.subplots(1, len(known), squeeze=False)[0]
        for axes, name in zip(panels, known, strict=True):
            _panel_of_curves(axes, selection, name)
        if any(one.covariance for one in selection.candidates):
            handles, labels = panels[0].get_legend_handles_labels()
            drawn.legend(handles, labels, loc="outside upper left", ncols=len(labels), labelcolor=THEME["ink"])
        return inline_svg(
            drawn, "selection", "Criteria over the numbers of components",
            f"{reason_in_words(selection)}. All values are in the table.",
        )  # fmt: skip


def _dots(selection: SelectionRecord) -> str:
    known, candidates = criteria_of(selection), selection.candidates
    with figure(WIDE, 1.3 + 0.32 * len(candidates)) as drawn:
        panels = drawn.subplots(1, len(known), squeeze=False, sharey=True)[0]
        for axes, name in zip(panels, known, strict=True):
            found = [(one.criteria[name], k) for k, one in enumerate(candidates) if name in one.criteria]
            axes.plot(
                [x for x, _ in found], [y for _, y in found], "o", markersize=6, color=component_colour(0), zorder=2
            )
            _ring(axes, selection, name, selection.picked, upright=True)
            _name_panel(axes, selection, name)
            axes.margins(x=0.15)
            axes.xaxis.set_major_locator(MaxNLocator(3))
        panels[0].set_yticks(range(len(candidates)), [one.covariance or "" for one in candidates])
        panels[0].set_ylim(len(candidates) - 0.5, -0.5)
        return inline_svg(
            drawn, "selection", "Criteria of the covariance structures",
            f"{reason_in_words(selection)}. All values are in the table.",
        )  # fmt: skip


def _panel_of_curves(axes: Axes, selection: SelectionRecord, name: str) -> None:
    structures = list(dict.fromkeys(one.covariance for one in selection.candidates))
    for k, structure in enumerate(structures):
        curve = sorted(
            (one.components, one.criteria[name])
            for one in selection.candidates
            if one.covariance == structure and name in one.criteria
        )
        axes.plot(
            [x for x, _ in curve], [y for _, y in curve], marker=_MARKERS[k % len(_MARKERS)], markersize=4.5,
            color=component_colour(2 * k), linewidth=1.6, label=f"{structure} covariances", zorder=2,
        )  # fmt: skip
    _ring(axes, selection, name, selection.candidates[selection.picked].components)
    _name_panel(axes, selection, name)
    axes.set_xlabel("components")
    axes.margins(x=0.08, y=0.1)
    whole_ticks(axes)


def _ring(axes: Axes, selection: SelectionRecord, name: str, place: int, upright: bool = False) -> None:
    """Around the picked one, where it was decided; `upright` if values are on the horizontal axis."""
    if name == selection.criterion:
        value = selection.candidates[selection.picked].criteria[name]
        axes.plot(
            *((value, place) if upright else (place, value)), "o", markersize=13, markerfacecolor="none",
            markeredgecolor=THEME["late"], markeredgewidth=1.8, zorder=3,
        )  # fmt: skip


def _name_panel(axes: Axes, selection: SelectionRecord, name: str) -> None:
    better = "the higher the better" if name == HELD_OUT else "the lower the better"
    decided = ", decided" if name == selection.criterion else ""
    axes.set_title(_TITLES[name] + decided, loc="left", fontsize=10.5, color=THEME["ink"], pad=18)
    axes.annotate(
        better, (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", color=THEME["muted"], fontsize=9
    )
