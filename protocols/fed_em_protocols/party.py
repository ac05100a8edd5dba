"""A party's key folder, and its card: what it shows to whoever writes the roster.

    identity.key    Ed25519, PKCS #8 PEM: signs the party's messages
    tls.key         ECDSA P-256, PKCS #8 PEM
    tls.crt         its self-signed certificate, PEM
    card.json       name, public identity key, certificate, row cap: nothing secret

Keys are made once and never overwritten.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from pydantic import BaseModel, Field, ValidationError, model_validator

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.certificates import check_validity, self_signed
from fed_em_protocols.configuration import complaint_of
from fed_em_protocols.errors import SERVER
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.limits import (
    COMPLETE_GRAPH_TENANTS,
    MAX_NAME_LENGTH,
    MAX_ROW_CAP,
    MAX_TENANTS,
    MIN_TENANTS,
)
from fed_em_protocols.roster import Name, Party, Roster, RosterServer, RosterTenant
from fed_em_protocols.roster_shape import (
    dealt_blocks,
    default_block_size,
    default_witnesses,
    drawn_witnesses,
    named_blocks,
)

SERVER_HOST = f"{SERVER}.fed-em"
"""The DNS name in the server's certificate, whatever its machine is called."""

SHARDS_HOST = "shards.fed-em"
"""The DNS name in the certificate that a tenant's process and its shards show each other."""

IDENTITY_KEY, TLS_KEY, TLS_CERTIFICATE, CARD = "identity.key", "tls.key", "tls.crt", "card.json"

_RESTORE = "restore the key folder from a backup, or make new keys with `fed-em keygen`"


class _Introduction(BaseModel):
    """Who a party says it is."""

    role: Literal["tenant", "server"]
    name: Name
    row_cap: Annotated[int, Field(ge=1, le=MAX_ROW_CAP)] | None = None
    """The most rows a tenant may ever hold."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.role == "server") != (self.name == SERVER):
            raise ValueError(f"the name '{SERVER}' is the server's, and the server has no other")
        if (self.role == "server") != (self.row_cap is None):
            raise ValueError("a tenant needs a row_cap, a server has none")
        return self


class Card(Party, _Introduction):
    """A party's introduction with its public keys."""

    def to_json(self) -> str:
        """The card as it is kept in files."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"


@dataclass(frozen=True)
class PartyKeys:
    """The keys of one party.

    Attributes:
        folder: Where they lie.
        identity: Signs its messages.
        tls_key: PEM.
        tls_certificate: PEM.
    """

    folder: Path
    identity: SigningKey
    tls_key: bytes = field(repr=False)
    tls_certificate: bytes = field(repr=False)

    def check_against(self, roster: Roster, name: str) -> None:
        """Raise `CallerError` unless the roster lists the public side of these keys for a tenant or for `SERVER`."""
        party = party_of(roster, name)
        certificate = x509.load_pem_x509_certificate(self.tls_certificate)
        for what, same in (
            ("identity key", self.identity.public == party.identity_key),
            ("TLS certificate", certificate == party.parsed_certificate),
        ):
            if not same:
                raise CallerError(
                    f"the {what} in {self.folder} is not the one that the roster lists for '{name}'",
                    remedy="set `keys` to the folder whose card.json is in this roster, or have the roster made anew",
                )


def create_tenant_keys(folder: Path, name: str, row_cap: int, now: datetime) -> Card:
    """Make the keys of a tenant and write its key folder.

    Args:
        folder: Made if it is not there.
        name: Its name in rosters.
        row_cap: The most rows it may ever hold.
        now: Time of day with its zone, for the certificate's validity.

    Raises:
        CallerError: the folder holds keys already, or the name or the row cap is not admissible.
        EnvironmentFault: the folder cannot be written.
    """
    return _create(folder, {"role": "tenant", "name": name, "row_cap": row_cap}, now)


def create_server_keys(folder: Path, now: datetime) -> Card:
    """Make the keys of a server and write its key folder; as `create_tenant_keys`."""
    return _create(folder, {"role": "server", "name": SERVER}, now)


def create_shard_keys(folder: Path, now: datetime) -> None:
    """Make the one TLS key by which a tenant's process and its shards in other places know each other; as `create_tenant_keys`."""
    tls = ec.generate_private_key(ec.SECP256R1())
    certificate = self_signed(tls, "shards", SHARDS_HOST, now)
    _write_new(folder, {TLS_KEY: _pem(tls)}, mode=0o600)
    _write_new(folder, {TLS_CERTIFICATE: certificate}, mode=0o644)


def load_shard_keys(folder: Path) -> tuple[bytes, bytes]:
    """The key and the certificate of a tenant's shards, PEM. Raises as `load_keys`."""
    return _load_tls(folder)


def load_keys(folder: Path) -> PartyKeys:
    """Read a key folder.

    Raises:
        CallerError: a file is missing or damaged, or holds another kind of key; or others than its owner may read a
            private key.
        EnvironmentFault: a file cannot be read.
    """
    identity = _parse_key(folder / IDENTITY_KEY, _read(folder / IDENTITY_KEY, private=True))
    if not isinstance(identity, Ed25519PrivateKey):
        raise CallerError(f"{folder / IDENTITY_KEY} is no Ed25519 key", remedy=_RESTORE)
    return PartyKeys(folder, SigningKey(identity.private_bytes_raw()), *_load_tls(folder))


def _load_tls(folder: Path) -> tuple[bytes, bytes]:
    tls_key, tls_certificate = _read(folder / TLS_KEY, private=True), _read(folder / TLS_CERTIFICATE)
    try:
        certified = x509.load_pem_x509_certificate(tls_certificate).public_key()
    except ValueError:
        raise CallerError(f"{folder / TLS_CERTIFICATE} is no PEM certificate", remedy=_RESTORE) from None
    if _parse_key(folder / TLS_KEY, tls_key).public_key() != certified:
        raise CallerError(f"{folder / TLS_KEY} is not the key of the certificate beside it", remedy=_RESTORE)
    return tls_key, tls_certificate


def load_card(path: Path) -> Card:
    """Read a card.

    Raises:
        CallerError: the file is missing, is no JSON, or breaks a rule; names the field.
    """
    try:
        return Card.model_validate_json(_read(path))
    except ValidationError as error:
        raise CallerError(
            f"card {path}: {complaint_of(error)}", remedy="ask its party for its card.json again"
        ) from None


def make_roster(
    federation: str,
    server: Card,
    tenants: Iterable[Card],
    version: int = 1,
    blocks: Sequence[int] | None = None,
    witnesses: Collection[int] | None = None,
) -> Roster:
    """The roster of a federation, with its tenants in the given order.

    Args:
        federation: Its name.
        server, tenants: The parties' cards.
        version: Counts up with each change.
        blocks: A block number for each tenant; one block if None.
        witnesses: Places of the tenants that certify on a sparse graph; all if None.

    Raises:
        CallerError: a card is of the wrong role, two parties share a name or a key, or there are too few or too many
            tenants.
    """
    tenants = tuple(tenants)
    for card, role in ((server, "server"), *((card, "tenant") for card in tenants)):
        if card.role != role:
            raise CallerError(f"the card of '{card.name}' is that of a {card.role}, and was given as that of a {role}")
    if not MIN_TENANTS <= len(tenants) <= MAX_TENANTS:
        raise CallerError(
            f"a roster of {len(tenants)} tenants cannot be made",
            remedy=f"secure sums take {MIN_TENANTS} to {MAX_TENANTS} tenants",
        )
    document = {
        "federation": federation,
        "version": version,
        "server": server.model_dump(include=set(RosterServer.model_fields)),
        "tenants": [
            {
                **card.model_dump(include=set(RosterTenant.model_fields)),
                "block": blocks[place] if blocks is not None else 0,
                "witness": witnesses is None or place in witnesses,
            }
            for place, card in enumerate(tenants)
        ],
    }
    try:
        return Roster.model_validate(document)
    except ValidationError as error:
        raise CallerError(f"these cards make no roster: {complaint_of(error)}") from None


def founded(
    federation: str,
    server: Card,
    tenants: Sequence[Card],
    version: int = 1,
    block_size: int | None = None,
    blocks: Sequence[Sequence[str]] = (),
    witnesses: int | None = None,
) -> Roster:
    """The first roster of a federation: blocks dealt or named, witnesses as the hash of all names draws them.

    Args:
        federation, server, tenants, version: As of `make_roster`.
        block_size: The least tenants of a block; by default f + 2.
        blocks: Each block's tenants by name, in place of blocks that are dealt.
        witnesses: How many of more than `COMPLETE_GRAPH_TENANTS` tenants certify; by default enough for a quorum.

    Raises:
        CallerError: as `make_roster` and `named_blocks`, or two arguments contradict each other.
    """
    if blocks and block_size is not None:
        raise CallerError("--block names the blocks, and --block-size deals them", remedy="give one of the two")
    names, n = [card.name for card in tenants], len(tenants)
    least = default_block_size(n) if block_size is None else block_size
    numbers = named_blocks(names, blocks) if blocks else dealt_blocks(n, least)
    if witnesses is not None and n <= COMPLETE_GRAPH_TENANTS:
        raise CallerError(
            f"every one of up to {COMPLETE_GRAPH_TENANTS} tenants is a witness", remedy="leave --witnesses out"
        )
    count = default_witnesses(n) if witnesses is None else witnesses
    signers = drawn_witnesses(federation, names, count)
    return make_roster(federation, server, tenants, version, numbers, signers)


def party_of(roster: Roster, name: str) -> Party:
    """The roster's entry of a tenant, or of `SERVER`. Raises `CallerError` for an unknown name."""
    return roster.server if name == SERVER else roster.tenants[roster.index(name)]


def check_certificate(roster: Roster, name: str, now: datetime) -> None:
    """Raise `CallerError`, naming the party, unless the certificate of a tenant or of `SERVER` is valid at `now`."""
    check_validity(party_of(roster, name).parsed_certificate, name, now)


def certificate_expiries(roster: Roster, names: Iterable[str]) -> dict[str, datetime]:
    """When the certificates of tenants, or of `SERVER`, expire, by name; with its zone."""
    return {name: party_of(roster, name).parsed_certificate.not_valid_after_utc for name in names}


def _create(folder: Path, claims: dict[str, str | int], now: datetime) -> Card:
    try:
        introduction = _Introduction.model_validate(claims)
    except ValidationError as error:
        raise CallerError(
            f"these keys cannot be made: {complaint_of(error)}",
            remedy=f"a name has up to {MAX_NAME_LENGTH} letters, digits, '.', '_' and '-'; a row cap is at least 1",
        ) from None
    identity, tls = Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
    certificate = self_signed(tls, introduction.name, f"{introduction.name}.fed-em", now)
    card = Card(
        **introduction.model_dump(),
        identity=identity.public_key().public_bytes_raw().hex(),
        certificate=certificate.decode(),
    )
    _write_new(folder, {IDENTITY_KEY: _pem(identity), TLS_KEY: _pem(tls)}, mode=0o600)
    _write_new(folder, {TLS_CERTIFICATE: certificate, CARD: card.to_json().encode()}, mode=0o644)
    return card


def _pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _parse_key(path: Path, pem: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise CallerError(f"{path} is encrypted with a passphrase", remedy="store it without one, mode 0600") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CallerError(f"{path} is no private key in PEM", remedy=_RESTORE) from None


def _write_new(folder: Path, contents: dict[str, bytes], mode: int) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, data in contents.items():
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
    except FileExistsError as error:
        raise CallerError(
            f"{error.filename} exists, and keys are never overwritten",
            remedy="name a new folder; whoever replaces a party's keys also makes a new version of the roster",
        ) from None
    except OSError as error:
        raise EnvironmentFault(f"cannot write keys to {folder}: {error.strerror}") from None


def _read(path: Path, private: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            if private:
                _check_owner_only(path, os.fstat(file.fileno()))
            return file.read()
    except FileNotFoundError:
        raise CallerError(f"there is no file {path}", remedy="`fed-em keygen` makes a party's key folder") from None
    except IsADirectoryError:
        raise CallerError(f"{path} is a folder", remedy=f"name the file, such as {path / CARD}") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}") from None


def _check_owner_only(path: Path, status: os.stat_result) -> None:
    """Private keys are their owner's alone; a group may read one of root's, as containers mount secrets that way."""
    mounted = status.st_uid == 0 and os.geteuid() != 0
    forbidden = stat.S_IWGRP | stat.S_IRWXO if mounted else stat.S_IRWXG | stat.S_IRWXO
    if status.st_mode & forbidden:
        raise CallerError(
            f"{path} is open to others than its owner (mode {stat.S_IMODE(status.st_mode):04o})",
            remedy=f"chmod 600 {path}; if others may have read it, make new keys",
        )
