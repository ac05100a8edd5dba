"""A measurement over gRPC, from a session's file and fitted models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fed_em.measurement import Measurement
from fed_em.model_file import FittedModel
from fed_em.reference import edges_of
from fed_em.reference_edges import ReferenceEdges
from fed_em_server.configuration import ServerConfiguration
from fed_em_server.measurement.measuring_session import measuring_plan, run_measuring
from fed_em_server.serve import open_server
from fed_em_server.session import Watcher
from fed_em_server.transcript_folder import TranscriptFolder
from fed_em_server.watchers import Watchers

MEASUREMENTS_FOLDER = "measurements"


def measure(
    configuration: ServerConfiguration,
    models: Sequence[FittedModel],
    edges: ReferenceEdges | None = None,
    watcher: Watcher | None = None,
    listening: Callable[[int], None] = lambda _: None,
) -> Measurement:
    """Measure one fitted model, or two side by side, over the fresh rows of all tenants that come.

    The transcript goes into `measurements` in the configuration's output folder.

    Args:
        configuration: A session's; columns, weights, trust and times of it hold.
        models: Whose columns are the session's.
        edges: Of the reference; by default those that follow from the first model (`fed_em.reference.edges_of`).
        watcher: Who looks on.
        listening: Told of the port, once tenants can dial it.

    Raises:
        FedEmError: as `open_server`, `measuring_plan`, `GrpcHub` and `run_measuring`.
    """
    server = open_server(configuration)
    cut = edges_of(models[0], private=configuration.privacy is not None) if edges is None else edges
    plan, asked = measuring_plan(configuration, models, cut, server.roster, server.keys.identity, "grpc")
    output = configuration.output / MEASUREMENTS_FOLDER
    with TranscriptFolder(output, configuration.transcript_uploads) as store:
        hub = server.hub()
        listening(hub.port)
        return run_measuring(plan, asked, hub, watcher or Watchers([]), store=store)
