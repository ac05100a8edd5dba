"""Commands that train: `fed-em server` and `fed-em fit`."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from fed_em.model_file import FittedModel
    from fed_em.standardised_fit import StandardisedFit
    from fed_em_server.configuration import ServerConfiguration
    from fed_em_server.serve import EndedSession

# 128 + SIGINT, as shells have it.
_INTERRUPTED = 130

Configuration = Annotated[Path, typer.Argument(help="The session's TOML file.")]
Dashboard = Annotated[
    str | None,
    typer.Option(
        "--dashboard",
        metavar="HOST:PORT",
        help="Show the session on a page for this machine's browser; 127.0.0.1:0 for any port.",
    ),
]


def server(
    configuration: Configuration,
    new: Annotated[
        bool, typer.Option("--new", help="Begin another session, though one in the output folder is not over.")
    ] = False,
    dashboard: Dashboard = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Serve Prometheus metrics at host:port, instead of the file's.")
    ] = None,
    log: Annotated[
        Literal["text", "json"] | None,
        typer.Option("--log", help="`json`: one object a line; `text`: the view, or lines of text."),
    ] = None,
    traces: Annotated[
        bool, typer.Option("--traces", help="Send spans to an OTLP collector, as OTEL_* variables say.")
    ] = False,
) -> None:
    """Coordinate one session over gRPC, until the model is fitted. One that is not over goes on where it stood; of one that ended well,
    that is said, and the exit status is 0.
    """
    from rich.console import Console

    from fed_em.errors import CallerError
    from fed_em_client.observability.settings import told_otherwise
    from fed_em_protocols.process_memory import keep_memory_private
    from fed_em_server.configuration import read_server_configuration
    from fed_em_server.live_page.live_page import LivePage
    from fed_em_server.live_view import watching
    from fed_em_server.observability.observed_session import observing_session
    from fed_em_server.record import RECORD_FILE
    from fed_em_server.report import write_report
    from fed_em_server.report_summary import summary_panel
    from fed_em_server.serve import MODEL_FOLDER, ended_session, serve
    from fed_em_server.watchers import Watchers

    keep_memory_private()
    parsed = told_otherwise(read_server_configuration(configuration), metrics, log, traces)
    listen = dashboard or (parsed.dashboard.listen if parsed.dashboard else None)
    in_words = parsed.log.format == "text"
    console = Console(quiet=not in_words)
    ended = None if new else ended_session(parsed)
    if ended is not None:
        typer.echo(_of_ended(ended, parsed.output))
        return
    with ExitStack() as stack:
        page = stack.enter_context(LivePage(listen)) if listen else None
        if page is not None:
            page.tell_address(console, parsed.output)
        observers = stack.enter_context(observing_session(parsed, console.print))
        try:
            with watching(console) if in_words else nullcontext(Watchers()) as view:
                watchers = Watchers([view, observers, *([page] if page else [])])
                outcome, transcript = serve(parsed, watchers, new, lambda said: console.print(said, highlight=False))
        except KeyboardInterrupt:
            console.print("interrupted: the session is not over; start the server again to go on", highlight=False)
            raise typer.Exit(_INTERRUPTED) from None
        observers.finished(outcome.record)
        files = [MODEL_FOLDER, RECORD_FILE, transcript.name]
        try:
            files.append(write_report(parsed.output, outcome.record, outcome.fitted).name)
        except CallerError as no_plots:
            console.print(f"no report: {no_plots}", highlight=False)
        if page is not None:
            page.ended(outcome.record, parsed.output, files)
    console.print(summary_panel(outcome.record, parsed.output, files))


def _of_ended(ended: EndedSession, output: Path) -> str:
    """What there is to say of a session that ended well, whose server was started again. A report that is missing is made up for."""
    from fed_em.errors import CallerError
    from fed_em_server.report import REPORT_FILE, write_report
    from fed_em_server.serve import MODEL_FOLDER

    said = f"session {ended.record.session} is over: its model is in {output / MODEL_FOLDER}"
    if (output / REPORT_FILE).exists():
        return f"{said}, and nothing is left to do"
    try:
        return f"{said}; its report was missing, and is now {write_report(output, ended.record, ended.fitted)}"
    except CallerError as no_plots:
        return f"{said}; no report: {no_plots}"


def fit(
    configuration: Configuration,
    data: Annotated[
        list[Path], typer.Argument(help="All rows: CSV and Parquet files, folders of them, or NumPy files; any number.")
    ],
    output: Annotated[Path, typer.Option("--output", help="Folder for the model.")] = Path("pooled-model"),
    progress: Annotated[bool, typer.Option(help="Show a bar, on a terminal.")] = True,
) -> None:
    """Fit the same model to rows in one place, from the same configuration.

    Tables need not fit into memory, unless the session is a [stream], holds rows out or has a bootstrap, or mixing weights are each
    tenant's own: all rows are then those of one tenant.
    """
    from fed_em.model_file import save_model
    from fed_em_server.configuration import read_server_configuration
    from fed_em_server.report_words import doubt_of_ends, ends_in_words

    parsed = read_server_configuration(configuration)
    fitted, result = _fit(parsed, data, progress)
    save_model(output, fitted)
    if result.picked is not None:
        from fed_em_server.selection_record import doubts_in_words, reason_in_words, selection_record

        selection = selection_record(result.picked)
        typer.echo(f"picked a {selection.candidates[selection.picked].model}: {reason_in_words(selection)}")
        for doubt in doubts_in_words(selection):
            typer.echo(doubt)
    last = result.fit.iterations[-1]
    typer.echo(
        f"{fitted.provenance['rows']} rows, log-likelihood {last.log_likelihood:.6f} nats a row of standardised columns"
    )
    for said in filter(None, (ends_in_words(result.fit.ends), doubt_of_ends(result.fit.ends))):
        typer.echo(said)
    unfinished = "not converged" if parsed.stream is None else "a stream ended"
    ending = "converged" if result.fit.converged else unfinished
    typer.echo(f"{ending} after {len(result.fit.iterations)} iterations; the model is in {output}")
    if fitted.errors is not None:
        typer.echo(f"`fed-em estimates {output}` shows its parameters with their standard errors")


def _fit(parsed: ServerConfiguration, data: list[Path], progress: bool) -> tuple[FittedModel, StandardisedFit]:
    from fed_em.columns import CategoricalColumn
    from fed_em.fit_progress import fit_progress
    from fed_em.table_files import open_table
    from fed_em_client.rows import read_records
    from fed_em_protocols.limits import MAX_ROW_CAP
    from fed_em_server.pooled import fit_pooled, fit_table, needs_memory

    description, how = parsed.description, (parsed.fit.stopping, parsed.fit.seed, parsed.optimiser, parsed.beginning())
    if needs_memory(description) or any(path.suffix.lower() in (".npy", ".npz") for path in data):
        return fit_pooled(description, read_records(data, description, {}, MAX_ROW_CAP), *how)
    text = [column.name for column in description.schema_of_columns.columns if isinstance(column, CategoricalColumn)]
    if description.labels is not None:
        text.append(description.labels.column)
    table = open_table(data, description.file_columns, text=text)
    with fit_progress(None, progress) as shown:
        return fit_table(description, table, *how, shown.watching, shown)
