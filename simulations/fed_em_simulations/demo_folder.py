"""The demonstration's federation as folders alone, one a party, for `deploy/compose`: `python -m fed_em_simulations.demo_folder FOLDER`.

Keys are made here for all parties at once, which is for demonstrations only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fed_em_simulations.demo import digits_session
from fed_em_simulations.digits import COLUMNS, digits_federation
from fed_em_simulations.federation_folder import FederationFolder, write_federation_folder

_ROW_CAP = 2000


def write_demo_folder(folder: Path, server: str, listen: str, tenants: int, output: str) -> FederationFolder:
    """Write it.

    Args:
        folder: Made if need be; an earlier one is replaced.
        server: "host:port" that tenants dial.
        listen: "host:port" that the server listens at.
        tenants: How many of the demonstration's nine, the first of them.
        output: The server's output folder.
    """
    data = digits_federation()
    chosen = dict(list(data.tenants.items())[:tenants])
    session = digits_session(data, patience=5.0)
    for line, now in (
        ('listen = "127.0.0.1:0"', f'listen = "{listen}"'),
        ('output = ".."', f'output = "{output}"'),
        ("colluders = 1", "colluders = 0"),
    ):
        assert line in session
        session = session.replace(line, now)
    return write_federation_folder(folder, "digits", session, COLUMNS, chosen, _ROW_CAP, server)


def demo_folder(
    folder: Annotated[Path, typer.Argument(help="Where it is written.")],
    server: Annotated[str, typer.Option("--server", help="host:port that tenants dial.")] = "127.0.0.1:8443",
    listen: Annotated[str, typer.Option("--listen", help="host:port that the server listens at.")] = "127.0.0.1:8443",
    tenants: Annotated[int, typer.Option("--tenants", min=3, max=9, help="How many of the nine.")] = 3,
    output: Annotated[str, typer.Option("--output", help="The server's output folder.")] = "/data/result",
) -> None:
    """Write the demonstration's federation as folders, one a party."""
    written = write_demo_folder(folder, server, listen, tenants, output)
    (folder / "result").mkdir(exist_ok=True)
    typer.echo(f"{folder}: the server, and the tenants {', '.join(written.tenant_files)}")


if __name__ == "__main__":
    typer.run(demo_folder)
