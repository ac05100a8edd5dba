"""Heterogeneity of real rows: whatever their columns are, tenants differ as it is said, and rows stay those of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from fed_em.columns import BernoulliColumn, CategoricalColumn, GaussianColumn, PoissonColumn
from fed_em.errors import CallerError
from fed_em_simulations.divided_table import DividedTable
from fed_em_simulations.methods_experiment import MethodsExperiment
from fed_em_simulations.partitions import homes_by_tilt
from fed_em_simulations.random_streams import stream
from fed_em_simulations.sessions_experiment import SessionsExperiment

N = 6000
COLUMNS = ("height", "answer", "smokes", "visits")
KINDS = {"categorical": ("answer",), "bernoulli": ("smokes",), "poisson": ("visits",)}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of people, who differ in all four columns; a few visits are not known."""
    generator = stream(0, "table")
    kind = generator.integers(0, 2, N)
    visits = generator.poisson(np.array([1.0, 6.0])[kind]).astype(float)
    visits[::97] = np.nan
    columns = {
        "height": np.array([160.0, 180.0])[kind] + 5 * generator.standard_normal(N),
        "answer": np.array(["no", "perhaps", "yes"])[np.minimum(kind + generator.integers(0, 2, N), 2)],
        "smokes": (generator.random(N) < np.array([0.1, 0.6])[kind]).astype(float),
        "visits": visits,
        "kind": np.array(["a", "b"])[kind],
    }
    path = tmp_path_factory.mktemp("tables") / "people.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def divided(table: Path, **said: object) -> DividedTable:
    return DividedTable.model_validate({"table": str(table), "columns": COLUMNS, "tenants": 10, **KINDS, **said})


def test_columns_are_of_the_kinds_that_are_said(table: Path) -> None:
    tenants = divided(table, label="kind").draw(0)
    assert tenants.schema is not None
    kinds = [type(column) for column in tenants.schema.columns]
    assert kinds == [GaussianColumn, CategoricalColumn, BernoulliColumn, PoissonColumn]
    (visits,) = (column for column in tenants.schema.columns if isinstance(column, PoissonColumn))
    held = np.concatenate([tenants.pooled.rows, *(one.held_out for one in tenants.members)])
    assert visits.upper == np.nanmax(pq.read_table(table)["visits"].to_numpy()) >= np.nanmax(held[:, 3]) > 5


class TestTilt:
    def test_means_of_sites_are_off_by_as_much_as_is_said(self) -> None:
        """Of normal columns and a small strength the mean of site c is strength · (u_c − ū): a slope over 40 means of 2000 rows each.

        Its standard error is 0.016 of it; 5 of them, and as much for what is of higher order in the strength.
        """
        z, strength = stream(0, "z").standard_normal((40_000, 2)), 0.3
        homes = homes_by_tilt(z, np.ones(20), strength, stream(0, "tilt"))
        directions = stream(0, "tilt").standard_normal((2, 20)) / np.sqrt(2)
        means = np.array([z[homes == c].mean(axis=0) for c in range(20)])
        slope = np.polyfit((directions - directions.mean(axis=1, keepdims=True)).T.ravel(), means.ravel(), 1)[0]
        assert abs(slope / strength - 1) < 0.16

    def test_sizes_are_those_that_are_said_where_nothing_is_tilted(self) -> None:
        homes = homes_by_tilt(np.zeros((40_000, 1)), np.array([3.0, 1.0]), 0.5, stream(0, "tilt"))
        assert abs((homes == 0).mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 40_000)

    def test_every_kind_of_column_is_shifted_and_every_row_is_a_true_one(self, table: Path) -> None:
        tilted, alike = (divided(table, **said).draw(0) for said in ({"tilt": 1.5}, {}))

        def spread(tenants: object) -> np.ndarray:
            means = [np.nanmean(one.records.rows, axis=0) for one in tenants.members]  # type: ignore[attr-defined]
            return np.std(means, axis=0)

        assert (spread(tilted) > 3 * spread(alike)).all()
        rows = np.concatenate([tilted.pooled.rows, *(one.held_out for one in tilted.members)])
        ours = {row.tobytes() for row in np.nan_to_num(rows, nan=-1.0)}
        true = {row.tobytes() for row in np.nan_to_num(np.concatenate([alike.pooled.rows]), nan=-1.0)}
        assert len(ours & true) > 0.5 * len(true)


class TestFeatures:
    def test_numbers_are_measured_otherwise_at_each_site_and_other_columns_are_not(self, table: Path) -> None:
        shifted, plain = (divided(table, **said).draw(0) for said in ({"features": {"offset": 1.0, "scale": 0.2}}, {}))
        for moved, before in zip(shifted.members, plain.members, strict=True):
            np.testing.assert_array_equal(moved.records.rows[:, 1:], before.records.rows[:, 1:])
            # The same change for rows to train on and rows held out.
            slope, at = np.polyfit(before.records.rows[:, 0], moved.records.rows[:, 0], 1)
            np.testing.assert_allclose(at + slope * before.held_out[:, 0], moved.held_out[:, 0])
            assert abs(slope - 1) > 1e-4
        pairs = zip(shifted.members, plain.members, strict=True)
        offsets = [moved.records.rows[:, 0].mean() - before.records.rows[:, 0].mean() for moved, before in pairs]
        deviation = plain.pooled.rows[:, 0].std()
        assert 0.4 < np.std(offsets) / deviation < 1.8, "ten draws of a standard deviation of 1"


@pytest.mark.parametrize("mechanism", ["mcar", "mar", "mnar"])
def test_cells_go_missing_for_the_reason_that_is_said(table: Path, mechanism: str) -> None:
    missing = {"rate": 0.3, "mechanism": mechanism, "strength": 2.0}
    holed, plain = divided(table, missing=missing).draw(0), divided(table).draw(0)
    rows, before = holed.pooled.rows, plain.pooled.rows
    gone = np.isnan(rows) & ~np.isnan(before)
    np.testing.assert_array_equal(rows[~np.isnan(rows)], before[~np.isnan(rows)])
    rates = gone.mean(axis=0)
    noise = 5 * np.sqrt(0.21 / len(rows)) + 0.01  # the visits that nobody knows
    assert (np.abs(rates[1:] - 0.3) < noise).all() and (rates[0] == 0) == (mechanism == "mar")
    seen = ~np.isnan(before[:, 3])
    with_own = np.corrcoef(gone[seen, 3], before[seen, 3])[0, 1]
    with_first = np.corrcoef(gone[:, 2], before[:, 0])[0, 1]
    assert (with_own > 0.3) == (mechanism == "mnar") or mechanism == "mar"
    assert (with_first > 0.3) == (mechanism == "mar") or mechanism == "mnar"
    assert not any(np.isnan(one.held_out).any() for one in holed.members)


def test_a_scenario_fits_what_real_rows_are(table: Path) -> None:
    data = divided(
        table, label="kind", mixing={"concentration": 0.5}, sizes={"exponent": 0.5}, missing={"rate": 0.1}, tenants=4
    )
    told = {"data": data.model_dump(), "model": {"components": 2, "prior": True}, "rounds": 10, "starts": 2}
    rows = MethodsExperiment.model_validate({**told, "methods": ["pooled", "increments"]}).run(0)
    assert [row["failure"] for row in rows] == ["", ""]
    assert all(float(row["ari"] or 0) > 0.5 and abs(float(row["loss"] or 0)) < 0.01 for row in rows)


@pytest.mark.slow
def test_a_session_of_real_rows_of_all_kinds(table: Path) -> None:
    data = divided(table, tilt=1.0, missing={"rate": 0.1, "mechanism": "mar"}, tenants=4)
    (row,) = SessionsExperiment.model_validate(
        {"data": data.model_dump(), "model": {"components": 2}, "rounds": 3}
    ).run(0)
    assert row["failure"] == "" and row["sums"] == 3 and np.isfinite(float(row["loss"] or np.nan))


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"by": "kind", "tilt": 1.0, "tenants": 10}, "leave out tenants, mixing and tilt"),
        ({"label": "kind", "mixing": {"concentration": 1}, "tilt": 1.0}, "leave out mixing or tilt"),
        ({"bernoulli": ["answer"]}, "'answer' is of two kinds"),
        ({"poisson": ["weight"]}, "'weight' is not among the columns"),
        ({"columns": ["answer"], "bernoulli": [], "poisson": [], "features": {"offset": 1}}, "spread rows by `tilt`"),
        ({"tilt": 0.0}, "greater than 0"),
    ],
)
def test_what_does_not_go_together_is_refused(table: Path, said: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        divided(table, **said)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"bernoulli": ("smokes", "height")}, "'height' is not 0 or 1"),
        ({"poisson": ("height",)}, "'height' is not counts"),
    ],
)
def test_cells_that_are_of_another_kind_are_named(table: Path, said: dict[str, object], complaint: str) -> None:
    with pytest.raises(CallerError, match=complaint):
        divided(table, **said).draw(0)
