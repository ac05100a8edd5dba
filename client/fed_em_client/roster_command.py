"""The command `fed-em roster accept`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def accept(
    configuration: Annotated[Path, typer.Argument(help="This tenant's TOML file.")],
    proposal: Annotated[Path, typer.Argument(help="The proposal, with all approvals.")],
) -> None:
    """Pin an approved version in this tenant's file; the old roster's file stays as it is."""
    from fed_em.errors import CallerError
    from fed_em_client.configuration import read_tenant_configuration
    from fed_em_client.roster_acceptance import checked, file_of, pin
    from fed_em_protocols.party import load_keys
    from fed_em_protocols.roster_version_commands import tell
    from fed_em_protocols.roster_versions import load_proposal

    parsed, found = read_tenant_configuration(configuration), load_proposal(proposal)
    parent, roster = checked(parsed, found), found.roster
    tell(parent, roster)
    file = file_of(roster, parsed.roster, parent)
    pin(configuration, parsed, roster, file)
    typer.echo(f"{configuration}: pins version {roster.version} in {file}; {parsed.roster} stays for earlier sessions")
    try:
        load_keys(parsed.keys).check_against(roster, parsed.name)
    except CallerError as error:
        typer.echo(f"still to do: {error.message}; set `keys` in {configuration} to the new folder")
