"""Candidates in one payload, and starts by sums only."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em.candidates import Candidates
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.em import Stopping, Summed, fit
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.parameters import Parameters
from fed_em.starts import EM_ROUNDS, LLOYD_ROUNDS, Start, best_starts
from fed_em.statistics import Statistics
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]


def grid_of_clusters() -> tuple[Vector, Vector]:
    """Eight clusters at the corners of a cuboid, standardised, and their centres."""
    generator = np.random.default_rng(4)
    corners = np.array(np.meshgrid([-4.0, 4.0], [-3.0, 3.0], [-5.0, 5.0])).reshape(3, -1).T
    rows = np.repeat(corners, 60, axis=0) + generator.standard_normal((480, 3))
    location, scale = rows.mean(axis=0), rows.std(axis=0)
    return (rows - location) / scale, (corners - location) / scale


def moments_of(rows: Vector) -> Parameters:
    one, gaussian = moments_model(rows.shape[1]), standard_gaussian(rows.shape[1])
    return one.m_step(one.e_step(gaussian, rows), gaussian)


def start_of(model: GaussianMixtureModel, rows: Vector, seed: int = 0, n_starts: int = 4) -> Start:
    return best_starts([model], lambda candidates: TotalOfRows(candidates, rows), moments_of(rows), seed, n_starts)[0]


def pairs_of_clusters() -> tuple[Vector, Vector]:
    """Two pairs of clusters along a line, standardised, and their centres."""
    centres = np.array([[-6.0, -6.0], [-3.0, -3.5], [3.0, 3.0], [6.0, 6.5]])
    rows = np.repeat(centres, 80, axis=0) + 0.4 * np.random.default_rng(5).standard_normal((320, 2))
    location, scale = rows.mean(axis=0), rows.std(axis=0)
    return (rows - location) / scale, (centres - location) / scale


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_the_split_start_cuts_the_longest_axis_first_whatever_the_seed(structure: CovarianceStructure) -> None:
    rows, centres = pairs_of_clusters()
    model = GaussianMixtureModel(4, 2, structure)
    start, other = (start_of(model, rows, seed, n_starts=1) for seed in (0, 1))
    assert start.objectives[-1] == other.objectives[-1]
    assert start.objectives[-1] == pytest.approx(max(*start.objectives, *other.objectives), rel=1e-6)
    for centre in centres:
        assert np.linalg.norm(start.parameters["means"] - centre, axis=1).min() < 0.1
    np.testing.assert_allclose(start.parameters["weights"], 1 / 4, atol=0.02)


def test_the_best_goes_on_and_seeds_reproduce() -> None:
    rows, _ = grid_of_clusters()
    model = GaussianMixtureModel(8, 3)
    one, again, other = (start_of(model, rows, seed) for seed in (0, 0, 1))
    assert one.parameters.distance(again.parameters) == 0.0
    assert one.objectives == again.objectives != other.objectives
    assert len(one.objectives) == 5 and len(set(one.objectives)) > 2
    first = fit(model, TotalOfRows(model, rows), one.parameters, Stopping(1e-6, 1)).iterations[0]
    assert first.objective == pytest.approx(max(one.objectives), abs=1e-3)


def test_a_start_takes_eighteen_sums_and_only_sums() -> None:
    rows, _ = grid_of_clusters()
    model = GaussianMixtureModel(8, 3)
    payloads: list[Statistics] = []

    def total_for(candidates: Candidates) -> TotalOfRows:
        counted = TotalOfRows(candidates, rows)

        def total(parameters: Parameters) -> Summed:
            candidates.validate(parameters)
            summed = counted(parameters)
            payloads.append(summed.statistics)
            return summed

        return total  # type: ignore[return-value]

    best_starts([model], total_for, moments_of(rows), 0, 3)
    assert len(payloads) == LLOYD_ROUNDS + EM_ROUNDS == 18
    assert {payload.vector.size for payload in payloads} == {4 * (model.layout().size - 1) + 1}


def test_no_start_collapses_on_a_value_that_is_often_repeated() -> None:
    generator = np.random.default_rng(0)
    rows = np.concatenate((generator.standard_normal((100, 2)), np.full((30, 2), 0.7)))
    start = start_of(GaussianMixtureModel(3, 2, covariance_floor=0.0), (rows - rows.mean(axis=0)) / rows.std(axis=0))
    assert np.isfinite(start.objectives).all()
    assert np.linalg.eigvalsh(start.parameters["covariances"]).min() > 1e-3


@pytest.mark.parametrize(("seed", "n_starts", "named"), [(-1, 2, "seed"), (0, 0, "n_starts")])
def test_impossible_numbers_are_refused(seed: int, n_starts: int, named: str) -> None:
    rows, _ = grid_of_clusters()
    with pytest.raises(CallerError, match=named):
        start_of(GaussianMixtureModel(8, 3), rows, seed, n_starts)
