"""The deployment of `docs/flower-deployment.md`, by its own commands: TLS, registered nodes, a signed bundle, and what is killed in it."""

from __future__ import annotations

import io
import re
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_files
from small_federation import MODEL, Recorder, clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em.model import Parameters
from fed_em.model_file import load_model
from fed_em_server.bundle import build_bundle, write_bundle
from fed_em_server.live_page.live_page import ADDRESS_FILE
from fed_em_server.serve import MODEL_FOLDER, open_server
from fed_em_server.session import run_session
from fed_em_simulations.federation_folder import FederationFolder
from tests.flower.deployment import DOCUMENT, Deployment, Party, block, wait_until
from tests.flower.held import Held
from tests.flower.live_state import state_of

BUNDLE = "@fed-em/fed-em-flower==0.1.0"
KILLED_IN_ROUND = 5

FIT = "tolerance = 0\nmax_iterations = 30"
# Limits for a machine that has much else to do; who is killed is missed at once, as its connection breaks.
TIMES = "gather = 900\npatience = 0.3\nstraggler = 0.5\nset_up = 60\nupload = 120\nopen = 60"
# For a session to end that waits for its dead: Flower lets a SuperNode that was killed in again after some 80 seconds.
LONG = 900
LIVE_PAGE = '[dashboard]\nlisten = "127.0.0.1:0"\n'

# One deployment for all of them.
pytestmark = pytest.mark.xdist_group("deployment")


def test_the_document_runs_the_bundle_that_is_packed(tmp_path: Path) -> None:
    described = tomllib.loads((write_bundle(tmp_path) / "pyproject.toml").read_text(encoding="utf-8"))
    named = f"@{described['tool']['flwr']['app']['publisher']}/{described['project']['name']}"
    assert f"{named}=={described['project']['version']}" == BUNDLE
    assert f"flwr run {BUNDLE} fleet" in DOCUMENT.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> FederationFolder:
    folder = tmp_path_factory.mktemp("deployment") / "f"
    return write_small_federation(folder, clustered_rows((60, 40, 50)), session_toml(MODEL, FIT, TIMES))


@pytest.fixture(scope="module")
def undisturbed(federation: FederationFolder) -> Parameters:
    """What the session gives in one process, when nothing happens to it."""
    outcome = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())
    assert len(outcome.result.fit.iterations) == 30
    return outcome.result.fit.parameters


@pytest.fixture(scope="module")
def deployment(
    federation: FederationFolder, program: Callable[[str], Path], shown_logs: list[Path]
) -> Iterator[Deployment]:
    shown_logs.append(federation.folder.parent)
    for name in ("openssl", "ssh-keygen"):
        program(name)
    with tempfile.TemporaryDirectory(prefix="fed-em-") as doors:
        deployed = Deployment(federation.folder.parent, Path(doors), federation)
        try:
            deployed.prepare()
            yield deployed
        finally:
            deployed.stop_all()
        assert not deployed.left_behind(), "every process of every party is gone"


def another_session(federation: FederationFolder, name: str, listen: str = "127.0.0.1:0", more: str = "") -> Path:
    """The same session, whose results go elsewhere, in a file with more in it."""
    path = federation.session_file.with_name(f"{name}.toml")
    text = federation.session_file.read_text(encoding="utf-8").replace("127.0.0.1:0", listen)
    path.write_text(text.replace('output = "../result"', f'output = "../{name}"') + more, encoding="utf-8")
    return path


@contextmanager
def a_run(server: Party, commands: str, in_round: int) -> Iterator[str]:
    """A block in which a run that was submitted is in a round; at its end, its coordinator has gone. Gives the run's number."""
    held = Held(server.folder / "events.jsonl", in_round)
    run = started(server.run(commands))
    with held.in_a_round():
        yield run
    held.over()
    wait_until(lambda: not server.has_running("flwr-serverapp"), "the coordinator lives on")


def served_by(
    deployment: Deployment, commands: str, run: str, output: Path, coordinator_gone: Callable[[], None] = lambda: None
) -> str:
    """Wait until the session is over, and submit it again whenever its run ends before, as the document has it; the run that ended it.

    Flower ends a run whose heartbeats do not reach the SuperLink for a minute, which a busy machine takes to start one.
    """
    server = deployment.server
    deadline = time.monotonic() + LONG
    while not deployment.tenants_served():
        assert time.monotonic() < deadline, "the session does not end"
        time.sleep(0.5)
        if server.has_running("flwr-serverapp") or (output / MODEL_FOLDER).exists():
            continue
        time.sleep(5)
        if status_of(run, server.run(block("server", "look"))).startswith("finished"):
            coordinator_gone()
            run = started(server.run(commands))
    coordinator_gone()
    wait_until(lambda: not server.has_running("flwr-serverapp"), "the run does not end")
    return run


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
    return started(server.run(f'flwr run {app} fleet --run-config "session=\\"{session}\\""'))


def started(printed: str) -> str:
    (run,) = re.findall(r"started run (\d+)", printed)
    return str(run)


def status_of(run: str, listed: str) -> str:
    """Flower's word for a run, in what `flwr list` prints."""
    (line,) = (line for line in listed.splitlines() if run in line)
    (status,) = re.findall(r"(?:pending|starting|running|finished)[a-z:]*", line)
    return str(status)


def await_refusal(nodes: list[Party], reason: str) -> None:
    wait_until(lambda: all(node.says("supernode", reason) for node in nodes), f"no node says: {reason}", LONG)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_tenant_s_machine_and_the_superlink_are_killed_in_mid_session_and_no_foreign_bundle_or_node_gets_in(
    deployment: Deployment, federation: FederationFolder, undisturbed: Parameters
) -> None:
    """One session, in the middle of which t1's tenant and SuperNode and the SuperLink are killed.

    Sums are over all three tenants or none, so it waits until t1 is back through the restarted SuperNode, and every opened sum is of the
    same tenants as without any of this: the model is the same, bit for bit. While it waits, strangers try the fleet.
    """
    server, t1 = deployment.server, deployment.tenants["t1"]
    deployment.serve_tenants()
    assert re.search(r" ok .*signed bundle .*must be signed by fpk_", t1.run(block("tenant", "doctor"), fails=True))
    held = Held(server.folder / "events.jsonl", KILLED_IN_ROUND)
    run = started(server.run(block("server", "run")))
    with held.in_a_round():
        t1.kill("tenant", "supernode")
        server.kill("superlink")
    deployment.await_superlink()
    deployment.stranger.serve("supernode")

    nodes = [deployment.tenants[name] for name in ("t0", "t2")]
    server.run("fed-em flower-app unsigned && sed -i s/'A session'/'Another session'/ unsigned/*/pyproject.toml")
    unsigned = submit(server, "unsigned/fed-em-flower", another_session(federation, "unsigned"))
    await_refusal(nodes, "App verification is not supported")
    with deployment.shelved(foreign_bundle()):
        tampered = submit(server, BUNDLE, another_session(federation, "tampered"))
        await_refusal(nodes, "FAB verification failed")
    server.run(f"flwr stop {unsigned} fleet && flwr stop {tampered} fleet")
    assert "refuses this bundle: nobody whom it trusts has signed it" in server.run(f"flwr log {tampered} fleet --show")
    wait_until(lambda: bool(deployment.stranger.serving["supernode"].statuses), "the stranger's node stays")
    deployment.stranger.stop("supernode")
    assert server.says("superlink", "No SuperNode found with the given public key")

    completed = served_by(deployment, block("server", "run"), run, federation.server.output, held.over)

    def looks_right() -> bool:
        seen = server.run(block("server", "look"))
        return status_of(completed, seen) == "finished:completed" and seen.count("online") == 3

    wait_until(looks_right, "Flower does not list the run as completed, and three nodes")
    assert t1.log("tenant").read_text(encoding="utf-8").count("a ticket came") >= 2, "another ticket reached it"
    assert load_model(federation.server.output / "model").parameters.distance(undisturbed) == 0
    for name in federation.tenant_files:
        assert load_model(federation.tenant(name).state / "model").parameters.distance(undisturbed) == 0


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_session_whose_coordinator_is_lost_goes_on_when_it_is_submitted_again(
    deployment: Deployment, federation: FederationFolder, undisturbed: Parameters
) -> None:
    """Lost with a SuperLink that has no process of its own for the coordinator and takes it along; and then killed itself.

    Tenants dial the next one by themselves. The model is that of an undisturbed session, bit for bit; the live page shows the first run.
    """
    server = deployment.server
    server.stop("superexec", "superlink")
    alone = (
        block("server", "serves", "superlink")
        .replace("--isolation process", "")
        .replace("--superexec-auth-secret-file superexec.secret", "")
    )
    server.serve("superlink", alone)
    deployment.await_superlink()
    deployment.serve_tenants()
    again = another_session(federation, "again", listen=f"127.0.0.1:{deployment.coordinator_port}", more=LIVE_PAGE)
    output = federation.server.output.with_name("again")
    commands = f'export SESSION="{again}"\n{block("server", "run")}'

    with a_run(server, commands, KILLED_IN_ROUND) as lost:
        page = state_of((output / ADDRESS_FILE).read_text(encoding="utf-8").strip())
        assert page["session"]["tenants"] == list(federation.tenant_files) and page["rounds"]
        server.kill("superlink", again=False)
        wait_until(lambda: not server.has_running("flower-superexec"), "what the SuperLink has started lives on")
        # The coordinator, which looks for its parent five times a second, is told as well; it cannot hear while its events are held.
        time.sleep(3)
    server.serve("superlink", alone)
    deployment.await_superlink()
    with a_run(server, commands, KILLED_IN_ROUND + 10) as killed:
        server.kill_started("flwr-serverapp")
    completed = served_by(deployment, commands, started(server.run(commands)), output)

    def listed() -> dict[str, bool]:
        seen = server.run(block("server", "look"))
        return {run: status_of(run, seen) == "finished:completed" for run in (lost, killed, completed)}

    expected = {lost: False, killed: False, completed: True}
    wait_until(lambda: listed() == expected, "Flower does not list the last run alone as completed")
    told = server.run(f"flwr log {completed} fleet --show")
    (rounds,) = re.findall(r"session \w+ goes on, (\d+) rounds into it", told)
    assert int(rounds) >= KILLED_IN_ROUND + 10
    assert load_model(output / "model").parameters.distance(undisturbed) == 0
