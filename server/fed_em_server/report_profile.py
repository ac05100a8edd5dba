"""What each component of a mixed mixture is like, column by column, in the units of the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.columns import BernoulliColumn, CategoricalColumn, GaussianColumn, PoissonColumn
from fed_em.covariance import covariance_matrices
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model_file import FittedModel

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class ProfileLine:
    """One line of the table of components.

    Attributes:
        column: The column's name.
        shows: What the numbers are: "mean ± sd", "rate", "yes", or the label of a level.
        cells: For each component, in words.
        shares: For each component the probability, in [0, 1], where the numbers are probabilities; else empty.
        first: Whether it is the first line of its column.
    """

    column: str
    shows: str
    cells: tuple[str, ...]
    shares: tuple[float, ...] = ()
    first: bool = True


def profile_of(fitted: FittedModel) -> tuple[ProfileLine, ...]:
    """The lines of every column of a mixed mixture, in the order of the session; none of another family."""
    return tuple(_lines_of(fitted.model, fitted)) if isinstance(fitted.model, MixedMixtureModel) else ()


def _lines_of(model: MixedMixtureModel, fitted: FittedModel) -> Iterator[ProfileLine]:
    schema, parameters = model.schema, fitted.parameters
    levels = iter(schema.level_slices)
    of_kind = {type(column): 0 for column in schema.columns}
    for column in schema.columns:
        place = of_kind[type(column)]
        of_kind[type(column)] += 1
        match column:
            case GaussianColumn():
                yield ProfileLine(column.name, "mean ± sd", _gaussian(model, fitted, place))
            case PoissonColumn():
                yield ProfileLine(column.name, "rate", tuple(f"{rate:.3g}" for rate in parameters[RATES][:, place]))
            case BernoulliColumn():
                yield _share_line(column.name, "yes", parameters[SUCCESS_PROBABILITIES][:, place], first=True)
            case CategoricalColumn():
                probabilities = parameters[LEVEL_PROBABILITIES][:, next(levels)].T
                for number, (level, shares) in enumerate(zip(column.levels, probabilities, strict=True)):
                    yield _share_line(column.name, level, shares, first=number == 0)


def _share_line(column: str, shows: str, shares: Vector, first: bool) -> ProfileLine:
    found = tuple(float(share) for share in shares)
    return ProfileLine(column, shows, tuple(f"{100 * share:.0f} %" for share in found), found, first)


def _gaussian(model: MixedMixtureModel, fitted: FittedModel, place: int) -> tuple[str, ...]:
    """Mean and standard deviation of one Gaussian column in original units, for each component."""
    d = model.schema.gaussian[place]
    location, scale = fitted.coordinates.location[d], fitted.coordinates.scale[d]
    means = fitted.parameters["means"]
    matrices = covariance_matrices(model.covariance, fitted.parameters["covariances"], means)
    spreads = scale * np.sqrt(matrices[:, place, place])
    return tuple(
        f"{location + scale * mean:.4g} ± {spread:.2g}" for mean, spread in zip(means[:, place], spreads, strict=True)
    )
