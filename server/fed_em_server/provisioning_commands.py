"""What the coordinator of a federation does before its first session: `fed-em provision new`, `collect`, `status` and `publish`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fed_em_client.enrolment_commands import enrol, join, renew

if TYPE_CHECKING:
    from fed_em_protocols.enrolment import EnrolmentRequest
    from fed_em_server.provisioning.enrolment_desk import EnrolmentDesk

provision = typer.Typer(
    help="A folder for each party, its keys made at the party, and the roster.", no_args_is_help=True
)

Root = Annotated[Path, typer.Argument(help="The folder that `fed-em provision new` made.")]


@provision.command()
def new(
    plan: Annotated[Path, typer.Argument(help="The federation's TOML file.")],
    folder: Annotated[Path, typer.Argument(help="Where the parties' folders are made.")],
    update: Annotated[
        bool, typer.Option("--update", help="Write files anew that the plan now has otherwise; never keys.")
    ] = False,
) -> None:
    """Make a folder for each party, with all that it needs but its keys."""
    from fed_em_server.provisioning.federation_plan import read_plan
    from fed_em_server.provisioning.party_folders import folder_of, write_folders

    read = read_plan(plan)
    written = write_folders(folder, read, update)
    if not written:
        typer.echo(f"{folder} holds all of it already")
        return
    for name in read.parsed.invitations():
        own = [path for path in written if path.parent == folder_of(folder, name)]
        typer.echo(f"{folder_of(folder, name)}: {', '.join(path.name for path in own) or 'as before'}")
    typer.echo("send each party its folder; it runs `fed-em provision enrol` in it and sends request.json back")


@provision.command()
def collect(
    folder: Root,
    request: Annotated[list[Path], typer.Argument(help="What parties sent: request.json of each, under any name.")],
    replace: Annotated[
        list[str] | None, typer.Option("--replace", help="A party whose earlier request gives way to this one.")
    ] = None,
) -> None:
    """Check requests and keep them, all or none; each must be signed by the keys that it shows."""
    from fed_em_protocols.enrolment import load_request
    from fed_em_server.provisioning.enrolment_desk import EnrolmentDesk

    desk = EnrolmentDesk.at(folder)
    there = desk.collect([load_request(path) for path in request], datetime.now(UTC), replace or ())
    _tell(desk, there)


@provision.command()
def status(folder: Root) -> None:
    """Who has enrolled, with which fingerprint, and until when its certificate is valid."""
    from fed_em_protocols.roster import load_roster
    from fed_em_server.provisioning.enrolment_desk import EnrolmentDesk
    from fed_em_server.provisioning.party_folders import ROSTER

    desk = EnrolmentDesk.at(folder)
    _tell(desk, desk.kept())
    if (folder / ROSTER).exists():
        typer.echo(f'published: roster_hash = "{load_roster(folder / ROSTER).digest.hex()}"')


@provision.command()
def publish(folder: Root) -> None:
    """Write the roster that answers all requests, into every party's folder. Whoever publishes has compared the fingerprints."""
    from fed_em_protocols.roster_words import lines_of
    from fed_em_server.provisioning.enrolment_desk import EnrolmentDesk
    from fed_em_server.provisioning.party_folders import PARTIES, ROSTER

    now = datetime.now(UTC)
    made = EnrolmentDesk.at(folder).publish(now)
    typer.echo(f"{folder / ROSTER}, and the same in the folders under {folder / PARTIES}:")
    for line in lines_of(made, now):
        typer.echo(line)
    typer.echo("send it to every party, which runs `fed-em provision join`")


def _tell(desk: EnrolmentDesk, there: Mapping[str, EnrolmentRequest]) -> None:
    from fed_em_protocols.enrolment import fingerprint
    from fed_em_protocols.roster_words import validity

    now = datetime.now(UTC)
    for name, request in there.items():
        typer.echo(f"  {name:<24} {fingerprint(request.card)}   {validity(request.card.parsed_certificate, now)}")
    missing = desk.missing(there)
    for name in missing:
        typer.echo(f"  {name:<24} no request yet")
    if not missing:
        typer.echo("all are here: call each party, have it read its fingerprint, then run `fed-em provision publish`")


for _command in (enrol, join, renew):
    provision.command()(_command)
