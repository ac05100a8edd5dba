"""The counts of a tenant's rows, against their definition row by row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em import row_blocks
from fed_em.columns import CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.component_counts import LEAST_ROWS, component_counts, counts_layout
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_moments import MixedMomentsModel
from fed_em.model import CountedModel, Rows
from fed_em.observed_moments import ObservedMomentsModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from tests.fed_em.mixtures import log_joint, mixture, parameters_of

Vector = NDArray[np.float64]
MODEL, AT = mixture("full"), parameters_of("full", spread=0.5)


def sample(n: int, seed: int = 0) -> Vector:
    return MODEL.sample(AT, n, np.random.default_rng(seed))[0]


class Given(GaussianMixtureModel):
    """A mixture of one column whose responsibilities of row x are given: those of number x in `table`."""

    table: Vector

    def responsibilities(self, parameters: Parameters, rows: Rows | Records) -> Vector:
        return self.table[Records.of(rows).rows[:, 0].astype(int)]


def counts_of(table: Vector) -> dict[str, Vector]:
    model = Given(table.shape[1], 1)
    object.__setattr__(model, "table", table)
    counts = component_counts(model, Parameters({}), np.arange(float(len(table)))[:, np.newaxis])
    return {block.name: counts[block.name] for block in counts.layout}


@given(n=st.integers(0, 40), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_they_are_those_by_definition(n: int, seed: int) -> None:
    rows = sample(n, seed)
    joint = np.exp(log_joint(MODEL, AT, rows)) if n else np.empty((0, 3))
    r = joint / joint.sum(axis=1, keepdims=True)
    counts = component_counts(MODEL, AT, rows)
    assert counts["count"] == n
    np.testing.assert_allclose(counts["mass"], r.sum(axis=0), rtol=1e-10)
    np.testing.assert_array_equal(counts["supporting"], (r.sum(axis=0) >= 5).astype(float))
    np.testing.assert_allclose(counts["mass"], MODEL.e_step(AT, rows)["responsibilities"], rtol=1e-12, atol=1e-12)


@given(st.lists(st.lists(st.integers(0, 8), min_size=3, max_size=3).filter(any), max_size=30))
def test_all_stays_within_its_bound(weights: list[list[int]]) -> None:
    table = np.array([np.array(row) / sum(row) for row in weights]).reshape(-1, 3)
    counts = counts_of(table)
    for block in counts_layout(MODEL):
        assert block.bound == 1.0
        assert (counts[block.name] <= len(table) * (1 + 1e-12)).all()


def test_the_effective_number_of_records_is_never_below_the_mass() -> None:
    """Which is why it is not among the counts: N²/Q ≥ N, as Q ≤ N for responsibilities of at most 1."""
    rows = sample(500)
    r = MODEL.responsibilities(AT, rows)
    mass = component_counts(MODEL, AT, rows)["mass"]
    assert (mass**2 / (r**2).sum(axis=0) >= mass).all()


def test_a_tenant_supports_a_component_from_five_records_on() -> None:
    assert LEAST_ROWS == 5
    halves = np.full((2 * LEAST_ROWS, 2), 0.5)
    np.testing.assert_array_equal(counts_of(halves)["supporting"], [1, 1])
    np.testing.assert_array_equal(counts_of(halves[1:])["supporting"], [0, 0])
    halves[0] = [0.75, 0.25]
    np.testing.assert_array_equal(counts_of(halves)["supporting"], [1, 0])
    np.testing.assert_array_equal(counts_of(np.tile([1.0, 0.0], (900, 1)))["supporting"], [1, 0])
    np.testing.assert_array_equal(counts_of(np.tile([63 / 64, 1 / 64], (320, 1)))["supporting"], [1, 1])


def test_many_rows_are_treated_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sample(5000)
    whole = component_counts(MODEL, AT, rows)
    monkeypatch.setattr(row_blocks, "_MEMORY_ENTRIES", 3)
    most = 0
    responsibilities = GaussianMixtureModel.responsibilities

    def watched(self: GaussianMixtureModel, parameters: Parameters, part: Rows | Records) -> Vector:
        nonlocal most
        most = max(most, len(part))
        return responsibilities(self, parameters, part)

    monkeypatch.setattr(GaussianMixtureModel, "responsibilities", watched)
    parts = component_counts(MODEL, AT, rows)
    assert most == 1024
    np.testing.assert_allclose(parts.vector, whole.vector, rtol=1e-12)
    np.testing.assert_array_equal(parts["supporting"], whole["supporting"])


def test_rows_in_different_parts_support_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "_MEMORY_ENTRIES", 3)
    table = np.tile([1.0, 0.0], (2000, 1))
    table[[0, 1, 1023, 1024, 1999]] = [0.0, 1.0]
    np.testing.assert_array_equal(counts_of(table)["supporting"], [1, 1])
    table[1999] = [1.0, 0.0]
    np.testing.assert_array_equal(counts_of(table)["supporting"], [1, 0])


def test_the_same_rows_give_the_same_bits() -> None:
    rows = sample(3000)
    first, second = component_counts(MODEL, AT, rows), component_counts(MODEL, AT, np.asfortranarray(rows.copy()))
    assert first.vector.tobytes() == second.vector.tobytes()


def test_the_layout_has_an_entry_for_each_component() -> None:
    layout = counts_layout(GaussianMixtureModel(4, 7))
    assert [(block.name, block.shape) for block in layout] == [
        ("count", ()),
        ("mass", (4,)),
        ("supporting", (4,)),
    ]


OF_OBSERVED = [("observed_mass", (4, 7)), ("observed_supporting", (4, 7))]


def test_of_columns_whose_cells_may_be_missing_too() -> None:
    layout = counts_layout(GaussianMixtureModel(4, 7, missing=True))
    assert [(block.name, block.shape) for block in layout][3:] == OF_OBSERVED
    assert all(block.bound == 1.0 for block in layout)


SCHEMA = ColumnSchema((GaussianColumn("x"), CategoricalColumn("y", ("a", "b")), PoissonColumn("z", 9)))


@pytest.mark.parametrize("model", [ObservedMomentsModel(3), MixedMomentsModel(SCHEMA)], ids=lambda model: model.family)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_of_moments_they_are_records_and_observed_cells(model: CountedModel, data: st.DataObject) -> None:
    seen = np.array(data.draw(st.lists(st.tuples(*[st.booleans()] * 3), max_size=20)), dtype=bool).reshape(-1, 3)
    counts = component_counts(model, Parameters({}), np.where(seen, 1.0, np.nan))
    assert counts["mass"] == [len(seen)]
    assert counts["observed_mass"].tolist() == [seen.sum(axis=0).tolist()]
    assert counts["observed_supporting"].tolist() == [(seen.sum(axis=0) >= LEAST_ROWS).tolist()]


@given(n=st.integers(0, 40), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_observed_cells_count_by_definition(n: int, seed: int) -> None:
    model = replace(MODEL, missing=True)
    rows = sample(n, seed)
    rows[np.random.default_rng(seed).random(rows.shape) < 0.4] = np.nan
    r, counts = model.responsibilities(AT, rows), component_counts(model, AT, rows)
    expected = np.zeros((3, rows.shape[1]))
    for i, d in zip(*np.nonzero(~np.isnan(rows)), strict=True):
        expected[:, d] += r[i]
    np.testing.assert_allclose(counts["mass"], r.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(counts["observed_mass"], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(counts["observed_supporting"], counts["observed_mass"] >= LEAST_ROWS)


def test_rows_that_are_not_finite_are_refused() -> None:
    rows = sample(10)
    rows[3, 1] = np.inf
    with pytest.raises(CallerError, match="not finite"):
        component_counts(MODEL, AT, rows)
