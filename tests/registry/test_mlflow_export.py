"""A version in a real store of MLflow: once, whole, and read back through MLflow's own client."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from models import lineage, mixture
from sessions import federation_in, run

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.model_file import load_model
from fed_em_server.record import SessionRecord
from fed_em_server.registry import Registry
from fed_em_server.registry.mlflow_export import export
from fed_em_server.registry.session_lineage import add_output


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    registry = Registry(tmp_path / "registry")
    version = registry.add(mixture(), lineage())
    with pytest.raises(CallerError, match="which is not installed") as refused:
        export(registry, version, "sqlite:///nowhere.db")
    assert "fed-em[mlflow]" in refused.value.remedy


class Store:
    """A store in a folder, and MLflow's client of it."""

    def __init__(self, folder: Path) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow import MlflowClient

        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.artifacts = (folder / "artifacts").as_uri()
        self.client = MlflowClient(self.uri, self.uri)

    def runs(self) -> list:  # type: ignore[type-arg]
        found = self.client.get_experiment_by_name("fed-em")
        return list(self.client.search_runs([found.experiment_id])) if found else []


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("mlflow"))


@pytest.mark.slow
class TestInAStore:
    """MLflow takes seconds to load, and to make its tables."""

    @pytest.fixture(scope="class")
    @classmethod
    def registry(cls, tmp_path_factory: pytest.TempPathFactory) -> Registry:
        folder = tmp_path_factory.mktemp("registry")
        federation = federation_in(folder / "f")
        registry = Registry(folder / "registry")
        first = add_output(registry, run(federation, folder / "1"), federation.roster)
        add_output(registry, run(federation, folder / "2", start=registry.path(first) / "model"), federation.roster)
        registry.promote(first)
        return registry

    def test_a_run_has_all_of_a_version(
        self, registry: Registry, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        version = registry.version("1")
        with caplog.at_level(logging.INFO):
            done = export(registry, version, store.uri, artifacts=store.artifacts)
        assert not [line for line in caplog.records if line.name.startswith(("mlflow", "alembic"))]
        assert done.is_new
        found, (logged, *others) = store.client.get_run(done.run), store.runs()
        assert (logged.info.run_id, others) == (done.run, [])
        assert found.info.status == "FINISHED"
        tags, of = found.data.tags, version.lineage
        assert of.transcript is not None
        assert tags["fed_em.version"] == version.id
        assert (tags["fed_em.roster"], tags["fed_em.terms"]) == (of.roster, of.terms)
        assert (tags["fed_em.data_schema"], tags["fed_em.transcript"]) == (of.data_schema, of.transcript.root)
        assert found.data.params["model"] == "Gaussian mixture with 3 components and full covariances"
        assert found.data.params["tenants"] == "3"
        record = registry.record(version)
        assert isinstance(record, SessionRecord)
        curve = store.client.get_metric_history(done.run, "log_likelihood")
        told = {r.round: r.log_likelihood for r in record.rounds if r.log_likelihood is not None}
        assert {point.step: point.value for point in curve} == told
        assert len(store.client.get_metric_history(done.run, "weight/2")) == len(told)
        assert found.data.metrics["records"] == 75.0
        copied = Path(store.client.download_artifacts(done.run, "version", str(tmp_path)))
        for name in (*version.manifest.files, "version.json"):
            assert (copied / name).read_bytes() == (registry.path(version) / name).read_bytes()
        weights = load_model(copied / "model").parameters["weights"]
        assert np.array_equal(weights, registry.load(version).parameters["weights"])

    def test_a_second_export_changes_nothing(self, registry: Registry, store: Store) -> None:
        version = registry.version("1")
        first = export(registry, version, store.uri, artifacts=store.artifacts)
        again = export(registry, version, store.uri)
        assert (again.run, again.is_new, again.model) == (first.run, False, first.model)
        assert len([each for each in store.runs() if each.data.tags["fed_em.version"] == version.id]) == 1
        assert len(store.client.search_model_versions("name = 'small-small'")) == 1

    def test_aliases_follow_the_stages(self, registry: Registry, store: Store) -> None:
        first, second = registry.versions()
        for version in (first, second):
            export(registry, version, store.uri, artifacts=store.artifacts)
        model = store.client.get_model_version_by_alias("small-small", "production")
        assert model.tags["fed_em.version"] == first.id
        assert model.source.endswith("/version/model")
        registry.promote(second, reason="better")
        export(registry, second, store.uri)
        model = store.client.get_model_version_by_alias("small-small", "production")
        assert model.tags["fed_em.version"] == second.id
        registry.rollback()
        export(registry, second, store.uri)
        assert store.client.get_registered_model("small-small").aliases == {}
        tags = store.client.get_run(export(registry, second, store.uri).run).data.tags
        assert tags["fed_em.parents"] == first.id

    def test_a_run_that_was_left_unfinished_is_made_anew(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry = Registry(tmp_path / "registry")
        version = registry.add(mixture(), lineage())
        with monkeypatch.context() as patch:
            patch.setattr(type(store.client), "log_artifacts", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                export(registry, version, store.uri, artifacts=store.artifacts)
        (unfinished,) = [each for each in store.runs() if each.data.tags["fed_em.version"] == version.id]
        done = export(registry, version, store.uri, artifacts=store.artifacts, name="by-hand")
        assert done.is_new and done.run != unfinished.info.run_id
        assert [each.info.run_id for each in store.runs() if each.data.tags["fed_em.version"] == version.id] == [
            done.run
        ]
        assert done.model == ("by-hand", "1")

    def test_a_store_that_is_none_is_told(self, store: Store, tmp_path: Path) -> None:
        registry = Registry(tmp_path / "registry")
        version = registry.add(mixture(), lineage())
        with pytest.raises(EnvironmentFault, match="MLflow at nonsense://…@host/path"):
            export(registry, version, "nonsense://user:secret@host/path")
        tensors = registry.path(version) / "model" / "model.safetensors"
        tensors.write_bytes(b"")
        with pytest.raises(CallerError, match="is not the file"):
            export(registry, version, store.uri)

    def test_a_process_sends_nothing_and_says_nothing_but_the_result(self, tmp_path: Path) -> None:
        """In an environment that is not one of tests, in which MLflow would not send anything anyway."""
        Registry(tmp_path / "registry").add(mixture(), lineage())
        words = ["registry", "export-mlflow", "1", "--registry", str(tmp_path / "registry")]
        words += ["--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}", "--artifacts", (tmp_path / "a").as_uri()]
        program = f"""
from fed_em_simulations.command_line import app
app({words!r}, standalone_mode=False)
from mlflow.telemetry.client import get_telemetry_client
print(get_telemetry_client())
"""
        known = ("PATH", "PYTHONPATH", "LANG")
        environment = {name: os.environ[name] for name in known if name in os.environ} | {"HOME": str(tmp_path)}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"version 1 .* is run [0-9a-f]{32}\nregistered as fed-em, version 1\nNone\n", done.stdout)
        assert done.stderr == ""
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "mlflow.db", "registry"]
