"""The commands `fed-em shard` and `fed-em shard-keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def shard(
    tenant: Annotated[str, typer.Argument(help="host:port where this tenant's own process listens for shards.")],
    keys: Annotated[Path, typer.Option("--keys", help="The folder that `fed-em shard-keys` made.")] = Path(
        "shard-keys"
    ),
    index: Annotated[
        int,
        typer.Option(
            "--index", min=0, envvar="JOB_COMPLETION_INDEX", help="Which shard this is; an indexed Job sets it."
        ),
    ] = 0,
    patience: Annotated[float, typer.Option("--patience", min=1, help="Seconds to keep dialling.")] = 300.0,
) -> None:
    """Read a part of a tenant's rows from its object store, and sum it for the tenant's own process."""
    from fed_em_client.shard_pod import serve_shard
    from fed_em_protocols.process_memory import keep_memory_private

    keep_memory_private()
    serve_shard(tenant, keys, index, patience, typer.echo)
    typer.echo(f"shard {index}: the session is over")


def shard_keys(folder: Annotated[Path, typer.Argument(help="A new folder for the key.")]) -> None:
    """Make the key by which a tenant's own process and its shards know each other; it stays in the tenant's house."""
    from datetime import UTC, datetime

    from fed_em_protocols.party import create_shard_keys

    create_shard_keys(folder, datetime.now(UTC))
    typer.echo(f"the key is in {folder}; only this tenant's process and its shards may ever have it")
