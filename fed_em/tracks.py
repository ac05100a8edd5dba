"""One fit on two tracks or more: L-BFGS from the best start, the same after some steps of EM, and L-BFGS from the next starts, by the
same sums; the best end is the fit.

Where EM crosses a plateau, a long step may leave it on the side of a lower optimum. That is chance, and seldom strikes both of the first
two tracks. Which of several starts leads to the best optimum is known at the end, and seldom after the few rounds that starts take.
They are candidates of one payload (`fed_em.candidates`), so the fit takes at most as many rounds as the slowest of them alone: it ends as
soon as every track that goes on is close to the end of one that has converged, and no higher.

Each track is a run of the one loop (`fed_em.lock_step`). Whoever has ended waits at its end and is evaluated there, so in every round the
objectives of all are of the same records, and the track that is ahead speaks for the fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fed_em.candidates import Candidates
from fed_em.chart import ChartedModel
from fed_em.em import Fit, Iteration, Step, Stopping, Summed, Total, iteration_of
from fed_em.errors import FedEmError, NotEvaluated
from fed_em.lbfgs import LBFGS
from fed_em.lock_step import Run, sum_of_all
from fed_em.model import Model
from fed_em.optimiser import Optimiser
from fed_em.parameters import Parameters

TRACKS = 2

# Most that there may be: of a description that came from anyone.
MAX_TRACKS = 64

# Steps of EM before the second track begins.
HEAD_START = 25

# Nats a record within which ends are one optimum, or as good: who follows another to its end is not waited for.
AS_GOOD = 1e-3

# How near an end a track is on its way there, in the chart about it: 0.03 is half a thousandth of a nat a record, were all of it known.
_CLOSE = 0.03


def tracks_of(model: Model, n_tracks: int = TRACKS) -> Candidates:
    """What every sum of a fit on so many tracks is of."""
    return Candidates((model,) * n_tracks)


def fit_on_tracks(
    model: ChartedModel,
    total: Total,
    starts: Sequence[Parameters],
    stopping: Stopping,
    observe: Callable[[Iteration], None] = lambda _: None,
) -> Fit:
    """Fit a model on two tracks from the first start, and one from each other, until each has converged, follows one that has, or has taken
    `stopping.max_iterations`.

    Its iterations are one a sum, each that of the track which is then ahead. Of ends within the tolerance of the best, one that
    converged is preferred.

    Args:
        model: The model.
        total: Of `tracks_of` it, one more than there are starts.
        starts: Parameters to start from, the best first; at least one.
        stopping: When to stop.
        observe: Called with every iteration, before the next one.

    Raises:
        FedEmError: as `fed_em.em.fit`; a track that cannot go on, or start elsewhere than at the best, leaves it to the others.
    """
    candidates, iterations = tracks_of(model, len(starts) + 1), list[Iteration]()
    begun = [(starts[0], 0), (starts[0], HEAD_START), *((other, 0) for other in starts[1:])]
    tracks = [
        _Track(model, start, stopping, LBFGS(model, head_start=steps), None if start is starts[0] else starts[0])
        for start, steps in begun
    ]
    while True:
        summed = sum_of_all(candidates, total, tracks)
        for track, own in zip(tracks, candidates.statistics_of(summed.statistics), strict=True):
            track.go_on(replace(summed, statistics=own))
        ended = all(track.outcome is not None for track in tracks) or (summed.whole and _the_rest_follow(model, tracks))
        ahead = _the_best(tracks, stopping.tolerance) if ended else max(_going(tracks), key=_objective)
        if ahead.iteration is not None:
            iterations.append(replace(ahead.iteration, number=len(iterations) + 1))
            observe(iterations[-1])
        if isinstance(ahead.outcome, Fit) and ended:
            return replace(ahead.outcome, iterations=tuple(iterations), ends=_ends(tracks))


def agreeing(ends: Sequence[float]) -> int:
    """How many of the starts of a fit led to its optimum, by the objectives that each led to."""
    return sum(end >= max(ends) - AS_GOOD for end in ends)


def _ends(tracks: Sequence[_Track]) -> tuple[float, ...]:
    """Of each start; the first has the first two tracks. None of one start, nor of tracks that were nowhere."""
    of_starts = [max(tracks[:TRACKS], key=_objective), *tracks[TRACKS:]]
    found = tuple(track.objective for track in of_starts if math.isfinite(track.objective))
    return found if len(of_starts) > 1 else ()


class _Track(Run):
    """One track.

    Attributes:
        iteration: What the last sum said of it; None if nothing.
        place, objective: Where it last went on from, or waits; None, and minus infinity, before.
    """

    def __init__(
        self, model: Model, start: Parameters, stopping: Stopping, optimiser: Optimiser, instead: Parameters | None
    ) -> None:
        super().__init__(model, start, stopping, optimiser, instead)
        self._model = model
        self.iteration: Iteration | None = None
        self.place: Parameters | None = None
        self.objective = -math.inf

    def go_on(self, summed: Summed) -> None:
        """As `advanced`; once it has ended, look at where it waits."""
        waits, evaluated = isinstance(self.outcome, Fit), self.parameters
        self.iteration = self.advanced(summed)
        if waits:
            seen = iteration_of(1, self._model, summed, self.parameters, self.parameters)
            self.iteration = seen if summed.whole else replace(seen, step=Step.PAUSED)
        if self.iteration is not None and self.iteration.step.is_gone_on_from:
            self.place, self.objective = evaluated, self.iteration.objective


def _the_rest_follow(model: ChartedModel, tracks: Sequence[_Track]) -> bool:
    """Whether every track that goes on is close to the end of one that has converged, and no higher."""
    ends = [track for track in tracks if isinstance(track.outcome, Fit) and track.outcome.converged]
    going = [track for track in tracks if track.outcome is None]
    return all(any(_follows(model, track, end) for end in ends) for track in going)


def _follows(model: ChartedModel, track: _Track, end: _Track) -> bool:
    if track.place is None or track.objective > end.objective:
        return False
    try:
        chart = model.chart(end.parameters)
        return float(np.linalg.norm(chart.vector(track.place) - chart.vector(end.parameters))) < _CLOSE
    except FedEmError:
        return False


def _objective(track: _Track) -> float:
    return track.objective


def _going(tracks: Sequence[_Track]) -> list[_Track]:
    """Those that could be evaluated so far; raises what the first ended with if none could."""
    going = [track for track in tracks if not isinstance(track.outcome, NotEvaluated)]
    if not going and isinstance(tracks[0].outcome, NotEvaluated):
        raise tracks[0].outcome
    return going


def _the_best(tracks: Sequence[_Track], tolerance: float) -> _Track:
    """Of the ends within the tolerance of the highest, one that converged."""
    going = _going(tracks)
    least = max(map(_objective, going)) - tolerance
    near = [track for track in going if track.objective >= least]
    return max(near, key=lambda track: (isinstance(track.outcome, Fit) and track.outcome.converged, track.objective))
