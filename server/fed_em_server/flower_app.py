"""Flower's ServerApp: a session's coordinator inside the process that Flower starts for a run.

`session` in the run's config names the same file that `fed-em server` takes, and is served as that does: a session that is not over
goes on, whichever run began it. Link `stream`: the coordinator's gRPC service runs in this process, and Flower carries one ticket to
each node. Link `relay`: Flower carries every message.
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
from fed_em_protocols.transcript.recorder import TranscriptStore
from fed_em_server.checkpoints.session_checkpoint import SessionCheckpoint
from fed_em_server.configuration import ServerConfiguration, read_server_configuration
from fed_em_server.event_lines import EventLines
from fed_em_server.grpc_hub import GrpcHub
from fed_em_server.live_page.live_page import LivePage
from fed_em_server.observability.observed_session import observing_session
from fed_em_server.record import RECORD_FILE
from fed_em_server.relay_hub import RelayHub, relayed_timetable
from fed_em_server.serve import MODEL_FOLDER, Coordinate, Server, serve_over
from fed_em_server.session import SessionOutcome, SessionPlan, Watcher, run_session
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
    new: bool = False
    dashboard: str = ""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.federation and self.link != "stream":
            raise ValueError("the simulation runtime plays whole tenants, and needs link = 'stream'")
        return self


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one session, or go on with it, and keep its outcome in the output folder of its configuration."""
    config = RunConfig.model_validate(dict(context.run_config))
    configuration = read_server_configuration(Path(config.session))
    listen = config.dashboard or (configuration.dashboard.listen if configuration.dashboard else None)
    with ExitStack() as stack:
        page = stack.enter_context(LivePage(listen)) if listen else None
        if page is not None:
            # What is printed here goes to the SuperLink's log: the file alone has the token.
            print(f"the address of the live page is in {page.keep_address(configuration.output)}")
        observers = stack.enter_context(observing_session(configuration, print))
        watchers: list[Watcher] = [observers, *([page] if page else [])]
        if config.events:
            watchers.append(stack.enter_context(EventLines(Path(config.events))))
        outcome, transcript = run(grid, config, configuration, watchers)
        observers.finished(outcome.record)
        if page is not None:
            page.ended(outcome.record, configuration.output, [MODEL_FOLDER, RECORD_FILE, transcript.name])


def run(
    grid: Grid, config: RunConfig, configuration: ServerConfiguration, watchers: Sequence[Watcher]
) -> tuple[SessionOutcome, Path]:
    """Serve a run's session over Flower. Returns and raises as `serve_over`."""
    if config.link == "relay":
        return serve_over("flower, relayed", _relayed(grid, watchers), configuration, config.new, print)
    return serve_over("flower, gRPC", _streamed(grid, config, watchers), configuration, config.new, print)


def _streamed(grid: Grid, config: RunConfig, watchers: Sequence[Watcher]) -> Coordinate:
    """A session over gRPC, to which Flower carries the tickets."""
    simulated = bool(config.federation)
    ttl = _SIMULATION_SECONDS if simulated else _TICKET_SECONDS
    again = _SIMULATION_AGAIN if simulated else _TICKET_AGAIN
    farewell = _SIMULATION_FAREWELL if simulated else _TICKET_FAREWELL

    def coordinate(
        server: Server, plan: SessionPlan, store: TranscriptStore, checkpoint: SessionCheckpoint
    ) -> SessionOutcome:
        hub = server.hub()
        ticket = sign_ticket(config.address or _address_of(server, hub), server.roster, server.keys.identity)
        with TicketOffice(grid, ticket, ttl, again, farewell) as office:
            return run_session(plan, hub, Watchers([office, *watchers]), store=store, checkpoint=checkpoint)

    return coordinate


def _relayed(grid: Grid, watchers: Sequence[Watcher]) -> Coordinate:
    """A session over Grid messages alone."""

    def coordinate(
        server: Server, plan: SessionPlan, store: TranscriptStore, checkpoint: SessionCheckpoint
    ) -> SessionOutcome:
        del server
        times = relayed_timetable(plan.timetable)
        hub = RelayHub(grid, plan.roster, plan.terms.session, ttl=max(times.set_up, times.upload, times.open))
        patient = replace(plan, timetable=times)
        return run_session(patient, hub, Watchers(watchers), store=store, checkpoint=checkpoint)

    return coordinate


def _address_of(server: Server, hub: GrpcHub) -> str:
    """Where tenants reach the hub, if that is where it listens."""
    host = server.configuration.listen.rpartition(":")[0]
    if host in {"0.0.0.0", "[::]"}:
        raise CallerError(
            f"the server listens on every address ({server.configuration.listen}), and tenants need one to dial",
            remedy='give the run\'s config address = "host:port"',
        )
    return f"{host}:{hub.port}"
