"""Moves between optima: from fits to other points that EM may climb from to a better one.

    regrouped   of two near components one is made, and another is cut in two: Ueda, Nakano, Ghahramani and Hinton (2000), "SMEM
                algorithm for mixture models", Neural Computation 12
    crossed     the components of one fit on one side of a plane, and those of another on the other: Pernkopf and Bouchaffra (2005),
                "Genetic-based EM algorithm for learning Gaussian mixture models", IEEE Transactions on Pattern Analysis and Machine
                Intelligence 27

EM corrects what a component has too much or too little of in a few steps, but does not move one across others to where there is one too
few. Both look at parameters alone: which moves are good is told by the objective after some steps of EM, and nobody's rows choose one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fed_em.alignment import reordered
from fed_em.covariance import covariance_matrices
from fed_em.divergence import Mixture, component_distances
from fed_em.parameters import Parameters
from fed_em.pruning import merged_pair

Vector = NDArray[np.float64]

# Of how many nearest pairs one is merged.
_PAIRS = 5

# How far from its mean the halves of a component lie, in its standard deviations along the cut.
_APART = 0.7

# Crossed fits keep at least this part of their components each.
_LEAST_PART = 0.25

# How many times likelier the best parent is than one in the middle, roughly: ranks are drawn as u to this power.
_PRESSURE = 1.5


def moved(model: Mixture, parents: Sequence[Parameters], generator: np.random.Generator) -> Parameters:
    """A move of either kind, as likely as the other; of a single parent always the first.

    Args:
        model: Of Gaussian columns, at least in part, with two components or more.
        parents: Parameters of it, the best first; at least one.
        generator: What is drawn comes from here.
    """
    first = int(len(parents) * generator.random() ** _PRESSURE)
    if len(parents) == 1 or generator.random() < 0.5:
        return regrouped(model, parents[first], generator)
    second = int(generator.integers(len(parents) - 1))
    return crossed(model, parents[first], parents[second + (second >= first)], generator)


def regrouped(model: Mixture, parameters: Parameters, generator: np.random.Generator) -> Parameters:
    """One of the nearest pairs merged, and a component cut in two, the likelier the heavier it is."""
    distances = component_distances(model, parameters, model, parameters)
    distances[np.tril_indices(model.n_components)] = np.inf
    pairs = np.argsort(distances, axis=None)[: min(_PAIRS, model.n_components * (model.n_components - 1) // 2)]
    one, other = np.unravel_index(generator.choice(pairs), distances.shape)
    fewer = merged_pair(model, parameters, int(one), int(other))
    return _cut(model, fewer, int(generator.choice(model.n_components - 1, p=fewer["weights"])), generator)


def _cut(model: Mixture, fewer: Parameters, place: int, generator: np.random.Generator) -> Parameters:
    """With one component in two halves, apart along a direction that is drawn; the second is the last."""
    matrix = covariance_matrices(model.covariance, fewer["covariances"], fewer["means"])[place]
    direction = generator.standard_normal(len(matrix))
    apart = _APART * np.linalg.cholesky(matrix) @ direction / np.linalg.norm(direction)
    order = np.append(np.arange(model.n_components - 1), place)
    arrays = dict(reordered(model, fewer, order))
    weights, means = arrays["weights"].copy(), arrays["means"].copy()
    weights[[place, -1]] /= 2
    means[place] -= apart
    means[-1] += apart
    return Parameters({**arrays, "weights": weights, "means": means})


def crossed(model: Mixture, one: Parameters, other: Parameters, generator: np.random.Generator) -> Parameters:
    """The components of `one` that lie lowest along a direction that is drawn, and those of `other` that lie highest.

    A tied covariance is that of `one`; other components keep all they have but for the sum of their weights, which is 1 again.
    """
    k, d = one["means"].shape
    direction = generator.standard_normal(d)
    least = max(1, round(_LEAST_PART * k))
    n = int(generator.integers(least, k - least + 1))
    low = reordered(model, one, np.argsort(one["means"] @ direction)[:n])
    high = reordered(model, other, np.argsort(other["means"] @ direction)[n:])
    shared = ("covariances",) if model.covariance == "tied" else ()
    arrays = {name: low[name] if name in shared else np.concatenate((low[name], high[name])) for name in low}
    return Parameters({**arrays, "weights": arrays["weights"] / arrays["weights"].sum()})
