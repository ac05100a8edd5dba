"""The demonstration: nine tenants train a mixture on digits, one is killed and comes back, one lags.

`grpc`: this process is the server, each tenant a process of its own, mutual TLS on loopback. `memory`: all in one process, in virtual
time, the same machines. `flower`: a SuperLink and nine SuperNodes carry the fleet, the rounds go over gRPC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fed_em.errors import CallerError
from fed_em.model_file import FittedModel
from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_session import TenantSession
from fed_em_server.pooled import fit_pooled
from fed_em_server.record import Comparison
from fed_em_server.report import write_report
from fed_em_server.serve import keep_outcome, open_server
from fed_em_server.session import SessionOutcome, Watcher, run_session
from fed_em_server.watchers import Watchers
from fed_em_simulations.digits import COLUMNS, DigitsFederation, digits_federation
from fed_em_simulations.federation_folder import FederationFolder, write_federation_folder
from fed_em_simulations.memory_hub import MemoryHub
from fed_em_simulations.tenant_fleet import tenant_processes
from fed_em_simulations.trouble import LAGGARD, VICTIM, Trouble
from fed_em_simulations.volatile_marks import VolatileMarks

# Seconds a message takes in the demonstration in virtual time.
_LINK = 0.02
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
title = "handwritten-digits"
listen = "127.0.0.1:0"
output = ".."

[trust]
mode = "semi-honest"

[fit]
tolerance = 1e-6
max_iterations = 400
seed = 11

[times]
patience = 1.0
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
    demo = write_federation_folder(
        folder, "digits-demo", digits_session(data), COLUMNS, data.tenants, _ROW_CAP, "127.0.0.1:0"
    )
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
