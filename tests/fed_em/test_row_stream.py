"""Fits to tables in files that are never whole in memory: the same numbers as in memory, little memory, and clear errors."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from sklearn.base import clone

from fed_em import (
    ColumnSchema,
    Coordinates,
    GaussianMixture,
    GaussianMixtureModel,
    LatentClass,
    MixedMixture,
    Stopping,
    TotalOfRows,
    TotalOfStream,
    fit,
    open_table,
    row_blocks,
)
from fed_em import row_stream as row_stream_module
from fed_em.column_moments import ColumnMoments
from fed_em.columns import CategoricalColumn, GaussianColumn
from fed_em.covariance import COVARIANCE_STRUCTURES
from fed_em.em import Iteration
from fed_em.errors import CallerError
from fed_em.fit_progress import fit_progress
from fed_em.parameters import Parameters
from fed_em.row_stream import in_blocks, survey
from tests.fed_em.mixtures import parameters_of
from tests.fed_em.test_mixed_mixture import SCHEMA, blanked, mixed
from tests.fed_em.test_mixed_mixture import parameters_of as mixed_parameters

Vector = NDArray[np.float64]

N = 2600


def table_of(rows: Vector, schema: ColumnSchema | None = None) -> pa.Table:
    if schema is None:
        return pa.table({f"x{d}": pa.array(column, from_pandas=True) for d, column in enumerate(rows.T)})
    return pa.table(schema.decode(rows))


def written(folder: Path, table: pa.Table, kind: str, n_files: int = 3) -> Path:
    """The table in files of unequal lengths."""
    folder.mkdir(exist_ok=True)
    cuts = [0, *sorted(len(table) * k**2 // n_files**2 for k in range(1, n_files)), len(table)]
    for k, (low, high) in enumerate(pairwise(cuts)):
        part = table.slice(low, high - low)
        if kind == "csv":
            pyarrow.csv.write_csv(part, folder / f"part{k}.csv")
        else:
            pyarrow.parquet.write_table(part, folder / f"part{k}.parquet", row_group_size=700)
    return folder


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that are far fewer rows than a table holds, or than a sample."""
    monkeypatch.setattr(row_blocks, "_MEMORY_ENTRIES", 1)
    monkeypatch.setattr(row_stream_module, "_FEWEST_ROWS", 600)


def clusters(missing: bool) -> Vector:
    model = GaussianMixtureModel(3, 2)
    rows = model.sample(parameters_of("full", spread=2.0), N, np.random.default_rng(0))[0]
    return np.where(np.random.default_rng(1).random(rows.shape) < 0.1, np.nan, rows) if missing else rows


def assert_same(found: Parameters, expected: Parameters) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-9, err_msg=name)


@given(sizes=st.lists(st.integers(0, 9)), size=st.integers(1, 7))
def test_blocks_do_not_depend_on_parts(sizes: list[int], size: int) -> None:
    rows = np.arange(2.0 * sum(sizes)).reshape(-1, 2)
    blocks = list(in_blocks(np.split(rows, np.cumsum(sizes)[:-1]), size))
    assert all(len(block) == size for block in blocks[:-1])
    assert not blocks or 0 < len(blocks[-1]) <= size
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 2)), *blocks]), rows)


@given(st.data())
def test_moments_of_parts_add_up(data: st.DataObject) -> None:
    cells = st.none() | st.integers(-50, 50).map(float)
    rows = np.array(data.draw(st.lists(st.tuples(cells, cells), min_size=1)), dtype=np.float64)
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))), dtype=np.float64)
    cut = data.draw(st.integers(0, len(rows)))
    whole = ColumnMoments.of(rows, weights)
    parts = ColumnMoments.of(rows[:cut], weights[:cut]) + ColumnMoments.of(rows[cut:], weights[cut:])
    for name in ("mass", "mean", "scatter"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-10, atol=1e-9)
    repeated = np.repeat(rows, weights.astype(int), axis=0)
    for d in np.flatnonzero(whole.mass):
        np.testing.assert_allclose(whole.mean[d], np.nanmean(repeated[:, d]), atol=1e-10)
        np.testing.assert_allclose(whole.scatter[d] / whole.mass[d], np.nanvar(repeated[:, d]), atol=1e-8)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
class TestRows:
    def test_they_are_those_of_the_table(self, kind: str, tmp_path: Path, small_blocks: None) -> None:
        rows = blanked(mixed().sample(mixed_parameters(), N, np.random.default_rng(5))[0])
        folder = written(tmp_path / "parts", table_of(rows, SCHEMA), kind)
        blocks = list(open_table(folder).rows(SCHEMA))
        assert [len(block) for block in blocks] == [600] * 4 + [200]
        np.testing.assert_array_equal(np.concatenate(blocks), rows)
        one: Any = written(tmp_path / "one", table_of(rows, SCHEMA), kind, 1)
        sources = [one, [one / f"part0.{kind}"]]
        if kind == "parquet":
            sources.append(pyarrow.dataset.dataset(one, format=kind))
        for source in sources:
            again = list(open_table(source).rows(SCHEMA))
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(blocks, again, strict=True))

    def test_the_schema_is_that_of_the_table(self, kind: str, tmp_path: Path) -> None:
        rows = blanked(mixed().sample(mixed_parameters(), N, np.random.default_rng(5))[0])
        table = table_of(rows, SCHEMA)
        found = ColumnSchema.of_evidence(open_table(written(tmp_path / "parts", table, kind)).evidence())
        assert found == ColumnSchema.infer(SCHEMA.decode(rows))
        assert [column.kind for column in found.columns] == [column.kind for column in SCHEMA.columns]


def test_a_sample_is_the_same_rows_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Numbers:
        n_columns = 1

        def __init__(self, size: int) -> None:
            self.size = size

        def __iter__(self) -> Iterator[Vector]:
            return in_blocks([np.arange(4000.0)[:, np.newaxis]], self.size)

    samples = [survey(Numbers(size), 300).sample.rows[:, 0] for size in (7, 400, 4000)]
    assert np.array_equal(samples[0], samples[1]) and np.array_equal(samples[0], samples[2])
    assert len(np.unique(samples[0])) == 300 and (np.diff(samples[0]) > 0).all()
    # Uniform: the mean of 300 of 4000 without replacement is off by more than 4 standard deviations once in 16 000 seeds.
    assert abs(samples[0].mean() - 1999.5) < 4 * 4000 / np.sqrt(12 * 300)
    np.testing.assert_array_equal(survey(Numbers(100), 5000).sample.rows[:, 0], np.arange(4000.0))


class TestFits:
    """From the same start the same fit, to 1e-9."""

    @pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
    @pytest.mark.parametrize("missing", [False, True])
    def test_gaussian_mixtures(self, structure: Any, missing: bool, tmp_path: Path, small_blocks: None) -> None:
        rows = clusters(missing)
        start = parameters_of(structure, spread=1.5)
        centre = Coordinates(np.nanmean(rows, axis=0), np.ones(2))
        model = GaussianMixtureModel(3, 2, structure, missing=missing)
        table = open_table(written(tmp_path / "parts", table_of(rows), "parquet"))
        streamed = TotalOfStream(model, centre, table.rows(ColumnSchema.infer(rows)))
        stopping = Stopping(0.0, 10)
        expected = fit(model, TotalOfRows(model, centre.apply(rows)), start, stopping)
        found = fit(model, streamed, start, stopping)
        assert_same(found.parameters, expected.parameters)
        np.testing.assert_allclose(found.iterations[-1].objective, expected.iterations[-1].objective, rtol=1e-12)

    @pytest.mark.parametrize("missing", [False, True])
    def test_the_estimator_of_gaussian_mixtures(self, missing: bool, tmp_path: Path, small_blocks: None) -> None:
        rows, sure = clusters(missing), parameters_of("full", spread=1.5)
        given = {
            "weights_init": sure["weights"],
            "means_init": sure["means"],
            "precisions_init": np.linalg.inv(sure["covariances"]),
        }
        table = open_table(written(tmp_path / "parts", table_of(rows), "parquet"))
        here, there = GaussianMixture(3, tol=1e-7, **given).fit(rows), GaussianMixture(3, tol=1e-7, **given).fit(table)
        assert here.n_iter_ == there.n_iter_ and there.converged_
        for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
            np.testing.assert_allclose(getattr(there, name), getattr(here, name), rtol=1e-9, atol=1e-9)
        assert there.feature_names_in_.tolist() == ["x0", "x1"] and there.n_features_in_ == 2
        assert there.anomaly_threshold(0.01) == pytest.approx(here.anomaly_threshold(0.01), abs=1e-8)

    def test_a_start_from_a_sample_ends_where_one_in_memory_does(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = clusters(False)
        monkeypatch.setattr("fed_em.row_stream.survey.__defaults__", (500,))
        table = open_table(written(tmp_path / "parts", table_of(rows), "csv"))
        options: dict[str, Any] = {"n_init": 3, "tol": 1e-10, "max_iter": 500, "random_state": 0}
        here, there = GaussianMixture(3, **options).fit(rows), GaussianMixture(3, **options).fit(table)
        assert len(there.log_densities_) == 500
        assert there.lower_bound_ == pytest.approx(here.lower_bound_, abs=1e-8)
        more = GaussianMixture(3, warm_start=True, **options).fit(table)
        before = more.means_
        assert more.fit(table).n_iter_ <= 2
        np.testing.assert_allclose(more.means_, before, atol=1e-4)

    @pytest.mark.parametrize("kind", ["csv", "parquet"])
    def test_mixed_columns(self, kind: str, tmp_path: Path, small_blocks: None) -> None:
        rows = blanked(mixed().sample(mixed_parameters(), N, np.random.default_rng(5))[0])
        table = open_table(written(tmp_path / "parts", table_of(rows, SCHEMA), kind))
        centre = Coordinates.identity(len(SCHEMA.columns))
        stopping = Stopping(0.0, 15)
        expected = fit(mixed(), TotalOfRows(mixed(), rows), mixed_parameters(), stopping)
        found = fit(mixed(), TotalOfStream(mixed(), centre, table.rows(SCHEMA)), mixed_parameters(), stopping)
        assert_same(found.parameters, expected.parameters)

    def test_the_estimator_of_mixed_columns(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = blanked(mixed().sample(mixed_parameters(), N, np.random.default_rng(5))[0])
        monkeypatch.setattr("fed_em.row_stream.survey.__defaults__", (1000,))
        table = open_table(written(tmp_path / "parts", table_of(rows, SCHEMA), "parquet"))
        options: dict[str, Any] = {"n_init": 2, "random_state": 0, "tol": 1e-10}
        here, there = MixedMixture(2, **options).fit(SCHEMA.decode(rows)), MixedMixture(2, **options).fit(table)
        assert there.schema_ == here.schema_ and len(there.log_densities_) == 1000
        assert there.lower_bound_ == pytest.approx(here.lower_bound_, abs=1e-8)
        fewer = MixedMixture(3, least_weight=0.34, **{**options, "tol": 1e-3}).fit(table)
        assert fewer.n_components_ == 3 - fewer.n_pruned_ < 3

    def test_latent_classes(self, tmp_path: Path, small_blocks: None) -> None:
        generator = np.random.default_rng(2)
        classes = generator.integers(0, 2, N)
        cells = generator.random((N, 4)) < np.where(classes[:, np.newaxis], 0.8, 0.25)
        words = {f"item {d}": np.where(column, "yes", "no").tolist() for d, column in enumerate(cells.T)}
        table = open_table(written(tmp_path / "parts", pa.table(words), "csv"))
        options: dict[str, Any] = {"n_init": 2, "random_state": 0, "tol": 1e-11}
        here, there = LatentClass(2, **options).fit(words), LatentClass(2, **options).fit(table)
        assert there.schema_ == here.schema_
        # All rows are in the sample, so both start at the same place; one goes on from where the other ends.
        assert there.lower_bound_ == pytest.approx(here.lower_bound_, abs=1e-9)
        assert there.n_iter_ <= 3


class TestUses:
    """What a fitted mixture says of a table in files is what it says of the same rows in memory, row by row."""

    @pytest.mark.parametrize(("kind", "missing"), [("csv", True), ("parquet", False)])
    def test_gaussian_mixtures(self, kind: str, missing: bool, tmp_path: Path, small_blocks: None) -> None:
        rows = clusters(missing)
        table = open_table(written(tmp_path / "parts", table_of(rows), kind))
        model = GaussianMixture(3, random_state=0, tol=1e-2).fit(rows)
        assert_same_uses(model, table, rows)

    def test_mixed_mixtures(self, tmp_path: Path, small_blocks: None) -> None:
        rows = blanked(mixed().sample(mixed_parameters(), N, np.random.default_rng(5))[0])
        table = open_table(written(tmp_path / "parts", table_of(rows, SCHEMA), "parquet"))
        model = MixedMixture(2, schema=SCHEMA, n_init=1, random_state=0, tol=1e-2).fit(SCHEMA.decode(rows))
        assert_same_uses(model, table, rows, SCHEMA.decode)
        draws = [each.draws for each in model.impute_blocks(table, n_draws=2, random_state=0)]
        drawn = np.concatenate(draws, axis=1)
        with pytest.raises(CallerError, match="takes a table in memory"):
            model.bootstrap(table)
        seen = ~np.isnan(rows)
        assert drawn.shape == (2, *rows.shape) and not np.isnan(drawn).any()
        np.testing.assert_array_equal(drawn[:, seen], np.stack([rows[seen]] * 2))

    def test_little_is_held(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of rows, that is: what is found of each row is eight bytes, once in its block and once among all."""
        monkeypatch.setattr(row_blocks, "_MEMORY_ENTRIES", 2**14)
        path, generator, d, peaks = tmp_path / "rows.parquet", np.random.default_rng(0), 16, []
        model = GaussianMixture(2, covariance_type="diag", tol=1.0).fit(generator.normal(size=(1000, d)))
        for n in (1000, 10_000, 40_000):
            pyarrow.parquet.write_table(table_of(generator.normal(size=(n, d))), path, row_group_size=5000)
            tracemalloc.start()
            assert len(model.predict(open_table(path))) == n
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[2] - peaks[1] < 16 * 30_000 + 2**19 < 0.3 * 8 * d * 30_000


def assert_same_uses(
    model: GaussianMixture | MixedMixture,
    table: Any,
    rows: Vector,
    as_table: Callable[[Vector], Any] = lambda rows: rows,
) -> None:
    """Bit for bit as of the same blocks in memory, and as near as rounding goes to all rows at once."""
    blocks = [as_table(rows[start : start + 600]) for start in range(0, N, 600)]
    whole = as_table(rows)
    for use in (model.predict, model.predict_proba, model.score_samples):
        found = use(table)
        np.testing.assert_array_equal(found, np.concatenate(list(map(use, blocks))))
        np.testing.assert_allclose(found, use(whole), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(model.predict(table), model.predict(whole))
    for criterion in (model.score, model.bic, model.aic):
        assert criterion(table) == pytest.approx(criterion(whole), rel=1e-12)
    filled, all_filled = list(model.impute_blocks(table)), model.impute(whole)
    for name in ("rows", "deviations", "probabilities"):
        for each, block in zip(filled, blocks, strict=True):
            np.testing.assert_array_equal(getattr(each, name), getattr(model.impute(block), name))
        found = np.concatenate([getattr(each, name) for each in filled])
        np.testing.assert_allclose(found, getattr(all_filled, name), rtol=1e-9, atol=1e-9)


class TestWeightsAndLabels:
    """Columns of the table, as the same arrays beside the same rows."""

    def notes(self, n_components: int) -> tuple[Vector, list[str | None], NDArray[np.bool_]]:
        generator = np.random.default_rng(7)
        weights = generator.integers(0, 4, N).astype(np.float64)
        admissible = generator.random((N, n_components)) < 0.6
        admissible |= ~admissible.any(axis=1, keepdims=True)
        texts = ["|".join(map(str, np.flatnonzero(row))) for row in admissible]
        return weights, [None if row.all() else text for text, row in zip(texts, admissible, strict=True)], admissible

    @pytest.mark.parametrize(("which", "kind"), [(("w",), "csv"), (("k",), "parquet"), (("w", "k"), "csv")])
    def test_gaussian_mixtures(self, which: tuple[str, ...], kind: str, tmp_path: Path, small_blocks: None) -> None:
        rows, (weights, labels, admissible) = clusters(True), self.notes(3)
        table = table_of(rows).append_column("w", pa.array(weights)).append_column("k", pa.array(labels))
        table = table.select(["k", "x0", "w", "x1"] if len(which) == 2 else ["x0", *which, "x1"])
        opened = open_table(written(tmp_path / "parts", table, kind), text=["k"])
        sure = parameters_of("full", spread=1.5)
        model = GaussianMixture(
            3, tol=1e-3, weights_init=sure["weights"], means_init=sure["means"], precisions_init=np.linalg.inv(sure["covariances"])
        )  # fmt: skip
        there = clone(model).fit(
            opened, sample_weight="w" if "w" in which else None, admissible="k" if "k" in which else None
        )
        here = model.fit(
            rows, sample_weight=weights if "w" in which else None, admissible=admissible if "k" in which else None
        )
        assert here.n_iter_ == there.n_iter_ and there.converged_
        for name in ("weights_", "means_", "covariances_", "lower_bounds_", "log_densities_"):
            np.testing.assert_allclose(getattr(there, name), getattr(here, name), rtol=1e-8, atol=1e-8)
        assert there.feature_names_in_.tolist() == ["x0", "x1"]
        np.testing.assert_array_equal(there.predict(opened), here.predict(rows))

    def test_mixed_mixtures(self, tmp_path: Path, small_blocks: None) -> None:
        rows = blanked(mixed().sample(mixed_parameters(), N, np.random.default_rng(5))[0])
        weights, labels, admissible = self.notes(2)
        table = table_of(rows, SCHEMA).append_column("w", pa.array(weights)).append_column("k", pa.array(labels))
        opened = open_table(written(tmp_path / "parts", table, "csv"), text=["k"])
        model = MixedMixture(2, n_init=1, random_state=0, tol=1e-9)
        there = clone(model).fit(opened, sample_weight="w", admissible="k")
        here = model.fit(SCHEMA.decode(rows), sample_weight=weights, admissible=admissible)
        assert there.schema_ == here.schema_
        assert there.lower_bound_ == pytest.approx(here.lower_bound_, abs=1e-8)
        np.testing.assert_allclose(there.means_, here.means_, atol=1e-3)

    def test_a_label_may_be_a_number(self, tmp_path: Path) -> None:
        table = pa.table({"x": [0.0, 0.1, 5.0, 5.1, 2.5], "k": [1, 1, 0, None, None]})
        opened = open_table(written(tmp_path / "parts", table, "csv", 1))
        model = GaussianMixture(2, tol=1e-9, random_state=0).fit(opened, admissible="k")
        assert model.means_[1, 0] < 1 < model.means_[0, 0]


class TestMemory:
    """What is held does not grow with the table."""

    def test_a_fit_holds_little_whatever_the_table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What NumPy holds: the peak of four times the rows is the same. What Arrow holds is in the slow test."""
        monkeypatch.setattr(row_blocks, "_MEMORY_ENTRIES", 2**17)
        d, peaks = 16, []
        columns = ColumnSchema(tuple(GaussianColumn(f"x{k}") for k in range(d)))
        model = GaussianMixtureModel(2, d, "diag")
        start = Parameters({"weights": np.ones(2) / 2, "means": np.eye(2, d), "covariances": np.ones((2, d))})
        generator = np.random.default_rng(0)
        for n in (1000, 50_000, 200_000):
            table = pa.table(
                {column.name: generator.standard_normal(n, dtype=np.float32) for column in columns.columns}
            )
            pyarrow.parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=20_000)
            rows = open_table(tmp_path / "rows.parquet").rows(columns)
            tracemalloc.start()
            try:
                centre = Coordinates(survey(rows).moments.mean, np.ones(d))
                fit(model, TotalOfStream(model, centre, rows), start, Stopping(0.0, 1))
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        assert peaks[2] < 1.1 * peaks[1] < 8 * 200_000 * d / 2

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["parquet", "csv"])
    def test_a_process_holds_a_fraction_of_a_table(self, kind: str, tmp_path: Path) -> None:
        """A table of 640 MB (240 MB from CSV) is fitted with the memory of the process growing by less than 120 MB."""
        n, d, n_files = (8 * 10**6, 10, 4) if kind == "parquet" else (3 * 10**6, 10, 4)
        for k in range(n_files):
            generator = np.random.default_rng(k)
            part = pa.table({f"x{j}": generator.integers(0, 1000, n // n_files) / 8.0 for j in range(d)})
            if kind == "parquet":
                pyarrow.parquet.write_table(part, tmp_path / f"{k}.parquet")
            else:
                pyarrow.csv.write_csv(part, tmp_path / f"{k}.csv")
        done = subprocess.run(
            [sys.executable, "-c", _FIT_IN_A_PROCESS, str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        before, after, rows = map(float, done.stdout.split())
        assert rows == n
        assert after - before < 120, f"from {before:.0f} to {after:.0f} MB"


# Peak resident memory in MB: with everything imported and a small fit done, and after the fit to the folder.
_FIT_IN_A_PROCESS = """
import resource, sys
import numpy as np
from fed_em import GaussianMixture, open_table
from fed_em.em import Summed
from fed_em.row_stream import survey

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

small = np.random.default_rng(0).normal(size=(20_000, 10))
GaussianMixture(2, max_iter=3).fit(small)
before = peak()
model = GaussianMixture(2, tol=0.0, max_iter=2, random_state=0).fit(open_table(sys.argv[1]))
print(before, peak(), model._last_iteration.records)
"""


class TestProgress:
    def shown(self, terminal: bool, wanted: bool = True) -> str:
        console = Console(file=StringIO(), force_terminal=terminal, width=100)
        with fit_progress(100, wanted, console) as progress:
            for number in (1, 2):
                progress.passed(60)
                progress.passed(40)
                iteration = Iteration(number, -1.5, -1.25, 100.0, (), (), (), Parameters({}))
                progress.iterated(iteration)
        return console.file.getvalue()  # type: ignore[attr-defined]

    def test_it_tells_the_rate_the_iteration_and_the_log_likelihood(self) -> None:
        said = self.shown(terminal=True)
        assert "iteration 2, log-likelihood -1.250000 nats a row" in said
        assert "rows/s" in said

    @pytest.mark.parametrize("estimator", ["gaussian", "mixed"])
    def test_every_pass_of_a_fit_is_shown_from_the_first_on(
        self, estimator: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "120")
        path = tmp_path / "table.csv"
        np.savetxt(path, np.random.default_rng(0).normal(size=(300, 2)), delimiter=",", header="a,b", comments="")
        options: dict[str, Any] = {"n_init": 2, "max_iter": 3, "tol": 1e9, "random_state": 0}
        model = GaussianMixture(2, **options) if estimator == "gaussian" else MixedMixture(2, **options)
        model.fit(open_table(path))
        said = capfd.readouterr().err
        steps = ["moments of the columns, and a sample", "start 1 of 2, on a sample", "start 2 of 2", "iteration 1"]
        if estimator == "mixed":
            steps.insert(0, "kinds of the columns")
        places = [said.find(step) for step in steps]
        assert -1 not in places and places == sorted(places)
        # How many rows there are is known once they were read.
        first, rest = said[: places[1]], said[places[-1] :]
        assert ("100%" in first) and "100%" in rest
        for use in (model.predict, model.score_samples, lambda table: list(model.impute_blocks(table))):
            use(open_table(path))
            assert "rows read" in capfd.readouterr().err

    def test_it_is_silent_where_nobody_watches_or_wants_it(
        self, capfd: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        assert not self.shown(terminal=False).strip()
        assert not self.shown(terminal=True, wanted=False).strip()
        GaussianMixture(2, max_iter=2, tol=1e9).fit(
            open_table(written(tmp_path / "parts", table_of(clusters(False)), "csv"))
        )
        assert capfd.readouterr() == ("", "")


class TestErrors:
    """They name the file and the column and quote no cell."""

    def test_no_file_no_rows_no_column(self, tmp_path: Path) -> None:
        with pytest.raises(CallerError, match="no file or folder"):
            open_table(tmp_path / "absent.csv")
        with pytest.raises(CallerError, match="holds no"):
            open_table(tmp_path)
        with pytest.raises(CallerError, match="no file is named"):
            open_table([])
        (tmp_path / "rows.txt").write_text("a\n1\n")
        with pytest.raises(CallerError, match=r"ending in '\.txt'"):
            open_table(tmp_path / "rows.txt")
        one, other = tmp_path / "one.csv", tmp_path / "other.csv"
        one.write_text("height,b\n1,2\n")
        other.write_text("hight,b\n1,2\n")
        with pytest.raises(CallerError, match=r"other\.csv has no column 'height'.*'hight'"):
            open_table([one, other])
        assert open_table([one, other], ["b"]).names == ("b",)
        one.write_text("a,b\n")
        with pytest.raises(CallerError, match="no rows"):
            GaussianMixture().fit(open_table(one))

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        for name in ("rows.parquet", "rows.csv"):
            (tmp_path / name).write_bytes(b"secret" if name.endswith("parquet") else b"")
            with pytest.raises(CallerError, match=f"{name} is no readable table") as caught:
                open_table(tmp_path / name)
            assert "secret" not in str(caught.value)

    def test_a_cell_of_another_type(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv"
        path.write_text("a,code\n" + "1.5,100\n" * 200_000 + "2,secret\n")
        with pytest.raises(
            CallerError, match=r"column 'code' holds values that are no double.*text=\['code'\]"
        ) as caught:
            open_table(path).evidence()
        assert "secret" not in str(caught.value)
        seen = open_table(path, text=["code"]).evidence()["code"]
        assert seen.levels == ("100", "secret")

    def test_cells_that_do_not_fit_the_schema(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv"
        path.write_text("ward\nnorth\nwest\n\nwest\n")
        rows = open_table(path).rows(ColumnSchema((CategoricalColumn("ward", ("north", "south")),)))
        with pytest.raises(CallerError, match="2 values of column 'ward' are none of its 2 levels"):
            list(rows)
        with pytest.raises(CallerError, match="3 values of column 'ward' are not numbers"):
            GaussianMixture().fit(open_table(path))

    def test_weights_and_labels_are_columns_of_the_table(self, tmp_path: Path) -> None:
        table = pa.table({"x": [0.0, 1.0, 2.0], "w": [1.0, -1.0, None], "k": ["0", "2|x", "7"]})
        opened = open_table(written(tmp_path / "parts", table, "parquet"))
        for model in (GaussianMixture(2), MixedMixture(2)):
            with pytest.raises(CallerError, match="sample_weight of a table that is not in memory is an array"):
                model.fit(opened, sample_weight=np.ones(3))
            with pytest.raises(CallerError, match="2 values of column 'w' are no weights"):
                model.fit(opened, sample_weight="w", admissible="k")
            with pytest.raises(CallerError, match="2 values of column 'k' are no components from 0 to 1"):
                model.fit(opened, admissible="k")
            with pytest.raises(CallerError, match="no column 'v'"):
                model.fit(opened, sample_weight="v")
        zeros = open_table(written(tmp_path / "zeros", pa.table({"x": [0.0, 1.0], "w": [0.0, 0.0]}), "csv"))
        with pytest.raises(CallerError, match="every weight"):
            GaussianMixture().fit(zeros, sample_weight="w")
        with pytest.raises(CallerError, match="column 'k' holds values that are not numbers"):
            GaussianMixture().fit(opened, sample_weight="k", admissible="w")

    def test_a_filled_table_is_not_held(self, tmp_path: Path) -> None:
        table = open_table(written(tmp_path / "parts", table_of(clusters(False)), "csv"))
        model = GaussianMixture(2, max_iter=2, tol=1e9).fit(table)
        with pytest.raises(CallerError, match="block by block"):
            model.impute(table)
        with pytest.raises(CallerError, match="the table has 1 columns"):
            GaussianMixture().fit(clusters(False)).predict(
                open_table(written(tmp_path / "one", pa.table({"x": [1.0]}), "csv"))
            )
