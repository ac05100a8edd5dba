"""Commands for the life of a roster, under `fed-em roster`: see `roster_versions` for the rules."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fed_em_protocols.roster import Roster
    from fed_em_protocols.roster_versions import Proposal

Current = Annotated[Path, typer.Argument(help="The roster that is in use.")]
Draft = Annotated[Path, typer.Argument(help="The draft of its next version; begun if it is not there.")]
Proposed = Annotated[Path, typer.Argument(help="The proposal.")]
TenantName = Annotated[str, typer.Argument(help="The tenant's name.")]


def show(roster: Current) -> None:
    """Print a roster: parties, certificates, blocks, revocations, hash."""
    from fed_em_protocols.roster import load_roster
    from fed_em_protocols.roster_words import lines_of

    for line in lines_of(load_roster(roster), datetime.now(UTC)):
        typer.echo(line)


def add(
    roster: Current,
    draft: Draft,
    card: Annotated[Path, typer.Argument(help="The new tenant's card.json.")],
    block: Annotated[int | None, typer.Option("--block", min=0, help="Its block; by default the smallest.")] = None,
) -> None:
    """Add a tenant to the draft of the next version."""
    from fed_em_protocols.party import load_card
    from fed_em_protocols.roster_drafts import with_added

    parent, begun = _open_draft(roster, draft)
    _keep_draft(parent, draft, with_added(begun, load_card(card), block))


def remove(roster: Current, draft: Draft, name: TenantName) -> None:
    """Remove a tenant in the draft of the next version; it may come back later."""
    from fed_em_protocols.roster_drafts import without

    parent, begun = _open_draft(roster, draft)
    _keep_draft(parent, draft, without(begun, name))


def revoke(
    roster: Current,
    draft: Draft,
    name: TenantName,
    reason: Annotated[str, typer.Option("--reason", help="Why, for everybody who reads the roster.")],
    date: Annotated[
        datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="Since when; by default today.")
    ] = None,
) -> None:
    """Revoke a tenant's keys in the draft of the next version: no later version can list them."""
    from fed_em_protocols.roster_drafts import with_revoked

    parent, begun = _open_draft(roster, draft)
    day = (date or datetime.now(UTC)).date()
    _keep_draft(parent, draft, with_revoked(begun, name, reason, day))


def sign_rotation(
    roster: Current,
    rotation: Annotated[Path, typer.Argument(help="The new file to write, for whoever drafts the next version.")],
    keys: Annotated[Path, typer.Option("--keys", help="The party's key folder so far.")],
    new_keys: Annotated[Path, typer.Option("--new-keys", help="Its new one, made by `fed-em keygen`.")],
) -> None:
    """Sign a party's new keys with its old ones and the other way round: the party's own act."""
    from fed_em_protocols.party import CARD, load_card, load_keys
    from fed_em_protocols.roster import load_roster, write_new_file
    from fed_em_protocols.roster_versions import sign_rotation as signed

    made = signed(load_roster(roster), load_card(new_keys / CARD), load_keys(keys), load_keys(new_keys))
    write_new_file(rotation, made.model_dump_json(indent=2) + "\n")
    typer.echo(
        f"{rotation}: new keys of '{made.name}', for the version after this roster; send it to whoever drafts it"
    )
    typer.echo(f"keep {keys} until no session under the old roster runs, then destroy it")


def rotate(
    roster: Current,
    draft: Draft,
    rotation: Annotated[Path, typer.Argument(help="What the party wrote with `fed-em roster sign-rotation`.")],
) -> None:
    """Give a party its new keys in the draft of the next version."""
    from fed_em_protocols.roster_drafts import with_rotation
    from fed_em_protocols.roster_versions import load_rotation

    parent, begun = _open_draft(roster, draft)
    _keep_draft(parent, draft, with_rotation(begun, load_rotation(rotation)))


def propose(
    roster: Current,
    draft: Draft,
    proposal: Annotated[Path, typer.Argument(help="The new file to write, for every tenant of the version.")],
    block_size: Annotated[
        int | None, typer.Option("--block-size", min=2, help="Deal all blocks anew, of at least so many tenants.")
    ] = None,
) -> None:
    """Check the draft and write the proposal, which tells its changes."""
    from fed_em_protocols.roster import write_new_file
    from fed_em_protocols.roster_drafts import dealt_anew, proposed

    parent, begun = _open_draft(roster, draft)
    made = proposed(parent, dealt_anew(begun, block_size) if block_size else begun)
    _require_valid_certificates(made.roster)
    write_new_file(proposal, made.to_json())
    tell(parent, made.roster)
    typer.echo(f"{proposal}: every tenant of the version looks at it and runs `fed-em roster approve`")


def approve(
    roster: Current,
    proposal: Proposed,
    name: TenantName,
    keys: Annotated[Path, typer.Option("--keys", help="The tenant's key folder; the new one where its keys rotate.")],
) -> None:
    """Sign a proposal with a tenant's identity key, into its file."""
    from fed_em_protocols.party import load_keys
    from fed_em_protocols.roster import load_roster
    from fed_em_protocols.roster_versions import approve as approved
    from fed_em_protocols.roster_versions import check_proposal, load_proposal, missing_approvals

    parent, found = load_roster(roster), load_proposal(proposal)
    check_proposal(parent, found)
    _require_valid_certificates(found.roster)
    found.roster.index(name)
    own = load_keys(keys)
    own.check_against(found.roster, name)
    tell(parent, found.roster)
    signed = approved(found, name, own.identity)
    missing = missing_approvals(signed)
    _overwrite(proposal, signed)
    typer.echo(f"'{name}' approved version {signed.roster.version}; {_say_missing(missing)}")


def gather(
    proposal: Proposed,
    copies: Annotated[list[Path], typer.Argument(help="Copies of it that tenants have approved.")],
) -> None:
    """Put the approvals of copies into one proposal."""
    from fed_em_protocols.roster_versions import gathered, load_proposal, missing_approvals

    made = gathered(load_proposal(proposal), map(load_proposal, copies))
    missing = missing_approvals(made)
    _overwrite(proposal, made)
    typer.echo(f"{proposal}: {_say_missing(missing)}")


def publish(
    roster: Current, proposal: Proposed, output: Annotated[Path, typer.Argument(help="The new roster file.")]
) -> None:
    """Write an approved version as a roster file: for the server, and for tenants that are new in it."""
    from fed_em_protocols.roster import load_roster
    from fed_em_protocols.roster_versions import load_proposal, require_approved

    parent, found = load_roster(roster), load_proposal(proposal)
    require_approved(parent, found)
    found.roster.write_new(output)
    tell(parent, found.roster)
    typer.echo(f"{output}: version {found.roster.version}, approved by all its tenants")


def diff(
    old: Annotated[Path, typer.Argument(help="A roster, or a proposal.")],
    new: Annotated[Path, typer.Argument(help="Another.")],
) -> None:
    """Print what changes from one version to another."""
    tell(_roster_in(old), _roster_in(new))


def history(
    files: Annotated[list[Path], typer.Argument(help="Rosters and proposals of one federation, in any order.")],
) -> None:
    """Print versions in order, how each came about, and forks."""
    from fed_em_protocols.roster_versions import RosterHistory

    found = RosterHistory.of(map(_version_in, files))
    for roster in found.in_order:
        typer.echo(f"version {roster.version}  {roster.digest.hex()[:16]}…  {found.standing_of(roster)}")
        parent = found.versions.get(bytes.fromhex(roster.parent or ""))
        for line in _differences(parent, roster) if parent else ():
            typer.echo(line)
    for fork in found.forks():
        versions = " and ".join(f"{roster.digest.hex()[:16]}…" for roster in fork)
        signers = ", ".join(found.signed_twice(fork)) or "nobody"
        typer.echo(f"FORK: {versions} follow the same version; signed more than one of them: {signers}")


def _open_draft(roster: Path, draft: Path) -> tuple[Roster, Proposal]:
    from fed_em.errors import CallerError
    from fed_em_protocols.roster import load_roster
    from fed_em_protocols.roster_drafts import begun
    from fed_em_protocols.roster_versions import load_proposal

    parent = load_roster(roster)
    if not draft.exists():
        return parent, begun(parent)
    found = load_proposal(draft)
    if found.changes:
        raise CallerError(f"{draft} is proposed already, and others may have approved it", remedy="name another file")
    if found.roster.parent != parent.digest.hex():
        raise CallerError(f"{draft} is a draft after another roster than {roster}", remedy="name another file")
    return parent, found


def _keep_draft(parent: Roster, path: Path, draft: Proposal) -> None:
    _overwrite(path, draft)
    typer.echo(f"{path}: draft of version {draft.roster.version}, {draft.roster.n} tenants")
    for line in _differences(parent, draft.roster):
        typer.echo(line)


def tell(old: Roster, new: Roster) -> None:
    """What a version changes, what follows for privacy, and the hash to pin."""
    from fed_em_protocols.roster_words import shape_of

    typer.echo(f"version {new.version} after version {old.version}:")
    for line in (*_differences(old, new), *shape_of(new)):
        typer.echo(line)
    typer.echo(f'roster_hash = "{new.digest.hex()}"')


def _differences(old: Roster, new: Roster) -> list[str]:
    from fed_em_protocols.roster_versions import changes_between, exposed_by_difference

    told = [f"  {change}" for change in changes_between(old, new)]
    exposed = exposed_by_difference(old, new)
    if exposed:
        told.append(
            f"  beware: sums under the two versions may differ by the statistics of {' or of '.join(exposed)} alone, "
            "which blocks do not hide"
        )
    return told


def _say_missing(missing: tuple[str, ...]) -> str:
    return f"not yet by {', '.join(missing)}" if missing else "all its tenants have"


def _require_valid_certificates(roster: Roster) -> None:
    from fed_em_protocols.errors import SERVER
    from fed_em_protocols.party import check_certificate

    now = datetime.now(UTC)
    for name in (SERVER, *roster.names(range(roster.n))):
        check_certificate(roster, name, now)


def _version_in(path: Path) -> Roster | Proposal:
    """A roster or a proposal, whichever the file holds."""
    import json

    from fed_em.errors import CallerError
    from fed_em_protocols.roster import load_roster, read_roster_file
    from fed_em_protocols.roster_versions import load_proposal

    content = read_roster_file(path)
    try:
        document = json.loads(content)
    except ValueError:
        raise CallerError(f"{path} is neither a roster nor a proposal") from None
    return load_proposal(path) if isinstance(document, dict) and "roster" in document else load_roster(path)


def _roster_in(path: Path) -> Roster:
    from fed_em_protocols.roster import Roster

    found = _version_in(path)
    return found if isinstance(found, Roster) else found.roster


def _overwrite(path: Path, proposal: Proposal) -> None:
    from fed_em_protocols.roster import replace_file

    replace_file(path, proposal.to_json())


COMMANDS = (
    show, add, remove, revoke, sign_rotation, rotate, propose, approve, gather, publish, diff, history,
)  # fmt: skip
