"""Flower's ServerApp: a session's coordinator inside the process that Flower starts for a run.

`session` in the run's config names the same file that `fed-em server` takes. Link `stream`: the coordinator's gRPC service runs in
this process, and Flower carries one ticket to each node. Link `relay`: Flower carries every message.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Self

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from pydantic import Field, model_validator

from fed_em.errors import CallerError
from fed_em_protocols.configuration import Table
from fed_em_protocols.grid_payloads import sign_ticket
from fed_em_server.configuration import read_server_configuration
from fed_em_server.event_lines import EventLines
from fed_em_server.grpc_hub import GrpcHub
from fed_em_server.observability.observed_session import observing_session
from fed_em_server.relay_hub import RelayHub, relayed_timetable
from fed_em_server.serve import Server, keep_outcome, open_server
from fed_em_server.session import SessionOutcome, Watcher, run_session
from fed_em_server.ticket_office import TicketOffice
from fed_em_server.watchers import Watchers

app = ServerApp()

# A ticket that is not answered in this time is lost: longer than the 305 s by which Flower lets a node's clock be off. In the simulation
# runtime, the whole session is the answer.
_TICKET_SECONDS, _SIMULATION_SECONDS = 360.0, 86_400.0
# A node that is well answers in 3 to 10 seconds, one of a busy machine in 20. In the simulation runtime, another ticket would play
# another tenant.
_TICKET_AGAIN, _SIMULATION_AGAIN = 20.0, math.inf
# At the end, tenants in the simulation runtime still have to save their models.
_TICKET_FAREWELL, _SIMULATION_FAREWELL = 0.0, 30.0


class RunConfig(Table):
    """The run's config: the keys of `[tool.flwr.app.config]` in the bundle."""

    session: Annotated[str, Field(min_length=1)]
    link: Literal["stream", "relay"] = "stream"
    address: str = ""
    federation: str = ""
    events: str = ""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.federation and self.link != "stream":
            raise ValueError("the simulation runtime plays whole tenants, and needs link = 'stream'")
        return self


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one session, and keep its outcome in the output folder of its configuration."""
    config = RunConfig.model_validate(dict(context.run_config))
    configuration = read_server_configuration(Path(config.session))
    server = open_server(configuration)
    with ExitStack() as stack:
        observers = stack.enter_context(observing_session(configuration, print))
        watchers: list[Watcher] = [observers]
        if config.events:
            watchers.append(stack.enter_context(EventLines(Path(config.events))))
        relayed = config.link == "relay"
        outcome = run_relayed(grid, server, watchers) if relayed else run_streamed(grid, config, server, watchers)
        observers.finished(outcome.record)
        keep_outcome(configuration.output, outcome)


def run_streamed(grid: Grid, config: RunConfig, server: Server, watchers: Sequence[Watcher]) -> SessionOutcome:
    """A session over gRPC, to which Flower carries the tickets."""
    hub = server.hub()
    ticket = sign_ticket(config.address or _address_of(server, hub), server.roster, server.keys.identity)
    simulated = bool(config.federation)
    ttl = _SIMULATION_SECONDS if simulated else _TICKET_SECONDS
    again = _SIMULATION_AGAIN if simulated else _TICKET_AGAIN
    farewell = _SIMULATION_FAREWELL if simulated else _TICKET_FAREWELL
    with TicketOffice(grid, ticket, ttl, again, farewell) as office, server.transcript() as store:
        return run_session(server.plan("flower, gRPC"), hub, Watchers([office, *watchers]), store=store)


def run_relayed(grid: Grid, server: Server, watchers: Sequence[Watcher]) -> SessionOutcome:
    """A session over Grid messages alone."""
    plan = server.plan("flower, relayed")
    times = relayed_timetable(plan.timetable)
    hub = RelayHub(grid, plan.roster, plan.terms.session, ttl=max(times.set_up, times.upload, times.open))
    with server.transcript() as store:
        return run_session(replace(plan, timetable=times), hub, Watchers(watchers), store=store)


def _address_of(server: Server, hub: GrpcHub) -> str:
    """Where tenants reach the hub, if that is where it listens."""
    host = server.configuration.listen.rpartition(":")[0]
    if host in {"0.0.0.0", "[::]"}:
        raise CallerError(
            f"the server listens on every address ({server.configuration.listen}), and tenants need one to dial",
            remedy='give the run\'s config address = "host:port"',
        )
    return f"{host}:{hub.port}"
