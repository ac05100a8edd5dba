"""The command `fed-em flower-app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def flower_app(
    folder: Annotated[Path, typer.Argument(help="Where to write it; `flwr run` takes the path that is printed.")],
) -> None:
    """Write the Flower app that `flwr run` submits: a shim without code, which names installed modules."""
    from fed_em_server.bundle import write_bundle

    typer.echo(write_bundle(folder))
