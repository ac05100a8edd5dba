"""The demonstration: nine tenants in three blocks train a mixture on digits, one is killed and comes back, one lags.

Nobody trusts the server. While a tenant is away its block is out of the sums, and the block's earlier terms stand in the total; so
the model never forgets anybody's rows, and the end is the one that all rows in one place give.

`grpc`: this process is the server, each tenant a process of its own, mutual TLS on loopback. `memory`: all in one process, in virtual
time, the same machines. `flower`: a SuperLink and nine SuperNodes carry the fleet, the rounds go over gRPC.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from fed_em.model_file import FittedModel, load_model, save_model
from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_session import TenantSession
from fed_em_server.event_lines import replay
from fed_em_server.pooled import fit_pooled
from fed_em_server.record import RECORD_FILE, Comparison, SessionRecord
from fed_em_server.report import write_report
from fed_em_server.serve import MODEL_FOLDER, open_server
from fed_em_server.session import Watcher, run_session
from fed_em_server.watchers import Watchers
from fed_em_simulations.demo_trouble import LAGGARD, VICTIM, Trouble
from fed_em_simulations.digits import COLUMNS, DigitsFederation, digits_federation
from fed_em_simulations.federation_folder import FederationFolder, write_federation_folder
from fed_em_simulations.flower_fleet import FlowerFleet
from fed_em_simulations.memory_hub import MemoryHub
from fed_em_simulations.tenant_fleet import TenantFleet, tenant_processes
from fed_em_simulations.volatile_marks import VolatileMarks

# Seconds a message takes in the demonstration in virtual time.
_LINK = 0.02
_ROW_CAP = 2000
# Seconds to wait for a tenant that was killed. Short, so that rounds go on without its block; but Flower brings it a new ticket in
# some ten seconds, and in that time the session would be through all its iterations.
_PATIENCE: Mapping[str, float] = {"grpc": 0.2, "memory": 0.2, "flower": 30.0}
# Seconds for the last events of a session to arrive, once it is over.
_FAREWELL = 10.0

COMPONENTS = 10
_SEED = 11

# One tenant may collude with the server, so a block needs three: three blocks of the nine.
_COLLUDERS = 1
_POLICY = f"colluders = {_COLLUDERS}"

# Fraley and Raftery (2007), section 3, in standardised columns: little shrinkage, the scale of a tenth of the space,
# D + 2 degrees of freedom.
_PRIOR_SCALE = COMPONENTS ** (-2 / len(COLUMNS))


def digits_session(data: DigitsFederation, patience: float, seed: int = _SEED) -> str:
    """The server's configuration for the digits; `patience` as in its `[times]`, `seed` of the start."""
    low, high = data.projection.ranges()
    columns = "\n".join(
        f'[[columns]]\nname = "{name}"\nlow = {low[k]:.6f}\nhigh = {high[k]:.6f}\n' for k, name in enumerate(COLUMNS)
    )
    zeros, scales = [0.0] * len(COLUMNS), [round(_PRIOR_SCALE, 6)] * len(COLUMNS)
    return f"""\
title = "handwritten-digits"
listen = "127.0.0.1:0"
output = ".."

[trust]
mode = "malicious-server"
colluders = {_COLLUDERS}
difference_guard = "blocks"

[fit]
tolerance = 1e-6
max_iterations = 400
seed = {seed}
# What goes wrong is timed for the rounds of plain EM, from one draw.
optimiser = "em"
starts = 0

[times]
patience = {patience}
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


@dataclass(frozen=True)
class Finished:
    """What a demonstration ends with."""

    fitted: FittedModel
    record: SessionRecord


def run_over_grpc(demo: FederationFolder, watchers: Sequence[Watcher], faults: bool) -> Finished:
    """A server in this process, nine tenant processes."""
    server = open_server(demo.server)
    hub = server.hub()
    dialling = tenant_processes(demo, lambda _: ["--server", f"127.0.0.1:{hub.port}"])
    with dialling as fleet, server.transcript() as store:
        outcome = run_session(server.plan("grpc"), hub, _watched_by(fleet, watchers, faults), store=store)
    return Finished(outcome.fitted, outcome.record)


def run_in_memory(demo: FederationFolder, watchers: Sequence[Watcher], faults: bool) -> Finished:
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

    # An answer takes longer than the server waits for it, but not much: the tenant is asked again, and late again.
    slow = 0.6 * demo.server.times.straggler
    trouble = [
        Trouble(kill, lambda: hub.set_latency(index(LAGGARD), slow), lambda: hub.set_latency(index(LAGGARD), _LINK))
    ]
    with server.transcript() as store:
        seen = Watchers([*(trouble if faults else []), *watchers])
        outcome = run_session(server.plan("memory"), hub, seen, store=store)
    return Finished(outcome.fitted, outcome.record)


def run_over_flower(demo: FederationFolder, watchers: Sequence[Watcher], faults: bool) -> Finished:
    """A SuperLink and nine SuperNodes carry the fleet; the server runs inside Flower's ServerApp, and tells what happens here."""
    events = demo.folder / "events"
    os.mkfifo(events)
    # Socket names are short of room, so they do not lie in a folder that may be deep.
    with TemporaryDirectory(prefix="fed-em-") as doors:
        sockets = {name: Path(doors) / name for name in demo.tenant_files}
        flower = FlowerFleet(demo.folder / "flower", sockets)
        with flower, tenant_processes(demo, lambda name: ["--flower-socket", str(sockets[name])]) as fleet:
            lines = Thread(target=_replay, args=(events, _watched_by(fleet, watchers, faults)), daemon=True)
            lines.start()
            flower.run(demo.session_file, events=events)
            lines.join(_FAREWELL)
    record = SessionRecord.model_validate_json((demo.folder / RECORD_FILE).read_bytes())
    return Finished(load_model(demo.folder / MODEL_FOLDER), record)


def _replay(events: Path, watcher: Watcher) -> None:
    with events.open(encoding="utf-8") as lines:
        replay(lines, watcher)


def _watched_by(fleet: TenantFleet, watchers: Sequence[Watcher], faults: bool) -> Watchers:
    trouble = Trouble(lambda: fleet.restart(VICTIM), lambda: fleet.stop(LAGGARD), lambda: fleet.resume(LAGGARD))
    return Watchers([trouble, *watchers] if faults else watchers)


_RUNS: Mapping[str, Callable[[FederationFolder, Sequence[Watcher], bool], Finished]] = {
    "grpc": run_over_grpc,
    "memory": run_in_memory,
    "flower": run_over_flower,
}


def run_demo(folder: Path, transport: str, faults: bool, watchers: Sequence[Watcher], seed: int = _SEED) -> Finished:
    """Run the demonstration and write the model, the record and the report to `folder`.

    Args:
        folder: Made if need be; an earlier demonstration in it is replaced.
        transport: "grpc", "memory" or "flower".
        faults: Whether to kill one tenant and let another lag.
        watchers: Who looks on.
        seed: Of the start.

    Returns:
        The model, and the record with the comparison of models filled in.
    """
    data = digits_federation()
    session = digits_session(data, _PATIENCE[transport], seed)
    demo = write_federation_folder(
        folder, "digits-demo", session, COLUMNS, data.tenants, _ROW_CAP, "127.0.0.1:0", _COLLUDERS + 2, _POLICY
    )
    finished = _RUNS[transport](demo, watchers, faults)
    fitted = finished.fitted
    record = finished.record.model_copy(update={"comparison": compare(demo, data, fitted)})
    save_model(folder / MODEL_FOLDER, fitted)
    write_report(folder, record, fitted, data.projection.images(fitted.coordinates.restore(fitted.parameters["means"])))
    return Finished(fitted, record)


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
