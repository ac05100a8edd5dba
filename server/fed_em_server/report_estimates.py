"""The table of a report that shows parameters with their standard errors: weights, means, probabilities and rates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from fed_em.estimates import MEAN, PROBABILITY, RATE, WEIGHT, Estimate, Estimates
from fed_em.model_file import FittedModel

_SHOWN = (WEIGHT, MEAN, PROBABILITY, RATE)


@dataclass(frozen=True)
class EstimateLine:
    """One parameter of all components.

    Attributes:
        column: The column's name; empty for a weight.
        shows: What the numbers are.
        cells: For each component the estimate and its standard error, in words.
    """

    column: str
    shows: str
    cells: tuple[str, ...]


def estimate_lines(fitted: FittedModel) -> tuple[EstimateLine, ...]:
    """A line for each parameter that components have of their own, but covariances; none if the model has no standard errors."""
    if fitted.errors is None:
        return ()
    shown = (line for line in Estimates.of(fitted) if line.kind in _SHOWN)
    alike = groupby(shown, key=lambda line: (line.kind, line.column, line.level))
    return tuple(
        EstimateLine(column, f"{kind} of {level}" if level else kind, tuple(_in_words(line) for line in lines))
        for (kind, column, level), lines in alike
    )


def _in_words(line: Estimate) -> str:
    share = line.kind in (WEIGHT, PROBABILITY)
    value = f"{100 * line.value:.1f}" if share else f"{line.value:.4g}"
    unit = " %" if share else ""
    if line.error is None:
        return f"{value}{unit}, {line.remark}"
    error = f"{100 * line.error:.1f}" if share else f"{line.error:.2g}"
    return f"{value} ± {error}{unit}"
