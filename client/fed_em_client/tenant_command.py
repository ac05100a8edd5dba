"""The command `fed-em tenant`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def tenant(
    configuration: Annotated[Path, typer.Argument(help="This tenant's TOML file.")],
    server: Annotated[str | None, typer.Option("--server", help="host:port, instead of the file's.")] = None,
    flower_socket: Annotated[
        Path | None, typer.Option("--flower-socket", help="Serve a Flower ClientApp at this Unix socket instead.")
    ] = None,
    patience: Annotated[float, typer.Option("--patience", min=1, help="Seconds to keep dialling.")] = 300.0,
) -> None:
    """Take part in one session, with this machine's own rows."""
    from fed_em_client.configuration import read_tenant_configuration

    parsed = read_tenant_configuration(configuration)
    if flower_socket is not None:
        from fed_em_client.flower_tenant import serve_flower

        folder: Path | None = serve_flower(parsed, flower_socket, typer.echo)
    else:
        from fed_em_client.take_part import take_part

        folder = take_part(parsed, typer.echo, patience, server)
    came_to = "it measured models, and fitted none" if folder is None else f"its model is in {folder}"
    typer.echo(f"{parsed.name}: the session is over; {came_to}")
