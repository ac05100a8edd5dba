"""The deployment of `docs/flower-deployment.md`, by its own commands: TLS, registered nodes, a signed bundle, and what is killed in it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import threading
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_files
from small_federation import MODEL, Recorder, clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em.model_file import load_model
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_server.bundle import build_bundle, write_bundle
from fed_em_server.event_lines import replay
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_simulations.federation_folder import FederationFolder
from tests.flower.deployment import DOCUMENT, Deployment, Party, block, wait_until

SIZES = (60, 40, 50)
KILLED_IN_ROUND = 5

# A node that was killed may take a minute until it is let in again; the session waits so long.
FIT = "tolerance = 0\nmax_iterations = 30"
TIMES = "gather = 300\npatience = 0.3\nstraggler = 0.5\nset_up = 5\nupload = 10\nopen = 2"

_SET_PIPE_SIZE = 1031


def test_the_document_runs_the_bundle_that_is_packed(tmp_path: Path) -> None:
    described = tomllib.loads((write_bundle(tmp_path) / "pyproject.toml").read_text(encoding="utf-8"))
    named = f"@{described['tool']['flwr']['app']['publisher']}/{described['project']['name']}"
    assert f"flwr run {named}=={described['project']['version']} fleet" in DOCUMENT.read_text(encoding="utf-8")


class Watched(Recorder):
    """Reads a session's events from a FIFO, whose writer is at most a few of them ahead; stops reading when a round begins."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        os.mkfifo(path)
        self._path = path
        self._reached, self._onwards = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block in which the session is in `KILLED_IN_ROUND`, or a few events further."""
        assert self._reached.wait(90), "the session does not begin"
        yield
        self._onwards.set()

    def over(self) -> None:
        self._thread.join(60)

    def _read(self) -> None:
        with self._path.open(encoding="utf-8") as lines:
            # One page: some ten events.
            fcntl.fcntl(lines.fileno(), _SET_PIPE_SIZE, 4096)
            for line in lines:
                replay([line], self)
                notice = self.notices[-1] if self.notices else None
                if notice and notice.kind is NoticeKind.ROUND_STARTED and notice.round >= KILLED_IN_ROUND:
                    self._reached.set()
                    assert self._onwards.wait(60)


@contextmanager
def deployed(folder: Path, doors: Path, federation: FederationFolder) -> Iterator[Deployment]:
    deployment = Deployment(folder, doors, federation)
    try:
        deployment.prepare()
        for name in deployment.tenants:
            deployment.start_tenant(name)
        yield deployment
    finally:
        deployment.stop_all()


def keep_up(deployment: Deployment, name: str) -> None:
    """What a supervisor does for a SuperNode."""
    if deployment.tenants[name].serving["supernode"].poll() is not None:
        deployment.tenants[name].serve("supernode")


def foreign_bundle() -> bytes:
    """The bundle with code of its own in it, as Flower builds it."""
    with zipfile.ZipFile(io.BytesIO(build_bundle())) as packed:
        shim, licence = packed.read("pyproject.toml"), packed.read("LICENSE")
    files = {
        "pyproject.toml": shim.replace(b"fed_em_client.flower_app:app", b"spy:app"),
        "LICENSE": licence,
        "spy.py": b"from fed_em_client.flower_app import app\n",
    }
    built, _ = build_fab_from_files(files)
    return bytes(built)


def submit(server: Party, app: str, session: Path) -> str:
    """The number of the run that was started."""
    printed = server.run(f'flwr run {app} fleet --run-config "session=\\"{session}\\""')
    (run,) = re.findall(r"started run (\d+)", printed)
    return str(run)


def await_refusal(nodes: list[Party], reason: str) -> None:
    wait_until(lambda: all(node.says("supernode", reason) for node in nodes), f"no node says: {reason}")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_session_survives_a_machine_of_a_tenant_and_the_superlink_and_no_foreign_bundle_runs(
    tmp_path: Path, doors: Path
) -> None:
    """One session, in the middle of which t1's tenant and SuperNode and the SuperLink are killed.

    Sums are over all three tenants or none, so it waits until t1 has come back through the restarted SuperNode, and every opened sum is
    of the same tenants as without any of this: the model is the same, bit for bit. While it waits, other bundles are tried on the nodes.
    """
    began = time.monotonic()
    say = lambda text: print(f"{time.monotonic() - began:6.1f} {text}", flush=True)
    tables = clustered_rows(SIZES)
    federation = write_small_federation(tmp_path / "f", tables, session_toml(MODEL, FIT, TIMES))
    other = write_small_federation(tmp_path / "other", tables, session_toml(MODEL, FIT, TIMES))
    with deployed(tmp_path / "parties", doors, federation) as deployment:
        server, t1 = deployment.server, deployment.tenants["t1"]
        watched = Watched(server.folder / "events.jsonl")
        server.run(block("server", "run"))
        say("submitted")
        with watched.held():
            say("killing")
            t1.kill("tenant", "supernode")
            server.kill("superlink")
        server.serve("superlink")
        t1.serve("tenant")
        t1.serve("supernode")
        deployment.await_superlink()
        say("superlink again")
        deployment.stranger.serve("supernode")
        nodes = [deployment.tenants[name] for name in ("t0", "t2")]

        server.run("fed-em flower-app unsigned && sed -i s/'A session'/'Another session'/ unsigned/*/pyproject.toml")
        unsigned = submit(server, "unsigned/fed-em-flower", other.session_file)
        await_refusal(nodes, "App verification is not supported")
        say("unsigned")
        (shelved,) = (server.folder / "bundle").glob("*.fab")
        shelved.write_bytes(foreign_bundle())
        tampered = submit(server, "@fed-em/fed-em-flower==0.1.0", other.session_file)
        await_refusal(nodes, "FAB verification failed")
        say("tampered")
        for run in (unsigned, tampered):
            server.run(f"flwr stop {run} fleet")
            print(server.run(f"flwr log {run} fleet --show"))
        say("stopped")
        assert deployment.stranger.serving["supernode"].poll() not in {None, 0}
        assert deployment.stranger.says("supernode", "Failed to activate SuperNode")
        assert server.says("superlink", "No SuperNode found with the given public key")

        def over() -> bool:
            keep_up(deployment, "t1")
            return all(each.serving["tenant"].poll() is not None for each in deployment.tenants.values())

        wait_until(over, "the session does not end", 120)
        say("over")
        watched.over()
        statuses = {name: each.serving["tenant"].returncode for name, each in deployment.tenants.items()}
        assert statuses == {"t0": 0, "t1": 0, "t2": 0}
        runs = json.loads(server.run("flwr list fleet --format json"))["runs"]
        print(runs)
        print(server.run(block("server", "look")))
    joined = [notice.tenants for notice in watched.notices if notice.kind is NoticeKind.JOINED]
    assert joined.count(("t1",)) == 2
    undisturbed = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())
    fitted = load_model(federation.server.output / "model")
    print(fitted.parameters.distance(undisturbed.result.fit.parameters))
    say("end")
