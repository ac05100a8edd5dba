"""Gaussian mixtures of many components as mixtures of few: their components are put into groups, and each group is one Gaussian.

Goldberger and Roweis (2005), "Hierarchical clustering of a mixture model": components go to the Gaussian that they diverge least from,
whose moments are then those of its group; from several seeds, as k-means from several seeds leads to several optima. Nobody's rows are
looked at, and no sum is taken: what it follows from are parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import covariance_matrices, restrict
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.pruning import merge_to

Vector = NDArray[np.float64]

# Seeds of each reduction, and rounds from each. More of either gained nothing on the mixtures that starts were tried on.
_SEEDS, _ROUNDS = 40, 12

# A group that holds less is none.
_LEAST_WEIGHT = 1e-4

# Divergences in nats from which a seed is as good as any; drawing by them without a bound would draw outliers.
_FAR = 50.0

# How far two reductions' divergences must differ, not to be the same one.
_SAME = 1e-6


def reductions(
    many: GaussianMixtureModel,
    fits: Sequence[Parameters],
    few: GaussianMixtureModel,
    n: int,
    generator: np.random.Generator,
) -> list[Parameters]:
    """The best n different reductions of the average of some mixtures that were found, the best first; at least one.

    Args:
        many: The mixtures' model.
        fits: The parameters of each, at least one.
        few: What they are reduced to: of the same columns, with fewer components.
        n: At least 1.
        generator: What seeds are drawn from.
    """
    found, pooled = list[tuple[float, _Gaussians]](), _Gaussians.of(many, fits)
    for _ in range(_SEEDS):
        reduced = _reduced(pooled, few.n_components, generator)
        if reduced is not None:
            found.append(reduced)
    found.sort(key=lambda each: each[0])
    kept = list[tuple[float, _Gaussians]]()
    for divergence, reduced_to in found:
        if len(kept) < n and all(abs(divergence - other) > _SAME for other, _ in kept):
            kept.append((divergence, reduced_to))
    if not kept:
        return [merge_to(many, fits[0], few.n_components)[1]]
    return [each.in_structure(few) for _, each in kept]


class _Gaussians:
    """Weights `(K,)`, means `(K, D)` and covariance matrices `(K, D, D)`."""

    def __init__(self, weights: Vector, means: Vector, matrices: Vector) -> None:
        self.weights, self.means, self.matrices = weights, means, matrices

    @classmethod
    def of(cls, model: GaussianMixtureModel, fits: Sequence[Parameters]) -> _Gaussians:
        """Of some mixtures together, each with the same share."""
        matrices = [covariance_matrices(model.covariance, each["covariances"], each["means"]) for each in fits]
        weights = np.concatenate([each["weights"] for each in fits]) / len(fits)
        return cls(weights, np.concatenate([each["means"] for each in fits]), np.concatenate(matrices))

    def at(self, places: list[int]) -> _Gaussians:
        """Some of them, alike in weight."""
        return _Gaussians(np.full(len(places), 1 / len(places)), self.means[places], self.matrices[places])

    def divergences(self, others: _Gaussians) -> Vector:
        """Kullback-Leibler divergence of each from each other, `(K, K_other)`, nats; not below 0 but for rounding."""
        inverse = np.linalg.inv(others.matrices)
        apart = self.means[:, np.newaxis] - others.means
        distances = (apart * np.matmul(inverse, apart[..., np.newaxis])[..., 0]).sum(axis=-1)
        traces = np.tensordot(self.matrices, inverse, axes=([1, 2], [2, 1]))
        logs = np.linalg.slogdet(others.matrices)[1] - np.linalg.slogdet(self.matrices)[1][:, np.newaxis]
        return np.asarray((traces + distances + logs - self.means.shape[1]) / 2)

    def grouped(self, groups: NDArray[np.intp], n_groups: int) -> _Gaussians | None:
        """Each group as one; None if one holds next to nothing."""
        shares = np.eye(n_groups)[groups] * self.weights[:, np.newaxis]
        weights = shares.sum(axis=0)
        if weights.min() < _LEAST_WEIGHT:
            return None
        shares = shares / weights
        means = shares.T @ self.means
        apart = self.means - means[groups]
        scatter = self.matrices + apart[:, :, np.newaxis] * apart[:, np.newaxis]
        return _Gaussians(weights, means, np.tensordot(shares.T, scatter, axes=1))

    def in_structure(self, model: GaussianMixtureModel) -> Parameters:
        """As parameters of a mixture."""
        weights = self.weights / self.weights.sum()
        if model.covariance == "tied":
            covariances = restrict("tied", np.tensordot(weights, self.matrices, axes=1), model.n_components)
        else:
            covariances = np.concatenate([restrict(model.covariance, matrix, 1) for matrix in self.matrices])
        return Parameters({"weights": weights, "means": self.means, "covariances": covariances})


def _reduced(many: _Gaussians, n_groups: int, generator: np.random.Generator) -> tuple[float, _Gaussians] | None:
    """From one seed: the mean divergence of the components from their groups, and these."""
    few, cost = many.at(_seed(many, n_groups, generator)), np.zeros(1)
    for _ in range(_ROUNDS):
        costs = many.divergences(few) - np.log(few.weights)
        grouped = many.grouped(costs.argmin(axis=1), n_groups)
        if grouped is None:
            return None
        few, cost = grouped, costs.min(axis=1)
    return float(many.weights @ cost), few


def _seed(many: _Gaussians, n_groups: int, generator: np.random.Generator) -> list[int]:
    """Components far from each other: as k-means++ draws rows, by divergences in place of squares."""
    places = [int(generator.choice(len(many.weights), p=many.weights / many.weights.sum()))]
    nearest = many.divergences(many.at(places))[:, 0]
    while len(places) < n_groups:
        chances = many.weights * np.clip(nearest, 0.0, _FAR)
        chances = chances if chances.sum() > 0 else many.weights
        places.append(int(generator.choice(len(chances), p=chances / chances.sum())))
        nearest = np.minimum(nearest, many.divergences(many.at(places[-1:]))[:, 0])
    return places
