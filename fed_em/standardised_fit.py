"""A whole fit by sums alone: moments first, then EM in standardised coordinates.

    moments     = M-step of one Gaussian over the declared ranges      (one sum; of observed cells, where some may be missing)
    coordinates = mean 0, variance 1, by those moments
    start       = drawn from the moments, by seed
    parameters  = EM from there                                        (one sum an iteration)

Nobody's scale is seen: the first sum is over rows mapped to [−1, 1] by the declared ranges, the others over
standardised rows. Pooled, simulated and federated fits all run this function; only what `total_for` returns
differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fed_em.coordinates import Coordinates
from fed_em.em import Fit, Iteration, Stopping, Total, fit
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian, start_from_moments
from fed_em.model import Model
from fed_em.optimiser import EM, optimiser_for
from fed_em.parameters import Parameters
from fed_em.statistics import Vector

TotalFor = Callable[[Model, Coordinates], Total]


@dataclass(frozen=True)
class StandardisedFit:
    """What `fit_standardised` gives.

    Attributes:
        coordinates: The standardised coordinates, in which all parameters here are.
        start: Where EM started.
        fit: How it went.
    """

    coordinates: Coordinates
    start: Parameters
    fit: Fit


def fit_standardised(
    model: GaussianMixtureModel,
    ranges: tuple[Vector, Vector],
    total_for: TotalFor,
    stopping: Stopping,
    seed: int,
    observe: Callable[[Iteration], None] = lambda _: None,
    optimiser: str = EM,
) -> StandardisedFit:
    """Standardise, start and fit, by sums alone.

    Args:
        model: What to fit.
        ranges: Declared lowest and highest value of each column, `(D,)` each.
        total_for: Makes the `Total` of a model over all rows in some coordinates.
        stopping: When to stop.
        seed: Of the start.
        observe: Called after every iteration of EM.
        optimiser: One of `fed_em.optimiser.OPTIMISERS`.

    Raises:
        CallerError: a column is constant over all rows, or missing in all; names it by its index.
    """
    unit = Coordinates.of_ranges(*ranges)
    gaussian = moments_model(model.n_columns, model.missing)
    summed = total_for(gaussian, unit)(standard_gaussian(model.n_columns))
    moments = gaussian.m_step(summed.statistics, standard_gaussian(model.n_columns))
    coordinates = Coordinates.standardising(moments, unit)
    start = start_from_moments(model, _standardised(moments), seed)
    total, steps = total_for(model, coordinates), optimiser_for(optimiser, model)
    return StandardisedFit(coordinates, start, fit(model, total, start, stopping, observe, optimiser=steps))


def _standardised(moments: Parameters) -> Parameters:
    """Moments in the coordinates that they define: mean 0, and the correlations."""
    covariance = moments["covariances"][0]
    spread = np.sqrt(np.diag(covariance))
    return Parameters(
        {
            "weights": moments["weights"],
            "means": np.zeros_like(moments["means"]),
            "covariances": (covariance / np.outer(spread, spread))[np.newaxis],
        }
    )
