"""The command `fed-em own-weights`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def own_weights(
    configuration: Annotated[Path, typer.Argument(help="This tenant's TOML file.")],
    rows: Annotated[
        list[Path] | None,
        typer.Argument(help="Rows that no model was fitted to; by default those that the file names as `fresh`."),
    ] = None,
) -> None:
    """What this tenant gained from mixing weights of its own, on rows that nobody trained on. It is told here, and nowhere else."""
    from fed_em_client.configuration import read_tenant_configuration
    from fed_em_client.own_weights import compare_weights

    parsed = read_tenant_configuration(configuration)
    typer.echo(f"{parsed.name}: {compare_weights(parsed, rows or ()).in_words}")
