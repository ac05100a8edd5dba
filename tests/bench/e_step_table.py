"""Prints EM iterations beside those of others and the floor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tests.bench.figures import Absent, CaseFigures, EStepFigures, IterationFigures
from tests.bench.table_cells import Page, number, verdict

# How many times less CPU than scikit-learn, by (N, D, K); and what share of ours the floor is at least.
AIMS = {(10**6, 10, 10): 15.0, (2 * 10**5, 50, 20): 5.5}
AIM_SHARE = 0.6


# How many times less CPU than StepMix.
STEPMIX_AIM = 10.0


def print_e_step(measured: Sequence[EStepFigures], page: Page) -> None:
    """One table a size."""
    for each in measured:
        _print_size(each, page)
    page.print(
        "E-step and M-step, full covariances, float64, least of several. Ratios are of CPU time, to the first line. The floor: the two "
        "matrix products of every block alone on one BLAS thread, and NumPy's exponential of N·K numbers; the compiled one is not NumPy's."
    )


def _print_size(each: EStepFigures, page: Page) -> None:
    case = f"N = {number(each.rows)}, D = {each.columns}, K = {each.components}"
    table = page.table(f"One EM iteration, {case}", "", "CPU ms", "wall ms", "ratio")
    ours = next(seen for seen in each.iterations if isinstance(seen, IterationFigures))
    for seen in each.iterations:
        if isinstance(seen, Absent):
            table.add_row(f"absent: {seen.reason}", "", "", "")
        else:
            table.add_row(seen.name, f"{1e3 * seen.cpu:.0f}", f"{1e3 * seen.wall:.0f}", f"{seen.cpu / ours.cpu:.2f}")
    floor = each.products + each.exponentials
    for name, cpu in (("floor: products and exponentials", floor), ("floor: products alone", each.products)):
        table.add_row(name, f"{1e3 * cpu:.0f}", "", f"{cpu / ours.cpu:.2f}")
    page.print(table)
    _print_threads(each, page)
    aim = AIMS.get((each.rows, each.columns, each.components))
    if aim is not None:
        told = [
            f"than {seen.name} {seen.cpu / ours.cpu:.1f} ({verdict(ours.cpu * aim, seen.cpu)})"
            for seen in each.iterations
            if isinstance(seen, IterationFigures) and seen.name.startswith("scikit-learn")
        ]
        page.print(
            f"Aims: {aim} times less CPU: {', '.join(told)}. {AIM_SHARE:.0%} of the floor: {floor / ours.cpu:.0%}: "
            f"{verdict(ours.cpu * AIM_SHARE, floor)}."
        )


def _print_threads(each: EStepFigures, page: Page) -> None:
    """What more threads gain, by the clock."""
    ours = [seen for seen in each.iterations if isinstance(seen, IterationFigures) and seen.name.startswith("fed-em")]
    for one, more in pairwise(ours):
        if one.name.endswith(", 1 thread") and not more.name.endswith(", 1 thread"):
            page.print(f"{more.name}: {one.wall / more.wall:.2f} times as fast by the clock as 1 thread.")


def print_incomplete(measured: Sequence[CaseFigures], page: Page) -> None:
    """One table a case."""
    for each in measured:
        table = page.table(f"One EM iteration, {each.title}", "", "CPU ms", "wall ms", "ratio")
        ours = next(seen for seen in each.iterations if isinstance(seen, IterationFigures))
        for seen in each.iterations:
            if isinstance(seen, Absent):
                table.add_row(f"absent: {seen.reason}", "", "", "")
                continue
            ratio = f"{seen.cpu / ours.cpu:.2f}"
            table.add_row(seen.name, f"{1e3 * seen.cpu:.1f}", f"{1e3 * seen.wall:.1f}", ratio)
        table.add_row("floor", f"{1e3 * each.floor:.1f}", "", f"{each.floor / ours.cpu:.2f}")
        page.print(table)
        page.print(f"The floor: {each.floor_of}.")
        for seen in each.iterations:
            if isinstance(seen, IterationFigures) and seen.name.startswith("stepmix"):
                reached = verdict(ours.cpu * STEPMIX_AIM, seen.cpu)
                page.print(f"Aim: {STEPMIX_AIM:.0f} times less CPU than StepMix: {seen.cpu / ours.cpu:.1f}: {reached}.")
