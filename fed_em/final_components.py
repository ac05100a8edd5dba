"""The components that a fit ends with: without those that are too light or too near each other, and in canonical order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fed_em.alignment import canonical_order, reordered
from fed_em.description import check_real
from fed_em.divergence import Mixture
from fed_em.em import Fit
from fed_em.errors import CallerError, NotEvaluated
from fed_em.parameters import Parameters
from fed_em.pruning import merge, prune


@dataclass(frozen=True)
class Simplification:
    """Which components are too light, or too near another.

    Attributes:
        least_weight: Components of less weight are left out; in [0, 1).
        least_distance: Components nearer than this Bhattacharyya distance (`fed_em.divergence`) are merged; at least 0.

    Raises:
        CallerError: a number is out of its range.
    """

    least_weight: float = 0.0
    least_distance: float = 0.0

    def __post_init__(self) -> None:
        check_real("least_weight", self.least_weight, 0.0)
        check_real("least_distance", self.least_distance, 0.0)
        if self.least_weight >= 1:
            raise CallerError(
                f"least_weight must be below 1, not {self.least_weight}", remedy="give the least share of the records"
            )

    @property
    def wanted(self) -> bool:
        """Whether it may change anything."""
        return self.least_weight > 0 or self.least_distance > 0


@dataclass(frozen=True)
class Simplified:
    """A fit without such components.

    Attributes:
        model: Of what is left.
        start: Where its last run began: the components that the run before left.
        fit: Its last run.
        n_pruned, n_merged: How many were left out, and merged.
        order: What the last run's components were numbered while it ran, by their numbers now; None if as now.
    """

    model: Mixture
    start: Parameters
    fit: Fit
    n_pruned: int = 0
    n_merged: int = 0
    order: tuple[int, ...] | None = None


def simplified(
    rule: Simplification, before: Simplified, go_on: Callable[[Mixture, Parameters], Fit | None]
) -> Simplified:
    """The fit without components that are too light or too near, run on until none is.

    Args:
        rule: Which are.
        before: The fit.
        go_on: Runs on from the parameters of a smaller mixture; None if there is no time left, which keeps the fit as it is, as does
            `NotEvaluated`.
    """
    while True:
        fewer, kept = prune(before.model, before.fit.parameters, rule.least_weight)
        merged, start = merge(fewer, kept, rule.least_distance)
        if merged.n_components == before.model.n_components:
            return before
        try:
            fit = go_on(merged, start)
        except (
            NotEvaluated
        ):  # as it stands the fit is one: whoever waited for it does not lose it for what would be left of it
            return before
        if fit is None:
            return before
        n_pruned = before.n_pruned + before.model.n_components - fewer.n_components
        before = Simplified(merged, start, fit, n_pruned, before.n_merged + fewer.n_components - merged.n_components)


def in_canonical_order(done: Simplified) -> Simplified:
    """The same with components numbered by their canonical order at the end (`fed_em.alignment`), in all iterations of the last run."""
    order = canonical_order(done.fit.parameters)
    if (order[1:] > order[:-1]).all():
        return done
    place = {int(old): new for new, old in enumerate(order)}
    iterations = tuple(
        replace(
            each,
            parameters=reordered(done.model, each.parameters, order),
            held=tuple(sorted(place[k] for k in each.held)),
        )
        for each in done.fit.iterations
    )
    parameters = reordered(done.model, done.fit.parameters, order)
    fit = replace(done.fit, parameters=parameters, iterations=iterations)
    start = reordered(done.model, done.start, order)
    return replace(done, start=start, fit=fit, order=tuple(order.tolist()))
