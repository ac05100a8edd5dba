"""Charts: there and back, and the gradient against finite differences of the observed-data log posterior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em.chart import ChartedModel
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.errors import CollapsedComponent
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import LOG_LIKELIHOOD, Model
from fed_em.parameters import Parameters
from fed_em.records import Records
from tests.fed_em import mixtures
from tests.fed_em.test_mixed_mixture import ITEMS, PRIOR, SCHEMA, mixed
from tests.fed_em.test_mixed_mixture import parameters_of as mixed_parameters

Vector = NDArray[np.float64]


def items(prior: bool) -> MixedMixtureModel:
    return MixedMixtureModel(3, ITEMS, prior=replace(PRIOR, gaussian=None, poisson_records=0.0) if prior else None)


def item_parameters() -> Parameters:
    generator = np.random.default_rng(3)
    points = [generator.dirichlet(np.ones(part.stop - part.start), 3) for part in ITEMS.level_slices]
    return Parameters({"weights": [0.2, 0.5, 0.3], "level_probabilities": np.concatenate(points, axis=1)})


def cases() -> list[tuple[str, Model, Parameters, bool]]:
    found: list[tuple[str, Model, Parameters, bool]] = []
    for structure in COVARIANCE_STRUCTURES:
        gaussian = mixtures.parameters_of(structure)
        found += [
            (f"{structure}", mixtures.mixture(structure), gaussian, False),
            (f"{structure}, floor", replace(mixtures.mixture(structure), covariance_floor=0.3), gaussian, False),
            (f"{structure}, prior", mixtures.mixture(structure, mixtures.PRIOR), gaussian, False),
            (f"{structure}, missing", replace(mixtures.mixture(structure), missing=True), gaussian, True),
            (f"{structure}, mixed", mixed(structure), mixed_parameters(structure), True),
            (f"{structure}, mixed, prior", mixed(structure, PRIOR), mixed_parameters(structure), True),
        ]
    found += [(f"latent classes, prior {prior}", items(prior), item_parameters(), True) for prior in (False, True)]
    return found


CASES = cases()


def records_of(model: Model, parameters: Parameters, holes: bool) -> Records:
    """Weighted rows, some of whose cells are missing and some of which carry labels."""
    generator = np.random.default_rng(11)
    rows, labels = model.sample(parameters, 60, generator)
    if holes:
        rows[generator.random(rows.shape) < 0.2] = np.nan
    admissible = generator.random((60, len(parameters["weights"]))) < 0.8
    admissible[np.arange(60), labels] = True
    return Records(rows, generator.uniform(0.2, 2.0, 60), admissible, 2.0)


def log_posterior(model: Model, parameters: Parameters, records: Records) -> float:
    return float(model.e_step(parameters, records)[LOG_LIKELIHOOD]) + model.log_prior(parameters)


@pytest.mark.parametrize(("model", "reference", "holes"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_gradient_is_that_of_the_observed_data(model: Model, reference: Parameters, holes: bool) -> None:
    assert isinstance(model, ChartedModel)
    records, chart = records_of(model, reference, holes), model.chart(reference)
    # Away from the reference, where nothing is the identity by construction.
    point = chart.vector(reference) + np.random.default_rng(5).normal(0, 0.15, chart.size)
    parameters = chart.parameters(point)
    model.validate(parameters)
    gradient = chart.gradient(model.e_step(parameters, records), point)
    step = 1e-5
    differences = [
        log_posterior(model, chart.parameters(point + e), records)
        - log_posterior(model, chart.parameters(point - e), records)
        for e in step * np.eye(chart.size)
    ]
    np.testing.assert_allclose(gradient, np.array(differences) / (2 * step), rtol=1e-6, atol=2e-6)
    assert np.abs(gradient).max() > 0.1


@pytest.mark.parametrize(("model", "reference", "holes"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_there_and_back(model: Model, reference: Parameters, holes: bool) -> None:
    assert isinstance(model, ChartedModel)
    chart = model.chart(reference)
    assert chart.parameters(chart.vector(reference)).distance(reference) < 1e-13
    moved = chart.parameters(chart.vector(reference) + np.random.default_rng(6).normal(0, 0.2, chart.size))
    assert moved.distance(reference) > 0.01
    assert chart.parameters(chart.vector(moved)).distance(moved) < 1e-13


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_the_information_of_complete_data_is_the_identity_at_the_reference(structure: CovarianceStructure) -> None:
    # Components far apart: every record's component is known. Entries are means over the records of a component, at least
    # 8 900 of them, with standard deviations of at most √(2/8900) = 0.015; the sample is fixed by its seed. The redundant
    # direction of the weights has no information.
    model, parameters = mixtures.mixture(structure), mixtures.parameters_of(structure, spread=1e3)
    rows, _ = model.sample(parameters, 40_000, np.random.default_rng(2))
    chart = model.chart(parameters)
    point = chart.vector(parameters)
    # The change of the mean gradient along each axis, at responsibilities that do not move.
    step = 1e-4
    differences = [
        chart.gradient(model.e_step(chart.parameters(point + e), rows), point + e)
        - chart.gradient(model.e_step(chart.parameters(point - e), rows), point - e)
        for e in step * np.eye(chart.size)
    ]
    information = -np.array(differences) / (2 * step * len(rows))
    unit = point[:3] / np.linalg.norm(point[:3])
    expected = np.eye(chart.size)
    expected[:3, :3] -= np.outer(unit, unit)
    np.testing.assert_allclose(information, expected, atol=0.06)


def test_what_is_known_to_be_impossible_stays_so() -> None:
    model = items(prior=False)
    parameters = item_parameters()
    levels = parameters["level_probabilities"].copy()
    levels[0, :2] = (0.0, 1.0)
    parameters = Parameters({**parameters, "level_probabilities": levels})
    chart = model.chart(parameters)
    rows, _ = model.sample(parameters, 100, np.random.default_rng(1))
    gradient = chart.gradient(model.e_step(parameters, rows), chart.vector(parameters))
    assert np.isfinite(gradient).all()
    assert chart.parameters(chart.vector(parameters) + 1e-3 * gradient)["level_probabilities"][0, 0] == 0.0


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_a_component_on_the_floor_has_no_chart(structure: CovarianceStructure) -> None:
    model = replace(mixtures.mixture(structure), covariance_floor=5.0)
    with pytest.raises(CollapsedComponent, match="floor"):
        model.chart(mixtures.parameters_of(structure))


def test_no_point_of_a_chart_is_below_the_floor() -> None:
    model = replace(mixtures.mixture("full"), covariance_floor=0.2)
    chart = model.chart(mixtures.parameters_of("full"))
    far = chart.parameters(np.random.default_rng(0).normal(0, 5.0, chart.size))
    assert np.linalg.eigvalsh(far["covariances"]).min() >= 0.2 - 1e-12


def test_a_chart_of_all_kinds_covers_every_array() -> None:
    chart = mixed("full", PRIOR).chart(mixed_parameters("full"))
    assert len(chart.parts) == 3
    assert set(chart.parameters(np.ones(chart.size))) == set(mixed_parameters("full"))
    assert len(SCHEMA.columns) == 7
