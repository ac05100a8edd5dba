"""The demonstration: nine tenants train a mixture on digits, one is killed and comes back, one lags.

`grpc`: this process is the server, each tenant a process of its own, mutual TLS on loopback. `memory`: all in one process, in virtual
time, the same machines. `flower`: a SuperLink and nine SuperNodes carry the fleet, the rounds go over gRPC.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fed_em_server.report import write_report

from fed_em.errors import CallerError
from fed_em.model_file import FittedModel
from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.pooled import fit_pooled
from fed_em_server.record import Comparison, RoundRecord, SessionRecord
from fed_em_server.serve import keep_outcome, open_server
from fed_em_server.session import SessionOutcome, Watcher, run_session
from fed_em_simulations.digits import COLUMNS, DigitsFederation, digits_federation
from fed_em_simulations.federation_folder import FederationFolder, write_federation_folder
from fed_em_simulations.memory_hub import MemoryHub
from fed_em_simulations.volatile_marks import VolatileMarks

VICTIM, LAGGARD = "fir", "hazel"
_KILL_FROM, _LAG_FROM, _LAG_ROUNDS = 8, 16, 3
_LINK = 0.001
_ROW_CAP = 2000

COMPONENTS = 10

# Fraley and Raftery (2007), section 3, in standardised columns: little shrinkage, the scale of a tenth of the space,
# D + 2 degrees of freedom.
_PRIOR_SCALE = COMPONENTS ** (-2 / len(COLUMNS))


def digits_session(data: DigitsFederation) -> str:
    """The server's configuration for the digits."""
    low, high = data.projection.ranges()
    columns = "\n".join(
        f'[[columns]]\nname = "{name}"\nlow = {low[k]:.6f}\nhigh = {high[k]:.6f}\n' for k, name in enumerate(COLUMNS)
    )
    zeros, scales = [0.0] * len(COLUMNS), [round(_PRIOR_SCALE, 6)] * len(COLUMNS)
    return f"""\
title = "digits"
listen = "127.0.0.1:0"
output = ".."

[trust]
mode = "semi-honest"

[fit]
tolerance = 1e-6
max_iterations = 400
seed = 2

[times]
patience = 0.5
straggler = 0.5

[model]
family = "gaussian-mixture"
n_components = {COMPONENTS}
covariance = "full"

[model.prior]
mean = {zeros}
scale = {scales}
mean_precision = 0.01
degrees_of_freedom = {len(COLUMNS) + 2.0}

{columns}"""


@dataclass
class Trouble:
    """Kills one tenant right after its upload has come in, and lets another lag for some rounds.

    A watcher: it is called before the server goes on, so the killed tenant never sees the round's certificate.
    """

    kill: Callable[[], None]
    lag: Callable[[], None]
    catch_up: Callable[[], None]
    killed: bool = field(default=False, init=False)
    lagged: int = field(default=0, init=False)

    def session_started(self, record: SessionRecord) -> None:
        """Nothing to do yet."""

    def noticed(self, notice: Notice) -> None:
        """Make trouble when its time has come."""
        uploaded = notice.kind is NoticeKind.UPLOADED and VICTIM in notice.tenants
        if uploaded and notice.round >= _KILL_FROM and not self.killed:
            self.killed = True
            self.kill()
        asked = notice.kind is NoticeKind.ROUND_STARTED and LAGGARD in notice.tenants
        if asked and notice.round >= _LAG_FROM and not self.lagged:
            self.lagged = notice.round
            self.lag()

    def round_opened(self, record: RoundRecord) -> None:
        """Let the laggard go on after some rounds."""
        if self.lagged and record.round == self.lagged + _LAG_ROUNDS:
            self.catch_up()


@dataclass(frozen=True)
class Watchers:
    """Several watchers as one, called in order."""

    watchers: Sequence[Watcher]

    def session_started(self, record: SessionRecord) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.session_started(record)

    def noticed(self, notice: Notice) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.noticed(notice)

    def round_opened(self, record: RoundRecord) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.round_opened(record)


@dataclass(frozen=True)
class Pace:
    """Waits after each round, so that a person can follow."""

    seconds: float

    def session_started(self, record: SessionRecord) -> None:
        """Nothing to do."""

    def noticed(self, notice: Notice) -> None:
        """Nothing to do."""

    def round_opened(self, record: RoundRecord) -> None:
        """Wait."""
        time.sleep(self.seconds)


def run_over_grpc(demo: FederationFolder, watchers: Sequence[Watcher], faults: bool) -> SessionOutcome:
    """A server in this process, nine tenant processes."""
    server = open_server(demo.server)
    hub = server.hub()
    address = f"127.0.0.1:{hub.port}"
    with tenant_processes(demo, address) as fleet:
        trouble = [Trouble(lambda: fleet.restart(VICTIM), lambda: fleet.stop(LAGGARD), lambda: fleet.resume(LAGGARD))]
        return run_session(server.plan("grpc"), hub, Watchers([*(trouble if faults else []), *watchers]))


def run_in_memory(demo: FederationFolder, watchers: Sequence[Watcher], faults: bool) -> SessionOutcome:
    """Everything in this process and in virtual time."""
    server = open_server(demo.server)
    index = demo.roster.index

    def start(name: str) -> Callable[[], TenantSession]:
        tenant = open_tenant(demo.tenant(name))
        work, marks = tenant.work(), VolatileMarks()
        return lambda: tenant.session(marks, work)

    hub = MemoryHub([start(name) for name in demo.tenant_files], _LINK)

    def kill() -> None:
        hub.kill(index(VICTIM))
        hub.restart(index(VICTIM), 1.0)

    slow = 2 * demo.server.times.straggler
    trouble = [
        Trouble(kill, lambda: hub.set_latency(index(LAGGARD), slow), lambda: hub.set_latency(index(LAGGARD), _LINK))
    ]
    return run_session(server.plan("memory"), hub, Watchers([*(trouble if faults else []), *watchers]))


class TenantFleet:
    """Tenant processes on this machine, each with its own log file."""

    def __init__(self, demo: FederationFolder, arguments: Sequence[str]) -> None:
        self._demo = demo
        self._arguments = list(arguments)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a tenant's process."""
        config = self._demo.tenant_files[name]
        command = [sys.executable, "-m", "fed_em_simulations.command_line", "tenant", str(config), *self._arguments]
        # One thread of linear algebra each: nine processes share this machine.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with (config.parent / "log.txt").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
            )

    def restart(self, name: str) -> None:
        """Kill a tenant as a power cut would, and start it again."""
        self._processes[name].kill()
        self._processes[name].wait()
        self.start(name)

    def stop(self, name: str) -> None:
        """Freeze a tenant."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a frozen tenant go on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def wait(self, seconds: float) -> None:
        """Wait until all have ended by themselves; those that do not are killed."""
        deadline = time.monotonic() + seconds
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def tenant_processes(demo: FederationFolder, address: str) -> Iterator[TenantFleet]:
    """All tenants of the demonstration, running; they are gone when the block ends."""
    fleet = TenantFleet(demo, ["--server", address])
    try:
        for name in demo.tenant_files:
            fleet.start(name)
        yield fleet
    except BaseException:
        fleet.wait(0.0)
        raise
    fleet.wait(10.0)


def run_over_flower(demo: FederationFolder, watchers: Sequence[Watcher], faults: bool) -> SessionOutcome:
    """A SuperLink and nine SuperNodes carry the fleet; the server runs inside Flower's ServerApp."""
    raise CallerError("not here yet")


_RUNS: Mapping[str, Callable[[FederationFolder, Sequence[Watcher], bool], SessionOutcome]] = {
    "grpc": run_over_grpc,
    "memory": run_in_memory,
    "flower": run_over_flower,
}


def run_demo(folder: Path, transport: str, faults: bool, watchers: Sequence[Watcher]) -> SessionOutcome:
    """Run the demonstration and write the model, the record and the report to `folder`.

    Args:
        folder: Made if need be; an earlier demonstration in it is replaced.
        transport: "grpc", "memory" or "flower".
        faults: Whether to kill one tenant and let another lag.
        watchers: Who looks on.

    Returns:
        The outcome, its record with the comparison of models filled in.
    """
    data = digits_federation()
    demo = write_federation_folder(folder, digits_session(data), COLUMNS, data.tenants, _ROW_CAP, "127.0.0.1:0")
    outcome = _RUNS[transport](demo, watchers, faults)
    record = outcome.record.model_copy(update={"comparison": compare(demo, data, outcome.fitted)})
    compared = replace(outcome, record=record)
    keep_outcome(folder, compared)
    images = data.projection.images(compared.fitted.coordinates.restore(compared.fitted.parameters["means"]))
    write_report(folder, record, compared.fitted, images)
    return compared


def compare(demo: FederationFolder, data: DigitsFederation, federated: FittedModel) -> tuple[Comparison, ...]:
    """Federated, pooled and every tenant alone, by the log-likelihood of rows that nobody trained on."""
    configuration = demo.server
    description, stopping, seed = configuration.description, configuration.fit.stopping, configuration.fit.seed
    lines = [_line("federated", len(data.pooled), federated, data)]
    pooled, _ = fit_pooled(description, data.pooled, stopping, seed)
    lines.append(_line("pooled", len(data.pooled), pooled, data))
    for name, rows in data.tenants.items():
        alone, _ = fit_pooled(description, rows, stopping, seed)
        lines.append(_line(f"{name} alone", len(rows), alone, data))
    return tuple(lines)


def _line(name: str, rows: int, model: FittedModel, data: DigitsFederation) -> Comparison:
    held_out = float(model.score_samples(data.held_out).mean())
    return Comparison(name=name, rows=rows, held_out_log_likelihood=held_out)
