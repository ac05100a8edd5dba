"""Commands that found a federation: `fed-em keygen` and `fed-em roster new`; with the roster's others under `roster`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fed_em_protocols.roster_version_commands import COMMANDS

roster = typer.Typer(help="Who takes part: a roster, and its versions.", no_args_is_help=True)
for command in COMMANDS:
    roster.command()(command)


def keygen(
    folder: Annotated[Path, typer.Argument(help="A new folder for the keys.")],
    name: Annotated[str | None, typer.Option("--name", help="The tenant's name in rosters.")] = None,
    row_cap: Annotated[int | None, typer.Option("--row-cap", help="The most rows the tenant may ever hold.")] = None,
    server: Annotated[bool, typer.Option("--server", help="Make a server's keys.")] = False,
) -> None:
    """Make a party's keys, and the card that goes into the roster."""
    from fed_em.errors import CallerError
    from fed_em_protocols.party import CARD, create_server_keys, create_tenant_keys
    from fed_em_protocols.roster_words import validity

    now = datetime.now(UTC)
    if server and name is None and row_cap is None:
        card = create_server_keys(folder, now)
    elif not server and name is not None and row_cap is not None:
        card = create_tenant_keys(folder, name, row_cap, now)
    else:
        raise CallerError("whose keys?", remedy="give --name and --row-cap for a tenant, or --server alone")
    typer.echo(f"{card.name}: keys in {folder}; the certificate is {validity(card.parsed_certificate, now)}")
    typer.echo(f"send {folder / CARD} to whoever writes the roster; nothing else may leave the folder")


@roster.command()
def new(
    output: Annotated[Path, typer.Argument(help="The new roster file.")],
    federation: Annotated[str, typer.Option("--federation", help="The federation's name.")],
    server: Annotated[Path, typer.Option("--server", help="The server's card.json.")],
    tenant: Annotated[list[Path], typer.Option("--tenant", help="A tenant's card.json; once for each, in order.")],
    version_number: Annotated[int, typer.Option("--version-number", min=1, help="Counts up with each change.")] = 1,
    block_size: Annotated[
        int | None, typer.Option("--block-size", min=2, help="The least tenants of a block; by default f + 2.")
    ] = None,
    block: Annotated[
        list[str] | None,
        typer.Option("--block", help="Tenants of a block by name, with commas between; once for each."),
    ] = None,
    witnesses: Annotated[
        int | None, typer.Option("--witnesses", min=1, help="How many of more than 64 tenants certify rounds.")
    ] = None,
) -> None:
    """Write the roster of a federation from its parties' cards, and print the hash that each party pins."""
    from fed_em_protocols.errors import SERVER
    from fed_em_protocols.party import check_certificate, founded, load_card
    from fed_em_protocols.roster_words import lines_of

    cards = [load_card(path) for path in tenant]
    named = [each.split(",") for each in block or ()]
    made = founded(federation, load_card(server), cards, version_number, block_size, named, witnesses)
    now = datetime.now(UTC)
    for name in (SERVER, *(card.name for card in cards)):
        check_certificate(made, name, now)
    made.write_new(output)
    typer.echo(f"{output}:")
    for line in lines_of(made, now):
        typer.echo(line)
