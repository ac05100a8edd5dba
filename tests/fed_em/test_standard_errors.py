"""Standard errors by outer products of scores: against numerical scores of every record, closed forms, and simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.covariance import COVARIANCE_STRUCTURES
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.standard_errors import Remark, StandardErrors, standard_errors
from fed_em.statistic_products import StatisticProducts

Vector = NDArray[np.float64]
Mixture = GaussianMixtureModel | MixedMixtureModel

SCHEMA = ColumnSchema(
    (
        GaussianColumn("age"),
        CategoricalColumn("ward", ("north", "south", "west")),
        GaussianColumn("pressure"),
        BernoulliColumn("smoker"),
        PoissonColumn("visits", 30.0),
    )
)


def errors_of(model: Mixture, parameters: Parameters, rows: Vector | Records) -> StandardErrors:
    products = StatisticProducts(model)
    return standard_errors(products, parameters, products.e_step(parameters, rows))


def some_parameters(model: Mixture, seed: int) -> Parameters:
    """Well inside of what is possible, components apart."""
    generator, k = np.random.default_rng(seed), model.n_components
    arrays: dict[str, Vector] = {"weights": generator.dirichlet(np.full(k, 20.0))}
    gaussian = model if isinstance(model, GaussianMixtureModel) else model.gaussian
    if gaussian is not None:
        d = gaussian.n_columns
        arrays["means"] = 2.0 * generator.standard_normal((k, d))
        roots = np.eye(d) + 0.3 * generator.standard_normal((k, d, d))
        full = roots @ np.swapaxes(roots, 1, 2)
        arrays["covariances"] = {
            "full": full,
            "tied": full[0],
            "diag": np.diagonal(full, axis1=1, axis2=2),
            "spherical": full[:, 0, 0],
        }[gaussian.covariance]
    if isinstance(model, MixedMixtureModel):
        levels = [generator.dirichlet(np.full(part.stop - part.start, 5.0), k) for part in model.schema.level_slices]
        arrays["level_probabilities"] = np.concatenate(levels, axis=1)
        arrays["success_probabilities"] = generator.uniform(0.2, 0.8, (k, len(model.schema.bernoulli)))
        arrays["rates"] = generator.uniform(1.0, 6.0, (k, len(model.schema.poisson)))
    return Parameters(arrays)


def free_coordinates(model: Mixture, parameters: Parameters) -> tuple[Vector, Callable[[Vector], Parameters]]:
    """A minimal parametrisation in natural units, other than the one under test: the last weight and level depend on the others."""
    arrays = {name: array.copy() for name, array in parameters.items()}
    slots: list[tuple[str, list[tuple[int, ...]], tuple[int, ...] | None]] = []
    k = model.n_components
    slots += [("weights", [(j,)], (k - 1,)) for j in range(k - 1)]
    for name, array in arrays.items():
        if name in ("weights", "level_probabilities"):
            continue
        for place in np.ndindex(array.shape):
            matrix = name == "covariances" and array.ndim >= 2 and array.shape[-1] == array.shape[-2]
            if name == "covariances" and _is_matrix(model):
                assert matrix
                if place[-2] > place[-1]:
                    continue
                mirrored = (*place[:-2], place[-1], place[-2])
                slots.append((name, sorted({place, mirrored}), None))
            else:
                slots.append((name, [place], None))
    if "level_probabilities" in arrays:
        assert isinstance(model, MixedMixtureModel)
        for component in range(k):
            for part in model.schema.level_slices:
                last = (component, part.stop - 1)
                slots += [("level_probabilities", [(component, j)], last) for j in range(part.start, part.stop - 1)]

    def at(vector: Vector) -> Parameters:
        moved = {name: array.copy() for name, array in arrays.items()}
        for (name, places, dependent), value in zip(slots, vector, strict=True):
            for place in places:
                moved[name][place] = value
            if dependent is not None:
                moved[name][dependent] -= value - arrays[name][places[0]]
        return Parameters(moved)

    return np.array([arrays[name][places[0]] for name, places, _ in slots]), at


def _is_matrix(model: Mixture) -> bool:
    return model.covariance in ("full", "tied")


def errors_by_differences(model: Mixture, parameters: Parameters, records: Records) -> dict[str, Vector]:
    """The same standard errors from central differences of each record's log-density."""
    vector, at = free_coordinates(model, parameters)
    weights = np.ones(len(records)) if records.weights is None else records.weights
    bare = Records(records.rows, admissible=records.admissible)
    step, scores, moves = 1e-5, [], []
    for j in range(len(vector)):
        ahead, behind = vector.copy(), vector.copy()
        ahead[j] += step
        behind[j] -= step
        scores.append((model.log_prob(at(ahead), bare) - model.log_prob(at(behind), bare)) / (2 * step))
        moves.append({name: (at(ahead)[name] - at(behind)[name]) / (2 * step) for name in parameters})
    s = np.array(scores)
    gradient = s @ weights
    inverse = np.linalg.inv((s * weights) @ s.T - np.outer(gradient, gradient) / weights.sum())
    errors = {}
    for name in parameters:
        derivatives = np.stack([move[name].ravel() for move in moves], axis=1)
        variances = np.einsum("ap,pq,aq->a", derivatives, inverse, derivatives)
        errors[name] = np.sqrt(variances).reshape(parameters[name].shape)
    return errors


def rows_of(model: Mixture, parameters: Parameters, n: int, seed: int, missing: float) -> Vector:
    generator = np.random.default_rng(seed)
    rows, _ = model.sample(parameters, n, generator)
    rows[generator.random(rows.shape) < missing] = np.nan
    if isinstance(model, MixedMixtureModel):
        places = model.schema.poisson
        rows[:, places] = np.minimum(rows[:, places], 30.0)
    return rows


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_gaussian_mixtures_against_numerical_scores(structure: str, missing: float) -> None:
    model = GaussianMixtureModel(3, 3, structure, missing=missing > 0)  # type: ignore[arg-type]
    parameters = some_parameters(model, 1)
    rows = rows_of(model, parameters, 300, 2, missing)
    found, expected = errors_of(model, parameters, rows), errors_by_differences(model, parameters, Records(rows))
    for name in parameters:
        np.testing.assert_allclose(found.errors[name], expected[name], rtol=1e-5)
        assert not found.remarks[name].any()
    assert found.records == 300


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_mixed_mixtures_with_missing_cells_labels_and_weights_against_numerical_scores(structure: str) -> None:
    model = MixedMixtureModel(2, SCHEMA, structure)  # type: ignore[arg-type]
    parameters, generator = some_parameters(model, 3), np.random.default_rng(4)
    rows = rows_of(model, parameters, 400, 5, 0.15)
    admissible = np.ones((400, 2), dtype=np.bool_)
    admissible[:40] = np.eye(2, dtype=np.bool_)[generator.integers(2, size=40)]
    records = Records(rows, generator.choice([0.0, 0.5, 2.5], 400), admissible, 4.0)
    found, expected = errors_of(model, parameters, records), errors_by_differences(model, parameters, records)
    for name in parameters:
        np.testing.assert_allclose(found.errors[name], expected[name], rtol=1e-5)
    assert found.records == pytest.approx(records.total_weight)
