"""EM iterations of another package, in an environment of its own (`make bench-peers`): one thread, float64, full covariances.

python peer_em.py PACKAGE ROWS COLUMNS COMPONENTS TIMES     prints {"version": …, "cpu": …, "wall": …}, least seconds an iteration

It imports nothing of this project: only NumPy and the package are there. What the package is given is made here, for all.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def made_case(n_rows: int, n_columns: int, n_components: int) -> Case:
    """Rows `(n, D)` of a mixture whose components overlap, and its weights, means and covariances to start from."""
    generator = np.random.default_rng(0)
    factors = generator.normal(size=(n_components, n_columns, 2 * n_columns)) / np.sqrt(2 * n_columns)
    means = generator.normal(size=(n_components, n_columns))
    labels = generator.integers(n_components, size=n_rows)
    rows = np.empty((n_rows, n_columns))
    for k, factor in enumerate(factors):
        members = np.flatnonzero(labels == k)
        rows[members] = means[k] + generator.normal(size=(len(members), 2 * n_columns)) @ factor.T
    return rows, np.full(n_components, 1 / n_components), means, factors @ np.swapaxes(factors, 1, 2)


def least(step: Callable[[], object], times: int) -> tuple[float, float]:
    """The least seconds of `times` calls: of the processor, all threads together, and of the clock. One call before does not count."""
    step()
    cpu = wall = float("inf")
    for _ in range(times):
        began_cpu, began = time.process_time(), time.perf_counter()
        step()
        cpu, wall = min(cpu, time.process_time() - began_cpu), min(wall, time.perf_counter() - began)
    return cpu, wall


def pomegranate(
    rows: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray
) -> Callable[[], object]:
    """One EM iteration of `GeneralMixtureModel`."""
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    normals = [Normal(torch.tensor(m), torch.tensor(c)) for m, c in zip(means, covariances, strict=True)]
    model = GeneralMixtureModel(normals, priors=torch.tensor(weights))
    data = torch.tensor(rows)

    def iterate() -> None:
        model.summarize(data)
        model.from_summaries()

    return iterate


def main() -> None:
    """Measure one package."""
    package, *sizes = sys.argv[1:]
    *shape, times = map(int, sizes)
    cpu, wall = least({"pomegranate": pomegranate}[package](*made_case(*shape)), times)
    print(json.dumps({"version": version(package), "cpu": cpu, "wall": wall}))


if __name__ == "__main__":
    main()
