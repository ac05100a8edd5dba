"""A Gaussian mixture seen on the plane where its components stand furthest apart. Needs the model alone, no rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import covariance_matrices
from fed_em.divergence import Mixture
from fed_em.model_file import FittedModel

Matrix = NDArray[np.float64]

_POINTS = 700
_SEED = 0

# Weight of the mixture's own covariance among the directions of its means: decides only where the means span no plane.
_TIE_BREAK = 1e-9


@dataclass(frozen=True, eq=False)
class PlanarMixture:
    """A mixture projected on two directions of its standardised coordinates.

    Attributes:
        shares: Of the spread between the means, the share along each direction, `(2,)`.
        weights: `(K,)`.
        means, covariances: On the plane, `(K, 2)` and `(K, 2, 2)`.
        points, labels: Drawn from the model, `(n, 2)`, and the component of each, `(n,)`.
    """

    shares: Matrix
    weights: Matrix
    means: Matrix
    covariances: Matrix
    points: Matrix
    labels: NDArray[np.int64]

    def ellipse(self, component: int, deviations: float) -> tuple[float, float, float]:
        """Full width, full height and angle in degrees of the ellipse of so many standard deviations."""
        variances, directions = np.linalg.eigh(self.covariances[component])
        width, height = 2 * deviations * np.sqrt(variances[::-1])
        angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
        return float(width), float(height), float(angle)


def planar_mixture(fitted: FittedModel) -> PlanarMixture | None:
    """The mixture on the plane of the two leading principal directions of its means; None if there is no such plane.

    Of a mixed mixture it is that of its Gaussian columns. There is none for other families, and for fewer than two such columns.
    """
    parameters = fitted.parameters
    model = fitted.model.gaussian if isinstance(fitted.model, Mixture) else None
    if model is None or model.n_columns < 2:
        return None
    weights, means = parameters["weights"], parameters["means"]
    matrices = covariance_matrices(model.covariance, parameters["covariances"], means)
    centred = means - weights @ means
    between = (centred * weights[:, np.newaxis]).T @ centred
    total = between + np.tensordot(weights, matrices, axes=1)
    spreads, directions = np.linalg.eigh(between + _TIE_BREAK * total)
    plane = directions[:, [-1, -2]]
    # The sign of a direction is arbitrary: its largest entry is made positive.
    plane = plane * np.sign(plane[np.abs(plane).argmax(axis=0), [0, 1]])
    rows, labels = model.sample(parameters, _POINTS, np.random.Generator(np.random.PCG64(_SEED)))
    return PlanarMixture(
        shares=spreads[[-1, -2]] / spreads.sum(),
        weights=weights,
        means=means @ plane,
        covariances=plane.T @ matrices @ plane,
        points=rows @ plane,
        labels=labels,
    )
