"""The command `fed-em demo`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from fed_em_server.session import Watcher


def demo(
    transport: Annotated[
        Literal["grpc", "flower", "memory"], typer.Option(help="What carries the messages.")
    ] = "grpc",
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="Kill one tenant, let another lag.")] = True,
    folder: Annotated[Path, typer.Option(help="Where everything is written.")] = Path("demo-result"),
    pace: Annotated[float, typer.Option(min=0.0, help="Seconds to wait after each round, to watch.")] = 0.12,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines, even on a terminal.")] = False,
) -> None:
    """Nine tenants train a mixture on handwritten digits; one is killed and comes back, one lags."""
    from fed_em_server.live_view import LiveView  # noqa: PLC0415
    from fed_em_server.plain_log import PlainLog  # noqa: PLC0415
    from fed_em_simulations.demo import Demonstration  # noqa: PLC0415

    began = time.monotonic()
    demonstration = Demonstration.prepare(folder, transport, faults, pace)
    if plain or not sys.stdout.isatty():
        finished = demonstration.run(PlainLog())
    else:
        with LiveView() as view:
            finished = demonstration.run(view)
    finished.show(time.monotonic() - began)
