"""Tickets and parcels: the bytes that Flower carries.

A ticket is signed, so that whoever carries it cannot make a tenant dial anywhere else. A parcel is not: the messages in it are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from fed_em_protocols.errors import SERVER, BadSignature, MalformedMessage
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import SigningKey, verifies
from fed_em_protocols.limits import MAX_PARCEL_MESSAGES
from fed_em_protocols.roster import Roster
from fed_em_protocols.wire import messages_pb2
from fed_em_protocols.wire.entries import FieldLimit, complaint_about_entries
from fed_em_protocols.wire.fields import SESSION_BYTES


def sign_ticket(address: str, roster: Roster, identity: SigningKey) -> bytes:
    """A ticket to the coordinator at `address` ("host:port"), for tenants of `roster`; `identity` is the server's key."""
    signature = identity.sign(_ticket_digest(address, roster))
    return bytes(messages_pb2.Ticket(address=address, signature=signature).SerializeToString())


def read_ticket(data: bytes, roster: Roster) -> str:
    """The address in a ticket.

    Raises:
        MalformedMessage: it is no ticket.
        BadSignature: the roster's server did not sign it, or signed it for another roster.
    """
    ticket = messages_pb2.Ticket()
    try:
        ticket.ParseFromString(data)
    except DecodeError:
        raise MalformedMessage(SERVER, "sent bytes that are no ticket") from None
    if not verifies(roster.server.identity_key, ticket.signature, _ticket_digest(ticket.address, roster)):
        raise BadSignature(
            SERVER,
            "its ticket has a signature that does not verify",
            proves="nothing against the server: whoever carries tickets can change them",
        )
    return ticket.address


def _ticket_digest(address: str, roster: Roster) -> bytes:
    return digest("ticket", address, roster.digest)


_PARCEL_LIMITS = {1: FieldLimit("session", 1, False), 2: FieldLimit("messages", MAX_PARCEL_MESSAGES, False)}


@dataclass(frozen=True)
class Parcel:
    """Messages of one session, in order. An empty one to a tenant asks it to introduce itself.

    Attributes:
        session: The session's number, which tells a tenant when another session has begun.
        messages: Serialised envelopes, at most `MAX_PARCEL_MESSAGES`.
    """

    session: bytes
    messages: tuple[bytes, ...] = field(default=(), repr=False)

    def to_bytes(self) -> bytes:
        """As it travels."""
        return bytes(messages_pb2.Parcel(session=self.session, messages=self.messages).SerializeToString())

    @classmethod
    def from_bytes(cls, data: bytes, sender: str) -> Parcel:
        """Parse a parcel. Raises `MalformedMessage` naming `sender`."""
        complaint = complaint_about_entries(data, _PARCEL_LIMITS)
        if complaint:
            raise MalformedMessage(sender, f"sent a parcel {complaint}")
        wire = messages_pb2.Parcel()
        try:
            wire.ParseFromString(data)
        except DecodeError:
            raise MalformedMessage(sender, "sent bytes that are no parcel") from None
        if len(wire.session) != SESSION_BYTES:
            raise MalformedMessage(sender, f"sent a parcel of a session with {len(wire.session)} bytes")
        return cls(wire.session, tuple(wire.messages))
