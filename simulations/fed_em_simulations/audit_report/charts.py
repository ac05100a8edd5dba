"""The charts of an audit's report, each from the report alone. Needs the extra `plots`: import it where that may be missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from scipy.stats import norm

from fed_em_server.report_charts import WIDE
from fed_em_server.report_svg import THEME, figure, inline_svg
from fed_em_simulations.attacks.membership import FALSE_ALARMS
from fed_em_simulations.attacks.single_records import SMALL
from fed_em_simulations.audit_report.contents import Promise, Shown, SumPoint

# Inches.
_TALL, _SQUARE = 2.9, 5.2

# A line's label stands so many points beside its end.
_BESIDE = 6


def cohorts_chart(shown: Shown) -> str:
    """How many tenants are in each sum, and how few the best combination of sums is about."""
    points, attacks = shown.points, shown.attacks
    n = len(shown.tenants)
    with figure(WIDE, _TALL) as drawn:
        axes = drawn.subplots()
        axes.bar([p.round for p in points], [p.tenants for p in points], width=0.72, color=THEME["in"], zorder=2)
        least, alone = attacks.least_support, attacks.colluders + 1
        _rule(axes, least, f"least combination: {least}", "late", above=least >= alone)
        if least != alone:
            _rule(axes, alone, f"colluders and one: {alone}", "muted", above=alone > least)
        axes.set_ylim(0, 1.12 * n)
        axes.set_ylabel("tenants in the sum")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        _over_rounds(axes, points)
        return inline_svg(
            drawn, "cohorts", "How many tenants are in each sum",
            f"{len(points)} sums of {min(p.tenants for p in points)} to {max(p.tenants for p in points)} of {n} tenants; no "
            "combination of them "
            f"is about fewer than {attacks.least_support}.",
        )  # fmt: skip


def masses_chart(points: tuple[SumPoint, ...]) -> str:
    """How many records each opened component held."""
    places = [(point.round, mass) for point in points for mass in point.masses]
    least, most = min(mass for _, mass in places), max(mass for _, mass in places)
    with figure(WIDE, _TALL) as drawn:
        axes = drawn.subplots()
        axes.set_yscale("log")
        axes.set_ylim(min(0.5, 0.7 * max(least, 0.05)), 2.0 * most)
        axes.axhspan(axes.get_ylim()[0], SMALL, color=THEME["late"], alpha=0.12, linewidth=0, zorder=1)
        rounds, masses = zip(*places, strict=True)
        axes.plot(rounds, np.maximum(masses, 0.05), "o", markersize=4.2, color=THEME["curve"], zorder=3)
        _rule(axes, 1, "one record", "late", above=True)
        _rule(axes, SMALL, f"few: {SMALL:g} records", "muted", above=True)
        axes.set_ylabel("records in a component")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        _over_rounds(axes, points)
        return inline_svg(
            drawn, "masses", "How many records each opened component held",
            f"{len(places)} open components of {least:.1f} to {most:.1f} records.",
        )  # fmt: skip


def membership_chart(advantage: float | None) -> str:
    """The best that any attacker can do to tell who is in."""
    alarms = np.concatenate([np.linspace(0, 0.02, 41), np.linspace(0.02, 1, 99)])
    with np.errstate(divide="ignore"):
        found = np.ones_like(alarms) if advantage is None else norm.cdf(norm.ppf(alarms) + advantage)
    with figure(_SQUARE, _SQUARE * 0.86) as drawn:
        axes = drawn.subplots()
        axes.fill_between(alarms, alarms, found, color=THEME["late"], alpha=0.16, linewidth=0, zorder=1)
        axes.plot(alarms, alarms, color=THEME["muted"], linewidth=1, linestyle=(0, (4, 3)), zorder=2, label="a guess")
        axes.plot(
            alarms, found, color=THEME["late"], linewidth=2, zorder=3, label="the best of attackers", clip_on=False
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.0)
        axes.set_xlabel("said to be in, of those who are not")
        axes.set_ylabel("said to be in, of those who are")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
            axis.set_major_locator(MaxNLocator(5))
        axes.legend(loc="lower right", labelcolor=THEME["ink"])
        at_one = float(np.interp(FALSE_ALARMS, alarms, found))
        return inline_svg(
            drawn, "membership", "How well anybody can tell whether one is in",
            f"At one false alarm in a hundred the best of attackers finds {at_one:.1%} of those who are in.",
        )  # fmt: skip


def spending_chart(promise: Promise) -> str:
    """ε that was promised, and what the opened sums came to."""
    assert promise.epsilon_spent is not None
    with figure(_SQUARE, 1.5) as drawn:
        axes = drawn.subplots()
        axes.barh(
            [1, 0], [promise.epsilon, promise.epsilon_spent], height=0.55, color=[THEME["away"], THEME["in"]], zorder=2
        )
        axes.set_yticks([1, 0], [f"promised, {promise.sums_promised} sums", f"spent, {promise.sums_opened} sums"])
        axes.tick_params(axis="y", labelcolor=THEME["ink"])
        axes.set_xlim(0, 1.12 * max(promise.epsilon, promise.epsilon_spent))
        axes.set_xlabel(f"ε at δ = {promise.delta:g}")
        axes.grid(visible=False, axis="y")
        for at, value in ((1, promise.epsilon), (0, promise.epsilon_spent)):
            axes.annotate(
                f"{value:.3g}", (value, at), (5, 0), textcoords="offset points", va="center", color=THEME["ink"]
            )
        return inline_svg(
            drawn, "spending", "ε promised and spent", f"{promise.epsilon_spent:.3g} of {promise.epsilon:.3g}."
        )


def _over_rounds(axes: Axes, points: Sequence[SumPoint]) -> None:
    rounds = [point.round for point in points]
    axes.set_xlim(min(rounds) - 0.6, max(rounds) + 0.6)
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.grid(visible=False, axis="x")


def _rule(axes: Axes, at: float, label: str, role: str, *, above: bool) -> None:
    """A level across the chart, with its name at the right, above or below it."""
    axes.axhline(at, color=THEME[role], linewidth=1.3, linestyle=(0, (4, 3)), zorder=4)
    axes.annotate(
        label, (1.0, at), (_BESIDE, 1 if above else -1), xycoords=("axes fraction", "data"), textcoords="offset points",
        va="bottom" if above else "top", color=THEME[role], annotation_clip=False,
    )  # fmt: skip
