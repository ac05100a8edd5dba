"""Prints how often drift is found, with and without any: `python -m tests.operate.drift_table`."""

from __future__ import annotations

import numpy as np

from fed_em_server.operate.drift import Thresholds, drift_between
from tests.operate.test_drift import SCHEMA, measurement

REPEATS = 2000
SIZES = ((50, 50), (100, 1000), (300, 1000), (1000, 1000), (10000, 10000))


def shares(n: int, m: int, shift: float, repeats: int = REPEATS) -> tuple[float, float]:
    """In which share of measurements something is beyond chance, and in which it matters, at the usual thresholds."""
    generator, thresholds = np.random.default_rng((n, m)), Thresholds()
    scores = []
    for _ in range(repeats):
        then, now = measurement(m, generator), measurement(n, generator, shift)
        scores.append(thresholds.score(drift_between(then, now, SCHEMA, thresholds.significance)))
    found = np.array(scores)
    return float((found > 0).mean()), float((found >= 1).mean())


def main() -> None:
    """Print the table as Markdown."""
    print(
        "| fresh records | reference | no drift | shift of 0.3 | shift of 0.5 | shift of 1 |\n|---|---|---|---|---|---|"
    )
    for n, m in SIZES:
        cells = [
            f"{beyond:.4f}, {matters:.4f}" for beyond, matters in (shares(n, m, by) for by in (0.0, 0.3, 0.5, 1.0))
        ]
        print(f"| {n} | {m} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
