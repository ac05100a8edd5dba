"""One summand of each kind, with random admissible parameters and random records in a ball: for tests of what one record can add."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fed_em.ball import into_ball
from fed_em.candidates import Candidates
from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.covariance import COVARIANCE_STRUCTURES
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model
from fed_em.lloyd import sharpened
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import MixedMomentsModel
from fed_em.model import Model, Summand
from fed_em.observed_moments import ObservedMomentsModel
from fed_em.parameters import Parameters
from fed_em.records import Records

Vector = NDArray[np.float64]

K, D = 3, 3

SCHEMA = ColumnSchema(
    (
        GaussianColumn("height"),
        CategoricalColumn("colour", ("red", "green", "blue")),
        BernoulliColumn("smokes"),
        GaussianColumn("mass"),
        PoissonColumn("visits", 7),
        CategoricalColumn("sex", ("f", "m")),
        BernoulliColumn("drinks"),
        PoissonColumn("falls", 3),
    )
)
DISCRETE = ColumnSchema(tuple(column for column in SCHEMA.columns if not isinstance(column, GaussianColumn)))

MODELS: Mapping[str, Model] = {
    **{f"gaussian, {each}": GaussianMixtureModel(K, D, each) for each in COVARIANCE_STRUCTURES},
    "gaussian, missing": GaussianMixtureModel(K, D, "full", missing=True),
    "gaussian, one component": GaussianMixtureModel(1, D, "full"),
    "gaussian, one column": GaussianMixtureModel(K, 1, "full"),
    "moments": moments_model(D),
    "observed moments": ObservedMomentsModel(D),
    "mixed, full": MixedMixtureModel(K, SCHEMA),
    "mixed, diag": MixedMixtureModel(K, SCHEMA, "diag"),
    "discrete": MixedMixtureModel(K, DISCRETE),
    "mixed moments": MixedMomentsModel(SCHEMA),
}
SUMMANDS: Mapping[str, Summand] = {
    **MODELS,
    "candidates": Candidates((MODELS["mixed, diag"], MODELS["mixed, diag"], MODELS["mixed, full"])),
}


def schema_of(summand: Summand) -> ColumnSchema | None:
    """None if all columns are Gaussian."""
    if isinstance(summand, Candidates):
        return schema_of(summand.models[0])
    return summand.schema if isinstance(summand, MixedMixtureModel | MixedMomentsModel) else None


def random_parameters(summand: Summand, generator: np.random.Generator) -> Parameters:
    """Admissible ones, sharp or blurred."""
    if isinstance(summand, Candidates):
        return summand.joined([random_parameters(model, generator) for model in summand.models])
    if isinstance(summand, ObservedMomentsModel | MixedMomentsModel):
        return _random_moments(summand, generator)
    assert isinstance(summand, GaussianMixtureModel | MixedMixtureModel)
    k, spread = summand.n_components, generator.choice([0.0, 0.3, 3.0])
    schema = schema_of(summand)
    arrays: dict[str, Vector] = {"weights": generator.dirichlet(np.full(k, generator.choice([0.2, 50.0])))}
    gaussian = summand if isinstance(summand, GaussianMixtureModel) else summand.gaussian
    if gaussian is not None:
        d = gaussian.n_columns
        arrays["means"] = spread * generator.standard_normal((k, d))
        arrays["covariances"] = _random_covariances(gaussian, generator)
    if schema is not None:
        arrays |= _random_discrete(schema, k, generator)
    parameters = Parameters(arrays)
    if gaussian is not None and generator.random() < 0.3:
        parameters = sharpened(summand, parameters)
    summand.validate(parameters)
    return parameters


def _random_covariances(gaussian: GaussianMixtureModel, generator: np.random.Generator) -> Vector:
    k, d = gaussian.n_components, gaussian.n_columns
    roots = generator.standard_normal((k, d, 2 * d))
    matrices = generator.choice([0.05, 1.0, 5.0]) * (roots @ np.swapaxes(roots, 1, 2) / (2 * d) + 0.1 * np.eye(d))
    match gaussian.covariance:
        case "full":
            return np.asarray(matrices)
        case "tied":
            return np.asarray(matrices[0])
        case "diag":
            return np.diagonal(matrices, axis1=1, axis2=2).copy()
        case "spherical":
            return np.asarray(matrices[:, 0, 0])


def _random_discrete(schema: ColumnSchema, k: int, generator: np.random.Generator) -> dict[str, Vector]:
    arrays = {}
    if len(schema.categorical):
        widths = [levels.stop - levels.start for levels in schema.level_slices]
        arrays["level_probabilities"] = np.hstack([generator.dirichlet(np.full(each, 0.7), k) for each in widths])
    if len(schema.bernoulli):
        arrays["success_probabilities"] = generator.uniform(0.001, 0.999, (k, len(schema.bernoulli)))
    if len(schema.poisson):
        arrays["rates"] = generator.uniform(0.01, 6.0, (k, len(schema.poisson)))
    return arrays


def _random_moments(model: ObservedMomentsModel | MixedMomentsModel, generator: np.random.Generator) -> Parameters:
    schema = schema_of(model)
    d = model.n_columns if schema is None else len(schema.gaussian)
    variances = np.diag(generator.uniform(0.3, 2.0, d))
    arrays = {"weights": np.ones(1), "means": generator.standard_normal((1, d)), "covariances": variances[np.newaxis]}
    parameters = Parameters(arrays | ({} if schema is None else _random_discrete(schema, 1, generator)))
    model.validate(parameters)
    return parameters


def random_rows(summand: Summand, n: int, radius: float, generator: np.random.Generator) -> Vector:
    """`(n, D)` within a ball: inside, on its boundary, and at its poles; discrete cells anywhere, some of them missing."""
    schema = schema_of(summand)
    if schema is None:
        return _in_the_ball(n, summand.n_columns, radius, generator)
    rows = np.empty((n, summand.n_columns))
    rows[:, schema.gaussian] = _in_the_ball(n, len(schema.gaussian), radius, generator)
    for d, column in enumerate(schema.columns):
        match column:
            case CategoricalColumn():
                rows[:, d] = generator.integers(0, len(column.levels), n)
            case BernoulliColumn():
                rows[:, d] = generator.integers(0, 2, n)
            case PoissonColumn():
                rows[:, d] = np.where(generator.random(n) < 0.5, column.upper, generator.integers(0, 3, n))
            case GaussianColumn():
                continue
        rows[generator.random(n) < 0.1, d] = np.nan
    return rows


def _in_the_ball(n: int, d: int, radius: float, generator: np.random.Generator) -> Vector:
    if d == 0:
        return np.empty((n, 0))
    directions = generator.standard_normal((n, d))
    poles = generator.random(n) < 0.3
    directions[poles] = generator.choice([-1.0, 1.0], (n, 1))[poles] * np.eye(d)[generator.integers(0, d, n)][poles]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = np.where(generator.random(n) < 0.5, 1.0, generator.random(n))
    return into_ball(radius * lengths[:, np.newaxis] * directions, radius)


def random_records(summand: Summand, n: int, radius: float, generator: np.random.Generator) -> Records:
    """Rows as of `random_rows`, with weights of at most one and labels, or without."""
    rows = random_rows(summand, n, radius, generator)
    weights = generator.uniform(0.0, 1.0, n) if generator.random() < 0.5 else None
    k = _n_components(summand)
    admissible = generator.random((n, k)) < 0.5 if generator.random() < 0.5 else None
    if admissible is not None:
        admissible[np.arange(n), generator.integers(0, k, n)] = True
    return Records(rows, weights, admissible)


def _n_components(summand: Summand) -> int:
    return int(getattr(summand.models[0] if isinstance(summand, Candidates) else summand, "n_components", 1))
