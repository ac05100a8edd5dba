"""The order of components, which the likelihood leaves open: a canonical one, and that of another fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.divergence import Mixture, component_distances
from fed_em.parameters import Parameters

Places = NDArray[np.intp]

# In place of an infinite distance, which the assignment cannot add up; distances of densities in float64 stay below.
_FARTHEST = 1e12


def canonical_order(parameters: Parameters) -> Places:
    """Components by descending weight; equal weights by ascending means, then by probabilities and rates, `(K,)`."""
    n_components = len(parameters["weights"])
    names = sorted((name for name in parameters if name != "weights"), key=lambda name: (name != "means", name))
    keys = [-parameters["weights"]]
    for name in names:
        # A tied covariance orders none, and components that agree in all else are rare: covariances are left out.
        if name != "covariances":
            keys.extend(parameters[name].reshape(n_components, -1).T)
    return np.asarray(np.lexsort(keys[::-1]))


def reordered(model: Mixture, parameters: Parameters, order: Places) -> Parameters:
    """The parameters of the components `order`, in that order; a tied covariance is of any.

    Args:
        model: Their mixture.
        parameters: Its parameters.
        order: Distinct components.
    """
    shared = ("covariances",) if model.covariance == "tied" else ()
    return Parameters({name: array if name in shared else array[order] for name, array in parameters.items()})


@dataclass(frozen=True, eq=False)
class Alignment:
    """Which component of one fit is which of another.

    Attributes:
        order: `(K,)`: for each component of the reference the matching one of the other fit; -1 where that has none left.
        distances: `(K,)`, the Bhattacharyya distance of the two; NaN where there is none.
    """

    order: Places
    distances: NDArray[np.float64]


def align(reference_model: Mixture, reference: Parameters, model: Mixture, parameters: Parameters) -> Alignment:
    """Match the components of two fits one to one, with the least sum of distances (Hungarian method; Kuhn 1955).

    Args:
        reference_model: A mixture of K components.
        reference: Its parameters.
        model: A mixture over the same columns, whose number of components may differ.
        parameters: Its parameters, in the same coordinates.

    Raises:
        CallerError: the mixtures are over different columns.
    """
    from scipy.optimize import linear_sum_assignment  # 0.2 s, for those alone who align

    distances = component_distances(reference_model, reference, model, parameters)
    places, matches = linear_sum_assignment(np.minimum(distances, _FARTHEST))
    order = np.full(reference_model.n_components, -1, dtype=np.intp)
    found = np.full(reference_model.n_components, np.nan)
    order[places], found[places] = matches, distances[places, matches]
    return Alignment(order, found)
