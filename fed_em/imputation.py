"""What a fitted mixture says of cells that are missing, given those that are not.

With r_k the responsibilities of a record given its observed cells,

    Gaussian      mean Σ r_k x̂_k, variance Σ r_k (x̂_k² + C_k) − mean²      (`fed_em.missing_gaussian`)
    Poisson       mean Σ r_k λ_k, variance Σ r_k (λ_k² + λ_k) − mean²
    categorical   probabilities Σ r_k p_kl, of which the largest
    Bernoulli     probability Σ r_k q_k

Values put in once understate what is not known; for inference on completed tables take several draws (multiple imputation:
Rubin 1987, "Multiple Imputation for Nonresponse in Surveys"). A draw is of the component first, then of the cells given it, at
the fitted parameters: their own uncertainty is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.coordinates import Coordinates
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.missing_gaussian import GaussianComponents
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.parameters import Parameters
from fed_em.row_blocks import rows_in_block

Vector = NDArray[np.float64]

# Rows that are filled together at least: what depends on their pattern of missing cells alone is computed once for them.
_FEWEST_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Imputation:
    """Rows without missing cells, and how sure each cell is.

    Attributes:
        rows: `(n, D)`: observed cells as they are; for missing ones the mean (Gaussian), the whole number nearest to the mean
            (Poisson), the most probable level or value (categorical, Bernoulli).
        means: `(n, D)`: as `rows`, not rounded, in Gaussian and Poisson columns; NaN in other columns.
        deviations: `(n, D)`: standard deviation of missing Gaussian and Poisson cells; 0 for observed ones, NaN in other
            columns.
        probabilities: `(n, D)`: probability of the level or value put into a missing categorical or Bernoulli cell; 1 for
            observed ones, NaN in other columns.
        draws: `(n_draws, n, D)`: rows whose missing cells were drawn.
    """

    rows: Vector
    means: Vector
    deviations: Vector
    probabilities: Vector
    draws: Vector


def impute(
    model: MixedMixtureModel, parameters: Parameters, rows: Vector, n_draws: int, generator: np.random.Generator
) -> Imputation:
    """Fill the missing cells of rows `(n, D)`, all at one time, in the coordinates of the parameters.

    Raises:
        CallerError: rows do not fit the schema, naming the column.
        FedEmError: no component can show a row.
    """
    responsibilities = model.responsibilities(parameters, rows)
    missing = np.isnan(rows)
    values = rows.copy()
    means, deviations, probabilities = (np.full(rows.shape, np.nan) for _ in range(3))
    schema = model.schema
    if model.gaussian is not None:
        of_components = _components(model, parameters).conditional(rows[:, schema.gaussian])
        mean, variance = _mixed_moments(responsibilities, *of_components)
        means[:, schema.gaussian] = np.where(missing[:, schema.gaussian], mean, rows[:, schema.gaussian])
        values[:, schema.gaussian] = means[:, schema.gaussian]
        deviations[:, schema.gaussian] = np.where(missing[:, schema.gaussian], np.sqrt(variance), 0.0)
    if len(schema.poisson):
        rates = np.repeat(parameters[RATES][:, np.newaxis], len(rows), axis=1)
        mean, variance = _mixed_moments(responsibilities, rates, rates)
        means[:, schema.poisson] = np.where(missing[:, schema.poisson], mean, rows[:, schema.poisson])
        values[:, schema.poisson] = np.rint(means[:, schema.poisson])
        deviations[:, schema.poisson] = np.where(missing[:, schema.poisson], np.sqrt(variance), 0.0)
    for d, of_levels in _level_probabilities(model, parameters):
        shares = responsibilities @ of_levels
        likely = shares.argmax(axis=1)
        values[:, d] = np.where(missing[:, d], likely, rows[:, d])
        probabilities[:, d] = np.where(missing[:, d], shares[np.arange(len(rows)), likely], 1.0)
    draws = np.empty((n_draws, *rows.shape))
    for draw in draws:
        draw[...] = _draw(model, parameters, rows, responsibilities, generator)
    return Imputation(values, means, deviations, probabilities, draws)


def impute_in(
    coordinates: Coordinates,
    model: MixedMixtureModel,
    parameters: Parameters,
    rows: Vector,
    n_draws: int,
    generator: np.random.Generator,
) -> Imputation:
    """As `impute`, of rows in original units and back to them, block by block; observed cells stay as they are, bit for bit."""
    filled, means, deviations, probabilities = (np.empty(rows.shape) for _ in range(4))
    out = Imputation(filled, means, deviations, probabilities, np.empty((n_draws, *rows.shape)))
    size = rows_in_block(model.n_components * rows.shape[1], _FEWEST_ROWS)
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        observed, missing = rows[part], np.isnan(rows[part])
        inner = impute(model, parameters, coordinates.apply(observed), n_draws, generator)
        out.rows[part] = np.where(missing, coordinates.restore(inner.rows), observed)
        out.means[part] = np.where(missing | np.isnan(inner.means), coordinates.restore(inner.means), observed)
        out.deviations[part] = inner.deviations * coordinates.scale
        out.probabilities[part] = inner.probabilities
        for draw, drawn in zip(out.draws, inner.draws, strict=True):
            draw[part] = np.where(missing, coordinates.restore(drawn), observed)
    return out


def _components(model: MixedMixtureModel, parameters: Parameters) -> GaussianComponents:
    return GaussianComponents(model.covariance, parameters["means"], parameters["covariances"])


def _mixed_moments(responsibilities: Vector, means: Vector, variances: Vector) -> tuple[Vector, Vector]:
    """Mean and variance `(n, G)` of mixtures with component moments `(K, n, G)`."""
    mean = np.einsum("nk,kng->ng", responsibilities, means)
    within = np.einsum("nk,kng->ng", responsibilities, variances)
    between = np.einsum("nk,kng->ng", responsibilities, (means - mean) ** 2)
    return mean, within + between


def _level_probabilities(model: MixedMixtureModel, parameters: Parameters) -> list[tuple[int, Vector]]:
    """Place and level probabilities `(K, L)` of each categorical and Bernoulli column."""
    schema, out = model.schema, []
    for d, levels in zip(schema.categorical, schema.level_slices, strict=True):
        out.append((int(d), parameters[LEVEL_PROBABILITIES][:, levels]))
    for j, d in enumerate(schema.bernoulli):
        yes = parameters[SUCCESS_PROBABILITIES][:, j]
        out.append((int(d), np.stack((1.0 - yes, yes), axis=1)))
    return out


def _draw(
    model: MixedMixtureModel,
    parameters: Parameters,
    rows: Vector,
    responsibilities: Vector,
    generator: np.random.Generator,
) -> Vector:
    """The rows with their missing cells drawn: for each row a component, then its cells given it."""
    cumulative = np.cumsum(responsibilities, axis=1)[:, :-1]
    labels = (generator.random(len(rows))[:, np.newaxis] >= cumulative).sum(axis=1)
    # The discrete cells do not depend on each other; the Gaussian ones do.
    drawn = np.empty(rows.shape)
    model.discrete.sample(parameters, labels, drawn, generator)
    places = model.schema.gaussian
    if model.gaussian is not None:
        normals = generator.standard_normal((len(rows), len(places)))
        drawn[:, places] = _components(model, parameters).draw(rows[:, places], labels, normals)
    return np.where(np.isnan(rows), drawn, rows)
