"""Drafts of a roster's next version: one change after another, until it is proposed."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from fed_em.errors import CallerError
from fed_em_protocols.configuration import complaint_of
from fed_em_protocols.errors import SERVER
from fed_em_protocols.limits import COMPLETE_GRAPH_TENANTS
from fed_em_protocols.party import Card
from fed_em_protocols.roster import Party, Roster, RosterTenant
from fed_em_protocols.roster_shape import dealt_blocks, default_witnesses, drawn_witnesses
from fed_em_protocols.roster_versions import Proposal, Rotation, changes_between, check_proposal


def begun(parent: Roster) -> Proposal:
    """A draft that changes nothing yet."""
    # Built anew, as a copy would take along the hash that its original has worked out.
    next_one = {**parent.model_dump(), "version": parent.version + 1, "parent": parent.digest.hex()}
    return Proposal(roster=Roster.model_validate(next_one))


def with_added(draft: Proposal, card: Card, block: int | None = None) -> Proposal:
    """The draft with one more tenant, the last in order.

    Args:
        draft: The draft.
        card: The tenant's.
        block: Number of the block that it joins; by default the one with the fewest tenants.

    Raises:
        CallerError: the card is a server's, its name or a key is another party's, or a key of it was revoked.
    """
    roster = draft.roster
    if card.role != "tenant":
        raise CallerError(f"the card of '{card.name}' is that of a {card.role}", remedy="a server's keys are rotated")
    sizes = {number: sum(t.block == number for t in roster.tenants) for number in {t.block for t in roster.tenants}}
    joined = min(sizes, key=lambda number: (sizes[number], number)) if block is None else block
    entry = {**card.model_dump(include=set(RosterTenant.model_fields)), "block": joined}
    return _remade(draft, [*_entries(roster), entry])


def without(draft: Proposal, name: str) -> Proposal:
    """The draft without a tenant. Raises `CallerError` for an unknown name, or if too few are left."""
    draft.roster.index(name)
    return _remade(draft, [entry for entry in _entries(draft.roster) if entry["name"] != name])


def with_revoked(draft: Proposal, name: str, reason: str, date: datetime.date) -> Proposal:
    """The draft without a tenant whose keys no later version may list. Raises as `without`."""
    tenant = draft.roster.tenants[draft.roster.index(name)]
    revocation = {
        "name": name,
        "identity": tenant.identity,
        "tls_key_hash": tenant.tls_key_hash,
        "reason": reason,
        "date": date,
    }
    revoked = [*(each.model_dump() for each in draft.roster.revoked), revocation]
    left = [entry for entry in _entries(draft.roster) if entry["name"] != name]
    return _remade(draft, left, revoked=revoked)


def with_rotation(draft: Proposal, rotation: Rotation) -> Proposal:
    """The draft with a party's new keys. Raises `CallerError` for an unknown name, or keys that another party has."""
    own = rotation.model_dump(include=set(Party.model_fields))
    changes: dict[str, Any] = {}
    entries = _entries(draft.roster)
    if rotation.name == SERVER:
        changes["server"] = own
    else:
        entries[draft.roster.index(rotation.name)] |= {**own, "row_cap": rotation.row_cap}
    others = [each for each in draft.rotations if each.name != rotation.name]
    return _remade(draft, entries, **changes).model_copy(update={"rotations": (*others, rotation)})


def dealt_anew(draft: Proposal, least: int) -> Proposal:
    """The draft with blocks of at least so many tenants, dealt in turn."""
    entries, blocks = _entries(draft.roster), dealt_blocks(draft.roster.n, least)
    return _remade(draft, [{**entry, "block": block} for entry, block in zip(entries, blocks, strict=True)])


def proposed(parent: Roster, draft: Proposal) -> Proposal:
    """The draft as a proposal that tells its changes. Raises `CallerError` as `check_proposal`."""
    proposal = draft.model_copy(update={"changes": changes_between(parent, draft.roster), "approvals": ()})
    check_proposal(parent, proposal)
    return proposal


def _entries(roster: Roster) -> list[dict[str, Any]]:
    return [tenant.model_dump() for tenant in roster.tenants]


def _remade(draft: Proposal, entries: list[dict[str, Any]], **changes: object) -> Proposal:
    """The draft over these tenants; witnesses are drawn anew, as nobody may pick them."""
    roster = draft.roster
    signers = _signers(roster, [entry["name"] for entry in entries])
    tenants = [{**entry, "witness": place in signers} for place, entry in enumerate(entries)]
    try:
        made = Roster.model_validate({**roster.model_dump(), **changes, "tenants": tenants})
    except ValidationError as error:
        raise CallerError(f"this change makes no roster: {complaint_of(error)}") from None
    return draft.model_copy(update={"roster": made})


def _signers(roster: Roster, names: list[str]) -> Iterable[int]:
    sparse_before = roster.n > COMPLETE_GRAPH_TENANTS
    if len(names) <= COMPLETE_GRAPH_TENANTS:
        return range(len(names))
    count = min(len(roster.witnesses), len(names)) if sparse_before else default_witnesses(len(names))
    return drawn_witnesses(roster.federation, names, count)
