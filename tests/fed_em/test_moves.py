"""Moves between optima: admissible whatever the family and structure, true to what they move, and able to leave a poor optimum."""

from __future__ import annotations

import numpy as np
import pytest

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.em import Stopping, fit
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.moves import crossed, moved, regrouped
from fed_em.parameters import Parameters
from fed_em.totals import TotalOfRows
from tests.fed_em.random_mixtures import random_mixture

EVERY_STRUCTURE = pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
SEEDS = range(20)


def elsewhere(parameters: Parameters) -> Parameters:
    """Other parameters of the same mixture."""
    return Parameters({**parameters, "means": 1.3 * parameters["means"][::-1] + 0.1})


@EVERY_STRUCTURE
@pytest.mark.parametrize("family", ["gaussian", "mixed"])
@pytest.mark.parametrize("n_components", [2, 3, 7])
def test_every_move_is_admissible(structure: CovarianceStructure, family: str, n_components: int) -> None:
    fitted = random_mixture(family, structure, n_components=n_components)
    model, one = fitted.model, fitted.parameters
    for seed in SEEDS:
        child = moved(model, [one, elsewhere(one)], np.random.default_rng(seed))  # type: ignore[arg-type]
        model.validate(child)


@EVERY_STRUCTURE
def test_regrouping_moves_no_mean_of_the_whole_and_changes_three_components(structure: CovarianceStructure) -> None:
    """Two become one and one becomes two, of which one may be the same."""
    before = random_mixture("gaussian", structure, 3, n_components=6)
    at = before.parameters
    for seed in SEEDS:
        after = regrouped(before.model, at, np.random.default_rng(seed))  # type: ignore[arg-type]
        np.testing.assert_allclose(after["weights"] @ after["means"], at["weights"] @ at["means"], atol=1e-12)
        assert after["weights"].sum() == pytest.approx(1.0)
        kept = (after["means"][:, np.newaxis] == at["means"]).all(axis=-1).any(axis=0).sum()
        assert kept in (3, 4)


def test_crossed_fits_have_what_lies_low_in_one_and_high_in_the_other() -> None:
    fitted = random_mixture("gaussian", "full", 4, n_components=8)
    model, one = fitted.model, fitted.parameters
    other = elsewhere(one)
    from_one = []
    for seed in SEEDS:
        child = crossed(model, one, other, np.random.default_rng(seed))  # type: ignore[arg-type]
        whose = [(child["means"][:, np.newaxis] == each["means"]).all(axis=-1) for each in (one, other)]
        n = int(whose[0].any(axis=1).sum())
        assert 2 <= n <= 6 and whose[1].any(axis=1).sum() == 8 - n
        from_one.append(n)
        alike = crossed(model, one, one, np.random.default_rng(seed))  # type: ignore[arg-type]
        assert sorted(alike["means"].tolist()) == sorted(one["means"].tolist())
    assert len(set(from_one)) > 2


def test_a_move_leaves_an_optimum_in_which_one_component_is_in_the_wrong_place() -> None:
    """Three far clusters, of which one has two components and two others share one: EM alone stays there."""
    generator = np.random.default_rng(0)
    centres = np.array([[-20.0, 0.0], [0.0, 0.0], [3.0, 0.0]])
    rows = np.repeat(centres, 100, axis=0) + 0.3 * generator.standard_normal((300, 2))
    model = GaussianMixtureModel(3, 2)
    poor = Parameters(
        {
            "weights": np.array([1 / 6, 1 / 6, 2 / 3]),
            "means": np.array([[-20.2, 0.0], [-19.8, 0.0], [1.5, 0.0]]),
            "covariances": np.array([np.eye(2) * 0.09, np.eye(2) * 0.09, np.diag([2.3, 0.09])]),
        }
    )

    def end(start: Parameters) -> float:
        return fit(model, TotalOfRows(model, rows), start, Stopping(1e-9, 500)).iterations[-1].objective

    stuck = end(poor)
    best = max(end(regrouped(model, poor, np.random.default_rng(seed))) for seed in range(8))
    assert best > stuck + 0.5
