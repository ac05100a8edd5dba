"""What a party does in the folder that it was sent: `fed-em provision enrol`, `join` and `renew`. The server's party too."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fed_em_protocols.enrolment import Invitation
    from fed_em_protocols.party import Card
    from fed_em_protocols.roster import Roster

Folder = Annotated[Path, typer.Argument(help="The folder that the coordinator sent.")]

_HERE = Path()
_KEYS, _NEW_KEYS, _ROSTER, _ROTATION, _TENANT = "keys", "new-keys", "roster.json", "rotation.json", "tenant.toml"


def enrol(folder: Folder = _HERE) -> None:
    """Make this party's keys, here, and the request that the coordinator answers with a roster. Keys that are there are used."""
    from fed_em_protocols.enrolment import (
        INVITATION,
        REQUEST,
        enrolment_request,
        fingerprint,
        load_invitation,
    )
    from fed_em_protocols.party import load_keys
    from fed_em_protocols.roster import replace_file
    from fed_em_protocols.roster_words import validity

    invitation, now = load_invitation(folder / INVITATION), datetime.now(UTC)
    card = _card_in(folder / _KEYS, invitation, now)
    request = enrolment_request(invitation, card, load_keys(folder / _KEYS))
    replace_file(folder / REQUEST, request.to_json())
    typer.echo(f"'{card.name}' of '{invitation.federation}': keys in {folder / _KEYS}, which never leave it")
    typer.echo(f"the certificate is {validity(card.parsed_certificate, now)}")
    typer.echo(f"send {folder / REQUEST} to the coordinator, and read this fingerprint on the telephone:")
    typer.echo(f"  {fingerprint(card)}")


def join(
    folder: Folder = _HERE,
    roster: Annotated[
        Path | None, typer.Option("--roster", help="Where the roster lies; by default in the folder.")
    ] = None,
    pin: Annotated[
        str | None,
        typer.Option("--pin", help="The hash as another party reads it, at least 32 digits; asked for if left out."),
    ] = None,
) -> None:
    """Check that the roster lists this party's own keys, and pin it once its hash was compared."""
    from fed_em.errors import CallerError
    from fed_em_client.configuration import read_tenant_configuration
    from fed_em_client.roster_acceptance import pin as pinned
    from fed_em_protocols.enrolment import INVITATION, fingerprint, load_invitation
    from fed_em_protocols.errors import SERVER
    from fed_em_protocols.party import CARD, check_certificate, load_card, load_keys
    from fed_em_protocols.roster import load_roster
    from fed_em_protocols.roster_words import lines_of

    invitation, found, now = (
        load_invitation(folder / INVITATION),
        load_roster(roster or folder / _ROSTER),
        datetime.now(UTC),
    )
    _require_own_entry(invitation, found)
    load_keys(folder / _KEYS).check_against(found, invitation.name)
    check_certificate(found, invitation.name, now)
    for line in lines_of(found, now):
        typer.echo(line)
    typer.echo(f"this party's own fingerprint: {fingerprint(load_card(folder / _KEYS / CARD))}")
    if invitation.name == SERVER:
        if not (folder / _ROSTER).exists():
            found.write_new(folder / _ROSTER)
        typer.echo(f"{folder / _ROSTER} lists this server's keys")
        return
    file = folder / _TENANT
    configuration = read_tenant_configuration(file)
    before, now_pinned = configuration.roster_hash, found.digest.hex()
    if before == now_pinned:
        typer.echo(f"{file} pins it already")
        return
    if before.strip("0"):
        raise CallerError(
            f"{file} pins another roster, whose hash begins with {before[:16]}",
            remedy="a later version is accepted by `fed-em roster accept`, with the approvals of all",
        )
    _require_compared(found, pin)
    pinned(file, configuration, found, folder / _ROSTER)
    typer.echo(f"{file} pins it")


def renew(
    folder: Folder = _HERE,
    roster: Annotated[
        Path | None, typer.Option("--roster", help="The roster in use; by default roster.json in the folder.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="The keys in use; by default `keys` in the folder.")
    ] = None,
    new_keys: Annotated[
        Path | None, typer.Option("--new-keys", help="Where the new ones are made; by default `new-keys`.")
    ] = None,
) -> None:
    """Make new keys beside the old ones, and the statement by both for the next version of the roster."""
    from fed_em_protocols.enrolment import INVITATION, fingerprint, load_invitation
    from fed_em_protocols.party import load_keys
    from fed_em_protocols.roster import load_roster, replace_file
    from fed_em_protocols.roster_versions import sign_rotation

    invitation, parent = load_invitation(folder / INVITATION), load_roster(roster or folder / _ROSTER)
    old, place = load_keys(keys or folder / _KEYS), new_keys or folder / _NEW_KEYS
    old.check_against(parent, invitation.name)
    card = _card_in(place, invitation, datetime.now(UTC))
    statement = sign_rotation(parent, card, old, load_keys(place))
    replace_file(folder / _ROTATION, statement.model_dump_json(indent=2) + "\n")
    typer.echo(
        f"new keys in {place}; those in {old.folder} stay in use until the next version of the roster is accepted"
    )
    typer.echo(f"send {folder / _ROTATION} to the coordinator, for `fed-em roster rotate`; its fingerprint:")
    typer.echo(f"  {fingerprint(card)}")


def _card_in(folder: Path, invitation: Invitation, now: datetime) -> Card:
    """The card of the keys in a folder, which are made if there are none."""
    from fed_em.errors import CallerError
    from fed_em_protocols.party import (
        CARD,
        IDENTITY_KEY,
        TLS_CERTIFICATE,
        TLS_KEY,
        create_server_keys,
        create_tenant_keys,
        load_card,
    )

    there = [name for name in (IDENTITY_KEY, TLS_KEY, TLS_CERTIFICATE, CARD) if (folder / name).exists()]
    if there and CARD not in there:  # which is written last
        raise CallerError(
            f"the keys in {folder} are not whole: there is {there[0]}, and no {CARD}",
            remedy=f"if making them was interrupted, nobody was shown them: remove {folder} and run this again",
        )
    if there:
        return load_card(folder / CARD)
    if invitation.row_cap is None:
        return create_server_keys(folder, now)
    return create_tenant_keys(folder, invitation.name, invitation.row_cap, now)


def _require_own_entry(invitation: Invitation, roster: Roster) -> None:
    from fed_em.errors import CallerError

    if roster.federation != invitation.federation:
        raise CallerError(
            f"the roster is of '{roster.federation}', and the invitation into '{invitation.federation}'",
            remedy="ask the coordinator for the right one",
        )
    if invitation.row_cap is not None and roster.tenants[roster.index(invitation.name)].row_cap != invitation.row_cap:
        raise CallerError(
            f"the roster lets '{invitation.name}' hold other than the {invitation.row_cap} rows of the invitation",
            remedy="ask the coordinator why",
        )


def _require_compared(roster: Roster, given: str | None) -> None:
    """Raise `CallerError` unless whoever runs this says that somebody else has the same roster."""
    from fed_em.errors import CallerError

    own = roster.digest.hex()
    if given is None and sys.stdin.isatty():
        aloud = " ".join(own[place : place + 4] for place in range(0, 32, 4))
        if typer.confirm(f"Has another party read you a hash that begins with {aloud}?"):
            return
        raise CallerError(
            "nothing is pinned", remedy="compare the hash with another tenant or two, then run this again"
        )
    if given is None:
        raise CallerError(
            "nobody said that the hash was compared", remedy="give --pin with the hash as another party reads it"
        )
    said = "".join(given.split()).lower()
    if len(said) < 32 or not own.startswith(said):
        raise CallerError(
            f"the hash of this roster begins with {own[:32]}, and --pin with {said[:32] or 'nothing'}",
            remedy="somebody was sent another roster: ask the coordinator and the others before anybody pins one",
        )
