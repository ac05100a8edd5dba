"""What trouble is made of: who is there, what happens when, and draws that depend on nothing but their labels.

Trouble is a frozen description (`fed_em_simulations.trouble` and others). When a session begins, it is set to work in a scene, and from
then on sees every message before it arrives, and every notice of the server's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fed_em.errors import CallerError
from fed_em_client.tenant_session import TenantSession, TenantWork
from fed_em_protocols.coordinator_state import Notice
from fed_em_protocols.envelope import Sealed, unseal
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.messages import KINDS
from fed_em_protocols.roster import Roster
from fed_em_protocols.wire import messages_pb2
from fed_em_simulations.memory_hub import Fate, MemoryHub, Passing

_KIND_OF_NUMBER = {number: kind for kind, number in KINDS.items()}


@lru_cache(maxsize=64)
def kind_of(data: bytes) -> type:
    """The kind of a message on its way."""
    return _KIND_OF_NUMBER[messages_pb2.Envelope.FromString(data).kind]


@lru_cache(maxsize=64)
def read(data: bytes) -> Sealed[Any]:
    """A message on its way."""
    return unseal(data, "somebody")


@dataclass(frozen=True)
class Scene:
    """Where trouble is made.

    Attributes:
        hub: The links, and the tenants' processes.
        roster: Who they are.
        server: The server's long-term key, for a server that lies.
        seed: Of the federation.
        number: Which of its troubles this one is: each draws for itself.
    """

    hub: MemoryHub
    roster: Roster
    server: SigningKey
    seed: int
    number: int

    @property
    def n(self) -> int:
        """How many tenants there are."""
        return self.roster.n

    def those(self, tenants: Sequence[int] | None) -> frozenset[int]:
        """Tenants by their roster indices; None: all. Raises `CallerError` if there is no such tenant."""
        everybody = frozenset(range(self.n))
        if tenants is None:
            return everybody
        unknown = sorted(frozenset(tenants) - everybody)
        if unknown:
            raise CallerError(f"there is no tenant number {unknown[0]} among {self.n}", remedy="count from 0")
        return frozenset(tenants)

    def draw(self, *labels: str | int | bytes) -> float:
        """Uniform on [0, 1), the same for the same labels whenever it is drawn."""
        drawn = digest("trouble", self.seed, self.number, *labels)
        return int.from_bytes(drawn[:8], "little") / 2**64


class Mischief:
    """Trouble at work in one session. This one does nothing."""

    def fate(self, passing: Passing) -> Fate:
        """What becomes of a message."""
        return Fate.DELIVER

    def lateness(self, passing: Passing) -> float:
        """How many seconds later than it could a tenant sends a message."""
        return 0.0

    def forged(self, tenant: int, data: bytes) -> Sequence[bytes]:
        """What the server sends a tenant in place of a message."""
        return (data,)

    def noticed(self, notice: Notice) -> None:
        """The server tells of something, before it sends what follows from it."""


class Trouble:
    """A description of trouble. This one makes none."""

    def begin(self, scene: Scene) -> Mischief:
        """Set it to work. Raises `CallerError` if it does not fit the federation."""
        return Mischief()

    def session_of(self, tenant: int) -> type[TenantSession] | None:
        """The kind of session that a tenant has, if it has another than tenants have."""
        return None

    def work_of(self, tenant: int, work: TenantWork) -> TenantWork:
        """What a tenant does with its rows."""
        return work


class Mischiefs:
    """Several at work in one session: the first that does not let a message through has its way; they add to what is late.

    A `Meddler` of the hub's, told of the session's notices.
    """

    def __init__(self, mischiefs: Sequence[Mischief] = ()) -> None:
        self.mischiefs = mischiefs

    def fate(self, passing: Passing) -> Fate:
        """See `Mischief`. All see every message."""
        fates = [each.fate(passing) for each in self.mischiefs]
        return next((fate for fate in fates if fate is not Fate.DELIVER), Fate.DELIVER)

    def lateness(self, passing: Passing) -> float:
        """See `Mischief`."""
        return sum(each.lateness(passing) for each in self.mischiefs)

    def forged(self, tenant: int, data: bytes) -> Sequence[bytes]:
        """See `Mischief`: what one makes of a message goes through the next."""
        messages: Sequence[bytes] = (data,)
        for each in self.mischiefs:
            messages = [forged for message in messages for forged in each.forged(tenant, message)]
        return messages

    def noticed(self, notice: Notice) -> None:
        """Tell all."""
        for each in self.mischiefs:
            each.noticed(notice)
