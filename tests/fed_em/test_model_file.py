"""Fitted models in original units, and their files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import FittedModel, load_model, save_model
from fed_em.parameters import Parameters

MODEL = GaussianMixtureModel(2, 2)
PARAMETERS = Parameters(
    {
        "weights": [0.3, 0.7],
        "means": [[-1.0, 0.5], [1.0, 0.0]],
        "covariances": [[[0.2, 0.05], [0.05, 0.3]], [[0.4, -0.1], [-0.1, 0.2]]],
    }
)
COORDINATES = Coordinates(np.array([50.0, -3.0]), np.array([20.0, 0.5]))


def fitted(**changes: Any) -> FittedModel:
    fields = {
        "model": MODEL,
        "coordinates": COORDINATES,
        "columns": ("age", "größe"),
        "parameters": PARAMETERS,
        "provenance": {"rounds": 3, "tenants": ["a", "b"], "nested": {"x": None}},
    }
    return FittedModel(**{**fields, **changes})


def densities_in_original_units(rows: Any) -> Any:
    scale = np.diag(COORDINATES.scale)
    return np.stack(
        [
            weight * multivariate_normal(COORDINATES.restore(mean[np.newaxis])[0], scale @ matrix @ scale).pdf(rows)
            for weight, mean, matrix in zip(
                PARAMETERS["weights"], PARAMETERS["means"], PARAMETERS["covariances"], strict=True
            )
        ],
        axis=1,
    )


class TestUse:
    def test_densities_and_predictions_are_in_original_units(self) -> None:
        rows, _ = fitted().sample(200, seed=0)
        joint = densities_in_original_units(rows)
        np.testing.assert_allclose(fitted().score_samples(rows), np.log(joint.sum(axis=1)), rtol=1e-10)
        posterior = joint / joint.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(fitted().predict_proba(rows), posterior, rtol=1e-9, atol=1e-15)
        np.testing.assert_array_equal(fitted().predict(rows), posterior.argmax(axis=1))

    def test_samples_have_the_mixtures_moments(self) -> None:
        rows, labels = fitted().sample(40_000, seed=1)
        means = COORDINATES.restore(PARAMETERS["means"])
        np.testing.assert_allclose(rows.mean(axis=0), PARAMETERS["weights"] @ means, atol=0.3)
        np.testing.assert_allclose(rows[labels == 1].mean(axis=0), means[1], rtol=0.02)
        np.testing.assert_allclose((labels == 0).mean(), 0.3, atol=0.01)

    def test_a_seed_determines_a_sample(self) -> None:
        np.testing.assert_array_equal(fitted().sample(5, seed=1)[0], fitted().sample(5, seed=1)[0])

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"columns": ("age",)}, "1 column names"),
            ({"columns": ("age", "age")}, "same name"),
            ({"columns": ("age", "")}, "non-empty"),
            ({"columns": ("age", 3)}, "string"),
            ({"coordinates": Coordinates.identity(3)}, "3"),
            ({"provenance": {"x": float("nan")}}, "JSON"),
            ({"provenance": {"x": object()}}, "JSON"),
            ({"provenance": [1]}, "mapping"),
            ({"parameters": Parameters({**PARAMETERS, "weights": [1.0, 1.0]})}, "weights"),
        ],
    )
    def test_parts_that_do_not_fit_are_refused(self, changes: dict[str, Any], named: str) -> None:
        with pytest.raises(CallerError, match=named):
            fitted(**changes)

    def test_a_negative_sample_is_refused(self) -> None:
        with pytest.raises(CallerError, match="n must be"):
            fitted().sample(-1, seed=0)


class TestRoundTrip:
    def test_everything_comes_back(self, tmp_path: Path) -> None:
        save_model(tmp_path / "deep" / "model", fitted())
        loaded = load_model(tmp_path / "deep" / "model")
        assert loaded.model == MODEL
        assert loaded.coordinates == COORDINATES
        assert loaded.columns == ("age", "größe")
        assert loaded.provenance == fitted().provenance
        for name, array in PARAMETERS.items():
            assert loaded.parameters[name].tobytes() == array.tobytes()

    def test_the_folder_holds_two_files_and_the_hash_of_the_first(self, tmp_path: Path) -> None:
        save_model(tmp_path, fitted())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "model.safetensors"]
        manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
        data = (tmp_path / "model.safetensors").read_bytes()
        assert manifest["tensors_sha256"] == hashlib.sha256(data).hexdigest()
        assert manifest["model"] == MODEL.describe()
        assert manifest["software"]["numpy"] == np.__version__

    def test_a_model_replaces_the_one_before(self, tmp_path: Path) -> None:
        save_model(tmp_path, fitted())
        save_model(tmp_path, fitted(columns=("a", "b")))
        assert load_model(tmp_path).columns == ("a", "b")


def change_manifest(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")

    return change


def change_byte(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def swap_tensors(folder: Path) -> None:
    """Another model's tensors, with their right hash."""
    data = Broadcast(GaussianMixtureModel(2, 2, covariance_floor=0.5), COORDINATES, PARAMETERS).to_bytes()
    (folder / "model.safetensors").write_bytes(data)
    change_manifest(tensors_sha256=hashlib.sha256(data).hexdigest())(folder)


def garble_tensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"garbage")
    change_manifest(tensors_sha256=hashlib.sha256(b"garbage").hexdigest())(folder)


class TestFailures:
    @pytest.mark.parametrize(
        ("damage", "named"),
        [
            (change_byte, "model.safetensors"),
            (lambda folder: (folder / "model.safetensors").unlink(), "no file .*model.safetensors"),
            (lambda folder: (folder / "manifest.json").unlink(), "no file .*manifest.json"),
            (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json.*JSON"),
            (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "manifest.json.*JSON"),
            (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json.*mapping"),
            (change_manifest(format=3), "manifest.json.*format 3"),
            (change_manifest(format=3, novelty=1), "manifest.json.*format 3"),
            (change_manifest(format="1"), "manifest.json.*format '1'"),
            (change_manifest(novelty=1), "manifest.json.*novelty"),
            (change_manifest(model={**MODEL.describe(), "covariance_floor": 0.5}), "another model"),
            (change_manifest(columns=["a"]), "column names"),
            (change_manifest(columns="ab"), "columns"),
            (change_manifest(columns={"a": 1}), "columns"),
            (change_manifest(provenance=None), "provenance"),
            (change_manifest(tensors_sha256=None), "model.safetensors"),
            (swap_tensors, "another model"),
            (garble_tensors, "model.safetensors.*safetensors"),
        ],
    )
    def test_damage_is_named(self, tmp_path: Path, damage: Callable[[Path], object], named: str) -> None:
        save_model(tmp_path, fitted())
        damage(tmp_path)
        with pytest.raises(CallerError, match=named):
            load_model(tmp_path)

    def test_a_folder_that_is_not_there_is_named_with_a_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(CallerError, match="nowhere") as caught:
            load_model(tmp_path / "nowhere")
        assert "folder" in caught.value.remedy

    def test_a_newer_format_says_to_update(self, tmp_path: Path) -> None:
        save_model(tmp_path, fitted())
        change_manifest(format=3)(tmp_path)
        with pytest.raises(CallerError) as caught:
            load_model(tmp_path)
        assert "update" in caught.value.remedy

    def test_a_folder_that_is_a_file_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(EnvironmentFault, match="file"):
            save_model(tmp_path / "file", fitted())

    @pytest.mark.parametrize("failing", ["fsync", "replace"])
    def test_a_failed_write_leaves_the_old_model_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        save_model(tmp_path, fitted())

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, failing, fail)
            with pytest.raises(EnvironmentFault, match="No space left"):
                save_model(tmp_path, fitted(columns=("a", "b")))
        assert load_model(tmp_path).columns == ("age", "größe")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "model.safetensors"]

    def test_a_crash_between_the_two_files_is_seen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save_model(tmp_path, fitted())
        replace = os.replace

        def crash_before_the_manifest(source: Path, target: Path) -> None:
            if target.name == "manifest.json":
                raise OSError(errno.EIO, "gone")
            replace(source, target)

        other = Parameters({**PARAMETERS, "weights": [0.5, 0.5]})
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", crash_before_the_manifest)
            with pytest.raises(EnvironmentFault):
                save_model(tmp_path, fitted(parameters=other))
        with pytest.raises(CallerError, match="is not the file that"):
            load_model(tmp_path)
