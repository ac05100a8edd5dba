"""How a tenant's pin moves to the next version of the roster: by `fed-em roster accept`, its own act, alone."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from fed_em.errors import CallerError
from fed_em_client.configuration import TenantConfiguration
from fed_em_protocols.roster import Roster, load_pinned_roster, load_roster, replace_file
from fed_em_protocols.roster_versions import Proposal, require_approved


def checked(configuration: TenantConfiguration, proposal: Proposal) -> Roster:
    """The pinned roster, if the proposal follows from it and this tenant may move to it.

    Raises:
        CallerError: the proposal does not follow from the pinned roster, is not approved by all, leaves this tenant out, or is none that
            this tenant's policy admits.
    """
    parent = load_pinned_roster(configuration.roster, configuration.roster_hash)
    require_approved(parent, proposal)
    proposal.roster.index(configuration.name)
    admitted = configuration.policy.rosters
    if admitted and proposal.roster.digest.hex() not in admitted:
        raise CallerError(
            f"this tenant's policy admits certain rosters only, and version {proposal.roster.version} is none of them",
            remedy=f'add "{proposal.roster.digest.hex()}" to `rosters` in its policy, if that is meant',
        )
    return parent


def pin(path: Path, configuration: TenantConfiguration, roster: Roster, file: Path) -> None:
    """Write a version beside the pinned one and change the two lines of the tenant's file that name it, whole or not at all.

    Raises:
        CallerError: another roster lies at `file`, or the lines cannot be changed without changing more.
        EnvironmentFault: a file cannot be written.
    """
    if not file.exists() or load_roster(file).digest != roster.digest:
        roster.write_new(file)
    text, where = path.read_text(encoding="utf-8"), _as_written(path, file)
    changed, hashes = re.subn(
        rf'(?m)^(\s*roster_hash\s*=\s*)(["\']){configuration.roster_hash}\2',
        lambda found: f'{found[1]}"{roster.digest.hex()}"',
        text,
    )
    line = f"roster = {json.dumps(where)}"
    changed, names = re.subn(r'(?m)^\s*roster\s*=\s*(["\'])[^\n]*?\1', lambda _: line, changed)
    if not names:
        changed = f"{line}\n{changed}"
    before = tomllib.loads(text)
    expected = {**before, "roster": where, "roster_hash": roster.digest.hex()}
    if hashes != 1 or tomllib.loads(changed) != expected:
        raise CallerError(
            f"{path} cannot be changed by itself: its lines for the roster are not as usual",
            remedy=f'write these yourself: {line} and roster_hash = "{roster.digest.hex()}"',
        )
    replace_file(path, changed)


def file_of(roster: Roster, pinned: Path, parent: Roster) -> Path:
    """Beside the pinned one, with the version's number in its name."""
    stem = pinned.stem.removesuffix(f"-{parent.version}")
    return pinned.with_name(f"{stem}-{roster.version}{pinned.suffix}")


def _as_written(path: Path, file: Path) -> str:
    """The roster's path as the tenant's file would say it: relative to it where it lies below."""
    return str(file.relative_to(path.parent)) if file.is_relative_to(path.parent) else str(file)
