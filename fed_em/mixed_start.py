"""Where EM of a mixed mixture starts: from responsibilities, random or about random rows, whatever cells are missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fed_em.column_moments import ColumnMoments
from fed_em.columns import CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.covariance import restrict
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.model import COUNT
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]

# How much of a record's responsibility a start about single rows leaves to all components alike, so that none is
# certain of what it saw in few rows.
_SHARED = 0.1


def start_from_responsibilities(model: MixedMixtureModel, responsibilities: Vector, records: Records) -> Parameters:
    """The M-step of given responsibilities, under the weak default prior, so that every start is admissible.

    Missing cells of the Gaussian columns count with their expectation under one Gaussian of all records.

    Args:
        model: The mixture to start.
        responsibilities: `(n, K)`, not negative; what the labels exclude is not read.
        records: At least one of positive weight, in the coordinates of the parameters.

    Raises:
        CallerError: a column has no observed cell.
    """
    moments = ColumnMoments.of(records.rows, records.weights)
    moments.require_values(model.schema.names)
    prior = MixedMixturePrior.weakly_informative(model.schema, model.n_components, moments.mean, moments.variance)
    whole = _independent_columns(replace(model, n_components=1, prior=None), moments)
    one = replace(model, n_components=1, prior=replace(prior, weight_concentration=1.0))
    bare = replace(records, admissible=None)
    whole = one.m_step(one.e_step(whole, bare), whole)
    statistics = Statistics.zero(model.layout())
    shares = within_labels(responsibilities, records)
    weights = np.ones(len(records)) if records.weights is None else records.weights
    for k, share in enumerate(shares.T):
        part = one.e_step(whole, replace(bare, weights=weights * share))
        statistics[COUNT][...] += part[COUNT]
        for name in ("responsibilities", *model.component_blocks):
            statistics[name][k] = part[name][0]
    everywhere = {name: np.repeat(array, model.n_components, axis=0) for name, array in whole.items()}
    if model.gaussian is not None and model.covariance == "tied":
        everywhere["covariances"] = whole["covariances"]
    return replace(model, prior=prior).m_step(statistics, Parameters(everywhere))


def _independent_columns(one: MixedMixtureModel, moments: ColumnMoments) -> Parameters:
    """One component that has the columns' moments, and all levels alike."""
    schema = one.schema
    arrays: dict[str, Vector] = {"weights": np.ones(1)}
    if one.gaussian is not None:
        arrays["means"] = moments.mean[np.newaxis, schema.gaussian]
        arrays["covariances"] = restrict(one.covariance, np.diag(moments.variance[schema.gaussian]), 1)
    for name, size in one.discrete.parameter_shapes.items():
        arrays[name] = np.full((1, size), 0.5)
    if LEVEL_PROBABILITIES in arrays:
        for levels in schema.level_slices:
            arrays[LEVEL_PROBABILITIES][:, levels] = 1.0 / (levels.stop - levels.start)
    if SUCCESS_PROBABILITIES in arrays:
        arrays[SUCCESS_PROBABILITIES] = moments.mean[np.newaxis, schema.bernoulli]
    if RATES in arrays:
        arrays[RATES] = moments.mean[np.newaxis, schema.poisson]
    return Parameters(arrays)


def within_labels(responsibilities: Vector, records: Records) -> Vector:
    """Responsibilities `(n, K)` that sum to 1 over the admissible components; alike where those were all 0."""
    admissible = np.ones(responsibilities.shape) if records.admissible is None else records.admissible * 1.0
    masked = responsibilities * admissible
    total = masked.sum(axis=1, keepdims=True)
    alike = admissible / admissible.sum(axis=1, keepdims=True)
    return np.where(total > 0, masked / np.where(total > 0, total, 1.0), alike)


def random_responsibilities(n: int, n_components: int, random_state: np.random.RandomState) -> Vector:
    """Uniform on the simplex for each of `n` records, `(n, K)`."""
    return np.asarray(random_state.dirichlet(np.ones(n_components), size=n))


def embedded(schema: ColumnSchema, rows: Vector) -> Vector:
    """Rows as points `(n, E)` whose squared distances add up over the columns, missing cells at the column's mean.

    Numbers are standardised, square roots of counts too (their variance hardly depends on the rate), and levels become
    indicators.
    """
    parts = []
    for column, cells in zip(schema.columns, rows.T, strict=True):
        match column:
            case CategoricalColumn():
                shown = (cells[:, np.newaxis] == np.arange(len(column.levels))).astype(np.float64)
                shown[np.isnan(cells)] = np.nan
                parts.append(shown)
            case GaussianColumn():
                parts.append(cells[:, np.newaxis])
            case PoissonColumn():
                parts.append(np.sqrt(cells)[:, np.newaxis])
            case _:
                parts.append(cells[:, np.newaxis] * 2.0)
    points = np.concatenate(parts, axis=1)
    centred = points - np.nanmean(points, axis=0)
    numbers = np.repeat(
        [isinstance(column, GaussianColumn | PoissonColumn) for column in schema.columns],
        [part.shape[1] for part in parts],
    )
    spread = np.where(numbers, np.nanstd(points, axis=0), 1.0)
    return np.asarray(np.nan_to_num(centred / np.where(spread > 0, spread, 1.0)))


def responsibilities_about(points: Vector, centres: Vector) -> Vector:
    """Responsibilities `(n, K)` of the nearest of K centres, some of them shared by all components.

    Args:
        points: `(n, E)`.
        centres: `(K, E)`.
    """
    distances = np.stack([((points - centre) ** 2).sum(axis=1) for centre in centres], axis=1)
    nearest = np.zeros(distances.shape)
    nearest[np.arange(len(points)), distances.argmin(axis=1)] = 1.0
    return np.asarray((1.0 - _SHARED) * nearest + _SHARED / len(centres))
