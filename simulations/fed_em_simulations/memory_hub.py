"""Tenants in this process and in virtual time: the memory transport.

Messages wait in one queue ordered by (time, number), so a run is a function of its inputs. `interfere` sees every
message before it is delivered and may lose it, break the link or kill the tenant: that is how tests and simulations
make trouble.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from fed_em.errors import FedEmError
from fed_em_client.tenant_session import SessionLeft, TenantSession
from fed_em_server.hub import Arrived, HubEvent, Unlinked


class Direction(Enum):
    """Which way a message goes."""

    TO_TENANT = "to-tenant"
    TO_SERVER = "to-server"


class Fate(Enum):
    """What becomes of a message."""

    DELIVER = "deliver"
    LOSE = "lose"
    BREAK = "break"  # the link breaks before it is delivered, or sent; the tenant dials again
    KILL = "kill"  # the tenant dies before it reads, or right after it has written, this message


@dataclass(frozen=True)
class Passing:
    """A message on its way."""

    direction: Direction
    tenant: int
    data: bytes = field(repr=False)
    time: float


Interference = Callable[[Passing], Fate]


# A tenant whose link breaks dials again after this many seconds.
_REDIAL_SECONDS = 0.2


@dataclass
class _Tenant:
    """A tenant's process and its link, by number. What is under way on links up to `broken` never arrives.

    Nothing overtakes on a link, even if its latency falls: `reached` is when the last message arrives, by direction.
    """

    start: Callable[[], TenantSession]
    latency: float
    reached: dict[Direction, float] = field(default_factory=dict)
    session: TenantSession | None = None
    link: int = 0
    up: bool = False
    broken: int = 0
    error: FedEmError | None = None


class MemoryHub:
    """Links to tenants in this process, under a virtual clock that starts at 0.

    Args:
        starts: Makes a tenant's session anew each time its "process" starts.
        latency: Seconds a message takes, the same for all or one a tenant.
        interfere: The fate of each message.
    """

    def __init__(
        self,
        starts: Sequence[Callable[[], TenantSession]],
        latency: float | Sequence[float] = 0.001,
        interfere: Interference = lambda _: Fate.DELIVER,
    ) -> None:
        delays = [latency] * len(starts) if isinstance(latency, float) else list(latency)
        self._tenants = [_Tenant(start, delay) for start, delay in zip(starts, delays, strict=True)]
        self._interfere = interfere
        self._queue: list[tuple[float, int, Callable[[], HubEvent | None]]] = []
        self._number = 0
        self._now = self._busy_until = 0.0
        self._received = self._sent = 0
        for index in range(len(starts)):
            self.restart(index, 0.0)

    def now(self) -> float:
        """Virtual seconds since the start, at the server."""
        return max(self._now, self._busy_until)

    def busy(self, seconds: float) -> None:
        """The server does something else for a while; messages travel, and tenants answer, meanwhile."""
        self._busy_until = self.now() + seconds

    def error_of(self, tenant: int) -> FedEmError | None:
        """Why a tenant left of its own accord, if it did."""
        return self._tenants[tenant].error

    def session_of(self, tenant: int) -> TenantSession | None:
        """The session of a tenant that is alive."""
        return self._tenants[tenant].session

    def receive(self, until: float | None) -> HubEvent | None:
        """The next event for the server.

        Raises:
            FedEmError: nothing is under way and there is no `until`: nothing could ever come.
        """
        while self._queue and (until is None or self._queue[0][0] <= max(until, self._busy_until)):
            self._now, _, happen = heapq.heappop(self._queue)
            event = happen()
            if isinstance(event, Arrived):
                self._received += len(event.data)
            if event is not None:
                return event
        if until is None:
            raise FedEmError("every tenant of this simulation is silent, and the server waits without a deadline")
        self._now = max(self._now, until)
        return None

    def send(self, tenant: int, data: bytes) -> None:
        """Queue a message to a tenant."""
        party = self._tenants[tenant]
        link = party.link
        self._sent += len(data)

        def happen() -> HubEvent | None:
            if not party.up or party.link != link:
                return None
            fate = self._interfere(Passing(Direction.TO_TENANT, tenant, data, self._now))
            if fate is Fate.KILL:
                self.kill(tenant)
            elif fate is Fate.BREAK:
                self.break_link(tenant)
            elif fate is Fate.DELIVER:
                self._deliver(tenant, data)
            return None

        self._travel(party, Direction.TO_TENANT, happen)

    def traffic(self) -> tuple[int, int]:
        """Bytes of messages received and sent by the server so far."""
        return self._received, self._sent

    def cut(self, tenant: int) -> None:
        """Break a tenant's link from the server's side, with all that is under way on it. The tenant dials again."""
        party = self._tenants[tenant]
        party.up = False
        party.broken = link = party.link

        def dial() -> HubEvent | None:
            if party.link == link and party.session is not None and not party.session.over:
                self._greet(tenant, party.session)
            return None

        self._after(_REDIAL_SECONDS, dial)

    def break_link(self, tenant: int) -> None:
        """The same, from neither side: the server is told."""
        self.cut(tenant)
        self._tell_unlinked(tenant)

    def close(self) -> None:
        """Let everything that is under way arrive."""
        while self._queue:
            self._now, _, happen = heapq.heappop(self._queue)
            happen()

    def kill(self, tenant: int) -> None:
        """End a tenant's process. What it has sent still arrives, then its link goes down."""
        party = self._tenants[tenant]
        party.session = None
        party.up = False
        self._tell_unlinked(tenant)

    def set_latency(self, tenant: int, seconds: float) -> None:
        """Let a tenant's messages, either way, take so long from now on."""
        self._tenants[tenant].latency = seconds

    def restart(self, tenant: int, after: float) -> None:
        """Start a tenant's process (again) after some seconds."""
        party = self._tenants[tenant]

        def happen() -> HubEvent | None:
            party.session = party.start()
            self._greet(tenant, party.session)
            return None

        self._after(after, happen)

    def _greet(self, tenant: int, session: TenantSession) -> None:
        """A new link: the old one, if it is still up, ends with all that is under way on it."""
        party = self._tenants[tenant]
        party.broken = party.link
        party.link += 1
        party.up = True
        self._answer(tenant, session.greet())

    def _tell_unlinked(self, tenant: int) -> None:
        party = self._tenants[tenant]
        link = party.link
        self._travel(party, Direction.TO_SERVER, lambda: Unlinked(tenant) if party.link == link else None)

    def _deliver(self, tenant: int, data: bytes) -> None:
        party = self._tenants[tenant]
        assert party.session is not None
        try:
            answers = party.session.handle(data)
        except SessionLeft as left:
            party.error = left
            self._answer(tenant, left.messages)
            self.kill(tenant)
        except FedEmError as error:
            party.error = error
            self.kill(tenant)
        else:
            self._answer(tenant, answers)

    def _answer(self, tenant: int, messages: Sequence[bytes]) -> None:
        party = self._tenants[tenant]
        for data in messages:
            fate = self._interfere(Passing(Direction.TO_SERVER, tenant, data, self._now))
            if fate is Fate.BREAK:
                self.break_link(tenant)
                return
            if fate is not Fate.LOSE:
                self._travel(party, Direction.TO_SERVER, self._arrival(tenant, data))
            if fate is Fate.KILL:
                self.kill(tenant)
                return

    def _arrival(self, tenant: int, data: bytes) -> Callable[[], HubEvent | None]:
        party = self._tenants[tenant]
        link = party.link
        return lambda: Arrived(tenant, data) if link > party.broken else None

    def _travel(self, party: _Tenant, direction: Direction, happen: Callable[[], HubEvent | None]) -> None:
        leaves = self.now() if direction is Direction.TO_TENANT else self._now
        arrives = max(leaves + party.latency, party.reached.get(direction, 0.0))
        party.reached[direction] = arrives
        self._at(arrives, happen)

    def _after(self, delay: float, happen: Callable[[], HubEvent | None]) -> None:
        self._at(self._now + delay, happen)

    def _at(self, time: float, happen: Callable[[], HubEvent | None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (time, self._number, happen))
