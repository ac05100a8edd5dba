"""The command `fed-em operate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def operate(
    configuration: Annotated[Path, typer.Argument(help="The operator's TOML file.")],
    once: Annotated[
        bool, typer.Option("--once", help="Do what is due, a whole retrain if it comes to that, and end: for cron.")
    ] = False,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Serve Prometheus metrics at host:port, instead of the file's.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Show where the operator is, and change nothing.")] = False,
) -> None:
    """Operate a model: measure its drift, fit it again when there is some, put the new one to use if it is better."""
    import time
    from itertools import repeat

    from fed_em_client.observability.settings import told_otherwise
    from fed_em_protocols.process_memory import keep_memory_private
    from fed_em_server.operate.operate import operating, status_of
    from fed_em_server.operate.operate_file import read_operate_file
    from fed_em_server.plain_log import PlainLog

    keep_memory_private()
    file = told_otherwise(read_operate_file(configuration), metrics)
    if status:
        typer.echo("\n".join(status_of(file, time.time())))
        return
    with operating(file, typer.echo, PlainLog()) as operator:
        if once:
            operator.proceed()
        else:
            operator.run(time.sleep, repeat(None))
