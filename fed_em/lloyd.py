"""Lloyd's algorithm by the E-step of a mixture itself, so that whoever sums need not know of it.

    sharpened   parameters at which nearly all of a record goes to one component: equal weights, and one small spherical covariance
    clustered   from the statistics there: the clusters' sizes and centres, and the pooled covariance within them

That is k-means, Lloyd (1982), "Least squares quantization in PCM", over the Gaussian columns, of which there must be one; what other
columns show counts as much as it does in the mixture. Clusters that are hard in levels too, as k-modes has them, led to worse optima.

A start may also be split: all its components begin at one place, and groups of them that are still together are cut in two along their
longest axis (Linde, Buzo and Gray 1980, "An algorithm for vector quantizer design"). It is the same whatever the seed. Columns without
numbers have no axis, and follow the groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import moved_scatter, restrict
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.divergence import Mixture
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import start_from_moments
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import start_from_mixed_moments
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]

# The standard deviation of a component in Lloyd's rounds; rows have 1. Up to `_WIDE` columns; of more it grows with the root of their
# number, as distances do. So log-densities stay within their declared bound for rows up to 36 standard deviations away, on average.
_NARROW, _WIDE = 0.1, 100

# Added to variances within clusters, which may be of single rows.
_LEAST_VARIANCE = 1e-3

# Records below which nobody is in a cluster.
_NOBODY = 1e-6


def drawn(model: Mixture, moments: Parameters, seed: int) -> Parameters:
    """Components drawn from the moments of all records, by seed; raises as the functions that it is made of."""
    if isinstance(model, GaussianMixtureModel):
        return start_from_moments(model, moments, seed)
    return start_from_mixed_moments(model, moments, seed)


def together(model: Mixture, moments: Parameters) -> Parameters:
    """All components at the moments of all records."""
    k, gaussian = model.n_components, model.gaussian
    arrays: dict[str, Vector] = {"weights": np.full(k, 1.0 / k)}
    if gaussian is not None:
        arrays["means"] = np.tile(moments["means"][0], (k, 1))
        arrays["covariances"] = restrict(gaussian.covariance, moments["covariances"][0], k)
    for name in (LEVEL_PROBABILITIES, SUCCESS_PROBABILITIES, RATES):
        if name in moments:
            arrays[name] = np.tile(moments[name][0], (k, 1))
    return Parameters(arrays)


def sharpened(model: Mixture, parameters: Parameters) -> Parameters:
    """Where to evaluate the E-step for a round of Lloyd's algorithm."""
    k, gaussian = model.n_components, model.gaussian
    assert gaussian is not None
    narrow = _NARROW**2 * max(gaussian.n_columns / _WIDE, 1.0)
    covariances = restrict(gaussian.covariance, narrow * np.eye(gaussian.n_columns), k)
    return Parameters({**parameters, "weights": np.full(k, 1.0 / k), "covariances": covariances})


def clustered(safe: Mixture, sums: Statistics, before: Parameters) -> Parameters:
    """The clusters as components; the centre of a cluster that nobody is in stays.

    Args:
        safe: The mixture, under a prior (`guarded`).
        sums: Its statistics at sharpened parameters.
        before: The parameters that were sharpened.
    """
    gaussian, counts = safe.gaussian, np.maximum(sums["responsibilities"], 0.0)
    assert gaussian is not None
    held = counts[:, np.newaxis] > _NOBODY
    means = np.divide(sums["first"], counts[:, np.newaxis], out=before["means"].copy(), where=held)
    within = moved_scatter(gaussian.covariance, counts, sums["first"], sums["second"], means).sum(axis=0)
    within = within / max(counts.sum(), _NOBODY)
    matrix = np.diag(within) if within.ndim == 1 else within
    matrix = matrix + _LEAST_VARIANCE * np.eye(len(matrix))
    arrays: dict[str, Vector] = {
        "weights": (counts + 1) / (counts + 1).sum(),
        "means": means,
        "covariances": restrict(gaussian.covariance, matrix, safe.n_components),
    }
    if isinstance(safe, MixedMixtureModel):
        arrays |= safe.discrete.estimate(sums, before, safe.prior or MixedMixturePrior())
    return Parameters(arrays)


@dataclass(frozen=True, eq=False)
class Split:
    """Which components of the split start are still together.

    Attributes:
        model: A mixture of Gaussian columns.
        groups: `(K,)`, the number of each component's group, from 0.
        every: In how many rounds of Lloyd's algorithm there is one cut.
    """

    model: GaussianMixtureModel
    groups: NDArray[np.intp]
    every: int

    @classmethod
    def before(cls, model: Mixture, rounds: int) -> Split | None:
        """All components together, before so many rounds of Lloyd's algorithm; None if there are no Gaussian columns."""
        gaussian, k = model.gaussian, model.n_components
        if gaussian is None:
            return None
        return cls(gaussian, np.zeros(k, dtype=np.intp), 1 if 2 * math.ceil(math.log2(k)) > rounds else 2)

    def cut(self, number: int, sums: Statistics, parameters: Parameters) -> tuple[Split, Parameters]:
        """The clusters of round `number`, from 0, with each group cut in two, one standard deviation apart, if it is their turn."""
        if number % self.every:
            return self, parameters
        groups, means = self.groups.copy(), parameters["means"].copy()
        for group in range(groups.max() + 1):
            members = np.flatnonzero(groups == group)
            if len(members) == 1:
                continue
            centre = means[members].mean(axis=0)
            apart, half = self._half_axis(sums, members, centre), len(members) // 2
            means[members] = centre + apart
            means[members[:half]] -= 2 * apart
            groups[members[half:]] = groups.max() + 1
        return replace(self, groups=groups), Parameters({**parameters, "means": means})

    def _half_axis(self, sums: Statistics, members: NDArray[np.intp], centre: Vector) -> Vector:
        counts, first, second = (sums[name][members] for name in ("responsibilities", "first", "second"))
        centres = np.tile(centre, (len(members), 1))
        scatter = moved_scatter(self.model.covariance, counts, first, second, centres).sum(axis=0)
        scatter = scatter / max(counts.sum(), _NOBODY)
        spreads, axes = np.linalg.eigh(np.diag(scatter) if scatter.ndim == 1 else scatter)
        apart = axes[:, -1] * np.sqrt(max(float(spreads[-1]), _LEAST_VARIANCE)) / 2
        # The sign of an eigenvector is the library's whim.
        return np.asarray(apart * np.sign(apart[np.abs(apart).argmax()]))


def guarded(model: Mixture, moments: Parameters) -> Mixture:
    """The model under its own prior, and the weak one wherever it has none: no component collapses, and no level is impossible."""
    n = model.n_columns
    if isinstance(model, GaussianMixtureModel):
        weak = GaussianMixturePrior.weakly_informative(model.n_components, [0.0] * n, [1.0] * n)
        return replace(model, prior=model.prior or weak)
    means = np.zeros(n)
    if len(model.schema.poisson):
        means[model.schema.poisson] = moments[RATES][0]
    return replace(
        model,
        prior=_filled(model, MixedMixturePrior.weakly_informative(model.schema, model.n_components, means, np.ones(n))),
    )


def _filled(model: MixedMixtureModel, weak: MixedMixturePrior) -> MixedMixturePrior:
    own = model.prior
    if own is None:
        return weak
    filled = {
        name: getattr(own, name) or getattr(weak, name) for name in ("gaussian", "level_records", "bernoulli_records")
    }
    if not own.poisson_records:
        filled |= {name: getattr(weak, name) for name in ("poisson_records", "poisson_rates")}
    return replace(own, **filled)
