"""Whether L-BFGS misses EM's optimum less often on two tracks side by side: `python -m tests.bench.optimiser_tracks SEED …`.

A track is L-BFGS from the start, or after some steps of EM; both are what sessions have, in one payload (`fed_em.tracks`). A run misses if
it ends more than 10⁻⁶ nats a record below where EM ends from the same start. Mixtures are those of the section `rounds`, and of the same
kind by other seeds. Plain EM, which says what its optimum is, takes most of the time: minutes a seed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fed_em.blas import one_blas_thread
from fed_em.em import Fit, Stopping, fit
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.lbfgs import LBFGS
from fed_em.parameters import Parameters
from fed_em.row_blocks import use_threads
from fed_em.tracks import HEAD_START, fit_on_tracks, tracks_of
from tests.bench.hard_mixtures import HARD, HardMixture
from tests.bench.optimiser_rounds import (
    NEAR,
    TOLERANCE,
    CountingTotal,
    Vector,
    arrival,
    best_of,
    em_and_its_optimum,
    start_of,
)

BOTH = "both, as sessions do"
HEAD_STARTS = {"from the start": 0, f"after {HEAD_START} steps of EM": HEAD_START}

_STOPPING = Stopping(TOLERANCE, 3000)


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        rounds: Rounds until it was within `NEAR` of EM's optimum, steps of EM before it included; None if it never was.
        taken: Until it stopped.
        above: Its end less EM's optimum, in nats a record.
    """

    rounds: int | None
    taken: int
    above: float


def runs_of(mixture: HardMixture) -> tuple[int, Mapping[str, Run]]:
    """Rounds of EM, and every run by its name."""
    rows = mixture.sample()
    model = GaussianMixtureModel(mixture.components, mixture.columns, covariance_floor=0.0)
    start = start_of(model, rows, seed=0)
    by_em, optimum = em_and_its_optimum(model, rows, start)
    found = {}
    for name in (*HEAD_STARTS, BOTH):
        total, run = _run(name, model, rows, start)
        found[name] = Run(arrival(total.objectives, optimum), len(total.objectives), best_of(run) - optimum)
    return arrival(by_em, optimum) or len(by_em), found


def _run(name: str, model: GaussianMixtureModel, rows: Vector, start: Parameters) -> tuple[CountingTotal, Fit]:
    if name == BOTH:
        total = CountingTotal(tracks_of(model), rows)
        return total, fit_on_tracks(model, total, (start,), _STOPPING)
    total, optimiser = CountingTotal(model, rows), LBFGS(model, head_start=HEAD_STARTS[name])
    return total, fit(model, total, start, _STOPPING, optimiser=optimiser)


def _print(measured: Sequence[tuple[int, Mapping[str, Run]]]) -> None:
    for name in (*HEAD_STARTS, BOTH):
        runs = [(by_em, found[name]) for by_em, found in measured]
        ratios = [by_em / run.rounds for by_em, run in runs if run.rounds is not None]
        misses, better = sum(run.above < -NEAR for _, run in runs), sum(run.above > NEAR for _, run in runs)
        mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
        print(
            f"{name}: {misses} of {len(runs)} missed, {better} ended higher; {mean:.1f} times fewer rounds, least {min(ratios):.1f}; "
            f"{sum(run.taken for _, run in runs)} rounds until all stopped"
        )


def main(seeds: Sequence[int]) -> None:
    """Print how tracks, and two together, end."""
    with use_threads(1), one_blas_thread():
        _print([runs_of(replace(mixture, seed=seed)) for seed in seeds for mixture in HARD])


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [0])
