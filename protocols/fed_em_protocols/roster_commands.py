"""Commands that found a federation: `fed-em keygen` and `fed-em roster`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def keygen(
    folder: Annotated[Path, typer.Argument(help="A new folder for the keys.")],
    name: Annotated[str | None, typer.Option("--name", help="The tenant's name in rosters.")] = None,
    row_cap: Annotated[int | None, typer.Option("--row-cap", help="The most rows the tenant may ever hold.")] = None,
    server: Annotated[bool, typer.Option("--server", help="Make a server's keys.")] = False,
) -> None:
    """Make a party's keys, and the card that goes into the roster."""
    from datetime import UTC, datetime

    from fed_em.errors import CallerError
    from fed_em_protocols.party import CARD, create_server_keys, create_tenant_keys

    now = datetime.now(UTC)
    if server and name is None and row_cap is None:
        card = create_server_keys(folder, now)
    elif not server and name is not None and row_cap is not None:
        card = create_tenant_keys(folder, name, row_cap, now)
    else:
        raise CallerError("whose keys?", remedy="give --name and --row-cap for a tenant, or --server alone")
    typer.echo(f"{card.name}: keys in {folder}; the certificate is {_validity(card.parsed_certificate)}")
    typer.echo(f"send {folder / CARD} to whoever writes the roster; nothing else may leave the folder")


def roster(
    output: Annotated[Path, typer.Argument(help="The new roster file.")],
    federation: Annotated[str, typer.Option("--federation", help="The federation's name.")],
    server: Annotated[Path, typer.Option("--server", help="The server's card.json.")],
    tenant: Annotated[list[Path], typer.Option("--tenant", help="A tenant's card.json; once for each, in order.")],
    version_number: Annotated[int, typer.Option("--version-number", min=1, help="Counts up with each change.")] = 1,
) -> None:
    """Write the roster of a federation from its parties' cards, and print the hash that each party pins."""
    from datetime import UTC, datetime

    from fed_em_protocols.errors import SERVER
    from fed_em_protocols.party import check_certificate, load_card, make_roster

    made = make_roster(federation, load_card(server), [load_card(path) for path in tenant], version_number)
    now = datetime.now(UTC)
    for name in (SERVER, *(each.name for each in made.tenants)):
        check_certificate(made, name, now)
    made.write_new(output)
    typer.echo(f"{output}: federation '{made.federation}', version {made.version}, {made.n} tenants")
    for each in made.tenants:
        typer.echo(f"  {each.name:<24} at most {each.row_cap} rows, certificate {_validity(each.parsed_certificate)}")
    typer.echo("every tenant compares this with what it knows of the others, then pins it in its file:")
    typer.echo(f'roster_hash = "{made.digest.hex()}"')


def _validity(certificate: Certificate) -> str:
    return f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}"
