"""Features of mixed rows: by definition, in NumPy and compiled alike; and E-steps over them in either kind of loops."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em import kernels, row_blocks
from fed_em.cell_features import CellFeatures
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.discrete_columns import DiscreteColumns
from fed_em.errors import CallerError
from fed_em.kernels import kernels_for
from fed_em.parameters import Parameters
from fed_em.records import Records
from tests.fed_em.kernel_choice import BOTH, run_with
from tests.fed_em.test_mixed_mixture import SCHEMA, away, blanked, mixed, parameters_of

Vector = NDArray[np.float64]


def some_rows(n: int = 500) -> Vector:
    rows = blanked(mixed().sample(parameters_of(), n, np.random.default_rng(3))[0])
    rows[:4, 2] = 0, 1023, 1024, 1e6
    return rows


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("uncorrelated", [True, False])
def test_features_are_those_by_definition(name: str, uncorrelated: bool) -> None:
    features, rows = CellFeatures(DiscreteColumns(SCHEMA), uncorrelated), some_rows()
    out = np.full((features.n_features, len(rows)), np.nan)
    with run_with(name):
        log_factorials, fit = kernels_for(len(rows)).write_cells(features, rows, out)
    assert fit
    colour, visits, smoker, ward, insured = rows.T[[0, 2, 3, 5, 6]]
    numbers = rows.T[[1, 4]]
    discrete = [
        colour == 0,
        colour == 1,
        colour == 2,
        ward == 0,
        ward == 1,
        smoker == 1,
        insured == 1,
        smoker == 0,
        insured == 0,
    ]
    discrete += [np.nan_to_num(visits), ~np.isnan(visits)]
    seen = [np.nan_to_num(numbers), np.nan_to_num(numbers) ** 2, ~np.isnan(numbers), np.isnan(numbers)]
    expected = np.concatenate((np.ones((1, 500)), np.stack(discrete), *(seen if uncorrelated else [])))
    np.testing.assert_array_equal(out, expected)
    by_hand = [0.0 if math.isnan(x) else math.lgamma(x + 1) for x in visits]
    np.testing.assert_allclose(log_factorials, by_hand, rtol=1e-13)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("uncorrelated", [True, False])
@pytest.mark.parametrize(
    ("column", "cell"),
    [
        (0, 3.0),
        (0, -1.0),
        (0, 0.5),
        (0, np.inf),
        (1, np.inf),
        (4, -np.inf),
        (2, -1.0),
        (2, 2.5),
        (2, np.inf),
        (3, 2.0),
        (6, 0.5),
    ],
)
def test_cells_that_are_no_values_are_seen(name: str, uncorrelated: bool, column: int, cell: float) -> None:
    features, rows = CellFeatures(DiscreteColumns(SCHEMA), uncorrelated), some_rows()
    rows[499, column] = cell
    structure: CovarianceStructure = "diag" if uncorrelated else "full"
    with run_with(name):
        assert not kernels_for(500).write_cells(features, rows, np.empty((features.n_features, 500)))[1]
        with pytest.raises(CallerError, match=f"1 values of column '{SCHEMA.names[column]}'"):
            mixed(structure).e_step(away(structure), rows)


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_compiled_loops_sum_what_numpy_sums(structure: CovarianceStructure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "_CACHE_ENTRIES", 1)  # several blocks, the last of another length
    model, rows, generator = mixed(structure), some_rows(1003), np.random.default_rng(0)
    impossible = Parameters({**away(structure), "success_probabilities": [[1.0, 0.5], [0.4, 0.6]]})
    labels = generator.random((1003, 2)) < 0.7
    labels[~labels.any(axis=1)] = True
    for at, records in (
        (away(structure), Records(rows)),
        (away(structure), Records(rows, generator.random(1003), labels)),
        (impossible, Records(rows)),
    ):
        found = []
        for name in BOTH:
            with run_with(name):
                found.append(
                    (model.e_step(at, records).vector, model.log_prob(at, records), model.responsibilities(at, records))
                )
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", BOTH)
def test_components_far_from_the_origin_keep_their_digits(name: str) -> None:
    """10^7 spreads away, where x² θ would leave no digit: the densities are computed from differences."""
    model, rows = mixed("diag"), blanked(mixed("diag").sample(parameters_of("diag"), 300, np.random.default_rng(1))[0])
    at, far = parameters_of("diag"), rows.copy()
    far[:, SCHEMA.gaussian] += 1e7
    moved = Parameters({**at, "means": at["means"] + 1e7})
    with run_with(name):
        np.testing.assert_allclose(model.log_prob(moved, far), model.log_prob(at, rows), rtol=0, atol=1e-6)


def test_which_loops_run_follows_from_all_rows_and_not_from_a_block() -> None:
    os.environ.pop("FED_EM_NO_NUMBA", None)
    pytest.importorskip("numba")
    assert kernels_for(kernels.FEWEST_COMPILED_ROWS).name == "numba"
    seen = []
    model, rows = mixed("diag"), np.repeat(some_rows(64), kernels.FEWEST_COMPILED_ROWS // 64, axis=0)
    seen.append(model._e_step(away("diag"), Records(rows)).kernels.name)
    seen.append(model._e_step(away("diag"), Records(rows[1:])).kernels.name)
    assert seen == ["numba", "numpy"]
