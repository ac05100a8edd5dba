"""The command `fed-em demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from fed_em_server.session_commands import Dashboard


def demo(
    transport: Annotated[Literal["grpc", "flower", "memory"], typer.Option(help="What carries the messages.")] = "grpc",
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="Kill one tenant, let another lag.")] = True,
    folder: Annotated[Path, typer.Option(help="Where everything is written.")] = Path("demo-result"),
    pace: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait after each round, to watch; not over Flower.")
    ] = 0.1,
    dashboard: Dashboard = None,
) -> None:
    """Nine tenants train a mixture on handwritten digits; one is killed and comes back, one lags."""
    from contextlib import ExitStack

    from rich.console import Console

    from fed_em_server.live_page.live_page import LivePage
    from fed_em_server.live_view import watching
    from fed_em_server.report_summary import comparison_table, summary_panel
    from fed_em_simulations.demo import run_demo
    from fed_em_simulations.pace import Pace

    began, console = time.monotonic(), Console()
    files = ["report.html", "record.json", "model"]
    with ExitStack() as stack:
        page = stack.enter_context(LivePage(dashboard)) if dashboard else None
        if page is not None:
            page.tell_address(console, folder.parent)
        with watching(console) as view:
            # Over Flower the server is another process: waiting here would only let the view, and the trouble, lag behind.
            paced = [] if transport == "flower" else [Pace(pace)]
            outcome = run_demo(folder, transport, faults, [view, *([page] if page else []), *paced])
        if page is not None:
            page.ended(outcome.record, folder, files)
    console.print(comparison_table(outcome.record))
    console.print(summary_panel(outcome.record, folder, files))
    console.print(f"{time.monotonic() - began:.1f} seconds in all", highlight=False)
