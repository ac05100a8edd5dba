"""Mixtures of every family and structure at random parameters, and rows of them with holes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fed_em.columns import BernoulliColumn, CategoricalColumn, Column, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.coordinates import Coordinates
from fed_em.covariance import CovarianceStructure
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em.tenant_mixing import TenantMixing

Vector = NDArray[np.float64]

FAMILIES = ("gaussian", "mixed", "latent class")


def random_mixture(
    family: str,
    structure: CovarianceStructure = "full",
    seed: int = 0,
    mixing: TenantMixing | None = None,
    n_components: int = 3,
    n_columns: int = 4,
) -> FittedModel:
    """A fitted model; `n_columns` of each kind, at most, and one at least of those that the family has."""
    rng = np.random.default_rng(seed)
    schema = ColumnSchema(tuple(_columns(family, n_columns, rng)))
    g, k = len(schema.gaussian), n_components
    arrays: dict[str, Vector] = {"weights": rng.dirichlet(np.ones(k))}
    if g:
        factors = rng.normal(size=(k, g, g)) / np.sqrt(g)
        full = factors @ np.swapaxes(factors, 1, 2) + 0.3 * np.eye(g)
        arrays["means"] = rng.normal(size=(k, g), scale=2.0)
        arrays["covariances"] = {
            "full": full,
            "tied": full[0],
            "diag": np.diagonal(full, axis1=1, axis2=2),
            "spherical": full[:, 0, 0],
        }[structure]
    if schema.n_levels:
        parts = [rng.dirichlet(np.ones(part.stop - part.start), size=k) for part in schema.level_slices]
        arrays["level_probabilities"] = np.concatenate(parts, axis=1)
    if len(schema.bernoulli):
        arrays["success_probabilities"] = rng.random((k, len(schema.bernoulli)))
    if len(schema.poisson):
        arrays["rates"] = rng.gamma(2.0, 2.0, size=(k, len(schema.poisson)))
    coordinates = schema.coordinates(Coordinates(rng.normal(size=g, scale=50.0), rng.gamma(2.0, 5.0, size=g)))
    model = (
        GaussianMixtureModel(k, g, structure, mixing=mixing)
        if family == "gaussian"
        else MixedMixtureModel(k, schema, structure, mixing=mixing)
    )
    return FittedModel(model, coordinates, schema.names, Parameters(arrays), {})


def _columns(family: str, most: int, rng: np.random.Generator) -> list[Column]:
    def number() -> int:
        return int(rng.integers(1, most + 1))

    columns: list[Column] = []
    if family != "latent class":
        columns += [GaussianColumn(f"number {d}") for d in range(number())]
    if family != "gaussian":
        columns += [CategoricalColumn(f"level {d}", ("a", "b", "c")[: 2 + d % 2]) for d in range(number())]
    if family == "mixed":
        columns += [BernoulliColumn(f"truth {d}") for d in range(number())]
        columns += [PoissonColumn(f"count {d}", 40.0) for d in range(number())]
    return [columns[place] for place in rng.permutation(len(columns))]


def rows_with_holes(fitted: FittedModel, n: int, seed: int, share: float = 0.4) -> Vector:
    """Drawn rows `(n, D)`, the first complete, the second with no cell at all."""
    rows, _ = fitted.sample(n, seed)
    holes = np.random.default_rng(seed).random(rows.shape) < share
    holes[0], holes[1] = False, True
    rows[holes] = np.nan
    return rows
