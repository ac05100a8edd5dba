"""A whole fit by sums alone: moments first, then EM in standardised coordinates.

    moments     = M-step of one component over the declared ranges     (one sum; of observed cells, where some may be missing)
    coordinates = mean 0, variance 1, by those moments                 (of Gaussian columns; all others as they are)
    start       = drawn from the moments, by seed; the best of several  (one sum a round, of all of them); or from elsewhere
    parameters  = EM from there, on one track or several (`fed_em.tracks`)   (one sum an iteration)
    components  = numbered in canonical order; before, those too light or too near go (`fed_em.final_components`), and EM goes on

Where there are several models to pick from (`fed_em.selection`), all are started and fitted together before the last step, which is then of
the picked one, from where it was.

Nobody's scale is seen: the first sum is over rows mapped to [−1, 1] by the declared ranges, the others over
standardised rows. Pooled, simulated and federated fits all run this function; only what `total_for` returns
differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from fed_em.beginnings import Beginning, OneDraw, Standardised, begin_each
from fed_em.broadcast import Broadcast
from fed_em.chart import ChartedModel
from fed_em.coordinates import Coordinates
from fed_em.divergence import Mixture
from fed_em.em import Fit, Iteration, Stopping, Total, fit
from fed_em.errors import CallerError
from fed_em.final_components import Simplification, Simplified, in_canonical_order, simplified
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.lock_step import RoundOfFits
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import MixedMomentsModel, possible, standard_columns
from fed_em.model import Model, Summand
from fed_em.optimiser import EM, L_BFGS, optimiser_for
from fed_em.own_model import StartingModel
from fed_em.parameters import Parameters
from fed_em.selection import Choice, Picked, pick
from fed_em.starts import StartRound
from fed_em.statistics import Vector
from fed_em.tracks import fit_on_tracks, tracks_of

TotalFor = Callable[[Summand, Coordinates], Total]


@dataclass(frozen=True)
class StandardisedFit:
    """What `fit_standardised` gives.

    Attributes:
        model: What was fitted in the end.
        coordinates: The standardised coordinates, in which all parameters here are.
        start: Where EM started; of a picked model, where it was when it was picked; of what is left of more components, how it was left.
        fit: How it went from there.
        picked: Why this model; None if it was the only one.
        n_pruned, n_merged, order: Of components, as in `fed_em.final_components.Simplified`.
    """

    model: Model
    coordinates: Coordinates
    start: Parameters
    fit: Fit
    picked: Picked | None = None
    n_pruned: int = 0
    n_merged: int = 0
    order: tuple[int, ...] | None = None


class Onlooker(Protocol):
    """Whoever is told of a fit's course."""

    def started(self, seen: StartRound) -> None:
        """A sum of the start is over."""
        ...

    def fitted_together(self, iterations: RoundOfFits) -> None:
        """A round of the models to pick from is over; which of them took a step, and its iteration."""
        ...

    def picked(self, picked: Picked) -> None:
        """One of the models was picked, by the last round's sum."""
        ...

    def iterated(self, iteration: Iteration) -> None:
        """An iteration of the one model is over."""
        ...


class _Nobody:
    """Takes no notice."""

    def started(self, seen: StartRound) -> None:
        """Nothing."""

    def fitted_together(self, iterations: RoundOfFits) -> None:
        """Nothing."""

    def picked(self, picked: Picked) -> None:
        """Nothing."""

    def iterated(self, iteration: Iteration) -> None:
        """Nothing."""


NOBODY = _Nobody()


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
    if isinstance(model, GaussianMixtureModel | StartingModel):
        moments = moments_model(model.n_columns, model.missing)
        return Broadcast(moments, Coordinates.of_ranges(low, high), standard_gaussian(model.n_columns))
    raise CallerError(f"a model of the family '{model.family}' is no mixture to fit")


def fit_standardised(
    model: Model,
    ranges: tuple[Vector, Vector],
    total_for: TotalFor,
    stopping: Stopping,
    seed: int,
    onlooker: Onlooker = NOBODY,
    optimiser: str = EM,
    beginning: Beginning | None = None,
    choice: Choice | None = None,
    tracks: int = 1,
    final: Simplification | None = None,
) -> StandardisedFit:
    """Standardise, start and fit, by sums alone.

    Args:
        model: What to fit: a Gaussian or a mixed mixture, or a model of one's own (`fed_em.own_model`), in the units of the rows; with
            a choice, any of its models.
        ranges: Declared lowest and highest value of each column, `(D,)` each; read of Gaussian columns only.
        total_for: Makes the `Total` of a model, or of candidates, over all rows in some coordinates.
        stopping: When to stop.
        seed: Of the start.
        onlooker: Told of every round but the first.
        optimiser: One of `fed_em.optimiser.OPTIMISERS`.
        beginning: Where EM starts; by default from one draw.
        choice: What to pick the model from; None if there is one.
        tracks: Of the fit of the one model at most: two from its best start, and one from each of the next ones that are unlike it. 1 for
            one from the best start, which any other optimiser than L-BFGS has.
        final: Which components of a mixture are too light or too near, as long as `stopping` leaves iterations to go on without them; the
            others are put in canonical order. None: all stay, in the order of the start.

    Raises:
        CallerError: a Gaussian column is constant over all rows, or any is missing in all; names it, or its index. Or as the
            beginning, or every model to pick from collapsed.
    """
    first = first_round(model, *ranges)
    summed = total_for(first.one_model, first.coordinates)(first.parameters)
    moments = first.one_model.m_step(summed.statistics, first.parameters)
    if isinstance(model, MixedMixtureModel):
        moments = possible(model.schema, moments)
    coordinates, own = _standardised(model, moments, first.coordinates)
    there = Standardised(
        model, coordinates, own, lambda summand: total_for(summand, coordinates), seed, onlooker.started
    )
    begin, picked = beginning or OneDraw(), None
    if choice is None:
        starts = begin.begin(there)
    else:
        of_each = [starts[0] for starts in begin_each(begin, there, choice.candidates)]
        total = total_for(choice.candidates, coordinates)
        picked = pick(choice, total, of_each, stopping.tolerance, onlooker.fitted_together, optimiser)
        onlooker.picked(picked)
        model, starts = picked.model, (picked.parameters,)
    if tracks > 1 and optimiser == L_BFGS and isinstance(model, ChartedModel):
        starts = starts[: tracks - 1]
        total = total_for(tracks_of(model, len(starts) + 1), coordinates)
        run = fit_on_tracks(model, total, starts, stopping, onlooker.iterated)
    else:
        total, steps = total_for(model, coordinates), optimiser_for(optimiser, model)
        run = fit(model, total, starts[0], stopping, onlooker.iterated, optimiser=steps)
    if final is None or not isinstance(model, Mixture):
        return StandardisedFit(model, coordinates, starts[0], run, picked)
    done = Simplified(model, starts[0], run)
    done = _final(final, done, lambda fewer: total_for(fewer, coordinates), stopping, onlooker, optimiser)
    found = StandardisedFit(done.model, coordinates, done.start, done.fit, picked)
    return replace(found, n_pruned=done.n_pruned, n_merged=done.n_merged, order=done.order)


def _final(
    rule: Simplification,
    done: Simplified,
    total_of: Callable[[Model], Total],
    stopping: Stopping,
    onlooker: Onlooker,
    optimiser: str,
) -> Simplified:
    """The components that a fit ends with; all its runs together have as many iterations as one may have."""
    left = stopping.max_iterations - done.fit.iterations[-1].number

    def go_on(fewer: Mixture, start: Parameters) -> Fit | None:
        nonlocal left
        if left < 1:
            return None
        steps, rest = optimiser_for(optimiser, fewer), Stopping(stopping.tolerance, left)
        run = fit(fewer, total_of(fewer), start, rest, onlooker.iterated, optimiser=steps)
        left -= run.iterations[-1].number
        return run

    return in_canonical_order(simplified(rule, done, go_on))


def _standardised(model: Model, moments: Parameters, unit: Coordinates) -> tuple[Coordinates, Parameters]:
    """The coordinates that moments in `unit` ones define for a model, and the moments in them."""
    if isinstance(model, GaussianMixtureModel):
        return Coordinates.standardising(moments, unit), _in_own_coordinates(moments)
    if isinstance(model, StartingModel):
        return Coordinates.identity(model.n_columns), _in_units_of_rows(moments, unit)
    assert isinstance(model, MixedMixtureModel)
    schema, places = model.schema, model.schema.gaussian
    if not len(places):
        return unit, moments
    of_ranges = Coordinates(unit.location[places], unit.scale[places])
    names = [schema.names[d] for d in places]
    coordinates = schema.coordinates(Coordinates.standardising(moments, of_ranges, names))
    return coordinates, _in_own_coordinates(moments)


def _in_units_of_rows(moments: Parameters, unit: Coordinates) -> Parameters:
    covariances = moments["covariances"] * np.outer(unit.scale, unit.scale)
    return Parameters({**moments, "means": unit.restore(moments["means"]), "covariances": covariances})


def _in_own_coordinates(moments: Parameters) -> Parameters:
    """Moments in the coordinates that those of their Gaussian columns define: mean 0, and the correlations."""
    covariance = moments["covariances"][0]
    spread = np.sqrt(np.diag(covariance))
    own = {
        "means": np.zeros_like(moments["means"]),
        "covariances": (covariance / np.outer(spread, spread))[np.newaxis],
    }
    return Parameters({**moments, **own})
