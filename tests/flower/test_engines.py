"""Sessions under Flower's real engines, on this machine: a SuperLink, SuperNodes, tenants in processes of their own; and Ray.

The ServerApp's process is gone when a run has ended, so a federation is compared by what it wrote: log-likelihood and weights of every
iteration from the session's record, all parameters after the last one from the model. Pooled EM is computed from the rows alone,
with its own moments and its own start.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from kinds import KILLED, KINDS, Ended, assert_right, assert_tenants_have_it
from small_federation import MODEL, Killing, clustered_rows, session_toml, write_small_federation

from fed_em import GaussianMixture
from fed_em.em import Stopping
from fed_em.errors import EnvironmentFault
from fed_em.model_file import load_model
from fed_em_client.privacy_ledger import ledger_files, read_spends
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_server.pooled import fit_pooled
from fed_em_server.record import SessionRecord
from fed_em_simulations import Federation, FederationOutcome
from fed_em_simulations.federation_folder import FederationFolder, Matrix
from fed_em_simulations.flower_fleet import FlowerFleet, FlowerSimulation
from tests.flower.held import Heard, Held

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
# Tests of one group run in one worker, so that they share what is the module's.
one_fleet, one_ray = pytest.mark.xdist_group("one fleet"), pytest.mark.xdist_group("one Ray")

# Limits for a machine that has much else to do, of a session and of a run.
TIMES = "gather = 600\npatience = 0.3\nstraggler = 5\nset_up = 60\nupload = 120\nopen = 60"
LONG = 900

SIZES = (60, 40, 50, 45)
# Sums are of all four tenants or of any three.
TRUST = 'difference_guard = "off"\ncolluders = 0\nminimum_survivors = 3'
unguarded = partial(write_small_federation, policy='difference_guard = "off"\ncolluders = 0')


def federation_of(tmp_path: Path, iterations: int, sizes: Sequence[int] = SIZES) -> tuple[FederationFolder, Matrix]:
    tenants = clustered_rows(sizes)
    session = session_toml(MODEL, f"tolerance = 1e-7\nmax_iterations = {iterations}", TIMES)
    return write_small_federation(tmp_path / "f", tenants, session), np.concatenate(list(tenants.values()))


def assert_pooled(federation: FederationFolder, rows: Matrix) -> SessionRecord:
    """The federation wrote what pooled EM gives, iteration by iteration, and every tenant holds the same model."""
    server = federation.server
    record = SessionRecord.model_validate_json((server.output / "record.json").read_bytes())
    pooled, result = fit_pooled(
        server.description, rows, server.fit.stopping, server.fit.seed, beginning=server.beginning()
    )
    assert len(record.start_rounds) == server.beginning().rounds
    moments, *rounds = (opened for opened in record.rounds if opened.start is None)
    assert moments.log_likelihood is None
    assert len(rounds) == len(result.fit.iterations)
    for ours, theirs in zip(rounds, result.fit.iterations, strict=True):
        assert ours.complete
        assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-9)
        np.testing.assert_allclose(ours.weights, theirs.parameters["weights"], rtol=0, atol=1e-9)
    fitted = load_model(server.output / "model")
    np.testing.assert_allclose(fitted.coordinates.location, pooled.coordinates.location, rtol=1e-9)
    np.testing.assert_allclose(fitted.coordinates.scale, pooled.coordinates.scale, rtol=1e-9)
    assert fitted.parameters.distance(pooled.parameters) < 1e-9
    for name in federation.tenant_files:
        kept = load_model(federation.tenant(name).state / "model")
        assert kept.parameters.distance(fitted.parameters) == 0
    return record


class TenantProcesses:
    """Tenants in processes of their own, each at its door."""

    def __init__(self, federation: FederationFolder, doors: Mapping[str, Path]) -> None:
        self._doors = doors
        self._federation = federation
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        config = self._federation.tenant_files[name]
        command = [sys.executable, "-m", "fed_em_simulations.command_line", "tenant", str(config)]
        with (config.parent / "log.txt").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*command, "--flower-socket", str(self._doors[name])], stdout=log, stderr=subprocess.STDOUT
            )

    def restart(self, name: str) -> None:
        """As after a power cut."""
        self._processes[name].kill()
        self._processes[name].wait()
        self.start(name)

    def statuses(self) -> list[int]:
        return [process.wait(LONG) for process in self._processes.values()]

    def kill(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Fleet:
    """A SuperLink, and a SuperNode for each of four doors, behind which one federation after another can be."""

    flower: FlowerFleet
    doors: Mapping[str, Path]

    @contextmanager
    def tenants_of(self, federation: FederationFolder) -> Iterator[TenantProcesses]:
        tenants = TenantProcesses(federation, self.doors)
        try:
            for name in federation.tenant_files:
                tenants.start(name)
            yield tenants
        finally:
            tenants.kill()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """It takes half a minute of processor time to come up. Paths of sockets must be short."""
    folder = tmp_path_factory.mktemp("flower")
    with tempfile.TemporaryDirectory(prefix="fed-em-") as doors:
        sockets = {f"t{k}": Path(doors) / f"t{k}" for k in range(len(SIZES))}
        with FlowerFleet(folder, sockets) as flower:
            yield Fleet(flower, sockets)
    assert not left_behind(folder), "every process of the fleet is gone"


def left_behind(folder: Path) -> list[str]:
    """Processes, zombies aside, that belong to a fleet."""
    home = f"FLWR_HOME={folder.resolve() / 'home'}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if home in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@one_fleet
def test_a_session_over_the_stream(tmp_path: Path, fleet: Fleet) -> None:
    federation, rows = federation_of(tmp_path, 60)
    with fleet.tenants_of(federation) as tenants:
        fleet.flower.run(federation.session_file, seconds=LONG)
        assert set(tenants.statuses()) == {0}
    record = assert_pooled(federation, rows)
    assert record.transport == "flower, gRPC"


def run_with_a_kill(federation: FederationFolder, fleet: Fleet, round_number: int) -> Held:
    """A session in which t1 is killed when a round begins; the smallest sum is over all of its block, so it waits until t1 is back.

    Returns what was seen of it.
    """
    events = federation.folder / "events.fifo"
    with fleet.tenants_of(federation) as tenants, ThreadPoolExecutor(1) as pool:
        held = Held(events, round_number)
        run = pool.submit(fleet.flower.run, federation.session_file, events=events, seconds=LONG)
        with held.in_a_round(run.done):
            tenants.restart("t1")
        run.result()
        held.over()
        assert set(tenants.statuses()) == {0}
    assert [notice.tenants for notice in held.notices if notice.kind is NoticeKind.JOINED].count(("t1",)) >= 2
    return held


@one_fleet
@pytest.mark.parametrize("name", KINDS)
def test_a_session_of_whose_sums_a_killed_tenant_is_not_comes_right(tmp_path: Path, fleet: Fleet, name: str) -> None:
    """Each time, another ticket brings it back."""
    kind = KINDS[name]
    federation = kind.federation(tmp_path, TIMES, SIZES, TRUST, unguarded)
    events, log = federation.folder / "events.fifo", federation.tenant_files[KILLED].parent / "log.txt"
    with fleet.tenants_of(federation) as tenants:
        watcher = Killing(KILLED, kind.moments, lambda: tenants.restart(KILLED), log)
        heard = Heard(events, watcher)
        fleet.flower.run(federation.session_file, events=events, seconds=LONG)
        heard.over()
        assert set(tenants.statuses()) == {0}
    assert watcher.joins() == 1 + len(kind.moments)
    ended = Ended(federation)
    assert_right(ended, kind)
    assert_tenants_have_it(ended)


@one_fleet
def test_a_private_session_charges_each_sum_that_left_once_whoever_is_killed(tmp_path: Path, fleet: Fleet) -> None:
    """A tenant's ledger counts the uploads of both its processes, and what is left is given back."""
    fit = "max_iterations = 6\n[privacy]\nepsilon = 20\ndelta = 1e-5\nspare_sums = 8"
    federation = write_small_federation(
        tmp_path / "f", clustered_rows((300, 300, 300, 300)), session_toml(MODEL, fit, TIMES)
    )
    watcher = run_with_a_kill(federation, fleet, 3)
    record = SessionRecord.model_validate_json((federation.server.output / "record.json").read_bytes())
    assert record.privacy is not None and len(record.rounds) == 1 + 6
    for name in federation.tenant_files:
        spent = read_spends(ledger_files(federation.tenant(name))).sessions[bytes.fromhex(record.session)]
        uploaded = {each.round for each in watcher.notices if each.kind is NoticeKind.UPLOADED and name in each.tenants}
        # A kill between charge and upload leaves a charge without an upload, and never an upload without a charge.
        assert uploaded <= set(spent.charged) and len(set(spent.charged) - uploaded) <= (name == "t1")
        assert spent.plan == record.privacy.spend and spent.reserved is None


@one_fleet
def test_a_session_that_is_relayed(tmp_path: Path, fleet: Fleet) -> None:
    """Two trips to join, three to set up, two for each of two rounds. On each, Flower starts a process a tenant."""
    federation, rows = federation_of(tmp_path, 1)
    with fleet.tenants_of(federation) as tenants:
        fleet.flower.run(federation.session_file, link="relay", seconds=LONG)
        assert set(tenants.statuses()) == {0}
    record = assert_pooled(federation, rows)
    assert record.transport == "flower, relayed"


@pytest.fixture(scope="module")
def warm_ray() -> None:
    """Ray gives itself 30 seconds to come up, whatever the disk: its programs are read once before they are timed."""
    start = "import ray; ray.init(num_cpus=1, include_dashboard=False); ray.shutdown()"
    for _ in range(6):
        if (
            subprocess.run([sys.executable, "-c", start], check=False, capture_output=True, timeout=LONG).returncode
            == 0
        ):
            return
    pytest.fail("Ray does not start on this machine")


@one_ray
@pytest.mark.usefixtures("warm_ray")
def test_a_session_in_the_simulation_runtime(tmp_path: Path) -> None:
    federation, rows = federation_of(tmp_path, 60, SIZES[:3])
    with FlowerSimulation(tmp_path / "flower", 3) as simulation:
        simulation.run(federation.session_file, federation=federation.folder, seconds=LONG)
    assert_pooled(federation, rows)
    assert not left_behind(tmp_path / "flower")


@one_ray
@pytest.mark.usefixtures("warm_ray")
def test_a_federation_in_one_call_gives_the_same_model_by_either_engine() -> None:
    tables = clustered_rows(SIZES[:3])

    def run(engine: Literal["memory", "flower"]) -> FederationOutcome:
        federation = Federation(tables, seed=4, starts=0, stopping=Stopping(0.0, 3), optimiser="em", engine=engine)
        return federation.fit(GaussianMixture(3))

    memory, flower = run("memory"), run("flower")
    assert flower.record.tenants == memory.record.tenants and len(flower.rounds) == len(memory.rounds) == 4
    assert flower.model.parameters.distance(memory.model.parameters) < 1e-9
    assert flower.record.transport == "flower, gRPC"


def test_a_fleet_that_is_left_in_the_middle_of_a_run_leaves_nothing_behind(tmp_path: Path, doors: Path) -> None:
    federation, _ = federation_of(tmp_path, 3)
    faults: list[EnvironmentFault] = []

    def submit() -> None:
        try:
            fleet.run(federation.session_file)
        except EnvironmentFault as fault:
            faults.append(fault)

    with FlowerFleet(tmp_path / "flower", {"t0": doors / "nobody"}) as fleet:
        run = threading.Thread(target=submit)
        run.start()
        while not any("flwr-serverapp" in command for command in left_behind(tmp_path / "flower")):
            time.sleep(0.2)
    run.join(LONG)
    assert len(faults) == 1, "who waits for the run is told"
    deadline = time.monotonic() + 60
    while left_behind(tmp_path / "flower") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left_behind(tmp_path / "flower")
