"""The bundle: found in the package, accepted by Flower, and nothing but a shim."""

from __future__ import annotations

import importlib
import io
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from pydantic import ValidationError

from fed_em_server.bundle import write_bundle
from fed_em_server.flower_app import RunConfig


def test_flower_builds_it_and_no_code_is_in_it(tmp_path: Path) -> None:
    packed = zipfile.ZipFile(io.BytesIO(build_fab_from_disk(write_bundle(tmp_path))))
    assert sorted(packed.namelist()) == [".info/CONTENT", "LICENSE", "pyproject.toml"]


def test_its_components_and_its_config_are_those_of_the_apps(tmp_path: Path) -> None:
    app = tomllib.loads((write_bundle(tmp_path) / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    for component in app["components"].values():
        module, name = component.split(":")
        assert hasattr(importlib.import_module(module), name)
    defaults = {name: field.get_default() for name, field in RunConfig.model_fields.items() if name != "session"}
    assert app["config"] == {"session": "", **defaults}


@pytest.mark.parametrize("wrong", [{"session": ""}, {"link": "pigeon"}, {"link": "relay", "federation": "f"}])
def test_a_run_config_that_cannot_work_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        RunConfig.model_validate({"session": "session.toml", **wrong})
