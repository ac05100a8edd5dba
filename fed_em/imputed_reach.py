"""Whether what a party expects of missing Gaussian cells is within the bounds of its layout: for every record, before anything is sent.

A missing cell adds w r x̂ and w r (x̂² + C) to the statistics (`fed_em.missing_gaussian`; w ≤ w_max is the record's weight), and neither
is bounded by the range of its column: both follow from parameters, which somebody else chose, and from the other cells of the
row. A layout declares how far they may reach, w_max R for first moments and w_max R² for second ones. From

    w r (x̂_d² + C_dd) ≤ w_max R²   for every component and missing cell

follow both, w r |x̂_d| ≤ √(w r) √(w r x̂_d²) ≤ w_max R, and by the inequality of Cauchy and Schwarz w r |x̂_d x̂_e + C_de| ≤ w_max R²,
as x̂x̂ᵀ + C is a matrix of second moments; observed cells are within the bounds of their columns, which R exceeds. The
condition is not met by clipping: who has a record beyond says so and sends nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fed_em.candidates import Candidates
from fed_em.covariance import CovarianceStructure
from fed_em.divergence import Mixture
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.layout import Layout
from fed_em.missing_gaussian import GaussianComponents
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import Summand
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.row_blocks import rows_in_block
from fed_em.statistic_products import StatisticProducts
from fed_em.tenant_mixing import at_home

Vector = NDArray[np.float64]

# Rounding, relative, of an expected second moment.
_SLACK = 1e-9


def records_beyond_reach(
    model: Summand, parameters: Parameters, records: Records, column_bounds: Vector, layout: Layout
) -> NDArray[np.int64]:
    """How many records expect a missing cell of each column beyond the reach of a layout, `(D,)`; the most at any of several candidates.

    Args:
        model: Any, candidates, or products; only mixtures with Gaussian columns whose cells may be missing expect any.
        parameters: Admissible ones, in the coordinates of the records.
        records: All records of one party that the E-step is over.
        column_bounds: `(D,)`, as the layout was made with.
        layout: Of the model's statistics, for records of the greatest weight there is.

    Raises:
        FedEmError: as `model.responsibilities` does.
    """
    beyond = np.zeros(model.n_columns, dtype=np.int64)
    if isinstance(model, StatisticProducts):
        # Of products w (r m)² ≤ w_max R⁴ for any weight, that is r m ≤ R².
        unweighted = replace(records.of_positive_weight(), weights=None, weight_bound=1.0)
        of_mixture = model.model.layout(column_bounds)
        return records_beyond_reach(model.model, parameters, unweighted, column_bounds, of_mixture)
    if isinstance(model, Candidates):
        apart = zip(model.models, model.parameters_of(parameters), model.layouts_of(layout), strict=True)
        for one, at, counted in apart:
            # A record that counts several times has as much more room.
            own = counted.of_weights_up_to(1.0 / model.largest_count)
            np.maximum(beyond, records_beyond_reach(one, at, records, column_bounds, own), out=beyond)
        return beyond
    places = _gaussian_places(model)
    if not len(places):
        return beyond
    incomplete = np.flatnonzero(np.isnan(records.rows[:, places]).any(axis=1))
    if not len(incomplete):
        return beyond
    assert isinstance(model, Mixture)
    reach = layout["second"].bound / records.weight_bound
    means, covariances = parameters["means"], parameters["covariances"]
    if reach >= _certain_second_moment(model.covariance, means, covariances, column_bounds[places]):
        return beyond
    components = GaussianComponents(model.covariance, means, covariances)
    parameters = at_home(model, parameters, records)
    records = records[incomplete].of_positive_weight()
    for _, block in records.blocks(rows_in_block(means.size)):
        shares = model.responsibilities(parameters, replace(block, weights=None))
        if block.weights is not None:
            shares = shares * (block.weights / records.weight_bound)[:, np.newaxis]
        expected, variances = components.conditional(block.rows[:, places])
        moments = shares.T[..., np.newaxis] * (expected**2 + variances)
        missing = np.isnan(block.rows[:, places])
        # Not "greater": what is no number is beyond any reach.
        beyond[places] += (missing & ~(moments.max(axis=0) <= reach * (1 + _SLACK))).sum(axis=0)
    return beyond


def _gaussian_places(model: Summand) -> NDArray[np.intp]:
    if isinstance(model, MixedMixtureModel):
        return model.schema.gaussian
    expects = isinstance(model, GaussianMixtureModel) and model.missing
    return np.arange(model.n_columns if expects else 0)


def _certain_second_moment(
    structure: CovarianceStructure, means: Vector, covariances: Vector, column_bounds: Vector
) -> float:
    """What no x̂² + C of any row within the columns' bounds exceeds, whatever cells it misses.

    Without covariances x̂ = μ and C = σ². With them |x̂_d − μ_d| ≤ σ_d q, and the Mahalanobis distance q of the observed cells
    is at most √(Σ_j ((b_j + |μ_j|) / σ_j)² / λ), λ the least eigenvalue of the correlation matrix: by
    Cauchy's interlacing theorem no principal submatrix has a smaller one.
    """
    if structure in ("diag", "spherical"):
        variances = np.broadcast_to(covariances.reshape(len(means), -1), means.shape)
        return float((means**2 + variances).max())
    matrices = np.broadcast_to(covariances, (len(means), *covariances.shape[-2:]))
    spreads = np.sqrt(np.diagonal(matrices, axis1=1, axis2=2))
    correlations = matrices / (spreads[:, :, np.newaxis] * spreads[:, np.newaxis])
    least = np.linalg.eigvalsh(correlations)[:, 0]
    # Rounding can hide how singular a matrix is.
    if not (least > means.shape[1] * np.finfo(np.float64).eps).all():
        return np.inf
    distances = np.sqrt((((column_bounds + np.abs(means)) / spreads) ** 2).sum(axis=1) / least)
    farthest = np.abs(means) + spreads * distances[:, np.newaxis]
    return float((farthest**2 + spreads**2).max())
