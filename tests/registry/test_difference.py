"""Components are compared in the first version's coordinates, whatever those of the second and its structure are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import lineage, mixture

from fed_em.columns import BernoulliColumn, ColumnSchema, GaussianColumn
from fed_em.coordinates import Coordinates
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em_server.registry import Registry
from fed_em_server.registry.difference import Difference, difference


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def compared(registry: Registry, first: FittedModel, second: FittedModel) -> Difference:
    one, other = registry.add(first, lineage(first)), registry.add(second, lineage(second, title="second"))
    return difference(one, registry.load(one), other, registry.load(other))


def elsewhere(fitted: FittedModel) -> FittedModel:
    """The same density, in coordinates of other units and with its components in another order."""
    location, scale = np.array([3.0, -1.0]), np.array([10.0, 0.1])
    before, order = fitted.parameters, [1, 0]
    arrays = {
        "weights": before["weights"][order],
        "means": ((before["means"] - location) / scale)[order],
        "covariances": (before["covariances"] / np.outer(scale, scale))[order],
    }
    return replace(fitted, coordinates=Coordinates(location, scale), parameters=Parameters(arrays))


def test_the_same_density_in_other_coordinates_and_order_is_at_no_distance(registry: Registry) -> None:
    rows = np.array([[0.3, 0.1], [-2.0, 4.0]])
    assert elsewhere(mixture()).score_samples(rows) == pytest.approx(mixture().score_samples(rows), rel=1e-12)
    found = compared(registry, mixture(), elsewhere(mixture()))
    assert [(row.component, row.other) for row in found.components] == [(0, 1), (1, 0)]
    assert [row.distance for row in found.components] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert [row.weights for row in found.components] == [(0.4, 0.4), (0.6, 0.6)]


def test_another_number_of_components_and_structure(registry: Registry) -> None:
    three = FittedModel(
        GaussianMixtureModel(3, 2, "spherical"),
        Coordinates.identity(2),
        ("a", "b"),
        Parameters(
            {
                "weights": np.array([0.2, 0.5, 0.3]),
                "means": np.array([[9.0, 9.0], [2.0, 1.0], [-2.0, 0.0]]),
                "covariances": np.ones(3),
            }
        ),
        {},
    )
    found = compared(registry, mixture(), three)
    assert [(row.component, row.other) for row in found.components] == [(0, 2), (1, 1), (None, 0)]
    assert found.components[1].shift == pytest.approx(1.0)
    assert found.components[1].column == "b"
    assert found.components[2].weights == (0.0, 0.2)
    back = compared(registry, three, mixture())
    assert {(row.component, row.other) for row in back.components} == {(0, None), (1, 1), (2, 0)}


def mixed(yes: float) -> FittedModel:
    schema = ColumnSchema((GaussianColumn("x"), BernoulliColumn("b")))
    model = MixedMixtureModel(1, schema, "full")
    arrays = {
        "weights": np.ones(1),
        "means": np.zeros((1, 1)),
        "covariances": np.ones((1, 1, 1)),
        "success_probabilities": np.array([[yes]]),
    }
    return FittedModel(model, Coordinates.identity(2), ("x", "b"), Parameters(arrays), {})


def test_mixed_columns(registry: Registry) -> None:
    found = compared(registry, mixed(0.5), mixed(0.9))
    assert found.components[0].distance == pytest.approx(-np.log(np.sqrt(0.5 * 0.9) + np.sqrt(0.5 * 0.1)))
    assert found.components[0].shift == 0.0


def test_models_over_other_columns_are_told_and_not_compared(registry: Registry) -> None:
    renamed = replace(mixture(), columns=("a", "c"))
    found = compared(registry, mixture(), renamed)
    assert found.columns == ("'c' is new", "'b' is gone")
    assert found.components == ()
    assert "different columns" in found.incomparable
    assert compared(registry, mixture(), replace(mixture(), columns=("b", "a"))).columns == (
        "they are in another order",
    )
