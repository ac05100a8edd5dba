"""The commands of `fed-em audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

audit = typer.Typer(name="audit", help="Check what sessions did, and what they give away.", no_args_is_help=True)


@audit.command()
def verify(
    transcript: Annotated[Path, typer.Argument(help="A session's transcript, or the output folder that it is in.")],
    roster: Annotated[Path, typer.Option(help="The roster that you pinned.")],
    tenant_log: Annotated[
        list[Path] | None, typer.Option(help="A tenant's own log (log.jsonl in its state folder); any number.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="A file with checkpoints from elsewhere, such as an earlier copy; any number."),
    ] = None,
    tenant: Annotated[
        list[Path] | None,
        typer.Option(
            help="A tenant's TOML file, with its keys at hand: the session is held against its policy; any number."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replay a session from its transcript: signatures, chain, sums, fit. Exit status 1 if anything does not hold, and where."""
    import json

    from rich.console import Console

    from fed_em_client.configuration import read_tenant_configuration
    from fed_em_protocols.roster import load_roster
    from fed_em_server.audit.checklist import checklist
    from fed_em_server.audit.policies import OwnPolicy
    from fed_em_server.audit.verify import verify as verified
    from fed_em_server.transcript_folder import read_checkpoints, read_log, read_transcript

    found = verified(
        read_transcript(transcript),
        load_roster(roster),
        {str(path): read_log(path) for path in tenant_log or ()},
        [each for path in checkpoint or () for each in read_checkpoints(path)],
        [OwnPolicy.of(read_tenant_configuration(path)) for path in tenant or ()],
    )
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        Console().print(checklist(found))
    if not found.passed:
        raise typer.Exit(1)
