"""`fed-em registry canary` among tenants' processes."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_federation import clustered_rows, session_toml, write_small_federation
from typer.testing import CliRunner

from fed_em_protocols.description import SessionDescription
from fed_em_server import measurement
from fed_em_server.configuration import read_server_configuration
from fed_em_server.pooled import fit_pooled
from fed_em_server.registry import Lineage, Registry
from fed_em_simulations import command_line
from fed_em_simulations.tenant_fleet import tenant_processes

TENANTS = clustered_rows((200, 150, 180))
RULE = '[canary]\nmin_records = 500\nconfidence = 0.95\n[[columns]]\nname = "a"'


@pytest.mark.slow
def test_a_version_of_three_components_takes_the_place_of_one_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_toml().replace('[[columns]]\nname = "a"', RULE)
    federation = write_small_federation(tmp_path / "f", TENANTS, session, policy="measurements = true")
    file = tmp_path / "f" / "server" / "session.toml"
    description = read_server_configuration(file).description
    registry = Registry(tmp_path / "registry")
    rows = np.concatenate(list(clustered_rows((300, 300, 300), seed=1).values()))
    for components in (1, 3):
        model = {**description.model, "n_components": components}
        described = SessionDescription.model_validate({**description.model_dump(), "model": model})
        fitted, _ = fit_pooled(described, rows, federation.server.fit.stopping, 0)
        registry.add(fitted, Lineage.of_model(fitted, "2030-01-01"))
    first, second = registry.versions()
    registry.promote(first)
    registry.promote(second, "canary")
    with ExitStack() as stack:

        def dialled(port: int) -> None:
            stack.enter_context(tenant_processes(federation, lambda _: ["--server", f"127.0.0.1:{port}"]))

        monkeypatch.setattr(measurement, "measure", partial(measurement.measure, listening=dialled))
        words = ["registry", "canary", str(file), "--registry", str(registry.folder)]
        result = CliRunner().invoke(command_line.app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert "promote: its gain is +" in result.output
    assert "over 530 records" in result.output
    assert "production is version 2" in result.output
    assert registry.current() == second
    assert registry.current("canary") is None
