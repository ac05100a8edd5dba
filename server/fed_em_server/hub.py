"""The server's end of a transport: links to tenants, one queue of what comes in, and a clock.

Three hubs speak it: `fed_em_simulations.memory_hub` (virtual time), `fed_em_server.grpc_hub`, `fed_em_server.relay_hub` (Flower).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Arrived:
    """A message came from the tenant with this roster index (as its link proves, not as it says)."""

    tenant: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Unlinked:
    """A tenant's link went down."""

    tenant: int


HubEvent = Arrived | Unlinked


class Clock(Protocol):
    """What the record of a session measures by."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def traffic(self) -> tuple[int, int]:
        """Bytes of messages received and sent so far."""
        ...


class Hub(Clock, Protocol):
    """Carries messages. A hub never looks into them."""

    def receive(self, until: float | None) -> HubEvent | None:
        """The next event, waiting until the clock shows `until` (None: for ever); None if that time came first."""
        ...

    def send(self, tenant: int, data: bytes) -> None:
        """Send a message; lost in silence if the link is down."""
        ...

    def cut(self, tenant: int) -> None:
        """Close a tenant's link."""
        ...

    def close(self) -> None:
        """Deliver what was sent, then close all links."""
        ...
