"""What each record for itself adds to the statistics of a sum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from fed_em.broadcast import Broadcast
from fed_em.covariance import n_second_moments
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.layout import Layout
from fed_em.model import COUNT, ENTROPY, LOG_LIKELIHOOD

Vector = NDArray[np.float64]


def terms_of_records(at: Broadcast, z: Vector, layout: Layout) -> Vector:
    """The statistics of each record, `(n, size)`.

    Mixtures of complete Gaussian columns are evaluated all at once, which is some hundred times faster; others record by record.

    Args:
        at: Model and parameters.
        z: `(n, D)`, in its coordinates.
        layout: Of the statistics.
    """
    model = at.model
    if not len(z):
        return np.zeros((0, layout.size))
    if isinstance(model, GaussianMixtureModel) and not model.missing and model.mixing is None:
        return _of_complete_rows(model, at, z, layout)
    return np.stack([model.e_step(at.parameters, row[np.newaxis], layout).vector for row in z])


def _of_complete_rows(model: GaussianMixtureModel, at: Broadcast, z: Vector, layout: Layout) -> Vector:
    n, d = z.shape
    r = model.responsibilities(at.parameters, z)
    upper = np.triu_indices(d)
    second = z**2 if n_second_moments(model.covariance, d) == d else z[:, upper[0]] * z[:, upper[1]]
    parts = {
        COUNT: np.ones(n),
        LOG_LIKELIHOOD: model.log_prob(at.parameters, z),
        ENTROPY: -xlogy(r, r).sum(axis=1),
        "responsibilities": r,
        "first": r[:, :, np.newaxis] * z[:, np.newaxis],
        "second": r[:, :, np.newaxis] * second[:, np.newaxis],
    }
    return np.concatenate([parts[block.name].reshape(n, -1) for block in layout], axis=1)
