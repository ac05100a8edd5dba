"""How often starts by sums lead to the best optimum known, by generations: `python -m tests.bench.start_search SEED …`.

Of mixtures of 8 to 12 components in two columns, by seeds that nothing was chosen on; the section `rounds` has others. The best optimum
known is the best that any start here led to, whatever its generations, so whoever finds a better one lowers the shares of all others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from fed_em.blas import one_blas_thread
from fed_em.row_blocks import use_threads
from fed_em.starts import rounds_of
from tests.bench.hard_mixtures import SEPARATED, HardMixture
from tests.bench.optimiser_rounds import AS_GOOD, end_of, guarded_model, start_of

# How many starts are drawn, and how many generations follow.
SEARCHES = ((20, 0), (20, 4), (62, 4))
COMPONENTS = (8, 10, 12)
SEEDS = 3


def main(seeds: Sequence[int]) -> None:
    """Print the share of starts, and their mean gap, of each search on each mixture."""
    gaps: dict[tuple[int, int], list[float]] = {search: [] for search in SEARCHES}
    for place, components in enumerate(COMPONENTS):
        for seed in seeds:
            mixture = HardMixture(components, 2, SEPARATED, rows=200, seed=100 * (place + 1) + seed)
            rows, model = mixture.sample(), guarded_model(mixture)
            ends = {
                (n, generations): [
                    end_of(model, rows, start_of(model, rows, each, n, generations)) for each in range(SEEDS)
                ]
                for n, generations in SEARCHES
            }
            best = max(max(own) for own in ends.values())
            for search, own in ends.items():
                gaps[search] += [best - end for end in own]
            told = ", ".join(f"{np.sort(1e3 * (best - np.array(own))).round(1)}" for own in ends.values())
            print(f"{mixture.name}, seed {mixture.seed}: nats·10³ below the best {told}", flush=True)
    for (n, generations), own in gaps.items():
        share, mean = np.mean(np.array(own) <= AS_GOOD), 1e3 * np.mean(own)
        print(
            f"{n} starts, {generations} generations, {rounds_of(generations)} rounds: share {share:.2f} of {len(own)}, "
            f"mean gap {mean:.2f}·10⁻³ nats"
        )


if __name__ == "__main__":
    with use_threads(1), one_blas_thread():
        main([int(seed) for seed in sys.argv[1:]] or [0])
