"""L-BFGS in EM-whitened coordinates, within a trust region.

Liu and Nocedal (1989), "On the limited memory BFGS method for large scale optimization"; Jamshidian and Jennrich (1997),
"Acceleration of the EM algorithm by using quasi-Newton methods", who start from EM too. Differences from the textbook:

* The memory keeps what was *seen* (parameters and statistics) and not differences of vectors. So the chart follows: every `REWHITEN` steps
  there is a new one about the latest parameters, and the gradients of all that is remembered are computed in it, exactly and without a sum.
* A step is not searched for along a line, as each try is a round. It is cut to a radius, which grows while the gain is what the
  gradient promised, and is a quarter of the last step after a fall; after two falls in a row, or where a step could not be evaluated,
  comes the EM point.
* What was seen at a refused proposal counts: gradients there tell of the curvature as well as any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fed_em.chart import Chart, ChartedModel
from fed_em.errors import FedEmError
from fed_em.evaluation import Evaluation
from fed_em.parameters import Parameters

Vector = NDArray[np.float64]

# EM steps before the first proposal: they are long where a start is far off, and their gradients fill the memory.
WARM_UP = 3

# Steps that are remembered, and those after which the chart is renewed. More of the former gained nothing.
MEMORY = 30
REWHITEN = 10

# The radius at first and at most, in coordinates whose unit is the standard error that one record has of a parameter.
FIRST_RADIUS, LARGEST_RADIUS = 0.1, 1.0

# The radius grows if the gain was at least this share of slope times step (of a parabola's maximum: one half).
_GOOD_GAIN = 0.3

# A pair of differences has a curvature that is worth its rounding.
_LEAST_CURVATURE = 1e-8

# Proposals that are tried for being admissible, each a quarter of the one before.
_TRIES = 3


@dataclass(frozen=True, eq=False)
class Secant:
    """From one evaluation to another, in some chart: Δθ and minus the difference of the gradients.

    Attributes:
        before, after: The evaluations.
        move: Δθ, `(n,)`.
        bend: −Δ∇, `(n,)`.
    """

    before: Evaluation
    after: Evaluation
    move: Vector
    bend: Vector

    @classmethod
    def of(cls, before: Evaluation, after: Evaluation, chart: Chart) -> Secant:
        """The step in a chart. Raises `FedEmError` if an end lies outside it."""
        here, there = chart.vector(before.parameters), chart.vector(after.parameters)
        return cls(before, after, there - here, before.gradient(chart, here) - after.gradient(chart, there))

    @property
    def curvature(self) -> float:
        """move · bend; positive where the objective is concave along the step."""
        return float(self.move @ self.bend)

    @property
    def is_concave(self) -> bool:
        """Whether the step can be learnt from."""
        return self.curvature > _LEAST_CURVATURE * float(np.linalg.norm(self.move) * np.linalg.norm(self.bend))


@dataclass(frozen=True, eq=False)
class LBFGS:
    """Implements `fed_em.optimiser.Optimiser`.

    Attributes:
        model: What is fitted.
        proposal: What to evaluate next; None for the EM point.
        best: What the next step starts from.
        chart: Where it is taken; None during the warm-up, and where there is none.
        memory: Secants, the latest last.
        radius: Length of a step at most.
        risen_steps: How often the objective rose.
        falls: How often in a row it fell.
        head_start: EM steps before the warm-up, of which nothing is remembered.
    """

    model: ChartedModel
    proposal: Parameters | None = None
    best: Evaluation | None = None
    chart: Chart | None = None
    memory: tuple[Secant, ...] = ()
    radius: float = FIRST_RADIUS
    risen_steps: int = 0
    falls: int = 0
    head_start: int = 0

    def risen(self, seen: Evaluation) -> LBFGS:
        """Remember the step, and propose the next."""
        if self.head_start > 0:
            return replace(self, head_start=self.head_start - 1)
        radius = self.radius if self.proposal is None else self._radius_after(seen)
        number = self.risen_steps + 1
        state = self._with_secant(seen, renew=number > WARM_UP and (self.chart is None or number % REWHITEN == 0))
        return replace(state, best=seen, radius=radius, risen_steps=number, falls=0)._proposing()

    def fallen(self, seen: Evaluation | None) -> LBFGS:
        """Remember what was seen beyond, and propose less; nothing after a second fall in a row, or where nothing could be seen."""
        radius, falls = self._length_of_proposal() / 4, self.falls + 1
        if seen is None:
            return replace(self, radius=radius, falls=falls, proposal=None)
        state = replace(self._with_secant(seen, renew=False), radius=radius, falls=falls)
        return replace(state, proposal=None) if falls > 1 else state._proposing()

    def _with_secant(self, seen: Evaluation, renew: bool) -> LBFGS:
        """With the step from the best to `seen` in memory, and if asked in a new chart about `seen`."""
        ends = [(secant.before, secant.after) for secant in self.memory]
        try:
            chart = self.model.chart(seen.parameters) if renew else self.chart
            if chart is None:
                # The warm-up remembers its evaluations until there is a chart.
                return self if self.best is None else replace(self, memory=(*self.memory, _bare(self.best, seen)))
            memory = tuple(Secant.of(*each, chart) for each in ends) if renew else self.memory
            added = () if self.best is None else (Secant.of(self.best, seen, chart),)
        except FedEmError:
            return replace(self, chart=None, memory=())
        return replace(self, chart=chart, memory=(*memory, *added)[-MEMORY:])

    def _length_of_proposal(self) -> float:
        assert self.chart is not None and self.best is not None and self.proposal is not None
        return float(np.linalg.norm(self.chart.vector(self.proposal) - self.chart.vector(self.best.parameters)))

    def _radius_after(self, seen: Evaluation) -> float:
        assert self.chart is not None and self.best is not None
        here = self.chart.vector(self.best.parameters)
        move = self.chart.vector(seen.parameters) - here
        promised = float(self.best.gradient(self.chart, here) @ move)
        if seen.objective - self.best.objective < _GOOD_GAIN * promised:
            return self.radius
        return min(LARGEST_RADIUS, max(self.radius, 2 * float(np.linalg.norm(move))))

    def _proposing(self) -> LBFGS:
        """With a step along the quasi-Newton direction, or none if it leads nowhere admissible."""
        if self.chart is None or self.best is None:
            return replace(self, proposal=None)
        here = self.chart.vector(self.best.parameters)
        direction = _direction(self.best.gradient(self.chart, here), self.memory)
        length, radius = float(np.linalg.norm(direction)), self.radius
        for _ in range(_TRIES):
            try:
                proposal = self.chart.parameters(here + direction * min(1.0, radius / length if length > 0 else 1.0))
                self.model.validate(proposal)
                return replace(self, proposal=proposal, radius=radius)
            except FedEmError:
                radius = min(radius, length) / 4
        return replace(self, proposal=None)


def _bare(before: Evaluation, after: Evaluation) -> Secant:
    return Secant(before, after, np.empty(0), np.empty(0))


def _direction(gradient: Vector, memory: tuple[Secant, ...]) -> Vector:
    """The inverse Hessian that the memory tells of, times the gradient, by the two-loop recursion; upwards."""
    steps = [step for step in memory if step.is_concave]
    direction = gradient.copy()
    shares = []
    for step in reversed(steps):
        shares.append(float(step.move @ direction) / step.curvature)
        direction -= shares[-1] * step.bend
    if steps:
        direction *= steps[-1].curvature / float(steps[-1].bend @ steps[-1].bend)
    for step, share in zip(steps, reversed(shares), strict=True):
        direction += step.move * (share - float(step.bend @ direction) / step.curvature)
    return direction if float(direction @ gradient) > 0 else gradient
