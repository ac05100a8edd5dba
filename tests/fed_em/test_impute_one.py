"""One row filled without anything but NumPy: equal to the imputation of tables, and what it reads."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.errors import CallerError, FedEmError
from fed_em.impute_one import Filled, SmallModel, impute_one, read_model
from fed_em.model_file import FittedModel, save_model
from fed_em.tenant_mixing import TenantMixing, at_home
from fed_em.tensor_reader import read_tensors
from tests.fed_em.random_mixtures import FAMILIES, random_mixture, rows_with_holes

REPOSITORY = Path(__file__).resolve().parents[2]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def small(fitted: FittedModel, folder: Path) -> SmallModel:
    save_model(folder, fitted)
    return read_model(folder)


def cells_of(fitted: FittedModel, row: Any) -> dict[str, Any]:
    return {name: values[0] for name, values in fitted.schema.decode(row[np.newaxis]).items()}


class TestOutcome:
    @settings(max_examples=30, deadline=None)
    @given(st.sampled_from(FAMILIES), st.sampled_from(COVARIANCE_STRUCTURES), st.integers(0, 2**20))
    def test_equals_the_imputation_of_tables(
        self, tmp_path_factory: pytest.TempPathFactory, family: str, structure: CovarianceStructure, seed: int
    ) -> None:
        fitted = random_mixture(family, structure, seed)
        model = small(fitted, tmp_path_factory.mktemp("model"))
        rows = rows_with_holes(fitted, 8, seed)
        table = fitted.impute(rows, 0, np.random.default_rng(0))
        densities, responsibilities = fitted.score_samples(rows), fitted.predict_proba(rows)
        for i, row in enumerate(rows):
            filled = impute_one(model, cells_of(fitted, row))
            assert filled.log_density == pytest.approx(densities[i], rel=1e-10, abs=1e-10)
            np.testing.assert_allclose(filled.responsibilities, responsibilities[i], rtol=0, atol=1e-10)
            assert model.columns.row(filled.cells) == pytest.approx(table.rows[i], rel=1e-10, abs=1e-10)
            self._as_sure(fitted, filled, row, table.deviations[i], table.probabilities[i])
            for name, mean in filled.means.items():
                assert mean == pytest.approx(table.means[i, fitted.columns.index(name)], rel=1e-10, abs=1e-10)
            assert filled.means.keys() == filled.deviations.keys()

    @staticmethod
    def _as_sure(fitted: FittedModel, filled: Filled, row: Any, deviations: Any, probabilities: Any) -> None:
        for d, name in enumerate(fitted.columns):
            if not math.isnan(row[d]):
                assert name not in filled.deviations and name not in filled.probabilities
            elif math.isnan(deviations[d]):
                assert max(filled.probabilities[name].values()) == pytest.approx(probabilities[d], abs=1e-10)
                assert sum(filled.probabilities[name].values()) == pytest.approx(1.0, abs=1e-12)
                assert filled.probabilities[name][str(filled.cells[name])] == max(filled.probabilities[name].values())
            else:
                assert filled.deviations[name] == pytest.approx(deviations[d], rel=1e-10)

    def test_observed_cells_stay_bit_for_bit(self, tmp_path: Path) -> None:
        fitted = random_mixture("mixed", seed=3)
        (row,) = fitted.sample(1, 0)[0]
        assert impute_one(small(fitted, tmp_path), cells_of(fitted, row)).cells == cells_of(fitted, row)

    def test_a_row_that_no_component_can_show_is_an_error(self, tmp_path: Path) -> None:
        model = small(random_mixture("gaussian"), tmp_path)
        with pytest.raises(FedEmError, match="no component can show the row"):
            impute_one(model, dict.fromkeys(model.columns.schema.names, 1e200))

    def test_patterns_that_fill_the_memory_are_forgotten_and_found_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fed_em.row_mixture.MOST_ENTRIES", 500)
        fitted = random_mixture("gaussian", seed=1, n_columns=12)
        model, rows = small(fitted, tmp_path), rows_with_holes(fitted, 30, 0)
        for _ in range(2):
            found = [impute_one(model, cells_of(fitted, row)).log_density for row in rows]
            np.testing.assert_allclose(found, fitted.score_samples(rows), rtol=1e-10, atol=1e-10)


class TestOwnWeights:
    def own(self, tmp_path: Path, records: float = 1.5) -> tuple[FittedModel, SmallModel]:
        fitted = random_mixture("mixed", mixing=TenantMixing(records))
        return fitted, small(fitted, tmp_path)

    def test_many_steps_end_at_the_best_weights_of_the_row(self, tmp_path: Path) -> None:
        fitted, model = self.own(tmp_path)
        row = rows_with_holes(fitted, 3, 5)[2]
        filled = impute_one(model, cells_of(fitted, row), own_counts=(0.0,) * 3, steps=100)
        best = at_home(fitted.model, fitted.parameters, fitted.coordinates.apply(row[np.newaxis]))["weights"]
        assert filled.own_counts is not None
        np.testing.assert_allclose((np.array(filled.own_counts) + 0.5) / 2.5, best, atol=1e-5)

    def test_rows_of_one_component_move_the_weights_there(self, tmp_path: Path) -> None:
        fitted, model = self.own(tmp_path)
        rows, components = fitted.sample(4000, 0)
        rare = int(fitted.parameters["weights"].argmin())
        counts: tuple[float, ...] = (0.0,) * 3
        for row in rows[components == rare][:40]:
            filled = impute_one(model, cells_of(fitted, row), own_counts=counts)
            assert filled.own_counts is not None
            counts = filled.own_counts
        assert sum(counts) == pytest.approx(40) and counts[rare] > 30
        # Of a row of which nothing is known, the tenant's own rows say what it is likely to be.
        unknown = impute_one(model, {}, own_counts=counts)
        assert unknown.responsibilities[rare] > 0.75 > impute_one(model, {}).responsibilities[rare]

    @pytest.mark.parametrize(
        ("counts", "steps"),
        [((1.0,), 3), ((1.0, -1.0, 0.0), 3), ((1.0, math.nan, 0.0), 3), ((0.0,) * 3, 101), ((0.0,) * 3, 0)],
    )
    def test_counts_that_do_not_fit_are_refused(self, tmp_path: Path, counts: tuple[float, ...], steps: int) -> None:
        with pytest.raises(CallerError, match=r"own_counts|steps"):
            impute_one(self.own(tmp_path)[1], {}, own_counts=counts, steps=steps)

    def test_a_model_of_shared_weights_takes_none(self, tmp_path: Path) -> None:
        with pytest.raises(CallerError, match="shared"):
            impute_one(small(random_mixture("gaussian"), tmp_path), {}, own_counts=(0.0,) * 3)


class TestCells:
    @pytest.mark.parametrize(
        ("cells", "named"),
        [
            ({"number 0": "SECRET"}, "number 0"),
            ({"number 0": True}, "number 0"),
            ({"number 0": math.inf}, "number 0"),
            ({"number 0": 10**400}, "number 0"),
            ({"level 0": "SECRET"}, "level 0"),
            ({"level 0": ["SECRET"]}, "level 0"),
            ({"truth 0": 2}, "truth 0"),
            ({"truth 0": "SECRET"}, "truth 0"),
            ({"count 0": -1}, "count 0"),
            ({"count 0": 1.5}, "count 0"),
            ({"nummer 0": 1.0}, "did you mean 'number 0'"),
        ],
    )
    def test_a_wrong_cell_names_its_column_and_no_value(
        self, tmp_path: Path, cells: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(CallerError, match="row 0, column '") as caught:
            impute_one(small(random_mixture("mixed"), tmp_path), cells)
        assert named in str(caught.value) and caught.value.remedy and "SECRET" not in caught.value.diagnostics()

    def test_what_stands_for_the_same_cell_is_the_same(self, tmp_path: Path) -> None:
        columns = small(random_mixture("mixed"), tmp_path).columns
        same = [({"truth 0": True}, {"truth 0": 1}), ({"truth 0": "false"}, {"truth 0": 0.0})]
        same += [({"level 0": " b "}, {"level 0": "b"}), ({"number 0": np.float64(2)}, {"number 0": 2})]
        same += [(dict.fromkeys(columns.schema.names, math.nan), dict.fromkeys(columns.schema.names))]
        for one, other in same:
            np.testing.assert_array_equal(columns.row(one), columns.row(other))


class TestReading:
    def test_a_store_of_keys_is_as_good_as_a_folder(self, tmp_path: Path) -> None:
        fitted = random_mixture("mixed")
        from_folder = small(fitted, tmp_path)
        store = {f"models/{name}": value for name, value in files_of(tmp_path).items()}
        from_store = read_model(store, prefix="models/")
        cells = cells_of(fitted, rows_with_holes(fitted, 3, 0)[2])
        assert vars(impute_one(from_folder, cells)) == vars(impute_one(from_store, cells))
        assert from_store.version == hashlib.sha256(store["models/manifest.json"]).hexdigest()

    def test_what_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(CallerError, match=r"'models/manifest.json'"):
            read_model({}, prefix="models/")
        with pytest.raises(CallerError, match=r"no file '.*manifest.json'"):
            read_model(tmp_path)

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"format": 3}, "format"),
            ({"tensors_sha256": "0"}, "not the file"),
            ({"model": {"family": "gaussian-mixture"}}, "another model"),
        ],
    )
    def test_a_manifest_that_does_not_fit_is_refused(self, tmp_path: Path, changes: dict[str, Any], named: str) -> None:
        save_model(tmp_path, random_mixture("gaussian"))
        files = files_of(tmp_path)
        files["manifest.json"] = json.dumps({**json.loads(files["manifest.json"]), **changes}).encode()
        with pytest.raises(CallerError, match=named):
            read_model(files)

    def test_a_byte_that_changed_is_seen(self, tmp_path: Path) -> None:
        save_model(tmp_path, random_mixture("gaussian"))
        files = files_of(tmp_path)
        files["model.safetensors"] = files["model.safetensors"][:-1] + b"\x00"
        with pytest.raises(CallerError, match="not the file"):
            read_model(files)

    def test_a_family_that_fills_nothing_is_refused(self, tmp_path: Path) -> None:
        save_model(tmp_path, random_mixture("gaussian"))
        files = files_of(tmp_path)
        for name, value in files.items():
            files[name] = value.replace(b"gaussian-mixture", b"gaussian-moments")
        manifest = json.loads(files["manifest.json"])
        manifest["tensors_sha256"] = hashlib.sha256(files["model.safetensors"]).hexdigest()
        with pytest.raises(CallerError, match="gaussian-moments"):
            read_model({**files, "manifest.json": json.dumps(manifest).encode()})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("weights", -1.0),
            ("weights", 5.0),
            ("level_probabilities", -0.5),
            ("success_probabilities", 1.5),
            ("rates", -2.0),
            ("covariances", -1.0),
        ],
    )
    def test_a_parameter_out_of_its_range_is_refused(self, tmp_path: Path, name: str, value: float) -> None:
        save_model(tmp_path, random_mixture("mixed", "diag"))
        files = files_of(tmp_path)
        header, body = _taken_apart(files["model.safetensors"])
        start = header[f"parameters.{name}"]["data_offsets"][0]
        body[start : start + 8] = np.float64(value).tobytes()
        with pytest.raises(CallerError, match=f"'{name}' is out of its range"):
            read_model(_with_tensors(files, header, body))

    @pytest.mark.parametrize(
        "metadata", [[], "text", 7, {"fed_em": []}, {"fed_em": {"model": 1}}, {"fed_em": "[]"}, {}]
    )
    def test_metadata_of_another_kind_is_refused(self, tmp_path: Path, metadata: object) -> None:
        save_model(tmp_path, random_mixture("gaussian"))
        files = files_of(tmp_path)
        header, body = _taken_apart(files["model.safetensors"])
        with pytest.raises(CallerError):
            read_model(_with_tensors(files, {**header, "__metadata__": metadata}, body))

    @pytest.mark.parametrize("change", [{"mixing": "tenant", "mixing_records": "many"}, None])
    def test_a_description_of_another_kind_is_refused(self, tmp_path: Path, change: dict[str, Any] | None) -> None:
        save_model(tmp_path, random_mixture("gaussian"))
        files = files_of(tmp_path)
        header, body = _taken_apart(files["model.safetensors"])
        document, manifest = json.loads(header["__metadata__"]["fed_em"]), json.loads(files["manifest.json"])
        for each in (document, manifest):
            if change is None:
                del each["model"]
            else:
                each["model"] |= change
        files["manifest.json"] = json.dumps(manifest).encode()
        with pytest.raises(CallerError):
            read_model(_with_tensors(files, {**header, "__metadata__": {"fed_em": json.dumps(document)}}, body))

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_bytes_from_anywhere_are_read_or_refused(self, data: st.DataObject) -> None:
        whole = _tensors()
        at = data.draw(st.integers(0, len(whole)))
        made = data.draw(st.sampled_from([whole[:at], whole[:at] + b"9" + whole[at + 1 :], whole[:at] + whole]))
        try:
            arrays, _ = read_tensors(made, "it")
        except CallerError:
            return
        assert all(array.dtype == np.float64 for array in arrays.values())


def _taken_apart(data: bytes) -> tuple[dict[str, Any], bytearray]:
    """Header and body of a file of tensors."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), bytearray(data[end:])


def _with_tensors(files: dict[str, bytes], header: object, body: bytearray) -> dict[str, bytes]:
    """The files with other tensors, whose hash is right."""
    text = json.dumps(header).encode()
    tensors = len(text).to_bytes(8, "little") + text + bytes(body)
    manifest = json.loads(files["manifest.json"]) | {"tensors_sha256": hashlib.sha256(tensors).hexdigest()}
    return {"model.safetensors": tensors, "manifest.json": json.dumps(manifest).encode()}


def _tensors() -> bytes:
    from fed_em.tensors import encode

    return encode({"a": np.arange(6.0).reshape(2, 3), "b": np.ones(0)}, {"x": 1})


def test_the_small_reader_reads_what_the_library_writes() -> None:
    arrays, metadata = read_tensors(_tensors(), "it")
    np.testing.assert_array_equal(arrays["a"], np.arange(6.0).reshape(2, 3))
    assert arrays["b"].shape == (0,) and json.loads(metadata["fed_em"]) == {"x": 1}


def test_the_function_of_the_documentation_answers(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "serving.md").read_text(encoding="utf-8")
    (code,) = (each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def handler" in each)
    fitted = random_mixture("mixed")
    save_model(tmp_path, fitted)
    scope: dict[str, Any] = {}
    exec(code, scope)
    scope["STORE"].update({f"models/clinics/{name}": value for name, value in files_of(tmp_path).items()})
    answers = [scope["handler"]({"cells": cells}, None) for cells in ({"number 0": 1.5}, {})]
    assert json.loads(json.dumps(answers))[0]["cells"]["number 0"] == 1.5
    assert set(answers[1]["cells"]) == {*answers[1]["standard_deviations"], *answers[1]["probabilities"]}


def test_it_imports_numpy_and_the_standard_library_and_nothing_else(tmp_path: Path) -> None:
    save_model(tmp_path, random_mixture("mixed"))
    code = (
        "import sys; before = set(sys.modules); from fed_em.impute_one import impute_one, read_model;"
        f"impute_one(read_model({str(tmp_path)!r}), {{}});"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.split() == ["fed_em", "numpy"]
