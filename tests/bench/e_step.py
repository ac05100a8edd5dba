"""One EM iteration, E-step and M-step, over rows in memory: ours, scikit-learn's, a peer's, and the floor of the machine.

The floor is what no E-step by two matrix products can go below: the products alone, block by block as ours, on one BLAS
thread, without features, log-sum-exp, sums of blocks or M-step; and NumPy's exponential of N·K numbers besides.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np
from sklearn.mixture import GaussianMixture as ScikitLearn
from threadpoolctl import threadpool_limits

from fed_em.blas import one_blas_thread
from fed_em.compilation import NO_NUMBA_VARIABLE
from fed_em.feature_map import n_features
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.kernels import kernels_for
from fed_em.parameters import Parameters
from fed_em.row_blocks import cut_into_segments, e_step_threads, use_threads
from tests.bench.figures import Absent, EStepFigures, IterationFigures
from tests.bench.peer_em import Case, least, made_case
from tests.bench.sizes import EStepSize

PEERS = ("pomegranate",)
_PEERS_PYTHON = Path(".venv-peers/bin/python")


def measure_e_step(size: EStepSize, peers_seconds: float) -> EStepFigures:
    """All of one size; the least of its repetitions."""
    case = made_case(size.rows, size.columns, size.components)
    measured = [
        *_ours(case, size.times),
        *_scikit_learn(case, size.times),
        *(measure_peer(package, size, peers_seconds) for package in PEERS),
    ]
    products, exponentials = _floor(case, size.times)
    return EStepFigures(size.rows, size.columns, size.components, tuple(measured), products, exponentials)


def _ours(case: Case, times: int) -> Iterator[IterationFigures]:
    rows, weights, means, covariances = case
    model = GaussianMixtureModel(*means.shape)
    at = [Parameters({"weights": weights, "means": means, "covariances": covariances})]

    def iterate() -> None:
        at.append(model.m_step(model.e_step(at[-1], rows), at[-1]))

    for forbidden in ("0", "1"):
        with patch.dict(os.environ, {NO_NUMBA_VARIABLE: forbidden}):
            for threads in sorted({1, e_step_threads()}):
                with use_threads(threads):
                    name = f"fed-em, {kernels_for(*rows.shape).name}, {of_threads(threads)}"
                    yield IterationFigures(name, *least(iterate, times))


def of_threads(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _scikit_learn(case: Case, times: int) -> Iterator[IterationFigures]:
    rows, weights, means, covariances = case
    precisions = np.linalg.inv(covariances)
    model = ScikitLearn(len(means), weights_init=weights, means_init=means, precisions_init=precisions, max_iter=1)
    # Sets the state that an iteration needs, from few rows: what it starts from are the parameters given.
    model._initialize(rows[:2], np.full((2, len(means)), 1 / len(means)))

    def iterate() -> None:
        _, log_responsibilities = model._e_step(rows)
        model._m_step(rows, log_responsibilities)

    limits: tuple[tuple[str, Callable[[], object]], ...] = (
        ("one BLAS thread", lambda: threadpool_limits(1, "blas")),
        ("BLAS threads by default", nullcontext),
    )
    for name, limit in limits:
        with limit():  # type: ignore[attr-defined]
            yield IterationFigures(f"scikit-learn, {name}", *least(iterate, times))


def measure_peer(package: str, size: EStepSize, seconds: float) -> IterationFigures | Absent:
    """EM iterations of another package, by `peer_em.py`, where `make bench-peers` has made its environment."""
    if seconds <= 0:
        return Absent(f"{package}: not asked for")
    if not _PEERS_PYTHON.exists():
        return Absent(f"{package}: there is no .venv-peers; `make bench-peers` makes it")
    numbers = (size.rows, size.columns, size.components, size.times)
    command = [str(_PEERS_PYTHON), str(Path(__file__).with_name("peer_em.py")), package, *map(str, numbers)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return Absent(f"{package}: not done in {seconds:.0f} s")
    except (subprocess.CalledProcessError, ValueError) as error:
        told = getattr(error, "stderr", "").strip().splitlines()
        return Absent(f"{package}: {told[-1] if told else 'printed no figures'}")
    return IterationFigures(f"{package} {found['version']}, 1 thread", found["cpu"], found["wall"])


def _floor(case: Case, times: int) -> tuple[float, float]:
    """CPU seconds of the two products, and of the exponentials, for all rows."""
    rows, _, means, _ = case
    k, f = len(means), n_features("full", means.shape[1])
    blocks = [block for segment in cut_into_segments(len(rows), f + k) for block in segment]
    n = blocks[0].stop
    generator = np.random.default_rng(0)
    features, coefficients = generator.normal(size=(f, n)), generator.normal(size=(f, k))
    joint, product, exponents = np.empty((n, k)), np.empty((f, k)), -generator.exponential(9.0, size=(n, k))

    def multiply() -> None:
        for _ in blocks:
            np.matmul(features.T, coefficients, out=joint)
            np.matmul(features, joint, out=product)

    def exponentiate() -> None:
        for _ in blocks:
            np.exp(exponents, out=joint)

    with one_blas_thread():
        return least(multiply, times)[0], least(exponentiate, times)[0]
