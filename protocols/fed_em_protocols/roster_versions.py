"""The life of a roster: each version names its parent by hash, and counts once all its tenants have signed it.

A version is *proposed* as a file that says what changes, *approved* by each tenant with its identity key of that version, and *accepted* by
each tenant for itself, which then pins it. Old versions stay as they are: a session is verified with the keys of the roster that
its terms name.

Who must approve: every tenant of the new version, those that stay and those that are added. A session needs all of them on one roster
anyway, so unanimity takes nothing from anybody; whoever does not answer is left out by a proposal that removes it. Those
that leave have no vote, or a revoked key could veto its own revocation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fed_em.errors import CallerError
from fed_em_protocols.configuration import complaint_of
from fed_em_protocols.errors import SERVER
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import SigningKey, verifies
from fed_em_protocols.limits import MAX_ROW_CAP
from fed_em_protocols.party import Card, PartyKeys, party_of
from fed_em_protocols.roster import HexKey, Name, Party, Roster, RosterTenant, read_roster_file

HexSignature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Rotation(Party):
    """New keys of a party, signed by its old identity key and by the new one. It counts for one version of the roster only."""

    roster: HexKey
    """Hash of the version that has the old keys."""
    name: Name
    row_cap: Annotated[int, Field(ge=1, le=MAX_ROW_CAP)] | None = None
    by_old: HexSignature
    by_new: HexSignature

    @property
    def statement(self) -> bytes:
        """What both keys sign."""
        return _rotation_statement(self.roster, self.name, self, self.row_cap)


class Approval(BaseModel):
    """One tenant's signature on one version, by its identity key of that version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    signature: HexSignature


class Proposal(BaseModel):
    """A version of the roster on its way: a draft until `changes` are filled in, then a proposal that collects approvals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roster: Roster
    rotations: tuple[Rotation, ...] = ()
    changes: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()

    def to_json(self) -> str:
        """The proposal as it is kept in files."""
        return self.model_dump_json(indent=2) + "\n"


def load_proposal(path: Path) -> Proposal:
    """Read a proposal or a draft. Raises as `load_roster`."""
    try:
        return Proposal.model_validate_json(read_roster_file(path))
    except ValidationError as error:
        raise CallerError(
            f"proposal {path}: {complaint_of(error)}", remedy="make it anew with `fed-em roster propose`"
        ) from None


def load_rotation(path: Path) -> Rotation:
    """Read a rotation. Raises as `load_roster`."""
    try:
        return Rotation.model_validate_json(read_roster_file(path))
    except ValidationError as error:
        raise CallerError(
            f"rotation {path}: {complaint_of(error)}", remedy="its party makes it with `fed-em roster sign-rotation`"
        ) from None


def sign_rotation(roster: Roster, card: Card, old: PartyKeys, new: PartyKeys) -> Rotation:
    """A party's own statement that its keys change.

    Args:
        roster: The version with the old keys.
        card: Of the new keys; it names the party.
        old, new: Its key folders.

    Raises:
        CallerError: the old keys are not the roster's, or the card is not that of the new keys.
    """
    old.check_against(roster, card.name)
    if card.identity_key != new.identity.public or card.certificate.encode() != new.tls_certificate:
        raise CallerError(
            f"the card of '{card.name}' is not that of the keys in {new.folder}",
            remedy="give the card.json beside them",
        )
    pin = roster.digest.hex()
    statement = _rotation_statement(pin, card.name, card, card.row_cap)
    return Rotation(
        roster=pin,
        name=card.name,
        identity=card.identity,
        certificate=card.certificate,
        row_cap=card.row_cap,
        by_old=old.identity.sign(statement).hex(),
        by_new=new.identity.sign(statement).hex(),
    )


def _rotation_statement(roster: str, name: str, party: Party, row_cap: int | None) -> bytes:
    return digest("key rotation", bytes.fromhex(roster), name, party.identity_key, party.certificate, row_cap or 0)


def approval_statement(roster: Roster) -> bytes:
    """What a tenant signs to approve a version. H(roster) holds its number, its parent and every key."""
    return digest("roster approval", roster.digest)


def approve(proposal: Proposal, name: str, identity: SigningKey) -> Proposal:
    """The proposal with one more approval. The caller has checked it (`check_proposal`), and that the key is the tenant's."""
    signed = Approval(name=name, signature=identity.sign(approval_statement(proposal.roster)).hex())
    others = [each for each in proposal.approvals if each.name != name]
    return proposal.model_copy(update={"approvals": (*others, signed)})


def check_proposal(parent: Roster, proposal: Proposal) -> None:
    """Check that a proposal follows from its parent by the rules, whoever made it; approvals apart.

    Raises:
        CallerError: names the party and the rule: the wrong parent or number, a party with other keys, certificate or row cap than before
            without a rotation signed by its old key, a revocation that is lost or made up, or changes that are not those told.
    """
    roster = proposal.roster
    if roster.parent != parent.digest.hex():
        raise CallerError(
            f"version {roster.version} does not follow version {parent.version}: it says that its parent's hash begins with "
            f"{(roster.parent or 'nothing')[:16]}, that of this roster begins with {parent.digest.hex()[:16]}",
            remedy="give the roster that it was made from; `fed-em roster history` shows which that is",
        )
    if (roster.federation, roster.version) != (parent.federation, parent.version + 1):
        raise CallerError(
            f"'{roster.federation}', version {roster.version}, is not what follows '{parent.federation}', "
            f"version {parent.version}"
        )
    _check_revocations(parent, roster)
    _check_keys(parent, proposal)
    changes = changes_between(parent, roster)
    if not changes:
        raise CallerError(f"version {roster.version} changes nothing")
    if proposal.changes != changes:
        raise CallerError(
            "the changes that the proposal tells are not those that it makes", remedy="`fed-em roster diff` shows those"
        )


def _check_revocations(parent: Roster, roster: Roster) -> None:
    kept = len(parent.revoked)
    if roster.revoked[:kept] != parent.revoked:
        raise CallerError(f"version {roster.version} forgets or changes a revocation of version {parent.version}")
    names = {tenant.name for tenant in roster.tenants}
    for each in roster.revoked[kept:]:
        if not any(
            (tenant.name, tenant.identity, tenant.tls_key_hash) == (each.name, each.identity, each.tls_key_hash)
            for tenant in parent.tenants
        ):
            raise CallerError(f"version {roster.version} revokes '{each.name}' by keys that it has not")
        if each.name in names:
            raise CallerError(
                f"version {roster.version} revokes '{each.name}' and lists it under other keys, so anybody could take its place",
                remedy="revoke it in this version, and add its new card in the next one",
            )


def _check_keys(parent: Roster, proposal: Proposal) -> None:
    before, after = _parties(parent), _parties(proposal.roster)
    rotations = {each.name: each for each in proposal.rotations}
    if len(rotations) != len(proposal.rotations):
        raise CallerError("the proposal has two rotations of one party")
    old_names = {party.identity: name for name, party in before.items()}
    for name, party in after.items():
        former = old_names.get(party.identity, name)
        if former != name:
            raise CallerError(f"the proposal lists the key of '{former}' under the name '{name}'")
    for name in before.keys() & after.keys():
        if _own(before[name]) == _own(after[name]):
            if name in rotations:
                raise CallerError(f"the proposal has a rotation of '{name}', whose keys it does not change")
            continue
        rotation = rotations.get(name)
        if rotation is None:
            raise CallerError(
                f"the proposal changes the keys, the certificate or the row cap of '{name}', and '{name}' has not signed that",
                remedy=f"'{name}' signs its new keys with `fed-em roster sign-rotation`; lost keys are revoked",
            )
        _check_rotation(parent, rotation, before[name], after[name])
    unknown = rotations.keys() - (before.keys() & after.keys())
    if unknown:
        raise CallerError(f"the proposal has a rotation of '{min(unknown)}', which is not in both versions")


def _check_rotation(parent: Roster, rotation: Rotation, before: Party, after: Party) -> None:
    name = rotation.name
    if rotation.roster != parent.digest.hex():
        raise CallerError(f"the rotation of '{name}' was signed for another version of the roster")
    if _own(rotation) != _own(after):
        raise CallerError(f"the proposal gives '{name}' other keys than its rotation does")
    for which, key, signature in (
        ("old", before.identity_key, rotation.by_old),
        ("new", rotation.identity_key, rotation.by_new),
    ):
        if not verifies(key, bytes.fromhex(signature), rotation.statement):
            raise CallerError(f"the rotation of '{name}' is not signed by its {which} key")


def _parties(roster: Roster) -> dict[str, Party]:
    return {SERVER: roster.server, **{tenant.name: tenant for tenant in roster.tenants}}


def _own(party: Party) -> tuple[str, str, int | None]:
    """What of its entry is a party's own matter, not the roster author's."""
    return party.identity, party.certificate.strip(), getattr(party, "row_cap", None)


def missing_approvals(proposal: Proposal) -> tuple[str, ...]:
    """Tenants of the version that have not approved it.

    Raises:
        CallerError: an approval is not by a tenant of this version and for this version.
    """
    roster, statement = proposal.roster, approval_statement(proposal.roster)
    for each in proposal.approvals:
        if each.name not in {tenant.name for tenant in roster.tenants}:
            gone = any(each.name == revoked.name for revoked in roster.revoked)
            raise CallerError(
                f"an approval is by '{each.name}', {'whose key is revoked' if gone else 'which is no tenant of this version'}"
            )
        if not verifies(party_of(roster, each.name).identity_key, bytes.fromhex(each.signature), statement):
            raise CallerError(
                f"the approval of '{each.name}' is not by its key of this version, or is for another version",
                remedy="leave it out, and ask its tenant for another",
            )
    given = {each.name for each in proposal.approvals}
    return tuple(tenant.name for tenant in roster.tenants if tenant.name not in given)


def require_approved(parent: Roster, proposal: Proposal) -> None:
    """Raise `CallerError` unless the proposal follows from its parent and all its tenants have approved it."""
    check_proposal(parent, proposal)
    missing = missing_approvals(proposal)
    if missing:
        raise CallerError(
            f"version {proposal.roster.version} is not approved: {', '.join(missing)} did not sign it",
            remedy="gather their approvals, or propose a version without them",
        )


def gathered(proposal: Proposal, copies: Iterable[Proposal]) -> Proposal:
    """The proposal with the approvals of its copies. Raises `CallerError` for a copy of another proposal."""
    found = {each.name: each for each in proposal.approvals}
    for copy in copies:
        if copy.roster.digest != proposal.roster.digest:
            raise CallerError(
                f"a copy is of another proposal: its hash begins with {copy.roster.digest.hex()[:16]}, "
                f"that of this one with {proposal.roster.digest.hex()[:16]}"
            )
        found |= {each.name: each for each in copy.approvals}
    return proposal.model_copy(update={"approvals": tuple(found.values())})


def changes_between(old: Roster, new: Roster) -> tuple[str, ...]:
    """What a version changes, a sentence each; none if nothing."""
    return tuple(_changes(old, new))


def _changes(old: Roster, new: Roster) -> Iterator[str]:
    before, after = _parties(old), _parties(new)
    if old.federation != new.federation:
        yield f"the federation is called '{new.federation}', not '{old.federation}'"
    lately = {each.name: each for each in new.revoked if each not in old.revoked}
    for name in before:
        if name in lately:
            yield f"revokes '{name}' on {lately[name].date}: {lately[name].reason}"
        elif name not in after:
            yield f"removes '{name}'"
    for name, party in after.items():
        if name not in before:
            cap = f", at most {party.row_cap} rows" if isinstance(party, RosterTenant) else ""
            yield f"adds '{name}' (key {party.identity[:16]}…{cap})"
        else:
            yield from _changes_of(name, before[name], party)
    for block in new.blocks:
        names = new.names(block)
        if set(names) not in [set(old.names(other)) for other in old.blocks]:
            yield f"makes a block of {', '.join(names)}"
    if _stay(old, after) != _stay(new, before):
        yield "puts tenants that stay into another order"


def _stay(roster: Roster, other: Mapping[str, Party]) -> list[str]:
    return [tenant.name for tenant in roster.tenants if tenant.name in other]


def _changes_of(name: str, before: Party, after: Party) -> Iterator[str]:
    if before.identity != after.identity:
        yield f"gives '{name}' a new identity key ({before.identity[:16]}… becomes {after.identity[:16]}…)"
    if before.certificate.strip() != after.certificate.strip():
        yield f"gives '{name}' a new certificate, valid until {after.parsed_certificate.not_valid_after_utc:%Y-%m-%d}"
    if isinstance(before, RosterTenant) and isinstance(after, RosterTenant):
        if before.row_cap != after.row_cap:
            yield f"lets '{name}' hold {after.row_cap} rows instead of {before.row_cap}"
        if before.witness != after.witness:
            yield f"'{name}' {'certifies rounds' if after.witness else 'certifies rounds no more'}"


def exposed_by_difference(old: Roster, new: Roster) -> tuple[str, ...]:
    """Tenants that alone make the difference between a block, or all tenants, of the old version and one of the new.

    The blocks of one version keep sums from differing by one tenant; nothing does so between sums under two versions. Only such pairs are
    looked at, not longer combinations.
    """
    sets = [
        [frozenset(roster.names(block)) for block in (*roster.blocks, frozenset(range(roster.n)))]
        for roster in (old, new)
    ]
    alone = {name for one, other in product(*sets) if len(one ^ other) == 1 for name in one ^ other}
    return tuple(sorted(alone))


@dataclass(frozen=True)
class RosterHistory:
    """Versions of a federation's roster, as far as they are at hand: a session's signatures are checked with the one that its terms name.

    Attributes:
        versions: By hash.
        proposals: How those with a parent came about, by hash.
    """

    versions: Mapping[bytes, Roster]
    proposals: Mapping[bytes, Proposal]

    @classmethod
    def of(cls, found: Iterable[Roster | Proposal]) -> RosterHistory:
        """Of rosters and proposals in any order."""
        versions: dict[bytes, Roster] = {}
        proposals: dict[bytes, Proposal] = {}
        for each in found:
            roster = each.roster if isinstance(each, Proposal) else each
            versions[roster.digest] = roster
            if isinstance(each, Proposal):
                known = proposals.get(roster.digest)
                proposals[roster.digest] = gathered(known, [each]) if known else each
        return cls(versions, proposals)

    def version_of(self, roster: bytes) -> Roster:
        """The version with this hash. Raises `CallerError` if it is not at hand."""
        if roster not in self.versions:
            raise CallerError(
                f"no roster at hand has a hash that begins with {roster.hex()[:16]}", remedy="give its file as well"
            )
        return self.versions[roster]

    @cached_property
    def in_order(self) -> tuple[Roster, ...]:
        """By number, then by hash."""
        return tuple(sorted(self.versions.values(), key=lambda roster: (roster.version, roster.digest)))

    def standing_of(self, roster: Roster) -> str:
        """What is known of how a version came about, in words."""
        if roster.parent is None:
            return "the first of its line"
        proposal, parent = self.proposals.get(roster.digest), self.versions.get(bytes.fromhex(roster.parent))
        if proposal is None:
            return "its approvals are not at hand"
        if parent is None:
            return "not checked: its parent is not at hand"
        try:
            check_proposal(parent, proposal)
            missing = missing_approvals(proposal)
        except CallerError as error:
            return f"REFUSED: {error.message}"
        return f"not approved by {', '.join(missing)}" if missing else "approved by all its tenants"

    def forks(self) -> Iterator[tuple[Roster, ...]]:
        """Versions that follow the same parent: at most one of them can be in use by everybody."""
        children: dict[str, list[Roster]] = {}
        for roster in self.in_order:
            if roster.parent is not None:
                children.setdefault(roster.parent, []).append(roster)
        return (tuple(each) for each in children.values() if len(each) > 1)

    def signed_twice(self, fork: Iterable[Roster]) -> tuple[str, ...]:
        """Tenants whose valid signatures are on two versions of a fork."""
        signers = [name for roster in fork for name in self._signers_of(roster)]
        return tuple(sorted({name for name in signers if signers.count(name) > 1}))

    def _signers_of(self, roster: Roster) -> frozenset[str]:
        proposal = self.proposals.get(roster.digest)
        statement, parties = approval_statement(roster), _parties(roster)
        return frozenset(
            each.name
            for each in (proposal.approvals if proposal else ())
            if each.name in parties
            and verifies(parties[each.name].identity_key, bytes.fromhex(each.signature), statement)
        )
