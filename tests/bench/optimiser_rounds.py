"""Rounds to an optimum, by optimiser; and how often a start leads to the best optimum that is known.

A round is one sum that is asked for. All optimisers begin where the start by sums ends. Plain EM says what its optimum is:
it runs until its objective stands still, and a quasi-Newton run from there says where it would end. Arrived is who is
within 10⁻⁶ nats a record of that or above.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from fed_em.blas import one_blas_thread
from fed_em.candidates import Candidates
from fed_em.em import Fit, Step, Stopping, Summed, fit
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.optimiser import EM, L_BFGS, SQUAREM, optimiser_for
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.row_blocks import use_threads
from fed_em.starts import Start, best_starts
from fed_em.totals import TotalOfRows
from fed_em.tracks import fit_on_tracks, tracks_of
from tests.bench.figures import OptimiserFigures, RoundsFigures, StartFigures
from tests.bench.hard_mixtures import Digits, HardMixture

Vector = NDArray[np.float64]
Mixture, Figures = TypeVar("Mixture"), TypeVar("Figures")

# Nats a record: what counts as the optimum, where runs end, and which starts are as good as the best; of the digits, whose optima lie far
# apart, the design counts coarser.
NEAR, TOLERANCE, AS_GOOD, AS_GOOD_OF_DIGITS = 1e-6, 1e-9, 1e-3, 0.05
ON_TRACKS = "two tracks"

_STILL = Stopping(1e-9, 30_000)


class Search(NamedTuple):
    """How many starts are drawn, how many generations follow, on how many tracks the fit is then, and whether the starts are finer."""

    n_starts: int = 20
    generations: int = 0
    tracks: tuple[int, ...] = (6,)
    finer: bool = False

    def name(self, tracks: int) -> str:
        """For tables."""
        drawn = f"{self.n_starts} {'finer ' * self.finer}starts"
        moved = f", {self.generations} generations" * (self.generations > 0)
        return f"{drawn}{moved}, {tracks} track{'s' * (tracks > 1)}"


DEFAULT = Search()
SEARCHES = (Search(tracks=(1, 6)), Search(finer=True), Search(generations=4), Search(generations=4, finer=True))


class CountingTotal:
    """A total that keeps the log-likelihood a record of every sum that is asked for, whatever comes of it.

    Attributes:
        objectives: Of candidates the highest; minus infinity where there was no sum.
    """

    def __init__(self, model: GaussianMixtureModel | Candidates, rows: Vector) -> None:
        self._model = model
        self._total = TotalOfRows(model, rows)
        self.objectives: list[float] = []

    def __call__(self, parameters: Parameters) -> Summed:
        self.objectives.append(-math.inf)
        summed = self._total(parameters)
        each = (
            self._model.statistics_of(summed.statistics)
            if isinstance(self._model, Candidates)
            else (summed.statistics,)
        )
        self.objectives[-1] = max(float(own["log_likelihood"]) for own in each) / float(summed.statistics["count"])
        return summed


def measure_rounds(mixtures: Sequence[HardMixture], most: int) -> tuple[RoundsFigures, ...]:
    """Every optimiser, and two tracks of L-BFGS as sessions have them, on every mixture.

    Args:
        mixtures: Which.
        most: Rounds of any other than plain EM at most.
    """
    return _side_by_side(partial(_of_mixture, most=most), mixtures)


def _side_by_side(measure: Callable[[Mixture], Figures], mixtures: Sequence[Mixture]) -> tuple[Figures, ...]:
    """Figures of each mixture: as many at a time as there are cores, for none of them is a time."""
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        return tuple(pool.map(partial(_on_one_thread, measure), mixtures))


def _on_one_thread(measure: Callable[[Mixture], Figures], mixture: Mixture) -> Figures:
    with use_threads(1), one_blas_thread():
        return measure(mixture)


def _of_mixture(mixture: HardMixture, most: int) -> RoundsFigures:
    rows = mixture.sample()
    model = GaussianMixtureModel(mixture.components, mixture.columns, covariance_floor=0.0)
    start = start_of(model, rows, seed=0)
    by_em, optimum = em_and_its_optimum(model, rows, start)
    figures = [OptimiserFigures(EM, arrival(by_em, optimum), len(by_em), max(by_em) - optimum)]
    for name in (SQUAREM, L_BFGS, ON_TRACKS):
        total = CountingTotal(tracks_of(model) if name == ON_TRACKS else model, rows)
        stopping = Stopping(TOLERANCE, most)
        if name == ON_TRACKS:
            run = fit_on_tracks(model, total, (start,), stopping)
        else:
            run = fit(model, total, start, stopping, optimiser=optimiser_for(name, model))
        seen = total.objectives
        figures.append(OptimiserFigures(name, arrival(seen, optimum), len(seen), best_of(run) - optimum))
    return RoundsFigures(mixture.name, len(rows), tuple(figures))


def start_of(
    model: GaussianMixtureModel, rows: Vector, seed: int, n_starts: int = 20, generations: int = 0
) -> Parameters:
    """The best start by sums."""
    return starts_of(model, rows, seed, n_starts, generations).parameters


def starts_of(
    model: GaussianMixtureModel,
    rows: Vector,
    seed: int,
    n_starts: int = 20,
    generations: int = 0,
    finer: bool = False,
) -> Start:
    """Starts by sums."""
    one, gaussian = moments_model(model.n_columns), standard_gaussian(model.n_columns)
    moments = one.m_step(one.e_step(gaussian, rows), gaussian)
    return best_starts(
        [model],
        lambda candidates: TotalOfRows(candidates, rows),
        moments,
        seed,
        n_starts,
        generations=generations,
        finer=finer,
    )[0]


def em_and_its_optimum(model: GaussianMixtureModel, rows: Vector, start: Parameters) -> tuple[list[float], float]:
    """Objectives of EM's rounds until it is as near its optimum as counts, and the optimum."""
    total = CountingTotal(model, rows)
    run = fit(model, total, start, _STILL)
    while True:
        accelerated = optimiser_for(L_BFGS, model)
        ahead = fit(model, TotalOfRows(model, rows), run.parameters, Stopping(1e-12, 1000), optimiser=accelerated)
        optimum = best_of(ahead)
        if total.objectives[-1] >= optimum - NEAR or len(total.objectives) > _STILL.max_iterations:
            return total.objectives, optimum
        run = fit(model, total, run.parameters, Stopping(0.0, 1000))


def best_of(run: Fit) -> float:
    """The greatest objective that a run went on from."""
    return max(iteration.objective for iteration in run.iterations if iteration.step is not Step.REFUSED)


def arrival(objectives: Sequence[float], optimum: float) -> int | None:
    """The first round within reach of the optimum or above; None if there is none."""
    arrived = np.flatnonzero(np.array(objectives) >= optimum - NEAR)
    return int(arrived[0]) + 1 if len(arrived) else None


def measure_starts(
    mixtures: Sequence[HardMixture | Digits], seeds: int, seeds_of_others: int
) -> tuple[StartFigures, ...]:
    """How many starts lead to the best optimum that any of them leads to, by how they are searched for.

    Optima are of the posterior under the weak prior: the likelihood is highest where a component is about to collapse onto a few rows
    (McLachlan and Peel 2000, section 3.10), and of four mixtures one had its best optimum there.

    Args:
        mixtures: Which.
        seeds: Starts by sums of each mixture.
        seeds_of_others: scikit-learn's of each mixture.
    """
    of_each = _side_by_side(partial(_starts_of, seeds=seeds, seeds_of_others=seeds_of_others), mixtures)
    return tuple(figures for own in of_each for figures in own)


def _starts_of(mixture: HardMixture | Digits, seeds: int, seeds_of_others: int) -> list[StartFigures]:
    rows, model, ours = mixture.sample(), guarded_model(mixture), dict[str, list[float]]()
    for search in SEARCHES:
        for seed in range(seeds):
            for name, end in ends_of(model, rows, seed, search):
                ours.setdefault(name, []).append(end)
    theirs = [end_of(model, rows, _scikit_learn(mixture.components, rows, seed)) for seed in range(seeds_of_others)]
    best = max(*theirs, *(end for ends in ours.values() for end in ends))

    def share(ends: Sequence[float], within: float) -> float:
        return float(np.mean(np.array(ends) >= best - within))

    found = []
    for within in (AS_GOOD, AS_GOOD_OF_DIGITS) if isinstance(mixture, Digits) else (AS_GOOD,):
        shares = {name: share(ends, within) for name, ends in ours.items()}
        found.append(StartFigures(mixture.name, within, seeds, shares, seeds_of_others, share(theirs, within)))
    return found


def ends_of(model: GaussianMixtureModel, rows: Vector, seed: int, search: Search) -> list[tuple[str, float]]:
    """Where a search ends, on each number of tracks: its name, and the objective in nats a record."""
    start = starts_of(model, rows, seed, search.n_starts, search.generations, search.finer)
    return [
        (search.name(n), end_of(model, rows, start.parameters) if n == 1 else end_on_tracks(model, rows, start, n))
        for n in search.tracks
    ]


def guarded_model(mixture: HardMixture | Digits) -> GaussianMixtureModel:
    """What is fitted where starts are compared: under the weak prior."""
    k, d = mixture.components, mixture.columns
    return GaussianMixtureModel(k, d, prior=GaussianMixturePrior.weakly_informative(k, [0.0] * d, [1.0] * d))


def end_of(model: GaussianMixtureModel, rows: Vector, start: Parameters) -> float:
    """The objective where L-BFGS from a start ends, in nats a record."""
    optimiser = optimiser_for(L_BFGS, model)
    return best_of(fit(model, TotalOfRows(model, rows), start, Stopping(1e-7, 300), optimiser=optimiser))


def end_on_tracks(model: GaussianMixtureModel, rows: Vector, start: Start, n_tracks: int = 6) -> float:
    """The objective where the best of so many tracks ends, in nats a record."""
    starts = (start.parameters, *start.others)[: n_tracks - 1]
    total = TotalOfRows(tracks_of(model, len(starts) + 1), rows)
    return best_of(fit_on_tracks(model, total, starts, Stopping(1e-7, 300)))


def _scikit_learn(components: int, rows: Vector, seed: int) -> Parameters:
    """Where EM ends from one k-means++ start."""
    theirs = GaussianMixture(components, init_params="k-means++", tol=1e-6, max_iter=1000, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(rows)
    return Parameters({"weights": theirs.weights_, "means": theirs.means_, "covariances": theirs.covariances_})
