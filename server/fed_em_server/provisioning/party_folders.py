"""What each party's folder holds when it is sent to it: its invitation, its files with comments, and three steps. No key of anybody."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.enrolment import INVITATION, Invitation
from fed_em_protocols.errors import SERVER
from fed_em_protocols.roster import replace_file
from fed_em_protocols.roster_shape import dealt_blocks, default_block_size
from fed_em_protocols.terms import Trust, default_colluders
from fed_em_server.provisioning.federation_plan import PLAN, FederationPlan, PlannedTenant

PARTIES, ROSTER, TENANT_FILE, SESSION_FILE = "parties", "roster.json", "tenant.toml", "session.toml"


def folder_of(root: Path, name: str) -> Path:
    """Where a party's folder is made."""
    return root / PARTIES / name


def write_folders(root: Path, plan: FederationPlan, update: bool = False) -> tuple[Path, ...]:
    """Make the folders of all parties. What is there and the same is left alone, and no file of keys is ever touched.

    Args:
        root: Made if need be.
        plan: Who is in the federation, and the session.
        update: Write files anew that the plan now has otherwise.

    Returns:
        The files that were written.

    Raises:
        CallerError: a file is there and says something else, and `update` is false; nothing was written then.
        EnvironmentFault: the disk does not take them.
    """
    wanted = dict(_all_files(root, plan))
    changed = {path: text for path, text in wanted.items() if _text_at(path) != text}
    other = [path for path in changed if path.exists()]
    if other and not update:
        raise CallerError(
            f"{other[0]} is there and says something else{f', and so do {len(other) - 1} more' if other[1:] else ''}",
            remedy="give --update to write what the plan says now, and send those folders again; keys are never touched",
        )
    try:
        for path, text in changed.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text)
    except OSError as error:
        raise EnvironmentFault(f"cannot write into {root}: {error.strerror}") from None
    return tuple(changed)


def _text_at(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"cannot read {path}: {error}") from None


def _all_files(root: Path, plan: FederationPlan) -> Iterator[tuple[Path, str]]:
    yield root / PLAN, plan.text
    invitations = plan.parsed.invitations()
    tenants = {tenant.name: tenant for tenant in plan.parsed.tenants}
    for name, invitation in invitations.items():
        folder = folder_of(root, name)
        yield folder / INVITATION, invitation.to_json()
        texts = _server_files(plan, invitation) if name == SERVER else _tenant_files(plan, invitation, tenants[name])
        for file, text in texts.items():
            yield folder / file, text


def _server_files(plan: FederationPlan, invitation: Invitation) -> Mapping[str, str]:
    words = {**invitation.model_dump(), "file": SESSION_FILE}
    return {
        SESSION_FILE: plan.session_text,
        "README.md": _filled("server-README.md", words),
        "fed-em-server.service": _filled("fed-em.service", words),
    }


def _tenant_files(plan: FederationPlan, invitation: Invitation, tenant: PlannedTenant) -> Mapping[str, str]:
    words = {
        **invitation.model_dump(),
        "file": TENANT_FILE,
        "data": tenant.data,
        "columns": "\n".join(f"# {name} = {name}" for name in map(json.dumps, plan.session.description.names)),
        "wishes": "\n".join(_wishes(plan)),
    }
    return {
        TENANT_FILE: _filled("tenant.toml", words),
        "policy.toml": _filled("policy.toml", words),
        "README.md": _filled("tenant-README.md", words),
        "fed-em-tenant.service": _filled("fed-em.service", words),
    }


def _wishes(plan: FederationPlan) -> Iterator[str]:
    """Lines that a tenant would have to uncomment, where its strict defaults refuse the session as it is planned."""
    trust, n = plan.session.trust, len(plan.parsed.tenants)
    least = plan.parsed.block_size or default_block_size(n)
    blocks = dealt_blocks(n, least)
    usual = default_colluders(n)
    colluders = usual if trust.colluders is None else trust.colluders
    smallest = min(blocks.count(number) for number in set(blocks))
    said = False
    if trust.trust is not Trust.MALICIOUS_SERVER:
        said = True
        yield "# allow_semi_honest = true     # in place of the line above: a server that breaks the protocol could learn more"
    if trust.difference_guard == "off":
        said = True
        yield '# difference_guard = "off"     # in place of the line above: sums may differ by one tenant'
    if min(colluders, smallest - 2) < usual:
        said = True
        yield f"# colluders = {min(colluders, smallest - 2)}                # f that a session must withstand; {usual} if left out"
    if not said:
        yield "# nothing"


def _filled(template: str, words: Mapping[str, object]) -> str:
    text = (files("fed_em_server.provisioning") / "templates" / template).read_text(encoding="utf-8")
    return Template(text).substitute(words)
