"""Conditioning by blocks of the precision matrix against conditioning by blocks of the covariance, and which of them runs."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em import missing_gaussian, row_blocks
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure, Whitening, restrict
from fed_em.gaussian_densities import conditions
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.missing_blocks import MissingBlocks
from fed_em.missing_gaussian import GaussianComponents
from fed_em.missing_patterns import pattern_batches
from fed_em.observed_blocks import ObservedBlocks
from fed_em.parameters import Parameters
from fed_em.row_blocks import use_threads

Vector = NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)
K, D = 3, 6
# Each of the 2^6 patterns, of no missing column to all of them, is shown by so many rows.
ROWS_A_PATTERN = 3


def covariances_of_condition(condition: float, generator: np.random.Generator, n: int = K) -> Vector:
    """Random axes `(n, D, D)`, the longest so many times as long as the shortest, squared."""
    axes = np.linalg.qr(generator.normal(size=(n, D, D)))[0]
    matrices = axes * np.geomspace(1.0, 1.0 / condition, D) @ np.swapaxes(axes, 1, 2)
    return np.asarray(0.5 * (matrices + np.swapaxes(matrices, 1, 2)))


def rows_of_every_pattern(means: Vector, covariances: Vector, generator: np.random.Generator) -> Vector:
    """Rows of all components, in no order."""
    patterns = np.tile(list(product((False, True), repeat=D)), (ROWS_A_PATTERN, 1))
    labels = generator.integers(len(means), size=len(patterns))
    normals = generator.normal(size=(len(patterns), D))
    rows = means[labels] + np.einsum("nij,nj->ni", np.linalg.cholesky(covariances)[labels], normals)
    return np.where(patterns, np.nan, rows)[generator.permutation(len(rows))]


def condition_of(covariances: Vector) -> float:
    """The largest C_k of `fed_em.missing_blocks`."""
    whitening = Whitening.of("full", covariances, len(covariances), D)
    return float(conditions(whitening, np.zeros((len(covariances), D)), covariances).max())


def assert_equal_within(means: Vector, covariances: Vector, rows: Vector, tolerance: float) -> None:
    """Log-densities and moments of both, for every pattern: in the units that `fed_em.missing_blocks` states."""
    whitening = Whitening.of("full", covariances, *means.shape)
    spreads = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))[:, np.newaxis]
    shares = np.random.default_rng(1).dirichlet(np.ones(len(means)), size=len(rows)).T
    for batch in pattern_batches(rows, 1):
        ours = MissingBlocks.of(means, whitening.inverse(), whitening.log_determinants, batch)
        theirs = ObservedBlocks.of(means, covariances, whitening.log_determinants, batch)
        distances = np.maximum(ours.distances, 1.0)
        scale = spreads * np.sqrt(distances)[..., np.newaxis]
        assert (np.abs(ours.log_densities() - theirs.log_densities()) <= tolerance * distances).all()
        assert (np.abs(ours.expected - theirs.expected) <= tolerance * scale).all()
        assert (np.abs(ours.variances() - theirs.variances()) <= tolerance * spreads**2).all()
        assert (ours.expected[:, ~np.isnan(batch.rows)] == batch.rows[~np.isnan(batch.rows)]).all()
        responsibilities = shares[:, batch.places]
        sums, expected = ours.moments(responsibilities), theirs.moments(responsibilities)
        reach = np.abs(ours.expected).max() + scale.max()
        assert (np.abs(sums.first - expected.first) <= tolerance * reach * len(batch.rows)).all()
        assert (np.abs(sums.second - expected.second) <= tolerance * reach**2 * len(batch.rows)).all()
        assert abs(sums.missing_entropy - expected.missing_entropy) <= tolerance * len(batch.rows)


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6, 1e8])
def test_both_ways_agree_to_the_stated_error(condition: float) -> None:
    """4 ε C_k, which is about 4 ε times the condition number here: 1e-7 for the worst, and 2e-9 where it is not used any more."""
    generator = np.random.default_rng(int(math.log10(condition)))
    means = generator.normal(size=(K, D))
    covariances = covariances_of_condition(condition, generator)
    rows = rows_of_every_pattern(means, covariances, generator)
    assert_equal_within(means, covariances, rows, 4 * EPSILON * max(condition_of(covariances), D**2))


def test_units_of_columns_and_distance_from_the_origin_do_not_matter() -> None:
    """Condition numbers of 1e11 by units alone, means 1e6 standard deviations from 0: the difference is taken first."""
    generator = np.random.default_rng(5)
    units = np.geomspace(1e-3, 1e3, D)
    covariances = covariances_of_condition(10.0, generator) * units[:, np.newaxis] * units
    means = generator.normal(size=(K, D)) * units
    assert np.linalg.cond(covariances).min() > 1e11
    assert condition_of(covariances) < 1e3
    rows = rows_of_every_pattern(means, covariances, generator)
    assert_equal_within(means, covariances, rows, 1e-11)
    # So far from 0 that adding is exact for the digits that remain, in rows and means alike.
    shift = 2.0**20 * np.exp2(np.ceil(np.log2(units)))
    rows, means = (rows + shift) - shift, (means + shift) - shift
    near, far = (GaussianComponents("full", means + moved, covariances) for moved in (0.0, shift))
    for found, expected in zip(
        far.posterior(np.zeros((K, len(rows))), rows + shift, None)[:2],
        near.posterior(np.zeros((K, len(rows))), rows, None)[:2],
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def model_and_rows(
    structure: CovarianceStructure, conditions_of_each: Vector
) -> tuple[GaussianMixtureModel, Parameters, Vector]:
    generator = np.random.default_rng(3)
    matrices = np.concatenate([covariances_of_condition(each, generator, 1) for each in conditions_of_each])
    means = generator.normal(size=(len(matrices), D))
    rows = rows_of_every_pattern(means, matrices if structure == "full" else matrices[[0] * len(means)], generator)
    covariances = matrices if structure == "full" else matrices[0]
    weights = np.full(len(means), 1 / len(means))
    model = GaussianMixtureModel(len(means), D, structure, missing=True)
    return model, Parameters({"weights": weights, "means": means, "covariances": covariances}), rows


def count_components(patch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """How many components each way is asked to condition, from now on."""
    found: dict[str, set[int]] = {}

    def counting(kind: type[MissingBlocks] | type[ObservedBlocks]) -> None:
        original, numbers = kind.of, found.setdefault(kind.__name__, set())

        def of(means: Vector, *arguments: Any) -> MissingBlocks | ObservedBlocks:
            numbers.add(len(means))
            return original(means, *arguments)

        patch.setattr(kind, "of", of)

    counting(MissingBlocks)
    counting(ObservedBlocks)
    return found


@pytest.mark.parametrize(
    ("structure", "conditions_of_each", "missing_blocks", "observed_blocks"),
    [
        ("full", [1.0, 1e3, 1e8], {2}, {1}),
        ("full", [1e8, 1e8, 1e8], set(), {3}),
        ("full", [1.0, 1e2, 1e3], {3}, set()),
        ("tied", [1e2, 1.0, 1.0], {3}, set()),
        ("tied", [1e8, 1.0, 1.0], set(), {3}),
    ],
)
def test_nearly_singular_components_pay_for_themselves_only(
    structure: CovarianceStructure,
    conditions_of_each: list[float],
    missing_blocks: set[int],
    observed_blocks: set[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the sums are those of the observed blocks alone, to 1e-10."""
    model, at, rows = model_and_rows(structure, np.array(conditions_of_each))
    counted = count_components(monkeypatch)
    found, cells = model.e_step(at, rows), model.responsibilities(at, rows)
    assert counted == {"MissingBlocks": missing_blocks, "ObservedBlocks": observed_blocks}
    monkeypatch.setattr(missing_gaussian, "_MANY_CELLS", 0)
    expected = model.e_step(at, rows)
    np.testing.assert_allclose(found.vector, expected.vector, rtol=1e-10, atol=1e-10 * len(rows))
    np.testing.assert_allclose(cells, model.responsibilities(at, rows), atol=1e-10)


def test_patterns_of_many_rows_are_conditioned_by_observed_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, at, rows = model_and_rows("full", np.ones(2))
    counted = count_components(monkeypatch)
    model.e_step(at, np.repeat(rows, 200, axis=0))
    assert counted == {"MissingBlocks": set(), "ObservedBlocks": {2}}


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_the_number_of_threads_changes_no_bit(structure: CovarianceStructure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "_MEMORY_ENTRIES", 1)  # blocks of 512 rows
    generator = np.random.default_rng(4)
    covariances = restrict(structure, covariances_of_condition(50.0, generator, 1)[0], K)
    at = Parameters({"weights": np.full(K, 1 / K), "means": generator.normal(size=(K, D)), "covariances": covariances})
    model = GaussianMixtureModel(K, D, structure, missing=True)
    rows = model.sample(at, 2000, generator)[0]
    rows[generator.random(rows.shape) < 0.2] = np.nan
    found = []
    for threads in (1, 2, 5):
        with use_threads(threads):
            arrays = model.e_step(at, rows).vector, model.responsibilities(at, rows), model.log_prob(at, rows)
        found.append([each.tobytes() for each in arrays])
    assert found[0] == found[1] == found[2]
