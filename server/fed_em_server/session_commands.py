"""Commands that train: `fed-em server` and `fed-em fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Configuration = Annotated[Path, typer.Argument(help="The session's TOML file.")]


def server(configuration: Configuration) -> None:
    """Coordinate one session over gRPC, until the model is fitted."""
    from rich.console import Console

    from fed_em.errors import CallerError
    from fed_em_server.configuration import read_server_configuration
    from fed_em_server.live_view import watching
    from fed_em_server.record import RECORD_FILE
    from fed_em_server.report import write_report
    from fed_em_server.report_summary import summary_panel
    from fed_em_server.serve import MODEL_FOLDER, serve

    parsed, console = read_server_configuration(configuration), Console()
    with watching(console) as view:
        outcome = serve(parsed, view)
    files = [MODEL_FOLDER, RECORD_FILE]
    try:
        files.append(write_report(parsed.output, outcome.record, outcome.fitted).name)
    except CallerError as no_plots:
        console.print(f"no report: {no_plots}", highlight=False)
    console.print(summary_panel(outcome.record, parsed.output, files))


def fit(
    configuration: Configuration,
    data: Annotated[list[Path], typer.Argument(help="Data files with all rows: CSV, Parquet or NumPy.")],
    output: Annotated[Path, typer.Option("--output", help="Folder for the model.")] = Path("pooled-model"),
) -> None:
    """Fit the same model to rows in one place, from the same configuration."""
    from fed_em.model_file import save_model
    from fed_em.records import Records
    from fed_em_client.rows import read_records
    from fed_em_protocols.limits import MAX_ROW_CAP
    from fed_em_server.configuration import read_server_configuration
    from fed_em_server.pooled import fit_pooled

    parsed = read_server_configuration(configuration)
    description = parsed.description
    records = Records.concatenated([read_records(path, description, {}, MAX_ROW_CAP) for path in data])
    fitted, result = fit_pooled(description, records, parsed.fit.stopping, parsed.fit.seed)
    save_model(output, fitted)
    last = result.fit.iterations[-1]
    typer.echo(f"{len(records)} rows, log-likelihood {last.log_likelihood:.6f} nats a row of standardised columns")
    unfinished = "not converged" if description.stream is None else "a stream ended"
    ending = "converged" if result.fit.converged else unfinished
    typer.echo(f"{ending} after {len(result.fit.iterations)} iterations; the model is in {output}")
