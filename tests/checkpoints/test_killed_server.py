"""Real processes over gRPC: the server is killed as a power cut would, and started again; tenants do nothing but dial."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from relay import Relay
from small_federation import Recorder, clustered_rows, memory_hub, session_toml, write_small_federation
from typer.testing import CliRunner

from fed_em.model_file import TENSORS_FILE, save_model
from fed_em_server.record import RECORD_FILE, SessionRecord
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_simulations.command_line import app
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.tenant_fleet import tenant_processes

SIZES = (60, 50, 40, 30)
TRUST = 'difference_guard = "off"\ncolluders = 0\nminimum_survivors = 3'
POLICY = 'difference_guard = "off"\ncolluders = 0'
# Nobody is ever late, however busy the machine: sums are over everybody, as in the undisturbed session.
TIMES = "gather = 100\npatience = 60\nset_up = 60\nupload = 60\nstraggler = 60\nopen = 60"
SESSION = session_toml(fit="tolerance = 0\nmax_iterations = 12", times=TIMES, trust=TRUST)


class ServerProcess:
    """`fed-em server` of a federation, at whatever port is free."""

    def __init__(self, federation: FederationFolder, relay: Relay) -> None:
        self._federation, self._relay = federation, relay
        self._port_file = federation.folder / "port"
        self.log = federation.folder / "server.log"

    def start(self) -> None:
        self._port_file.unlink(missing_ok=True)
        script = Path(__file__).parent / "server_process.py"
        command = [sys.executable, str(script), str(self._port_file), "server", str(self._federation.session_file)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ)
        until(self._port_file.exists)
        self._relay.target = int(self._port_file.read_text())

    def kill(self) -> None:
        self._relay.target = None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def until(holds: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def sums_in(federation: FederationFolder) -> int:
    entries = federation.server.output / "transcript" / "entries.jsonl"
    return entries.read_bytes().count(b'"kind":"sum"') if entries.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.xdist_group("real time")
def test_a_server_killed_in_mid_session_comes_to_the_same_model(tmp_path: Path) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows(SIZES), SESSION, policy=POLICY)
    undisturbed = write_small_federation(tmp_path / "u", clustered_rows(SIZES), SESSION, policy=POLICY)
    expected = run_session(open_server(undisturbed.server).plan("memory"), memory_hub(undisturbed), Recorder())
    save_model(tmp_path / "expected", expected.fitted)
    with Relay() as relay:
        server = ServerProcess(federation, relay)
        with tenant_processes(federation, lambda _: ["--server", f"127.0.0.1:{relay.port}"]):
            server.start()
            until(lambda: sums_in(federation) >= 4)
            server.kill()
            server.start()
            assert server.process.wait(300) == 0, server.log.read_text()
    output = federation.server.output
    assert (output / "model" / TENSORS_FILE).read_bytes() == (tmp_path / "expected" / TENSORS_FILE).read_bytes()
    for name in federation.tenant_files:
        kept = federation.tenant(name).state / "model" / TENSORS_FILE
        assert kept.read_bytes() == (tmp_path / "expected" / TENSORS_FILE).read_bytes()
    said = server.log.read_text()
    record = SessionRecord.model_validate_json((output / RECORD_FILE).read_text())
    assert said.count(f"session {record.session} goes on") == 1
    assert [each.kind for each in record.happenings].count("restarted") == 1
    assert len(record.rounds) == len(expected.record.rounds)
    logs = [f"--tenant-log={federation.tenant(name).state / 'log.jsonl'}" for name in federation.tenant_files]
    roster = federation.folder / "server" / "roster.json"
    done = CliRunner().invoke(app, ["audit", "verify", str(output), "--roster", str(roster), *logs])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "NOT" not in said and "the server went on in another process once" in said
