"""What travels under Flower: Grid messages by name, and the record that each carries.

    query.join     a ticket          -> a code, and the tenant's name     link `stream`
    query.relay    a parcel          -> a code, and a parcel              link `relay`

Request and answer are one record with one value of bytes; an answer has a code as well. The ClientApp passes the bytes on without
a look into them; `fed_em_protocols.grid_payloads` reads them. Only names are here, so that the ClientApp's process, which Flower
starts anew for every message, loads next to nothing.
"""

from __future__ import annotations

from enum import IntEnum

from fed_em_protocols.limits import MAX_MESSAGE_BYTES

RECORD, DATA, CODE = "fed-em", "data", "code"

MAX_REQUEST_BYTES = 2 * MAX_MESSAGE_BYTES
"""Of a ticket, of a parcel, and of what is sent back."""


class Action(IntEnum):
    """What is asked of a node. The number is what a frame at the tenant's socket begins with."""

    JOIN = 1
    RELAY = 2

    @property
    def handler(self) -> str:
        """As the ClientApp registers it."""
        return self.name.lower()

    @property
    def message_type(self) -> str:
        """As a Grid message names it."""
        return f"query.{self.handler}"


class AnswerCode(IntEnum):
    """What became of a request. Codes travel, texts never do: a text could carry data."""

    DONE = 0
    BUSY = 1
    """The tenant is in a session that came another way."""
    NO_TENANT = 2
    """Nobody listens at the node's socket."""
    REFUSED = 3
    """The request is malformed, unsigned or out of turn; nothing was released."""
    FAILED = 4
    """A fault on the tenant's side."""
