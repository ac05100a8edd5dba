"""How often starts by sums lead to the best optimum known, by what follows them: `python -m tests.bench.start_search SEED …`.

Of mixtures of 8 to 12 components in two columns, by seeds that nothing was chosen on but for 0; the section `rounds` has others. The
best optimum known is the best that any start here led to, so whoever finds a better one lowers the shares of all others. Some two
minutes a seed of one core that has nothing else to do.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fed_em.blas import one_blas_thread
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.row_blocks import use_threads
from fed_em.starts import rounds_of
from tests.bench.hard_mixtures import SEPARATED, HardMixture
from tests.bench.optimiser_rounds import AS_GOOD, end_of, end_on_tracks, guarded_model, starts_of


class Search(NamedTuple):
    """How many starts are drawn, how many generations follow, on how many tracks the fit is then, and whether the starts are finer."""

    n_starts: int
    generations: int
    tracks: tuple[int, ...]
    finer: bool = False


SEARCHES = (Search(20, 0, (1, 6)), Search(20, 0, (6,), finer=True), Search(20, 4, (1, 6)), Search(62, 4, (6,)))
COMPONENTS = (8, 10, 12)
SEEDS = 3


def main(seeds: Sequence[int]) -> None:
    """Print the share of starts, and their mean gap, of each search on each mixture."""
    gaps: dict[str, list[float]] = {}
    for place, components in enumerate(COMPONENTS):
        for seed in seeds:
            mixture = HardMixture(components, 2, SEPARATED, rows=200, seed=100 * (place + 1) + seed)
            rows, model, ends = mixture.sample(), guarded_model(mixture), dict[str, list[float]]()
            for search in SEARCHES:
                for each in range(SEEDS):
                    for name, end in _ends(model, rows, each, search):
                        ends.setdefault(name, []).append(end)
            best = max(max(own) for own in ends.values())
            for name, own in ends.items():
                gaps.setdefault(name, []).extend(best - end for end in own)
            told = ", ".join(f"{np.sort(1e3 * (best - np.array(own))).round(1)}" for own in ends.values())
            print(f"{mixture.name}, seed {mixture.seed}: nats·10³ below the best {told}", flush=True)
    for name, own in gaps.items():
        share, mean = np.mean(np.array(own) <= AS_GOOD), 1e3 * np.mean(own)
        print(f"{name}: share {share:.2f} of {len(own)}, mean gap {mean:.2f}·10⁻³ nats")


def _ends(model: GaussianMixtureModel, rows: NDArray[np.float64], seed: int, search: Search) -> list[tuple[str, float]]:
    start = starts_of(model, rows, seed, search.n_starts, search.generations, search.finer)
    rounds = f"{search.n_starts} {'finer ' * search.finer}starts, {search.generations} generations, {rounds_of(search.generations)} rounds"
    return [
        (
            f"{rounds}, {n} track{'s' * (n > 1)}",
            end_of(model, rows, start.parameters) if n == 1 else end_on_tracks(model, rows, start, n),
        )
        for n in search.tracks
    ]


if __name__ == "__main__":
    with use_threads(1), one_blas_thread():
        main([int(seed) for seed in sys.argv[1:]] or [1])
