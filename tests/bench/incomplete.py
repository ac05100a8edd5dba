"""One EM iteration over rows with missing cells, and over mixed columns: ours, others', and the floor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from fed_em.blas import one_blas_thread
from fed_em.columns import BernoulliColumn, CategoricalColumn, Column, ColumnSchema, GaussianColumn
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_start import random_responsibilities, start_from_responsibilities
from fed_em.model import LOG_LIKELIHOOD, Model
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.row_blocks import e_step_threads, use_threads
from tests.bench.e_step import measure_peer, of_threads
from tests.bench.figures import CaseFigures, IterationFigures
from tests.bench.peer_em import LEVELS, OF_EACH_KIND, Case, blanked, least, made_case, made_mixed
from tests.bench.sizes import EStepSize

MISSING = 0.2


def measure_missing(size: EStepSize) -> CaseFigures:
    """Rows under full covariances, a fifth of whose cells are missing: nearly every row has a pattern of its own.

    The floor is the smaller Cholesky factor that tells what is missing, of a block of the precision matrix, for each pattern and component,
    two products of all rows with matrices of all columns for each component, and N·K exponentials.
    """
    rows, weights, means, covariances = made_case(size.rows, size.columns, size.components)
    rows = blanked(rows, MISSING)
    model = GaussianMixtureModel(*means.shape, missing=True)
    at = Parameters({"weights": weights, "means": means, "covariances": covariances})
    with one_blas_thread():
        loop = least(lambda: plain_loop((rows, weights, means, covariances)), 1, warm=False)
        floor = least(lambda: _factorise(rows, np.linalg.inv(covariances)), size.times)[0]
        floor += least(lambda: _multiply(rows, covariances), size.times)[0]
    return CaseFigures(
        f"{MISSING:.0%} of the cells missing, N = {size.rows}, D = {size.columns}, K = {size.components}",
        (*_ours(model, at, rows, size.times), IterationFigures("a NumPy loop over patterns, E-step alone", *loop)),
        floor + _exponentials(size),
        "the Cholesky factor of the missing columns' precisions for each pattern and component, two matrix products of all rows "
        "for each component, and NumPy's exponential of N·K numbers",
    )


def measure_mixed(size: EStepSize, peers_seconds: float) -> CaseFigures:
    """Gaussian (diagonal), categorical and Bernoulli columns, a fifth of whose cells are missing, beside StepMix.

    The floor is the two matrix products of the discrete columns' features, and N·K exponentials.
    """
    rows = made_mixed(size.rows, size.components, MISSING)
    kinds: tuple[Callable[[int], Column], ...] = (
        lambda d: GaussianColumn(f"g{d}"),
        lambda d: CategoricalColumn(f"c{d}", tuple(map(str, range(LEVELS)))),
        lambda d: BernoulliColumn(f"b{d}"),
    )
    schema = ColumnSchema(tuple(kind(d) for kind in kinds for d in range(OF_EACH_KIND)))
    model = MixedMixtureModel(size.components, schema, "diag")
    shares = random_responsibilities(size.rows, size.components, np.random.RandomState(0))
    at = start_from_responsibilities(model, shares, Records(rows))
    features, coefficients = model.discrete.features(rows), model.discrete.coefficients(at)
    joint, product = np.empty((size.components, size.rows)), np.empty(coefficients.shape)

    def multiply() -> None:
        np.matmul(coefficients, features, out=joint)
        np.matmul(joint, features.T, out=product)

    with one_blas_thread():
        floor = least(multiply, size.times)[0]
    return CaseFigures(
        f"mixed columns, {MISSING:.0%} of the cells missing, N = {size.rows}, D = {size.columns}, K = {size.components}",
        (*_ours(model, at, rows, size.times), measure_peer("stepmix", size, peers_seconds)),
        floor + _exponentials(size),
        "the two matrix products of the discrete columns, and NumPy's exponential of N·K numbers",
    )


def _ours(model: Model, start: Parameters, rows: np.ndarray, times: int) -> Iterator[IterationFigures]:
    """On one thread, as the floor is, and on as many as it takes by itself."""
    at = [start]

    def iterate() -> None:
        at.append(model.m_step(model.e_step(at[-1], rows), at[-1]))

    for threads in sorted({1, e_step_threads()}):
        with use_threads(threads):
            yield IterationFigures(f"fed-em, {of_threads(threads)}", *least(iterate, times))


def plain_loop(case: Case) -> float:
    """The E-step as a textbook writes it: pattern after pattern, component after component; the log-likelihood, in nats.

    Ghahramani and Jordan (1994); it sums what ours sums, and does not say so.
    """
    rows, weights, means, covariances = case
    n_components, n_columns = means.shape
    first, second = np.zeros(means.shape), np.zeros(covariances.shape)
    log_likelihood = 0.0
    observed = ~np.isnan(rows)
    patterns, which = np.unique(observed, axis=0, return_inverse=True)
    for number, o in enumerate(patterns):
        seen, m = rows[which.ravel() == number][:, o], ~o
        expected = np.empty((n_components, len(seen), n_columns))
        joint, residuals = np.empty((n_components, len(seen))), np.zeros(covariances.shape)
        for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
            deviations = (seen - mean[o]).T
            factor = cho_factor(covariance[np.ix_(o, o)])
            solved = cho_solve(factor, deviations)
            slopes = cho_solve(factor, covariance[np.ix_(o, m)])
            log_determinant = 2 * np.log(np.diag(factor[0])).sum()
            distances = (deviations * solved).sum(axis=0)
            joint[k] = math.log(weights[k]) - 0.5 * (distances + log_determinant + o.sum() * math.log(2 * math.pi))
            expected[k][:, o] = seen
            expected[k][:, m] = mean[m] + deviations.T @ slopes
            residuals[k][np.ix_(m, m)] = covariance[np.ix_(m, m)] - covariance[np.ix_(m, o)] @ slopes
        log_densities = np.logaddexp.reduce(joint, axis=0)
        log_likelihood += float(log_densities.sum())
        shares = np.exp(joint - log_densities)
        for k, share in enumerate(shares):
            first[k] += share @ expected[k]
            second[k] += (share * expected[k].T) @ expected[k] + share.sum() * residuals[k]
    return log_likelihood


def log_likelihood_of(rows: np.ndarray, at: Parameters) -> float:
    """The same of ours."""
    model = GaussianMixtureModel(*at["means"].shape, missing=True)
    return float(model.e_step(at, rows)[LOG_LIKELIHOOD])


def _factorise(rows: np.ndarray, precisions: np.ndarray) -> None:
    patterns = np.unique(np.isnan(rows), axis=0)
    counts = patterns.sum(axis=1)
    for n_missing in np.unique(counts[counts > 0]):
        places = np.argsort(~patterns[counts == n_missing], axis=1, kind="stable")[:, :n_missing]
        for precision in precisions:
            np.linalg.cholesky(precision[places[:, :, np.newaxis], places[:, np.newaxis]])


def _multiply(rows: np.ndarray, matrices: np.ndarray) -> None:
    cells = np.nan_to_num(rows)
    out, product = np.empty_like(cells), np.empty_like(matrices[0])
    for matrix in matrices:
        np.matmul(cells, matrix, out=out)
        np.matmul(cells.T, out, out=product)


def _exponentials(size: EStepSize) -> float:
    exponents = -np.random.default_rng(0).exponential(9.0, size=(size.components, size.rows))
    out = np.empty(exponents.shape)
    return least(lambda: np.exp(exponents, out=out), size.times)[0]


def measure_incomplete(sizes: Sequence[EStepSize], peers_seconds: float) -> tuple[CaseFigures, ...]:
    """Both cases: missing cells by the first size, mixed columns by the second."""
    missing, mixed = sizes
    return measure_missing(missing), measure_mixed(mixed, peers_seconds)
