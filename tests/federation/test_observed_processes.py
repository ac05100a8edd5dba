"""`fed-em server` and `fed-em tenant` with logs of closed fields and with metrics, as real processes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from small_federation import clustered_rows, session_toml, write_small_federation
from typer.testing import CliRunner

from fed_em_protocols.log_events import EVENTS
from fed_em_server import serve
from fed_em_server.grpc_hub import GrpcHub
from fed_em_simulations.command_line import app
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.tenant_fleet import TenantFleet


def fleet_on_the_hub(federation: FederationFolder, monkeypatch: pytest.MonkeyPatch) -> TenantFleet:
    """Tenants that start once the server listens, on whatever port."""
    arguments = ["--log", "json", "--metrics", "127.0.0.1:0"]
    fleet = TenantFleet(federation, lambda _: arguments)

    class Announced(GrpcHub):
        def __init__(self, *how: object) -> None:
            super().__init__(*how)  # type: ignore[arg-type]
            arguments.extend(["--server", f"127.0.0.1:{self.port}"])
            for name in federation.tenant_files:
                fleet.start(name)

    monkeypatch.setattr(serve, "GrpcHub", Announced)
    return fleet


@pytest.mark.slow
def test_both_sides_log_nothing_but_events_of_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_toml(fit="tolerance = 1e-7\nmax_iterations = 3")
    federation = write_small_federation(tmp_path / "f", clustered_rows((60, 50, 40)), session)
    fleet = fleet_on_the_hub(federation, monkeypatch)
    command = ["server", str(federation.session_file), "--log", "json", "--metrics", "127.0.0.1:0"]
    try:
        done = CliRunner().invoke(app, command, catch_exceptions=False)
    finally:
        fleet.wait(120.0)
    assert done.exit_code == 0
    server = [json.loads(line) for line in done.stdout.splitlines()]
    events = [line["event"] for line in server]
    assert events[0] == "session_started" and events[-1] == "session_finished"
    rounds = [line["round"] for line in server if line["event"] == "round_opened"]
    assert len(rounds) == 4
    for file in federation.tenant_files.values():
        tenant = [json.loads(line) for line in (file.parent / "log.txt").read_text().splitlines()]
        assert [line["event"] for line in tenant if line["event"] != "link_down"] == [
            "link_up",
            "session_joined",
            *["uploaded"] * 4,
            "session_closed",
        ]
        assert [line["round"] for line in tenant if line["event"] == "uploaded"] == rounds
        assert {line["session"] for line in tenant[1:]} == {server[0]["session"]}
        server += tenant
    assert {line["event"] for line in server} <= set(EVENTS)
    assert not re.search(r"127\.0\.0\.1|tmp", json.dumps(server))
