"""EM iterations of another package, in an environment of its own (`make bench-peers`): one thread, float64. Full covariances, or
mixed columns with missing cells for StepMix, whose COLUMNS are always `3 * OF_EACH_KIND`.

python peer_em.py PACKAGE ROWS COLUMNS COMPONENTS TIMES     prints {"version": …, "cpu": …, "wall": …}, least seconds an iteration

It imports nothing of this project: only NumPy and the package are there. What the package is given is made here, for all.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
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


# Gaussian, categorical and Bernoulli columns of mixed rows, and levels of a categorical one.
OF_EACH_KIND, LEVELS = 5, 4


def made_mixed(n_rows: int, n_components: int, missing: float) -> np.ndarray:
    """Rows `(n, 15)` of a mixture over Gaussian, categorical and Bernoulli columns, NaN in a share of the cells."""
    generator = np.random.default_rng(0)
    labels, shape = generator.integers(n_components, size=n_rows), (n_rows, OF_EACH_KIND)
    numbers = generator.normal(size=(n_components, OF_EACH_KIND))[labels] + generator.normal(size=shape)
    levels = generator.dirichlet(np.ones(LEVELS), size=(n_components, OF_EACH_KIND)).cumsum(axis=2)[labels]
    codes = (generator.random(shape)[:, :, np.newaxis] > levels[:, :, :-1]).sum(axis=2)
    yes = generator.random(shape) < generator.uniform(0.1, 0.9, size=(n_components, OF_EACH_KIND))[labels]
    return blanked(np.concatenate((numbers, codes, yes), axis=1), missing)


def blanked(rows: np.ndarray, missing: float) -> np.ndarray:
    """Rows with NaN in a share of their cells, at random."""
    return np.where(np.random.default_rng(1).random(rows.shape) < missing, np.nan, rows)


def least(step: Callable[[], object], times: int, warm: bool = True) -> tuple[float, float]:
    """The least seconds of `times` calls: of the processor, all threads together, and of the clock. One call before does not count."""
    if warm:
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


def stepmix(rows: np.ndarray, n_components: int) -> Callable[[], object]:
    """One EM iteration of `StepMix` over mixed columns with missing cells, from its own start."""
    from stepmix.stepmix import StepMix
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    kinds = ("gaussian_diag_nan", "categorical_nan", "binary_nan")
    columns = {kind: {"model": kind, "n_columns": OF_EACH_KIND} for kind in kinds}
    model = StepMix(n_components, measurement=columns, max_iter=1, progress_bar=0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one iteration is not enough to converge
        model.fit(rows)

    def iterate() -> None:
        _, log_responsibilities = model._e_step(rows)
        model._m_step(rows, np.exp(log_responsibilities))

    return iterate


def main() -> None:
    """Measure one package."""
    package, *sizes = sys.argv[1:]
    n_rows, n_columns, n_components, times = map(int, sizes)
    if package == "stepmix":
        iterate = stepmix(made_mixed(n_rows, n_components, missing=0.2), n_components)
    else:
        iterate = pomegranate(*made_case(n_rows, n_columns, n_components))
    cpu, wall = least(iterate, times)
    print(json.dumps({"version": version(package), "cpu": cpu, "wall": wall}))


if __name__ == "__main__":
    main()
