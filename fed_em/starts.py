"""Many starts at once, by sums only: drawn from the moments, then Lloyd's rounds, then EM rounds; the best goes on.

Every round is one sum of the model's own statistics at all candidates (`fed_em.candidates`); nobody's rows choose a start, as
k-means++ would have them do. Rows are in standardised coordinates.

* R − 1 candidates have means drawn from the one Gaussian of all records; the last is split: all its components begin at the
  mean of all, and after every other round each group of them that are still together is cut in two along its longest axis (Linde,
  Buzo and Gray 1980, "An algorithm for vector quantizer design"). It is the same whatever the seed.
* Lloyd's rounds are E-steps under equal weights and one small spherical covariance, so that nearly all of a record goes to the nearest
  mean, of which only the means are kept. Then all components have the pooled covariance within clusters.
* EM rounds are under a weak prior if the model has none: without, the best of many starts would be one that is about to collapse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fed_em.candidates import Candidates
from fed_em.covariance import moved_scatter, restrict
from fed_em.description import check_whole_number
from fed_em.em import Summed
from fed_em.errors import CollapsedComponent
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import start_from_moments
from fed_em.model import COUNT, LOG_LIKELIHOOD
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import TenantMixedModel

Vector = NDArray[np.float64]

LLOYD_ROUNDS, EM_ROUNDS = 8, 10
ROUNDS = LLOYD_ROUNDS + EM_ROUNDS

# The standard deviation of a component in Lloyd's rounds; rows have 1. Log-densities stay within their declared bound for rows
# up to 36 standard deviations away, on average.
_NARROW = 0.1

# Added to variances within clusters, which may be of single rows.
_LEAST_VARIANCE = 1e-3


@dataclass(frozen=True)
class Start:
    """The best of the starts.

    Attributes:
        parameters: Where EM goes on from.
        objectives: Of every candidate in the last EM round, (log-likelihood + log prior) / records of the model that is to be fitted,
            without the prior of the starts; -inf for one that collapsed. The last is the split one.
    """

    parameters: Parameters
    objectives: tuple[float, ...]


def start_candidates(model: TenantMixedModel, n_starts: int) -> Candidates:
    """What every round of the starts is of: copies of the model with shared weights, `n_starts` that are drawn and one that is split."""
    return Candidates((model.with_shared_weights,) * (n_starts + 1))


def best_start(
    model: GaussianMixtureModel,
    total_for: Callable[[Candidates], Callable[[Parameters], Summed]],
    moments: Parameters,
    seed: int,
    n_starts: int = 20,
) -> Start:
    """The best of `n_starts` starts from the moments and one that is split, after `LLOYD_ROUNDS` + `EM_ROUNDS` sums.

    Args:
        model: What is to be fitted; starts are found with shared weights.
        total_for: Makes the total of some candidates.
        moments: One Gaussian of all records, in standardised coordinates.
        seed: At least 0; the same seed gives the same starts.
        n_starts: At least 1.

    Raises:
        CallerError: the seed or the number is out of its range, or the moments do not fit the model.
    """
    check_whole_number("n_starts", n_starts, 1)
    check_whole_number("seed", seed, 0)
    model = model.with_shared_weights
    candidates = start_candidates(model, n_starts)
    total = total_for(candidates)
    seeds = np.random.SeedSequence(seed).generate_state(n_starts).tolist()
    means = [start_from_moments(model, moments, each)["means"] for each in seeds]
    means.append(np.tile(moments["means"][0], (model.n_components, 1)))
    groups = np.zeros(model.n_components, dtype=np.intp)
    for number in range(LLOYD_ROUNDS):
        summed = total(candidates.joined([_narrow(model, each) for each in means]))
        sums = candidates.statistics_of(summed.statistics)
        parameters = [_clustered(model, each, centres) for each, centres in zip(sums, means, strict=True)]
        means = [each["means"] for each in parameters]
        if number % 2 == 0:
            groups, means[-1] = _split(model, sums[-1], groups, means[-1])
    return _after_em(model, candidates, total, parameters)


def _under_a_prior(model: GaussianMixtureModel) -> GaussianMixtureModel:
    if model.prior is not None:
        return model
    zeros, ones = [0.0] * model.n_columns, [1.0] * model.n_columns
    return replace(model, prior=GaussianMixturePrior.weakly_informative(model.n_components, zeros, ones))


def _narrow(model: GaussianMixtureModel, means: Vector) -> Parameters:
    covariances = restrict(model.covariance, _NARROW**2 * np.eye(model.n_columns), model.n_components)
    weights = np.full(model.n_components, 1.0 / model.n_components)
    return Parameters({"weights": weights, "means": means, "covariances": covariances})


def _clustered(model: GaussianMixtureModel, sums: Statistics, before: Vector) -> Parameters:
    """The clusters as components: their sizes and means, and the pooled covariance within them; a mean that nobody is at stays."""
    counts = np.maximum(sums["responsibilities"], 0.0)
    held = counts[:, np.newaxis] > 1e-6
    means = np.divide(sums["first"], counts[:, np.newaxis], out=before.copy(), where=held)
    within = moved_scatter(model.covariance, counts, sums["first"], sums["second"], means).sum(axis=0) / counts.sum()
    matrix = np.diag(within) if within.ndim == 1 else within
    covariances = restrict(model.covariance, matrix + _LEAST_VARIANCE * np.eye(len(matrix)), model.n_components)
    return Parameters({"weights": (counts + 1) / (counts + 1).sum(), "means": means, "covariances": covariances})


def _split(
    model: GaussianMixtureModel, sums: Statistics, groups: NDArray[np.intp], means: Vector
) -> tuple[NDArray[np.intp], Vector]:
    """Each group of components at one place cut in two, one standard deviation apart along its longest axis."""
    groups, means = groups.copy(), means.copy()
    for group in range(groups.max() + 1):
        members = np.flatnonzero(groups == group)
        if len(members) == 1:
            continue
        counts, first, second = (sums[name][members] for name in ("responsibilities", "first", "second"))
        centres = np.tile(means[members].mean(axis=0), (len(members), 1))
        scatter = moved_scatter(model.covariance, counts, first, second, centres).sum(axis=0) / max(counts.sum(), 1e-6)
        spreads, axes = np.linalg.eigh(np.diag(scatter) if scatter.ndim == 1 else scatter)
        apart = axes[:, -1] * np.sqrt(max(float(spreads[-1]), _LEAST_VARIANCE)) / 2
        # The sign of an eigenvector is the library's whim.
        apart *= np.sign(apart[np.abs(apart).argmax()])
        half = len(members) // 2
        means[members] = centres + apart
        means[members[:half]] -= 2 * apart
        groups[members[half:]] = groups.max() + 1
    return groups, means


def _after_em(
    model: GaussianMixtureModel,
    candidates: Candidates,
    total: Callable[[Parameters], Summed],
    parameters: list[Parameters],
) -> Start:
    objectives, under_a_prior = np.zeros(len(parameters)), _under_a_prior(model)
    for _ in range(EM_ROUNDS):
        sums = candidates.statistics_of(total(candidates.joined(parameters)).statistics)
        for r, (each, before) in enumerate(zip(sums, parameters, strict=True)):
            objectives[r] = (float(each[LOG_LIKELIHOOD]) + model.log_prior(before)) / float(each[COUNT])
            try:
                parameters[r] = under_a_prior.m_step(each, before)
            except CollapsedComponent:
                objectives[r] = -np.inf
    return Start(parameters[int(objectives.argmax())], tuple(objectives.tolist()))
