"""What simulations charge for an E-step, beside what it takes: processor time over rows, components and columns.

    python -m tests.bench.e_step_prices [ROWS …]

A price is by density (rows times components) and by statistic (rows times their number); what is fitted is the ratio, in least squares.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from threadpoolctl import threadpool_limits

from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.row_blocks import use_threads
from fed_em_simulations.costs import UnitPrices
from fed_em_simulations.work import Work

_COLUMNS, _COMPONENTS = (1, 2, 3, 5, 8, 12, 16, 20, 30), (3, 10)
_REPEATS = 7


def seconds_of(model: GaussianMixtureModel, rows: int) -> float:
    """The least processor time of an E-step over so many rows, of seven."""
    k, d = model.n_components, model.n_columns
    generator = np.random.default_rng(0)
    covariances = np.tile(np.eye(d), (k, 1, 1))
    parameters = Parameters(
        {"weights": np.full(k, 1 / k), "means": generator.standard_normal((k, d)), "covariances": covariances}
    )
    table, found = generator.standard_normal((rows, d)), []
    for _ in range(_REPEATS + 1):
        began = time.process_time()
        model.e_step(parameters, table)
        found.append(time.process_time() - began)
    return min(found[1:])


def main(rows: list[int]) -> None:
    """Print a line a shape, and the prices that fit best."""
    prices = UnitPrices()
    amounts, taken = [], []
    for n in rows:
        for k in _COMPONENTS:
            for d in _COLUMNS:
                model = GaussianMixtureModel(k, d)
                amounts.append((n * k, n * model.layout().size))
                taken.append(seconds_of(model, n))
                charged = prices.of(Work(densities=amounts[-1][0], statistics=amounts[-1][1]))
                print(f"N = {n}, K = {k}, D = {d}: {1e3 * taken[-1]:.2f} ms, charged {1e3 * charged:.2f} ms")
    seconds = np.array(taken)
    fitted = np.linalg.lstsq(np.array(amounts) / seconds[:, np.newaxis], np.ones(len(seconds)), rcond=None)[0]
    print(f"fitted: {1e9 * fitted[0]:.1f} ns a density, {1e9 * fitted[1]:.2f} ns a statistic")


if __name__ == "__main__":
    with use_threads(1), threadpool_limits(1):
        main([int(each) for each in sys.argv[1:]] or [2000])
