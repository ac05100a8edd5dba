"""A whole fit by sums alone: moments first, then EM in standardised coordinates.

    moments     = M-step of one component over the declared ranges     (one sum; of observed cells, where some may be missing)
    coordinates = mean 0, variance 1, by those moments                 (of Gaussian columns; all others as they are)
    start       = drawn from the moments, by seed; the best of several  (one sum a round, of all of them); or from elsewhere
    parameters  = EM from there                                        (one sum an iteration)

Nobody's scale is seen: the first sum is over rows mapped to [−1, 1] by the declared ranges, the others over
standardised rows. Pooled, simulated and federated fits all run this function; only what `total_for` returns
differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fed_em.beginnings import Beginning, OneDraw, Standardised
from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.em import Fit, Iteration, Stopping, Total, fit
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import MixedMomentsModel, standard_columns
from fed_em.model import Model, Summand
from fed_em.optimiser import EM, optimiser_for
from fed_em.parameters import Parameters
from fed_em.starts import StartRound
from fed_em.statistics import Vector

TotalFor = Callable[[Summand, Coordinates], Total]


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


def first_round(model: Model, low: Vector, high: Vector) -> Broadcast:
    """What the first sum is taken of: the moments that standardise a model's columns, over their declared ranges.

    Args:
        model: A mixture to fit.
        low: Declared lowest value of each column, `(D,)`; read of Gaussian columns only.
        high: Highest ones.

    Raises:
        CallerError: there is no way to start a model of this family.
    """
    if isinstance(model, MixedMixtureModel):
        schema, places = model.schema, model.schema.gaussian
        ranges = Coordinates.of_ranges(low[places], high[places])
        return Broadcast(MixedMomentsModel(schema), schema.coordinates(ranges), standard_columns(schema))
    if isinstance(model, GaussianMixtureModel):
        moments = moments_model(model.n_columns, model.missing)
        return Broadcast(moments, Coordinates.of_ranges(low, high), standard_gaussian(model.n_columns))
    raise CallerError(f"a model of the family '{model.family}' is no mixture to fit")


def fit_standardised(
    model: Model,
    ranges: tuple[Vector, Vector],
    total_for: TotalFor,
    stopping: Stopping,
    seed: int,
    observe: Callable[[Iteration], None] = lambda _: None,
    optimiser: str = EM,
    beginning: Beginning | None = None,
    observe_start: Callable[[StartRound], None] = lambda _: None,
) -> StandardisedFit:
    """Standardise, start and fit, by sums alone.

    Args:
        model: What to fit: a Gaussian or a mixed mixture.
        ranges: Declared lowest and highest value of each column, `(D,)` each; read of Gaussian columns only.
        total_for: Makes the `Total` of a model, or of candidates, over all rows in some coordinates.
        stopping: When to stop.
        seed: Of the start.
        observe: Called after every iteration of EM.
        optimiser: One of `fed_em.optimiser.OPTIMISERS`.
        beginning: Where EM starts; by default from one draw.
        observe_start: Called after every sum that it takes.

    Raises:
        CallerError: a Gaussian column is constant over all rows, or any is missing in all; names it, or its index. Or as the beginning.
    """
    first = first_round(model, *ranges)
    summed = total_for(first.one_model, first.coordinates)(first.parameters)
    moments = first.one_model.m_step(summed.statistics, first.parameters)
    coordinates, own = _standardised(model, moments, first.coordinates)
    total, steps = total_for(model, coordinates), optimiser_for(optimiser, model)
    there = Standardised(model, coordinates, own, lambda summand: total_for(summand, coordinates), seed, observe_start)
    start = (beginning or OneDraw()).begin(there)
    return StandardisedFit(coordinates, start, fit(model, total, start, stopping, observe, optimiser=steps))


def _standardised(model: Model, moments: Parameters, unit: Coordinates) -> tuple[Coordinates, Parameters]:
    """The coordinates that moments in `unit` ones define, and the moments in them."""
    if isinstance(model, GaussianMixtureModel):
        return Coordinates.standardising(moments, unit), _in_own_coordinates(moments)
    assert isinstance(model, MixedMixtureModel)
    schema, places = model.schema, model.schema.gaussian
    if not len(places):
        return unit, moments
    of_ranges = Coordinates(unit.location[places], unit.scale[places])
    names = [schema.names[d] for d in places]
    coordinates = schema.coordinates(Coordinates.standardising(moments, of_ranges, names))
    return coordinates, _in_own_coordinates(moments)


def _in_own_coordinates(moments: Parameters) -> Parameters:
    """Moments in the coordinates that those of their Gaussian columns define: mean 0, and the correlations."""
    covariance = moments["covariances"][0]
    spread = np.sqrt(np.diag(covariance))
    own = {
        "means": np.zeros_like(moments["means"]),
        "covariances": (covariance / np.outer(spread, spread))[np.newaxis],
    }
    return Parameters({**moments, **own})
