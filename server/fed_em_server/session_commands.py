"""Commands that train: `fed-em server` and `fed-em fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Configuration = Annotated[Path, typer.Argument(help="The session's TOML file.")]


def server(
    configuration: Configuration,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines, even on a terminal.")] = False,
) -> None:
    """Coordinate one session over gRPC, until the model is fitted."""
    import sys

    from fed_em_server.configuration import read_server_configuration
    from fed_em_server.live_view import LiveView
    from fed_em_server.plain_log import PlainLog
    from fed_em_server.serve import serve

    parsed = read_server_configuration(configuration)
    if plain or not sys.stdout.isatty():
        outcome = serve(parsed, PlainLog())
    else:
        with LiveView() as view:
            outcome = serve(parsed, view)
    typer.echo(_summary(outcome.record.converged, len(outcome.record.rounds), parsed.output))


def fit(
    configuration: Configuration,
    data: Annotated[list[Path], typer.Argument(help="Data files with all rows: CSV, Parquet or NumPy.")],
    output: Annotated[Path, typer.Option("--output", help="Folder for the model.")] = Path("pooled-model"),
) -> None:
    """Fit the same model to rows in one place, from the same configuration."""
    import numpy as np

    from fed_em.model_file import save_model
    from fed_em_client.rows import read_rows
    from fed_em_protocols.limits import MAX_ROW_CAP
    from fed_em_server.configuration import read_server_configuration
    from fed_em_server.pooled import fit_pooled

    parsed = read_server_configuration(configuration)
    description = parsed.description
    rows = np.concatenate([read_rows(path, description, {}, MAX_ROW_CAP) for path in data])
    fitted, result = fit_pooled(description, rows, parsed.fit.stopping, parsed.fit.seed)
    save_model(output, fitted)
    last = result.fit.iterations[-1]
    typer.echo(f"{len(rows)} rows, log-likelihood {last.log_likelihood:.6f} nats a row")
    typer.echo(_summary(result.fit.converged, len(result.fit.iterations), output))


def _summary(converged: bool, rounds: int, output: Path) -> str:
    return f"{'converged' if converged else 'not converged'} after {rounds} rounds; see {output}"
