"""How often starts by sums lead to the best optimum known, by what follows them: `python -m tests.bench.start_search SEED …`.

Of mixtures of 8 to 12 components in two columns, by seeds that nothing was chosen on but for 0; the section `rounds` has others. The
best optimum known is the best that any start here led to, so whoever finds a better one lowers the shares of all others. Some three
minutes of a processor a seed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from fed_em.blas import one_blas_thread
from fed_em.row_blocks import use_threads
from tests.bench.hard_mixtures import SEPARATED, HardMixture
from tests.bench.optimiser_rounds import AS_GOOD, SEARCHES, ends_of, guarded_model

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
                    for name, end in ends_of(model, rows, each, search):
                        ends.setdefault(name, []).append(end)
            best = max(max(own) for own in ends.values())
            for name, own in ends.items():
                gaps.setdefault(name, []).extend(best - end for end in own)
            told = ", ".join(f"{np.sort(1e3 * (best - np.array(own))).round(1)}" for own in ends.values())
            print(f"{mixture.name}, seed {mixture.seed}: nats·10³ below the best {told}", flush=True)
    for name, own in gaps.items():
        share, mean = np.mean(np.array(own) <= AS_GOOD), 1e3 * np.mean(own)
        print(f"{name}: share {share:.2f} of {len(own)}, mean gap {mean:.2f}·10⁻³ nats")


if __name__ == "__main__":
    with use_threads(1), one_blas_thread():
        main([int(seed) for seed in sys.argv[1:]] or [1])
