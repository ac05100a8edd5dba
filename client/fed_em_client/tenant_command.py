"""The command `fed-em tenant`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from fed_em_client.configuration import TenantConfiguration


def tenant(
    configuration: Annotated[Path, typer.Argument(help="This tenant's TOML file.")],
    server: Annotated[str | None, typer.Option("--server", help="host:port, instead of the file's.")] = None,
    flower_socket: Annotated[
        Path | None, typer.Option("--flower-socket", help="Serve a Flower ClientApp at this Unix socket instead.")
    ] = None,
    patience: Annotated[float, typer.Option("--patience", min=1, help="Seconds to keep dialling.")] = 300.0,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Serve this tenant's metrics at host:port, instead of the file's.")
    ] = None,
    log: Annotated[
        Literal["text", "json"] | None, typer.Option("--log", help="`json`: one object a line; `text`: sentences.")
    ] = None,
    traces: Annotated[
        bool, typer.Option("--traces", help="Send spans to an OTLP collector, as OTEL_* variables say.")
    ] = False,
    loyalty: Annotated[
        float,
        typer.Option("--loyalty", min=0, help="The same once a session was joined: its server may be away for long."),
    ] = 86400.0,
) -> None:
    """Take part in one session, with this machine's own rows."""
    from fed_em_client.configuration import read_tenant_configuration
    from fed_em_client.observability.observed_tenant import observing_tenant
    from fed_em_client.observability.settings import told_otherwise
    from fed_em_client.take_part import OWN_MODEL_FOLDER
    from fed_em_protocols.process_memory import keep_memory_private

    keep_memory_private()
    parsed = told_otherwise(read_tenant_configuration(configuration), metrics, log, traces)
    report = typer.echo if parsed.log.format == "text" else _unsaid
    with observing_tenant(parsed, report) as watcher:
        if flower_socket is not None:
            from fed_em_client.flower_tenant import serve_flower

            folder: Path | None = serve_flower(parsed, flower_socket, report, watcher=watcher)
        else:
            from fed_em_client.take_part import take_part

            folder = take_part(parsed, report, patience, server, watcher, loyalty)
    if folder is not None and folder.name == OWN_MODEL_FOLDER and parsed.fresh is not None:
        report(f"{parsed.name}: {_of_own_weights(parsed)}")
    came_to = "it measured models, and fitted none" if folder is None else f"its model is in {folder}"
    report(f"{parsed.name}: the session is over; {came_to}")


def _of_own_weights(parsed: TenantConfiguration) -> str:
    """What they gained on `fresh` rows, or why that is not known: the session is over, and its model kept."""
    from fed_em.errors import FedEmError
    from fed_em_client.own_weights import compare_weights

    try:
        return compare_weights(parsed).in_words
    except FedEmError as error:
        return f"own weights are not compared: {error}"


def _unsaid(sentence: str) -> None:
    """Where a log is of closed fields, no sentence is in it: some are about rows, for this tenant's eyes."""
