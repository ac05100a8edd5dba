"""`fed-em fit`, `schema`, `predict`, `score` and `impute` over files and folders of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from mixed_federation import LABELS, WEIGHTS, mixed_session, mixed_tables, write_mixed_federation
from small_federation import COLUMNS, clustered_rows, session_toml
from test_missing_columns import WITH_MISSING
from typer.testing import CliRunner

from fed_em import GaussianMixture, MixedMixture, row_blocks, row_stream
from fed_em.columns import ColumnSchema
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.model_file import load_model, save_model
from fed_em.schema_file import read_schema
from fed_em.table_files import open_table
from fed_em_client.rows import read_records
from fed_em_server.configuration import read_server_configuration
from fed_em_server.pooled import fit_pooled, fit_table
from fed_em_simulations import command_line


def said(*arguments: object) -> str:
    result = CliRunner().invoke(command_line.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "session.toml"
    path.write_text(session_toml(fit="tolerance = 0.0\nmax_iterations = 6", columns=WITH_MISSING))
    return path


def folder_of(rows: np.ndarray, path: Path) -> Path:
    path.mkdir()
    table = pa.table({name: pa.array(column, from_pandas=True) for name, column in zip(COLUMNS, rows.T, strict=True)})
    pyarrow.csv.write_csv(table.slice(0, 70), path / "a.csv")
    pyarrow.parquet.write_table(table.slice(70, 50), path / "b.parquet")
    pyarrow.parquet.write_table(table.slice(120), path / "c.parquet")
    return path


def test_a_folder_is_fitted_as_the_rows_in_memory_are(tmp_path: Path, session: Path) -> None:
    rows = np.concatenate(list(clustered_rows((60, 50, 40)).values()))
    rows[::7, 1] = np.nan
    folder = folder_of(rows, tmp_path / "rows")
    assert said("fit", session, folder, "--output", tmp_path / "model").startswith("150 rows, log-likelihood")
    parsed = read_server_configuration(session)
    expected, _ = fit_pooled(parsed.description, rows, parsed.fit.stopping, parsed.fit.seed)
    found = load_model(tmp_path / "model")
    assert found.provenance == expected.provenance
    for name, array in expected.parameters.items():
        np.testing.assert_allclose(found.parameters[name], array, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.coordinates.scale, expected.coordinates.scale, rtol=1e-12)
    files = sorted(folder.iterdir())
    said("fit", session, *files, "--output", tmp_path / "again", "--no-progress")
    np.testing.assert_array_equal(load_model(tmp_path / "again").parameters["means"], found.parameters["means"])


@pytest.mark.parametrize(("d", "cell", "complaint"), [(1, 21.0, "'b' is outside"), (0, np.nan, "'a' has 1 missing")])
def test_what_the_session_does_not_admit_is_named(
    d: int, cell: float, complaint: str, tmp_path: Path, session: Path
) -> None:
    session.write_text(session_toml(columns=session_toml().split("[model]")[1].split('covariance = "full"')[1]))
    rows = np.concatenate(list(clustered_rows((60, 50, 40)).values()))
    rows[130, d] = cell
    with pytest.raises(CallerError, match=complaint):
        said("fit", session, folder_of(rows, tmp_path / "rows"), "--output", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_schema_of_a_folder_is_shown_and_can_be_read(tmp_path: Path) -> None:
    rows = np.concatenate(list(clustered_rows((60, 50, 40)).values()))
    rows[:, 0] = np.abs(np.round(rows[:, 0]))
    rows[::7, 1] = np.nan
    folder = folder_of(rows, tmp_path / "rows")
    shown = said("schema", folder)
    assert 'kind = "poisson"' in shown and "22 missing" in shown
    said("schema", folder, "--output", tmp_path / "schema.toml")
    assert (tmp_path / "schema.toml").read_text() == shown
    expected = ColumnSchema.infer(dict(zip(COLUMNS, rows.T, strict=True)))
    assert read_schema(tmp_path / "schema.toml") == expected


def test_mixed_columns_are_fitted_as_they_are_in_memory(tmp_path: Path) -> None:
    federation = write_mixed_federation(tmp_path / "f", mixed_tables((30, 40, 50)), mixed_session("full"))
    data = [federation.tenant(name).data for name in federation.tenant_files]
    assert said("fit", federation.session_file, *data, "--output", tmp_path / "model").startswith("120 rows")
    parsed = read_server_configuration(federation.session_file)
    records = read_records(data, parsed.description, {}, 1000)
    expected, _ = fit_pooled(parsed.description, records, parsed.fit.stopping, parsed.fit.seed)
    found = load_model(tmp_path / "model")
    for name, array in expected.parameters.items():
        np.testing.assert_allclose(found.parameters[name], array, rtol=1e-9, atol=1e-9, err_msg=name)
    with pytest.raises(CallerError, match="the data has 70 rows, the roster's row cap of this tenant is 69"):
        read_records(data, parsed.description, {}, 69)


@pytest.mark.parametrize("besides", [LABELS, WEIGHTS, LABELS + WEIGHTS])
def test_weights_and_labels_are_columns_of_the_files(
    besides: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_blocks, "_MEMORY_ENTRIES", 1)
    monkeypatch.setattr(row_stream, "_FEWEST_ROWS", 50)
    federation = write_mixed_federation(tmp_path / "f", mixed_tables((30, 40, 50)), mixed_session("full", besides))
    data = [federation.tenant(name).data for name in federation.tenant_files]
    assert said("fit", federation.session_file, *data, "--output", tmp_path / "model").startswith("120 rows")
    parsed = read_server_configuration(federation.session_file)
    records = read_records(data, parsed.description, {}, 1000)
    assert not records.bare
    expected, _ = fit_pooled(parsed.description, records, parsed.fit.stopping, parsed.fit.seed)
    found = load_model(tmp_path / "model")
    assert found.provenance == expected.provenance
    for name, array in expected.parameters.items():
        np.testing.assert_allclose(found.parameters[name], array, rtol=1e-9, atol=1e-9, err_msg=name)
    if "weights" in besides:
        session = federation.session_file.read_text().replace(WEIGHTS, WEIGHTS.replace("20", "1.5"))
        federation.session_file.write_text(session)
        with pytest.raises(CallerError, match=r"rows have weights above the session's largest, 1\.5"):
            said("fit", federation.session_file, *data, "--output", tmp_path / "model")


@pytest.mark.parametrize("table", ['\nmixing = "tenant"\n', "\n[stream]\nbatches = 4\nstep_size = 0.5\n"])
def test_what_needs_all_rows_at_once_is_fitted_in_memory(table: str, tmp_path: Path, session: Path) -> None:
    model = session_toml().split("[model]")[1].split("[[columns]]")[0]
    session.write_text(session_toml(model.strip() + table, "max_iterations = 4", columns=WITH_MISSING))
    rows = np.concatenate(list(clustered_rows((60, 50, 40)).values()))
    said_of_it = said("fit", session, folder_of(rows, tmp_path / "rows"), "--output", tmp_path / "model")
    assert ("a stream ended after 4" in said_of_it) == ("stream" in table)
    parsed = read_server_configuration(session)
    expected, _ = fit_pooled(parsed.description, rows, parsed.fit.stopping, parsed.fit.seed)
    found = load_model(tmp_path / "model")
    for name, array in expected.parameters.items():
        np.testing.assert_allclose(found.parameters[name], array, rtol=1e-9, atol=1e-9)
    with pytest.raises(CallerError, match="needs all rows at hand"):
        fit_table(parsed.description, open_table(tmp_path / "rows"), parsed.fit.stopping, parsed.fit.seed)


class TestUses:
    """`fed-em predict`, `fed-em score` and `fed-em impute` go through a folder block by block."""

    @pytest.fixture(autouse=True)
    def _small_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(row_blocks, "_MEMORY_ENTRIES", 1)
        monkeypatch.setattr(row_stream, "_FEWEST_ROWS", 40)

    @pytest.fixture
    def rows(self) -> np.ndarray:
        rows = np.concatenate(list(clustered_rows((60, 50, 40)).values()))
        rows[::7, 1] = np.nan
        return rows

    @pytest.fixture
    def model(self, rows: np.ndarray, tmp_path: Path) -> Path:
        fitted = GaussianMixture(2, random_state=0, tol=1e-2).fit(rows).to_fitted_model(COLUMNS)
        save_model(tmp_path / "model", fitted)
        return tmp_path / "model"

    def test_a_folder_is_treated_as_its_rows_in_memory(self, rows: np.ndarray, model: Path, tmp_path: Path) -> None:
        fitted, folder = load_model(model), folder_of(rows, tmp_path / "rows")
        densities, probabilities = fitted.score_samples(rows), fitted.predict_proba(rows)
        assert f"150 rows, mean log density {densities.mean():.6f} nats" in said("score", model, folder)
        for suffix, read in ((".csv", pyarrow.csv.read_csv), (".parquet", pyarrow.parquet.read_table)):
            out = tmp_path / f"out{suffix}"
            assert not said("score", model, folder, "--output", out)
            np.testing.assert_allclose(read(out)["log_density"], densities, rtol=1e-12)
            said("predict", model, folder, "--output", out)
            np.testing.assert_array_equal(read(out)["component"], probabilities.argmax(axis=1))
            np.testing.assert_allclose(read(out)["probability"], probabilities.max(axis=1), rtol=1e-12)
        assert (tmp_path / "out.csv").read_text() == said("predict", model, folder)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out.csv", "out.parquet", "rows"]

    def test_a_fault_in_a_later_block_leaves_no_file(self, rows: np.ndarray, model: Path, tmp_path: Path) -> None:
        rows[140, 0] = np.inf
        folder = folder_of(rows, tmp_path / "rows")
        for out in (tmp_path / "out.csv", tmp_path / "out.parquet"):
            with pytest.raises(CallerError, match="1 values of column 'a' are not finite"):
                said("score", model, folder, "--output", out)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "rows"]
        with pytest.raises(CallerError, match=r"cannot write '\.txt' files"):
            said("score", model, folder, "--output", tmp_path / "out.txt")
        with pytest.raises(EnvironmentFault, match="cannot write"):
            said("score", model, folder, "--output", tmp_path / "nowhere" / "out.csv")

    def test_a_model_of_complete_rows_names_what_is_missing(self, rows: np.ndarray, tmp_path: Path) -> None:
        complete = rows[~np.isnan(rows).any(axis=1)]
        save_model(tmp_path / "model", GaussianMixture(2, tol=1e-1).fit(complete).to_fitted_model(COLUMNS))
        folder = folder_of(rows, tmp_path / "rows")
        with pytest.raises(CallerError, match="column 'b' has 6 missing cells among 40 rows"):
            said("score", tmp_path / "model", folder)
        (tmp_path / "none.csv").write_text(",".join(COLUMNS) + "\n")
        with pytest.raises(CallerError, match="has no rows"):
            said("predict", tmp_path / "model", tmp_path / "none.csv")
        np.save(tmp_path / "rows.npy", complete)
        assert f"{len(complete)} rows" in said("score", tmp_path / "model", tmp_path / "rows.npy")

    def test_empty_cells_are_filled_block_by_block(self, rows: np.ndarray, model: Path, tmp_path: Path) -> None:
        fitted, folder, out = load_model(model), folder_of(rows, tmp_path / "rows"), tmp_path / "out.parquet"
        expected = fitted.impute(rows, 0, np.random.default_rng())
        assert not said("impute", model, folder, "--output", out, "--certainty")
        found = pyarrow.parquet.read_table(out)
        assert found.column_names == [*COLUMNS, *(f"{name}_deviation" for name in COLUMNS)]
        for d, name in enumerate(COLUMNS):
            np.testing.assert_allclose(found[name], expected.rows[:, d], rtol=1e-12)
            np.testing.assert_allclose(found[f"{name}_deviation"], expected.deviations[:, d], rtol=1e-9)
        assert said("impute", model, folder).splitlines()[0] == ",".join(f'"{name}"' for name in COLUMNS)
        drawn = {seed: said("impute", model, folder, "--draw", seed) for seed in (0, 1)}
        assert drawn[0] == said("impute", model, folder, "--draw", 0) != drawn[1]
        with pytest.raises(CallerError, match="no certainty of its own"):
            said("impute", model, folder, "--draw", 0, "--certainty")

    def test_empty_cells_of_all_kinds_get_values_of_their_kind(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        table = {
            "colour": generator.choice(["red", "green"], size=90).astype(object),
            "smoker": generator.integers(2, size=90).astype(float),
            "visits": generator.poisson(3.0, size=90).astype(float),
            "age": generator.normal(50.0, 9.0, size=90),
        }
        # The first block has no empty cell: what is written of it must fit to what comes later.
        table["colour"][60:70], table["smoker"][50:60], table["visits"][45:55], table["age"][80:] = (
            None,
            np.nan,
            np.nan,
            np.nan,
        )
        kinds = {"colour": "categorical", "smoker": "bernoulli", "visits": "poisson", "age": "gaussian"}
        mixture = MixedMixture(n_components=2, schema=ColumnSchema.infer(table, kinds), random_state=0, tol=1e-1)
        save_model(tmp_path / "model", mixture.fit(table).to_fitted_model())
        given, out = tmp_path / "rows.parquet", tmp_path / "out.parquet"
        pyarrow.parquet.write_table(pa.table({n: pa.array(c, from_pandas=True) for n, c in table.items()}), given)
        said("impute", tmp_path / "model", given, "--output", out, "--certainty")
        found = pyarrow.parquet.read_table(out)
        assert not any(column.null_count for column in found.columns)
        assert [str(found.schema.field(name).type) for name in table] == ["string", "int64", "int64", "double"]
        filled = mixture.impute(table)
        for name, column in mixture.schema_.decode(filled.rows).items():
            assert found[name].to_pylist() == pytest.approx(column) if name == "age" else column
        for d, name in enumerate(("colour_probability", "smoker_probability", "visits_deviation", "age_deviation")):
            of = filled.probabilities if d < 2 else filled.deviations
            np.testing.assert_allclose(found[name], of[:, d], rtol=1e-9)
