"""Parameters at which every record has a density, whichever it is: all that a private session evaluates.

Whether the statistics of some rows can be computed at parameters that somebody else chose is an answer about these rows, and no noise hides
it: a level of probability 0 everywhere asks whether anybody has it. So what is refused must be refused by everybody alike, whatever the
rows are. The limits also keep log-densities, for rows and means in a ball of radius R, below (3R)²/λ in absolute value, λ the least
variance, and those of counts below the largest counts times some 20: float64 then computes every responsibility to some 10⁻⁹, in
whatever order records are added, and whichever others there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fed_em.candidates import Candidates
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.errors import CallerError
from fed_em.model import Summand
from fed_em.parameters import Parameters

# Of a covariance in any direction; columns have variance 1.
LEAST_VARIANCE = 1e-3

_MOST_VARIANCE = 1e6

# R: of 100, responsibilities at the edge of the ball change by less than 10⁻⁹ with the other records; of 1000, by 10⁻⁷.
MOST_RADIUS = 100.0

# The largest counts of all columns together: likewise.
MOST_COUNTS = 1_000_000

_MOST_RATE = 1e7

# Means farther out than so many radii.
_FAR = 2.0

# Probabilities, and expected counts.
_LEAST_PROBABILITY = 1e-9

# By the name of the parameter.
_RANGES = (
    ("weights", float(np.finfo(np.float64).tiny), 1.0 + 1e-6),
    (LEVEL_PROBABILITIES, _LEAST_PROBABILITY, 1.0),
    (SUCCESS_PROBABILITIES, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY),
    (RATES, _LEAST_PROBABILITY, _MOST_RATE),
)

# A floor that is added to a covariance is there but for rounding.
_ROUNDING = 1e-6

Vector = NDArray[np.float64]


def require_moderate(model: Summand, parameters: Parameters, radius: float) -> None:
    """Refuse parameters at which some record in the ball of a radius has no density, or hardly any.

    Args:
        model: A model, candidates or centres.
        parameters: As its `validate` admits them.
        radius: R, positive.

    Raises:
        CallerError: names what is out of range.
    """
    if isinstance(model, Candidates):
        for each, own in zip(model.models, model.parameters_of(parameters), strict=True):
            require_moderate(each, own, radius)
        return
    if "means" in parameters:
        farthest = float(np.linalg.norm(parameters["means"], axis=-1).max(initial=0.0))
        _require("a mean", farthest, 0.0, _FAR * max(radius, 1.0))
    if "covariances" in parameters:
        variances = _variances(parameters["covariances"], getattr(model, "covariance", "full"))
        _require("a variance", variances, LEAST_VARIANCE * (1 - _ROUNDING), _MOST_VARIANCE)
    for name, least, most in _RANGES:
        if name in parameters:
            _require(f"an entry of {name}", parameters[name], least, most)


def _variances(covariances: Vector, structure: str) -> Vector:
    """Along the axes of each component, in any order."""
    matrices = covariances.ndim == 3 or (covariances.ndim == 2 and structure == "tied")
    return np.asarray(np.linalg.eigvalsh(covariances)) if matrices else covariances


def _require(what: str, values: Vector | float, least: float, most: float) -> None:
    values = np.asarray(values)
    if values.size and not (float(values.min()) >= least and float(values.max()) <= most):
        raise CallerError(
            f"the server's parameters hold {what} outside [{least:.3g}, {most:.3g}], where a private session evaluates nothing",
            remedy="ask the server's operator: at such parameters it would show whether there are records of a kind",
        )
