"""Whether L-BFGS misses EM's optimum less often on two tracks side by side: `python -m tests.bench.optimiser_tracks SEED …`.

A track is L-BFGS from the start, or from where some steps of EM lead; tracks of one session would share a payload and its rounds. A run
misses if it ends more than 10⁻⁶ nats a record below where EM ends from the same start. Mixtures are those of the section `rounds`, and of
the same kind by other seeds. Plain EM, which says what its optimum is, takes most of the time: minutes a seed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fed_em.blas import one_blas_thread
from fed_em.em import Stopping, fit
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.optimiser import L_BFGS, optimiser_for
from fed_em.row_blocks import use_threads
from fed_em.totals import TotalOfRows
from tests.bench.hard_mixtures import HARD, HardMixture
from tests.bench.optimiser_rounds import NEAR, TOLERANCE, CountingTotal, arrival, best_of, em_and_its_optimum, start_of

HEAD_STARTS = (0, 10, 25)
COMBINATIONS = ((0,), (10,), (25,), (0, 10), (0, 25))

_MOST = 3000


@dataclass(frozen=True)
class Track:
    """One run.

    Attributes:
        rounds: Rounds until it was within `NEAR` of EM's optimum, steps of EM before it included; None if it never was.
        above: Its end less EM's optimum, in nats a record.
    """

    rounds: int | None
    above: float


def tracks_of(mixture: HardMixture) -> tuple[int, Mapping[int, Track]]:
    """Rounds of EM, and every track by the steps of EM before it."""
    rows = mixture.sample()
    model = GaussianMixtureModel(mixture.components, mixture.columns, covariance_floor=0.0)
    start, total = start_of(model, rows, seed=0), TotalOfRows(model, rows)
    by_em, optimum = em_and_its_optimum(model, rows, start)
    found = {}
    for steps in HEAD_STARTS:
        ahead = fit(model, total, start, Stopping(0.0, steps)).parameters if steps else start
        seen = CountingTotal(model, rows)
        run = fit(model, seen, ahead, Stopping(TOLERANCE, _MOST), optimiser=optimiser_for(L_BFGS, model))
        rounds = arrival(seen.objectives, optimum)
        found[steps] = Track(None if rounds is None else rounds + steps, best_of(run) - optimum)
    return arrival(by_em, optimum) or len(by_em), found


def _print(measured: Sequence[tuple[int, Mapping[int, Track]]]) -> None:
    for combination in COMBINATIONS:
        ratios, misses, better = [], 0, 0
        for by_em, found in measured:
            tracks = [found[steps] for steps in combination]
            arrived = [track.rounds for track in tracks if track.rounds is not None]
            ratios += [by_em / min(arrived)] if arrived else []
            end = max(track.above for track in tracks)
            misses, better = misses + (end < -NEAR), better + (end > NEAR)
        mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
        told = " and ".join("from the start" if not steps else f"after {steps} steps of EM" for steps in combination)
        print(
            f"{told}: {misses} of {len(measured)} missed, {better} ended higher; {mean:.1f} times fewer rounds, least {min(ratios):.1f}"
        )


def main(seeds: Sequence[int]) -> None:
    """Print how tracks, and the best of two, end."""
    with use_threads(1), one_blas_thread():
        _print([tracks_of(replace(mixture, seed=seed)) for seed in seeds for mixture in HARD])


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [0])
