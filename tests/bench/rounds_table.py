"""Prints how many rounds optimisers take, and how often starts are good."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fed_em.optimiser import EM
from fed_em.starts import rounds_of
from tests.bench.figures import OptimisersFigures, RoundsFigures, StartFigures
from tests.bench.optimiser_rounds import AS_GOOD, AS_GOOD_OF_DIGITS, DEFAULT, ON_TRACKS, SEARCHES
from tests.bench.table_cells import Page, verdict

AIM_RATIO, AIM_LEAST, AIM_SHARE = 10.0, 3.0, 0.95

# Nats a record below EM's optimum from which a run has missed it.
_MISSED = -1e-6


def print_optimisers(figures: OptimisersFigures, page: Page) -> None:
    """Two tables."""
    _print_rounds(figures.rounds, page)
    _print_starts(figures.starts, page)


def _print_rounds(rounds: Sequence[RoundsFigures], page: Page) -> None:
    names = [each.name for each in rounds[0].optimisers]
    others = names[1:]
    heads = [word for name in others for word in (f"{name} rounds", "times fewer", "above, nats")]
    table = page.table("Rounds to within 10⁻⁶ nats a record of EM's optimum", "", "rows", f"{EM} rounds", *heads)
    for each in rounds:
        em, cells = each.optimisers[0], list[str]()
        for other in each.optimisers[1:]:
            times = "" if not (em.rounds and other.rounds) else f"{em.rounds / other.rounds:.1f}"
            cells += [str(other.rounds or "missed"), times, f"{other.above:+.1e}"]
        table.add_row(each.name, str(each.rows), str(em.rounds or "missed"), *cells)
    page.print(table)
    taken = {name: sum(each.taken for run in rounds for each in run.optimisers if each.name == name) for name in names}
    page.print(
        f"{EM}: {taken[EM]} rounds until all stopped, at the same tolerance or once within 10⁻⁶ nats, whichever is later."
    )
    for name in others:
        ratios, misses = ratios_and_misses(rounds, name)
        mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
        least = min(ratios, default=math.nan)
        told = (
            f"{name}: geometric mean {mean:.1f} times fewer over the {len(ratios)} it arrived at, least {least:.1f}; "
            f"{misses} of {len(rounds)} missed; {taken[name]} rounds until all stopped"
        )
        if name == ON_TRACKS:
            told += (
                f". Aims: {AIM_RATIO:.0f} times {verdict(AIM_RATIO, mean)}, least {AIM_LEAST:.0f} {verdict(AIM_LEAST, least)}, "
                f"none missed {verdict(misses, 0)}"
            )
        page.print(told + ".")
    page.print(
        "Full covariances, no floor, no prior. All begin at the same start by sums, whose own rounds are not counted. A round is "
        "a sum that was asked for, on two tracks as on one. No miss is not promised: of 36 other mixtures of this kind, on which nothing "
        "was chosen, two tracks missed one (ADR 22; python -m tests.bench.optimiser_tracks 3 4)."
    )


def ratios_and_misses(rounds: Sequence[RoundsFigures], name: str) -> tuple[list[float], int]:
    """How many times fewer rounds than EM an optimiser took where it arrived, and how often it ended below EM's optimum."""
    ratios, misses = [], 0
    for each in rounds:
        em, other = each.optimisers[0], next(seen for seen in each.optimisers if seen.name == name)
        if em.rounds and other.rounds:
            ratios.append(em.rounds / other.rounds)
        misses += other.above < _MISSED
    return ratios, misses


def _print_starts(starts: Sequence[StartFigures], page: Page) -> None:
    names = list(starts[0].shares)
    table = page.table("Starts that lead to the best optimum known", "", "within, nats", *names, "k-means++")
    for each in starts:
        ours = (f"{share:.2f} of {each.seeds}" for share in each.shares.values())
        table.add_row(each.name, f"{each.within:g}", *ours, f"{each.share_of_others:.2f} of {each.seeds_of_others}")
    page.print(table)
    default = DEFAULT.name(*DEFAULT.tracks)
    least = min(each.shares[default] for each in starts)
    met = sum(each.shares[default] >= AIM_SHARE for each in starts)
    page.print(
        "By sums: so many starts and a split one, together, then L-BFGS from the best alone on one track, or on six from the best five; "
        f"sessions take {default}. k-means++: one start of scikit-learn and its EM. The best optimum known is the best that any of "
        "these led to. "
        + " ".join(
            f"{each.name(each.tracks[-1])}: {rounds_of(each.generations)} rounds before the fit." for each in SEARCHES
        )
        + f" Aim by default: a share of {AIM_SHARE} {verdict(AIM_SHARE, least)}, met in {met} of {len(starts)} rows; the digits are "
        f"told twice, as the design counts them within {AS_GOOD_OF_DIGITS} nats and all others within {AS_GOOD}."
    )
