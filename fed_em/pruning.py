"""Fewer components: without those that hold next to nothing, and one in place of two that are nearly the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fed_em.alignment import reordered
from fed_em.description import check_real, check_whole_number
from fed_em.divergence import Mixture, component_distances
from fed_em.parameters import Parameters

Vector = NDArray[np.float64]


def prune(model: Mixture, parameters: Parameters, least_weight: float) -> tuple[Mixture, Parameters]:
    """The mixture of the components of at least `least_weight`, weights scaled to sum to 1; the heaviest always stays.

    Args:
        model: A mixture.
        parameters: Its parameters.
        least_weight: At least 0.

    Returns:
        `model` and `parameters` themselves if all components stay.
    """
    check_real("least_weight", least_weight, 0.0)
    weights = parameters["weights"]
    stays = (weights >= least_weight) | (np.arange(len(weights)) == weights.argmax())
    if stays.all():
        return model, parameters
    kept = reordered(model, parameters, np.flatnonzero(stays))
    weights = kept["weights"] / kept["weights"].sum()
    return replace(model, n_components=int(stays.sum())), Parameters({**kept, "weights": weights})


def merge(model: Mixture, parameters: Parameters, least_distance: float) -> tuple[Mixture, Parameters]:
    """The mixture in which no two components are nearer than `least_distance`, the nearest two being merged in turn.

    The merged component has the mean, covariance, probabilities and rates of the two together; a tied covariance stays.

    Args:
        model: A mixture.
        parameters: Its parameters.
        least_distance: Bhattacharyya distance (`fed_em.divergence`), at least 0.

    Returns:
        `model` and `parameters` themselves if nothing is merged.
    """
    check_real("least_distance", least_distance, 0.0)
    return _merged_while(lambda _, distance: distance < least_distance, model, parameters)


def merge_to(model: Mixture, parameters: Parameters, n_components: int) -> tuple[Mixture, Parameters]:
    """The mixture of at most so many components, the nearest two being merged in turn; otherwise as `merge`.

    Args:
        model: A mixture.
        parameters: Its parameters.
        n_components: At least 1.
    """
    check_whole_number("n_components", n_components, 1)
    return _merged_while(lambda left, _: left > n_components, model, parameters)


def _merged_while(
    wanted: Callable[[int, float], bool], model: Mixture, parameters: Parameters
) -> tuple[Mixture, Parameters]:
    """The nearest two merged in turn, while that is wanted of the number of components left and the distance of those two."""
    while model.n_components > 1:
        distances = component_distances(model, parameters, model, parameters)
        distances[np.tril_indices(model.n_components)] = np.inf
        first, second = np.unravel_index(distances.argmin(), distances.shape)
        if not wanted(model.n_components, float(distances[first, second])):
            break
        parameters = merged_pair(model, parameters, int(first), int(second))
        model = replace(model, n_components=model.n_components - 1)
    return model, parameters


def merged_pair(model: Mixture, parameters: Parameters, first: int, second: int) -> Parameters:
    """Component `second` merged into `first`, the lower of the two: parameters of one component less, in the order they had."""
    pair = [first, second]
    weight = float(parameters["weights"][pair].sum())
    shares = parameters["weights"][pair] / weight if weight > 0 else np.array([0.5, 0.5])
    others = reordered(model, parameters, np.delete(np.arange(model.n_components), second))
    arrays: dict[str, Vector] = {}
    for name, array in others.items():
        match name:
            case "weights":
                arrays[name] = _with(array, first, np.asarray(weight))
            case "covariances" if model.covariance == "tied":
                arrays[name] = array
            case "covariances":
                deviations = parameters["means"][pair] - shares @ parameters["means"][pair]
                arrays[name] = _with(array, first, _covariance(model, parameters[name][pair], deviations, shares))
            case _:
                arrays[name] = _with(array, first, np.asarray(shares @ parameters[name][pair]))
    return Parameters(arrays)


def _covariance(model: Mixture, pair: Vector, deviations: Vector, shares: Vector) -> Vector:
    """Of two components of some shares, given the deviations of their means from the common one, `(2, G)`."""
    within = np.tensordot(shares, pair, axes=1)
    match model.covariance:
        case "full":
            return np.asarray(within + (shares * deviations.T) @ deviations)
        case "diag":
            return np.asarray(within + shares @ deviations**2)
        case _:
            return np.asarray(within + (shares @ deviations**2).mean())


def _with(array: Vector, place: int, entry: Vector) -> Vector:
    changed = array.copy()
    changed[place] = entry
    return changed
