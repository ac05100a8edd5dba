"""What one row adds to the statistics of a mixture if a component has made it, in the plainest way there is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from fed_em.columns import ColumnSchema
from fed_em.covariance import CovarianceStructure, covariance_matrices
from fed_em.parameters import Parameters

Vector = NDArray[np.float64]


def of_component(value: float | Vector, component: int, n_components: int) -> Vector:
    """Zeros of K components, and a value in one of them, `(K, …)`."""
    out = np.zeros((n_components, *np.shape(value)))
    out[component] = value
    return out


def gaussian_statistics(
    structure: CovarianceStructure, at: Parameters, cells: Vector, component: int, missing: bool
) -> dict[str, Vector]:
    """Of Gaussian columns: mean and covariance of the missing cells are those of the conditional normal, by inverse matrices."""
    n_components, matrices = len(at["means"]), covariance_matrices(structure, at["covariances"], at["means"])
    mean, matrix = at["means"][component], matrices[component]
    unseen, seen = np.flatnonzero(np.isnan(cells)), np.flatnonzero(~np.isnan(cells))
    expected, residual, entropy = cells.copy(), np.zeros_like(matrix), 0.0
    if len(unseen):
        slopes = matrix[np.ix_(unseen, seen)] @ np.linalg.inv(matrix[np.ix_(seen, seen)])
        given = matrix[np.ix_(unseen, unseen)] - slopes @ matrix[np.ix_(seen, unseen)]
        expected[unseen] = mean[unseen] + slopes @ (cells[seen] - mean[seen])
        residual[np.ix_(unseen, unseen)] = given
        entropy = float(multivariate_normal(cov=given).entropy())
    second = np.outer(expected, expected) + residual
    moments = second[np.triu_indices(len(cells))] if structure in ("full", "tied") else np.diag(second)
    sums = {
        "responsibilities": of_component(1.0, component, n_components),
        "first": of_component(expected, component, n_components),
        "second": of_component(moments, component, n_components),
    }
    return {**sums, "missing_entropy": np.array(entropy)} if missing else sums


def discrete_statistics(schema: ColumnSchema, row: Vector, component: int, n_components: int) -> dict[str, Vector]:
    """Of the other columns, cell by cell."""
    levels = np.zeros(schema.n_levels)
    for d, part in zip(schema.categorical, schema.level_slices, strict=True):
        if not math.isnan(row[d]):
            levels[part.start + int(row[d])] = 1.0
    answers, counts = row[schema.bernoulli], row[schema.poisson]
    sums = {
        "level_counts": levels,
        "successes": (answers == 1).astype(float),
        "failures": (answers == 0).astype(float),
        "events": np.nan_to_num(counts),
        "exposure": (~np.isnan(counts)).astype(float),
    }
    out = {name: of_component(value, component, n_components) for name, value in sums.items() if len(value)}
    out["responsibilities"] = of_component(1.0, component, n_components)
    if len(counts):
        out["log_factorials"] = np.array(sum(math.lgamma(x + 1) for x in counts if not math.isnan(x)))
    return out
