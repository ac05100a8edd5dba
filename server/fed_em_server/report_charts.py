"""The charts of a report, each from the record or the model alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from fed_em_server.record import RoundRecord
from fed_em_server.report_clusters import PlanarMixture
from fed_em_server.report_svg import THEME, component_colour, figure, inline_svg
from fed_em_server.report_words import bytes_in_words, decimal, seconds_in_words

# Iteration, log-likelihood, and whether every tenant's term is of these parameters.
_Point = tuple[int, float, bool]

# Inches; the page scales them to its own width.
WIDE, HALF, SQUARE = 10.0, 4.9, 6.4

# From so many rounds on, single rounds are no longer told apart by gaps and markers.
MANY = 160

# The part of the gain that the convergence chart shows again, enlarged, if it has so many points.
_ENLARGED, _ENOUGH_TO_ENLARGE = 0.1, 8


def convergence_chart(rounds: Sequence[RoundRecord]) -> str:
    """Log-likelihood a row over the iterations, incomplete sums hollow."""
    seen = [r for r in rounds if r.step.is_gone_on_from]
    curve = [(r.iteration, r.log_likelihood, r.complete) for r in seen if r.log_likelihood is not None]
    first, last = curve[0], curve[-1]
    with figure(WIDE, 3.7) as drawn:
        axes = drawn.subplots()
        _draw_curve(axes, curve)
        _mark_the_pick(axes, rounds)
        _name_axes(axes, "iteration", "log-likelihood, nats a row")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, labelcolor=THEME["ink"])
        _enlarge_the_end(axes, curve)
        return inline_svg(
            drawn, "convergence", "Log-likelihood a row over the iterations",
            f"A line from {decimal(first[1])} at iteration {first[0]} to {decimal(last[1])} at iteration {last[0]}.",
        )  # fmt: skip


def _mark_the_pick(axes: Axes, rounds: Sequence[RoundRecord]) -> None:
    for opened in rounds:
        if opened.picked:
            axes.axvline(opened.iteration, color=THEME["muted"], linewidth=1, linestyle=(0, (3, 3)), zorder=1)
            axes.annotate(
                "picked", (opened.iteration, 0), (5, 6), xycoords=("data", "axes fraction"), textcoords="offset points",
                color=THEME["muted"],
            )  # fmt: skip


def starts_chart(rounds: Sequence[RoundRecord], objective: str) -> str:
    """The objective of every candidate over the rounds of the start that have one, the best of them marked."""
    seen = [r for r in rounds if r.best_candidate is not None]
    numbers = [r.start or 0 for r in seen]
    objectives = np.array([[np.nan if value is None else value for value in r.candidates] for r in seen])
    best = int(np.nanargmax(objectives[-1]))
    with figure(WIDE, 2.4) as drawn:
        axes = drawn.subplots()
        axes.plot(numbers, objectives, color=THEME["muted"], linewidth=0.8, zorder=2)
        axes.plot(numbers, objectives[:, best], color=THEME["curve"], linewidth=1.8, zorder=3)
        _name_axes(axes, "sum of the start", objective)
        told = f"{objectives.shape[1]} lines; the highest ends at {decimal(float(objectives[-1, best]))}."
        return inline_svg(drawn, "starts", "Objective of every candidate", told)


def _enlarge_the_end(axes: Axes, curve: Sequence[_Point]) -> None:
    """Show the end of a curve again on a larger scale, where the chart has room for it."""
    values = [value for _, value, _ in curve]
    threshold = max(values) - _ENLARGED * (max(values) - min(values))
    late = [point for point in curve if point[1] >= threshold]
    climbing = [iteration for iteration, value, _ in curve if value < threshold]
    if len(late) < _ENOUGH_TO_ENLARGE or max(climbing, default=0) > curve[0][0] + (curve[-1][0] - curve[0][0]) / 4:
        return
    backdrop = Rectangle(
        (0.3, 0.07), 0.68, 0.75, transform=axes.transAxes, facecolor=THEME["paper"], edgecolor=THEME["grid"], zorder=3
    )
    axes.add_patch(backdrop)
    inset = axes.inset_axes((0.355, 0.18, 0.6, 0.52), zorder=4)
    _draw_curve(inset, late)
    _name_axes(inset, "", "")
    inset.set_title("the last tenth of the gain, enlarged", loc="left", fontsize=9, color=THEME["muted"])


def _draw_curve(axes: Axes, curve: Sequence[_Point]) -> None:
    axes.plot([i for i, _, _ in curve], [v for _, v, _ in curve], color=THEME["curve"], linewidth=1.6, zorder=2)
    size = 4.6 if len(curve) <= MANY else 0
    for whole, face, label in (
        (True, THEME["curve"], "every tenant in the sum"),
        (False, THEME["paper"], "some terms of an earlier round, or none"),
    ):
        chosen = [(i, v) for i, v, complete in curve if complete is whole]
        axes.plot(
            [i for i, _ in chosen], [v for _, v in chosen], "o", markersize=size, color=THEME["curve"],
            markerfacecolor=face, markeredgewidth=1.2, label=label, zorder=3,
        )  # fmt: skip


def weights_chart(rounds: Sequence[RoundRecord], names: Sequence[str]) -> str:
    """Mixing weights after every iteration with the final components, stacked."""
    weighted = [r for r in rounds if len(r.weights) == len(names)]
    iterations = [r.iteration for r in weighted]
    weights = np.array([r.weights for r in weighted])
    edges = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)
    with figure(WIDE, 3.6) as drawn:
        axes = drawn.subplots()
        for k, name in enumerate(names):
            low, high = edges[:, k], edges[:, k + 1]
            axes.fill_between(iterations, low, high, color=component_colour(k), edgecolor=THEME["paper"], linewidth=0.8)
            if weights[-1, k] >= 0.02:
                place = (iterations[-1], (low[-1] + high[-1]) / 2)
                axes.annotate(name, place, (6, 0), textcoords="offset points", va="center", color=THEME["muted"])
        axes.set_ylim(0, 1)
        axes.set_xlim(iterations[0], max(iterations[-1], iterations[0] + 1))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
        _name_axes(axes, "iteration", "share of the rows")
        return inline_svg(
            drawn, "weights", "Mixing weights over the iterations",
            f"Stacked areas of {len(names)} components that add up to all rows; the final weights are in the table.",
        )  # fmt: skip


def traffic_chart(rounds: Sequence[RoundRecord]) -> str:
    """Bytes of every round, on a logarithmic scale: rounds that set up a window are a hundred times larger."""
    numbers = [r.round for r in rounds]
    with figure(HALF, 2.7) as drawn:
        axes = drawn.subplots()
        for label, values, style in (
            ("from the server", [r.bytes_down for r in rounds], "-"),
            ("to the server", [r.bytes_up for r in rounds], "--"),
        ):
            axes.step(numbers, values, style, where="mid", color=THEME["curve"], linewidth=1.4, label=label)
        axes.set_yscale("log")
        _in_words(axes, lambda value: bytes_in_words(round(value)))
        _name_axes(axes, "round", "")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, labelcolor=THEME["ink"])
        up, down = sum(r.bytes_up for r in rounds), sum(r.bytes_down for r in rounds)
        told = f"{bytes_in_words(up)} to the server and {bytes_in_words(down)} from it, over all rounds."
        return inline_svg(drawn, "traffic", "Bytes of every round", told)


def seconds_chart(rounds: Sequence[RoundRecord]) -> str:
    """Seconds of every round, on a logarithmic scale."""
    with figure(HALF, 2.7) as drawn:
        axes = drawn.subplots()
        axes.step(
            [r.round for r in rounds], [r.seconds for r in rounds], where="mid", color=THEME["curve"], linewidth=1.4
        )
        axes.set_yscale("log")
        _in_words(axes, seconds_in_words)
        _name_axes(axes, "round", "")
        middle = float(np.median([r.seconds for r in rounds]))
        return inline_svg(
            drawn, "seconds", "Time of every round", f"Half of the rounds took at most {seconds_in_words(middle)}."
        )


def clusters_chart(mixture: PlanarMixture, names: Sequence[str]) -> str:
    """Components as ellipses of two standard deviations, over points drawn from the model."""
    with figure(SQUARE, 5.9) as drawn:
        axes = drawn.subplots()
        for k, name in enumerate(names):
            colour, own = component_colour(k), mixture.points[mixture.labels == k]
            axes.plot(own[:, 0], own[:, 1], "o", markersize=2.4, color=colour, markeredgewidth=0, alpha=0.55, zorder=1)
            width, height, angle = mixture.ellipse(k, 2.0)
            centre = (float(mixture.means[k, 0]), float(mixture.means[k, 1]))
            for face, edge, alpha in ((colour, "none", 0.14), ("none", colour, 1.0)):
                axes.add_patch(
                    Ellipse(centre, width, height, angle=angle, facecolor=face, edgecolor=edge, alpha=alpha,
                            linewidth=1.6, zorder=2)
                )  # fmt: skip
            axes.plot(*centre, "o", markersize=17, color=THEME["paper"], markeredgecolor=colour, alpha=0.9, zorder=3)
            axes.text(*centre, name, ha="center", va="center", fontsize=8, zorder=4)
        axes.set_aspect("equal", adjustable="datalim")
        first, second = (f"{100 * share:.0f} % of the spread between components" for share in mixture.shares)
        axes.set_xlabel(f"first direction: {first}")
        axes.set_ylabel(f"second direction: {second}")
        return inline_svg(
            drawn, "clusters", "The components on a plane",
            f"{len(names)} ellipses and {len(mixture.points)} points drawn from the model.",
        )  # fmt: skip


def _name_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    whole_ticks(axes)
    axes.margins(x=0.015)


def whole_ticks(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _in_words(axes: Axes, words: Callable[[float], str]) -> None:
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
