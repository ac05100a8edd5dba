"""The roster: who takes part, with their long-term keys. Every tenant pins it by hash; a changed one is another roster, which names
the one before it (see `roster_versions`).

That each key belongs to a different, real organisation is the duty of whoever writes the roster: no protocol can tell
ten tenants from one tenant with ten keys.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.whole_files import write_whole
from fed_em_protocols.configuration import complaint_of
from fed_em_protocols.errors import SERVER
from fed_em_protocols.hashing import digest
from fed_em_protocols.limits import MAX_NAME_LENGTH, MAX_ROW_CAP, MAX_TENANTS, MIN_TENANTS

HexKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=MAX_NAME_LENGTH)]


class Party(BaseModel):
    """What a roster or a card says of any party."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: HexKey
    """Ed25519 verifying key, hexadecimal."""
    certificate: str
    """The party's self-signed TLS certificate, PEM. Links trust exactly the certificates of the roster."""

    @field_validator("certificate")
    @classmethod
    def _is_one_certificate(cls, text: str) -> str:
        try:
            found = x509.load_pem_x509_certificates(text.encode())
            for certificate in found:  # whose parts are parsed when they are first asked for
                _ = certificate.public_key(), certificate.subject, certificate.extensions
                _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension):
            raise ValueError(
                "must hold a PEM certificate with a key of a known kind, and holds none that is whole"
            ) from None
        if len(found) != 1:
            raise ValueError("must hold exactly one PEM certificate")
        return text

    @cached_property
    def identity_key(self) -> bytes:
        """The 32-byte Ed25519 verifying key."""
        return bytes.fromhex(self.identity)

    @cached_property
    def tls_key_hash(self) -> str:
        """SHA-256 of the certificate's public key, hexadecimal."""
        key = self.parsed_certificate.public_key()
        return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    @cached_property
    def parsed_certificate(self) -> x509.Certificate:
        """The TLS certificate."""
        return x509.load_pem_x509_certificate(self.certificate.encode())


class RosterServer(Party):
    """The coordinating server."""


class RosterTenant(Party):
    """One tenant. Its roster index is its place in the roster."""

    name: Name
    row_cap: Annotated[int, Field(ge=1, le=MAX_ROW_CAP)]
    """The most rows this tenant may ever hold: the encoder proves its range from it."""
    block: Annotated[int, Field(ge=0)] = 0
    """The block it belongs to: a sum holds each block whole or not at all (the difference guard)."""
    witness: bool = True
    """Whether it certifies rounds on a sparse graph."""


class Revocation(BaseModel):
    """A tenant's keys that no later version may list, for anybody."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    identity: HexKey
    tls_key_hash: HexKey
    reason: Annotated[str, Field(min_length=1, max_length=200)]
    date: datetime.date


class Roster(BaseModel):
    """A numbered version of the list of parties."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    federation: Name
    version: Annotated[int, Field(ge=1)] = 1
    server: RosterServer
    tenants: Annotated[tuple[RosterTenant, ...], Field(min_length=MIN_TENANTS, max_length=MAX_TENANTS)]
    parent: HexKey | None = None
    """H(roster) of the version before; None of the first."""
    revoked: tuple[Revocation, ...] = ()
    """All revocations of this line of versions so far."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, values in (
            ("name", [tenant.name for tenant in self.tenants] + [SERVER]),
            ("identity key", [party.identity for party in (*self.tenants, self.server)]),
            ("certificate", [party.certificate.strip() for party in (*self.tenants, self.server)]),
        ):
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                shown = f" '{twice[0]}'" if what != "certificate" else ""
                raise ValueError(f"two parties have the same {what}{shown}")
        for party in (*self.tenants, self.server):
            for each in self.revoked:
                if each.identity == party.identity or each.tls_key_hash == party.tls_key_hash:
                    raise ValueError(f"a key of '{each.name}' was revoked on {each.date} and can be nobody's again")
        return self

    @property
    def n(self) -> int:
        """Number of tenants."""
        return len(self.tenants)

    @cached_property
    def digest(self) -> bytes:
        """H(roster), over every field of every party in order; of later versions also over the parent and the revocations."""
        fields: list[bytes | str | int] = [
            self.federation,
            self.version,
            self.server.identity,
            self.server.certificate,
        ]
        for tenant in self.tenants:
            fields += [
                tenant.name,
                tenant.identity,
                tenant.certificate,
                tenant.row_cap,
                tenant.block,
                int(tenant.witness),
            ]
        parties = digest("roster", *fields)
        if self.parent is None and not self.revoked:
            return parties
        more = [
            text
            for each in self.revoked
            for text in (each.name, each.identity, each.tls_key_hash, each.reason, str(each.date))
        ]
        return digest("roster version", parties, self.parent or "", *more)

    @cached_property
    def row_caps(self) -> tuple[int, ...]:
        """Row caps by roster index."""
        return tuple(tenant.row_cap for tenant in self.tenants)

    @cached_property
    def blocks(self) -> tuple[frozenset[int], ...]:
        """The blocks as sets of roster indices, by block number."""
        members: dict[int, list[int]] = {}
        for index, tenant in enumerate(self.tenants):
            members.setdefault(tenant.block, []).append(index)
        return tuple(frozenset(members[number]) for number in sorted(members))

    @cached_property
    def witnesses(self) -> tuple[int, ...]:
        """Roster indices of the witnesses, ascending; they certify rounds on a sparse graph."""
        return tuple(index for index, tenant in enumerate(self.tenants) if tenant.witness)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {tenant.name: index for index, tenant in enumerate(self.tenants)}

    def index(self, name: str) -> int:
        """Roster index of a tenant. Raises `CallerError` for an unknown name."""
        try:
            return self._indices[name]
        except KeyError:
            raise CallerError(f"no tenant '{name}' in the roster of '{self.federation}'") from None

    def names(self, members: Iterable[int]) -> tuple[str, ...]:
        """Names of a set of roster indices, in roster order."""
        return tuple(self.tenants[index].name for index in sorted(members))

    def to_json(self) -> str:
        """The roster as it is kept in files."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    def write_new(self, path: Path) -> None:
        """Write a new roster file.

        Raises:
            CallerError: the file exists; others may have pinned it.
            EnvironmentFault: it cannot be written.
        """
        write_new_file(path, self.to_json(), f"such as {path.with_stem(f'{path.stem}-{self.version}')}")


def write_new_file(path: Path, text: str, such_as: str = "") -> None:
    """Write a roster, or what belongs to one, as a new file. Raises as `Roster.write_new`."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CallerError(
            f"{path} exists, and others may have pinned that roster",
            remedy=f"name another file, {such_as}".removesuffix(", "),
        ) from None
    except OSError as error:
        raise EnvironmentFault(f"cannot write {path}: {error.strerror}") from None


def replace_file(path: Path, text: str) -> None:
    """Put a text in the place of a file, whole or not at all, and durably. Raises `EnvironmentFault` if it cannot be written."""
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise EnvironmentFault(f"cannot write {path}: {error.strerror}") from None


def load_roster(path: Path) -> Roster:
    """Read and validate a roster file.

    Raises:
        CallerError: the file is missing, is no JSON, or breaks a rule; names the field.
        EnvironmentFault: it cannot be read.
    """
    try:
        return Roster.model_validate_json(read_roster_file(path))
    except ValidationError as error:
        raise CallerError(
            f"roster {path}: {complaint_of(error)}", remedy="make it anew with `fed-em roster new`"
        ) from None


def read_roster_file(path: Path) -> bytes:
    """The content of a file with a roster in it. Raises as `load_roster`."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CallerError(f"there is no roster at {path}", remedy="make one with `fed-em roster new`") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read roster {path}: {error.strerror}") from None


def load_pinned_roster(path: Path, pin: str) -> Roster:
    """Read a roster and compare its hash with the one that this party approved.

    Args:
        path: The roster file.
        pin: H(roster) in hexadecimal.

    Raises:
        CallerError: as `load_roster`, or it is another roster.
    """
    roster = load_roster(path)
    if roster.digest.hex() != pin:
        raise CallerError(
            f"the roster {path} is not the one pinned here: its hash begins with {roster.digest.hex()[:16]}, "
            f"the pin with {pin[:16]}",
            remedy=f'compare it with the one you approved; to approve it, pin roster_hash = "{roster.digest.hex()}"',
        )
    return roster
