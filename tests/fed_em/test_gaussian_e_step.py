"""The E-step of bare, weighted, labelled and incomplete records: one sum, whichever way each record takes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em import missing_gaussian, row_blocks
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.missing_gaussian import GaussianComponents, expected_sums, posterior_of_records
from fed_em.model import COUNT, Rows
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.row_blocks import use_threads
from tests.fed_em.kernel_choice import both_kernels as both_kernels  # noqa: PLC0414  every test runs twice
from tests.fed_em.mixtures import parameters_of

Vector = NDArray[np.float64]

EVERY_STRUCTURE = pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
# Blocks of 24 rows, eight in a segment: several of each.
N = 700
# What a table may have besides rows; and how many of its rows miss a cell.
KINDS = pytest.mark.parametrize(("weighted", "labelled"), [(False, False), (True, False), (True, True)])
HOLES = pytest.mark.parametrize("holes", ["none", "one", "some", "all"])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "_MOST_ROWS", 24)


def model_of(structure: CovarianceStructure) -> tuple[GaussianMixtureModel, Parameters]:
    return GaussianMixtureModel(3, 2, structure, missing=True), parameters_of(structure)


def records_of(rows: Rows, weighted: bool, labelled: bool, holes: str) -> Records:
    generator, n = np.random.default_rng(1), len(rows)
    which = {
        "none": np.zeros(n, dtype=bool),
        "one": np.arange(n) == 30,
        "some": (generator.random(n) < 1 / 3) | (np.arange(n) // 24 == 1),  # and one block of them alone
        "all": np.ones(n, dtype=bool),
    }[holes]
    rows = rows.copy()
    rows[np.flatnonzero(which), generator.integers(2, size=int(which.sum()))] = np.nan
    admissible = generator.random((n, 3)) < 0.6
    admissible[np.arange(n), generator.integers(3, size=n)] = True
    return Records(rows, generator.random(n) if weighted else None, admissible if labelled else None)


@HOLES
@KINDS
@EVERY_STRUCTURE
def test_the_sum_is_that_of_records_conditioned_one_by_one(
    structure: CovarianceStructure, weighted: bool, labelled: bool, holes: str
) -> None:
    """As every record would be summed if it missed cells: what depends on patterns alone admits that of no missing cell."""
    model, at = model_of(structure)
    records = records_of(model.sample(at, N, np.random.default_rng(0))[0], weighted, labelled, holes)
    components = GaussianComponents(structure, at["means"], at["covariances"])
    found, expected = model.e_step(at, records), expected_sums(components, at["weights"], records)
    for name, of_all in expected.items():
        np.testing.assert_allclose(found[name], of_all, rtol=1e-11, atol=1e-10)
    assert found[COUNT] == pytest.approx(records.total_weight, rel=1e-14)
    log_densities, responsibilities = posterior_of_records(components, at["weights"], records)
    np.testing.assert_allclose(model.log_prob(at, records), log_densities, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(model.responsibilities(at, records), responsibilities, atol=1e-11)
    if labelled:
        assert (model.responsibilities(at, records)[~records.admissible] == 0.0).all()  # type: ignore[operator]


@HOLES
@EVERY_STRUCTURE
def test_the_number_of_threads_changes_no_bit(structure: CovarianceStructure, holes: str) -> None:
    model, at = model_of(structure)
    records = records_of(model.sample(at, N, np.random.default_rng(0))[0], True, True, holes)
    found = []
    for threads in (1, 2, 5):
        with use_threads(threads):
            arrays = model.e_step(at, records).vector, model.responsibilities(at, records)
        found.append([each.tobytes() for each in arrays])
    assert found[0] == found[1] == found[2]


@HOLES
def test_a_weight_of_zero_is_absence_to_the_bit(holes: str) -> None:
    model, at = model_of("full")
    records = records_of(model.sample(at, N, np.random.default_rng(0))[0], True, True, holes)
    weights = np.where(np.arange(N) % 3 == 0, 0.0, records.weights)
    left = records[np.flatnonzero(weights)]
    found = model.e_step(at, Records(records.rows, weights, records.admissible))
    assert found.vector.tobytes() == model.e_step(at, left).vector.tobytes()


@EVERY_STRUCTURE
def test_only_incomplete_records_are_conditioned(
    structure: CovarianceStructure, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, at = model_of(structure)
    conditioned: list[int] = []
    original = GaussianComponents.posterior

    def counting(self: GaussianComponents, joint: Vector, rows: Vector, weights: Vector | None) -> object:
        conditioned.append(len(rows))
        return original(self, joint, rows, weights)

    monkeypatch.setattr(missing_gaussian.GaussianComponents, "posterior", counting)
    rows = model.sample(at, N, np.random.default_rng(0))[0]
    model.e_step(at, records_of(rows, True, True, "none"))
    assert conditioned == []
    model.e_step(at, records_of(rows, True, True, "one"))
    model.log_prob(at, records_of(rows, False, False, "one"))
    assert conditioned == [1, 1]


@HOLES
@EVERY_STRUCTURE
def test_several_points_at_once_are_each_one_alone(structure: CovarianceStructure, holes: str) -> None:
    model, at = model_of(structure)
    points = [at, parameters_of(structure, spread=1.5)]
    records = records_of(model.sample(at, N, np.random.default_rng(0))[0], True, True, holes)
    for found, point in zip(model.e_steps(points, records), points, strict=True):
        alone = model.e_step(point, records)
        np.testing.assert_allclose(found.vector, alone.vector, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_what_no_model_can_take_is_told(weighted: bool) -> None:
    model, at = model_of("full")
    rows = model.sample(at, N, np.random.default_rng(0))[0]
    rows[100, 1] = np.inf
    for holes in ("none", "some"):
        for evaluate in (model.e_step, model.log_prob):
            with pytest.raises(CallerError, match="column 1"):
                evaluate(at, records_of(rows, weighted, False, holes))
    complete = GaussianMixtureModel(3, 2)
    with pytest.raises(CallerError, match="admits missing cells"):
        complete.e_step(at, records_of(rows[:100], weighted, False, "one"))
