"""How a party that was invited shows its keys: a request that both of its keys sign, answered by its entry in the roster (ADR 42).

    invitation.json   what the coordinator wrote for one party: federation, server's address, name, row cap
    request.json      the party's card, signed by its identity key and by its TLS key over that invitation

A request is made where the keys are and holds nothing secret. Its signatures prove that whoever made it has both private keys and
meant this federation; whether that is the organisation of that name, two people find out by reading the fingerprint to each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import NameOID
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.addresses import Address
from fed_em_protocols.certificates import vouches_for_nobody
from fed_em_protocols.configuration import complaint_of
from fed_em_protocols.errors import BadSignature
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import verifies
from fed_em_protocols.limits import MAX_ROW_CAP
from fed_em_protocols.party import Card, PartyKeys
from fed_em_protocols.roster import HexKey, Name

INVITATION, REQUEST = "invitation.json", "request.json"

HexBytes = Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$", max_length=512)]


class Invitation(BaseModel):
    """What one party is asked to take part in, as what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    federation: Name
    address: Address
    """Where tenants dial the server."""
    role: Literal["tenant", "server"]
    name: Name
    row_cap: Annotated[int, Field(ge=1, le=MAX_ROW_CAP)] | None = None
    """None of the server."""

    @property
    def digest(self) -> bytes:
        """Over every field."""
        return digest("invitation", self.federation, self.address, self.role, self.name, self.row_cap or 0)

    def to_json(self) -> str:
        """As it is kept in files."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"


class EnrolmentRequest(BaseModel):
    """A party's card, for one invitation, signed by both keys that it shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    invitation: HexKey
    """Digest of the invitation."""
    card: Card
    by_identity: HexBytes
    """Ed25519."""
    by_tls: HexBytes
    """ECDSA with SHA-256, DER."""

    def to_json(self) -> str:
        """As it is kept in files."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"


def fingerprint(card: Card) -> str:
    """128 bits of what a roster would say of a party, in eight groups to be read aloud."""
    read = _digest_of(card).hex()[:32]
    return " ".join(read[place : place + 4] for place in range(0, 32, 4))


def enrolment_request(invitation: Invitation, card: Card, keys: PartyKeys) -> EnrolmentRequest:
    """The request of an invited party.

    Raises:
        CallerError: the card is not that of the keys, or not of who was invited.
    """
    _require_invited(invitation, card)
    if card.identity_key != keys.identity.public or card.certificate.encode() != keys.tls_certificate:
        raise CallerError(
            f"the card is not that of the keys in {keys.folder}", remedy="restore the folder from a backup"
        )
    statement = _statement(invitation.digest, card)
    tls_key = load_pem_private_key(keys.tls_key, password=None)
    if not isinstance(tls_key, EllipticCurvePrivateKey):
        raise CallerError(f"the TLS key in {keys.folder} is on no elliptic curve", remedy="make new keys")
    return EnrolmentRequest(
        invitation=invitation.digest.hex(),
        card=card,
        by_identity=keys.identity.sign(statement).hex(),
        by_tls=tls_key.sign(statement, ECDSA(SHA256())).hex(),
    )


def check_request(invitation: Invitation, request: EnrolmentRequest) -> None:
    """Check a request against the invitation that it is an answer to.

    Raises:
        CallerError: it is of somebody else, of another row cap or federation, or its certificate is in another name or may sign others.
        BadSignature: it was changed after it was signed, or its maker has not both of the keys that it shows.
    """
    card = request.card
    _require_invited(invitation, card)
    if request.invitation != invitation.digest.hex():
        raise CallerError(
            f"the request of '{card.name}' answers another invitation than that into '{invitation.federation}'",
            remedy=f"send '{card.name}' its folder again; `fed-em provision enrol` there answers it with the same keys",
        )
    statement = _statement(invitation.digest, card)
    for key, good in (
        ("identity key", verifies(card.identity_key, bytes.fromhex(request.by_identity), statement)),
        ("TLS key", _verifies_tls(card, bytes.fromhex(request.by_tls), statement)),
    ):
        if not good:
            raise BadSignature(
                card.name,
                f"its request for enrolment is not signed by the {key} that it shows",
                proves="it was changed on its way, or made by somebody without that key",
            )
    if not vouches_for_nobody(card.parsed_certificate):
        raise CallerError(
            f"the certificate in the request of '{card.name}' may sign others, which links would take for parties",
            remedy=f"'{card.name}' makes its keys with `fed-em provision enrol`",
        )
    names = [str(each.value) for each in card.parsed_certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [card.name]:
        raise CallerError(
            f"the certificate in the request of '{card.name}' is that of '{', '.join(names) or 'nobody'}'"
        )


def check_distinct(requests: Iterable[EnrolmentRequest]) -> None:
    """Raise `CallerError`, naming both, if two parties show the same key."""
    owners: dict[str, str] = {}
    for card in (request.card for request in requests):
        for what, key in (("identity key", card.identity), ("TLS key", card.tls_key_hash)):
            other = owners.setdefault(key, card.name)
            if other != card.name:
                raise CallerError(
                    f"'{other}' and '{card.name}' show the same {what}",
                    remedy="each makes keys of its own, on its own machine",
                )


_Kept = TypeVar("_Kept", Invitation, EnrolmentRequest)


def load_invitation(path: Path) -> Invitation:
    """Read an invitation. Raises `CallerError` if it is missing or none, and `EnvironmentFault` if it cannot be read."""
    return _load(path, Invitation, "the coordinator makes it with `fed-em provision new`")


def load_request(path: Path) -> EnrolmentRequest:
    """Read a request; its signatures are `check_request`'s matter. Raises as `load_invitation`."""
    return _load(path, EnrolmentRequest, "its party makes it with `fed-em provision enrol`")


def _load(path: Path, kind: type[_Kept], whence: str) -> _Kept:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise CallerError(f"there is no file {path}", remedy=whence) from None
    except ValidationError as error:
        raise CallerError(f"{path}: {complaint_of(error)}", remedy=whence) from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}") from None


def invited(invitations: Mapping[str, Invitation], request: EnrolmentRequest) -> Invitation:
    """The invitation of whoever made a request. Raises `CallerError` if nobody of that name was invited."""
    try:
        return invitations[request.card.name]
    except KeyError:
        raise CallerError(
            f"nobody of the name '{request.card.name}' was invited", remedy=f"invited are {', '.join(invitations)}"
        ) from None


def _require_invited(invitation: Invitation, card: Card) -> None:
    for what, own, asked in (
        ("name", card.name, invitation.name),
        ("role", card.role, invitation.role),
        ("row cap", card.row_cap, invitation.row_cap),
    ):
        if own != asked:
            raise CallerError(f"the card of '{card.name}' has the {what} {own}, and the invitation says {asked}")


def _digest_of(card: Card) -> bytes:
    certificate = card.parsed_certificate.public_bytes(Encoding.DER)
    return digest("card", card.role, card.name, card.row_cap or 0, card.identity_key, certificate)


def _statement(invitation: bytes, card: Card) -> bytes:
    return digest("enrolment", invitation, _digest_of(card))


def _verifies_tls(card: Card, signature: bytes, statement: bytes) -> bool:
    key = card.parsed_certificate.public_key()
    if not isinstance(key, EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, statement, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
