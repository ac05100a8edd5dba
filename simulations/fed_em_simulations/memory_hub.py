"""Tenants in this process and in virtual time: the memory transport.

Messages wait in one queue ordered by time and by what they follow from, so a run is a function of its inputs. `interfere` sees every
message before it is delivered and may lose it, break the link or kill the tenant: that is how tests and simulations
make trouble.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Protocol

from fed_em.errors import FedEmError
from fed_em_client.tenant_session import TenantSession
from fed_em_server.hub import Arrived, HubEvent, Unlinked
from fed_em_simulations.owed_answers import Asked, OwedAnswers
from fed_em_simulations.tenant_host import Answer, LocalTenants, TenantHost
from fed_em_simulations.work import Measure, Work


class Direction(StrEnum):  # several tables are looked up by it at each message: text is hashed once
    """Which way a message goes."""

    TO_TENANT = "to-tenant"
    TO_SERVER = "to-server"


class Fate(Enum):
    """What becomes of a message."""

    DELIVER = "deliver"
    LOSE = "lose"
    BREAK = "break"  # the link breaks before it is delivered, or sent; the tenant dials again
    KILL = "kill"  # the tenant dies before it reads, or right after it has written, this message
    HOLD = "hold"  # the link breaks as above, and the tenant does not dial again before `let_back`


@dataclass(frozen=True)
class Passing:
    """A message on its way."""

    direction: Direction
    tenant: int
    data: bytes = field(repr=False)
    time: float


Interference = Callable[[Passing], Fate]


class ServerCrashed(Exception):
    """The server's process ended, as a simulation had it: raised where it next sends or listens, at the time at which another begins."""


class Meddler(Protocol):
    """Whoever has a hand in what passes."""

    def fate(self, passing: Passing) -> Fate:
        """What becomes of a message."""
        ...

    def lateness(self, passing: Passing) -> float:
        """How many seconds later than it could a tenant sends a message."""
        ...

    def forged(self, tenant: int, data: bytes) -> Sequence[bytes]:
        """What the server sends a tenant in place of a message."""
        ...


class HonestWorld:
    """Everything passes as it is, but for what `interfere` says. Implements `Meddler`."""

    def __init__(self, interfere: Interference = lambda _: Fate.DELIVER) -> None:
        self.fate = interfere

    def lateness(self, passing: Passing) -> float:
        """See `Meddler`."""
        return 0.0

    def forged(self, tenant: int, data: bytes) -> Sequence[bytes]:
        """See `Meddler`."""
        return (data,)


class Prices(Protocol):
    """What messages and work cost, in virtual seconds."""

    def travelling(self, tenant: int, direction: Direction, size: int) -> tuple[float, float]:
        """For how long a message of so many bytes keeps a tenant's link busy, and how long it is under way after that."""
        ...

    def passing_the_server(self, direction: Direction, size: int) -> float:
        """For how long it keeps the server's own link busy, which all messages share."""
        ...

    def of_tenant(self, tenant: int, work: Work) -> float:
        """What work takes a tenant."""
        ...

    def of_server(self, work: Work) -> float:
        """What work takes the server."""
        ...


class OnlyLatency:
    """Messages take their time, and nothing else does. Implements `Prices`."""

    def __init__(self, latencies: Sequence[float]) -> None:
        self.latencies = list(latencies)

    def travelling(self, tenant: int, direction: Direction, size: int) -> tuple[float, float]:
        """See `Prices`."""
        return 0.0, self.latencies[tenant]

    def passing_the_server(self, direction: Direction, size: int) -> float:
        """See `Prices`."""
        return 0.0

    def of_tenant(self, tenant: int, work: Work) -> float:
        """See `Prices`."""
        return 0.0

    def of_server(self, work: Work) -> float:
        """See `Prices`."""
        return 0.0


# A tenant whose link breaks dials again after this many seconds.
_REDIAL_SECONDS = 0.2


@dataclass
class _Tenant:
    """A tenant's process and its link, by number. What is under way on links up to `broken` never arrives.

    Nothing overtakes on a link, even if its latency falls: `reached` is when the last message arrives, by direction; until `taken`
    the link is busy with those before. `latency` is in place of the price's, `busy_until` is when the tenant has done what it was asked.
    """

    latency: float | None = None
    reached: dict[Direction, float] = field(default_factory=dict)
    taken: dict[Direction, float] = field(default_factory=dict)
    busy_until: float = 0.0
    alive: bool = False
    over: bool = False
    held: bool = False
    link: int = 0
    up: bool = False
    broken: int = 0
    error: FedEmError | None = None
    received: int = 0
    sent: int = 0


class MemoryHub:
    """Links to simulated tenants, under a virtual clock that starts at 0.

    Args:
        tenants: Makes a tenant's session anew each time its "process" starts; or who has the tenants, and how many they are.
        latency: Seconds a message takes, the same for all or one a tenant; or prices of all that costs time.
        interfere: The fate of each message; or whoever meddles otherwise too.
        serving: The work that the server has done so far; 0 if it is not charged.
    """

    def __init__(
        self,
        tenants: Sequence[Callable[[], TenantSession]] | tuple[TenantHost, int],
        latency: float | Sequence[float] | Prices = 0.001,
        interfere: Interference | Meddler = lambda _: Fate.DELIVER,
        serving: Callable[[], Work] = Work,
    ) -> None:
        if isinstance(tenants, tuple):
            self._host, n = tenants
        else:
            self._host, n = LocalTenants(tenants), len(tenants)
        if isinstance(latency, float):
            latency = [latency] * n
        self._prices: Prices = OnlyLatency(latency) if isinstance(latency, Sequence) else latency
        self._tenants = [_Tenant() for _ in range(n)]
        self._meddler: Meddler = HonestWorld(interfere) if callable(interfere) else interfere
        self._down_until: float | None = None
        self._died = False
        self._serving = serving
        self._served = serving()
        self._charged = self._prices.of_server(self._served)
        self._done = Measure()
        # What happens, by time, number and place: what follows from an answer has the number of what was asked, so that it is the same
        # whenever the answer is taken in.
        self._queue: list[tuple[float, int, int, Callable[[], HubEvent | None]]] = []
        self._owed = OwedAnswers()
        self._number = self._place = 0
        self._answered: Asked | None = None
        self._now = self._busy_until = 0.0
        self._passing = dict.fromkeys(Direction, 0.0)
        for index in range(n):
            self.restart(index, 0.0)

    def now(self) -> float:
        """Virtual seconds since the start, at the server."""
        self._charge_server()
        return max(self._now, self._busy_until)

    def busy(self, seconds: float) -> None:
        """The server does something else for a while; messages travel, and tenants answer, meanwhile."""
        self._busy_until = max(self._now, self._busy_until) + seconds

    def error_of(self, tenant: int) -> FedEmError | None:
        """Why a tenant left of its own accord, if it did."""
        return self._tenants[tenant].error

    def session_of(self, tenant: int) -> TenantSession | None:
        """The session of a tenant that is alive and lives in this process."""
        return self._host.session(tenant) if isinstance(self._host, LocalTenants) else None

    def receive(self, until: float | None) -> HubEvent | None:
        """The next event for the server.

        Raises:
            FedEmError: nothing is under way and there is no `until`: nothing could ever come.
            ServerCrashed: it crashed, and is up again.
        """
        self._charge_server()
        self._live()
        while self._is_due(math.inf if until is None else max(until, self._busy_until)):
            event = self._next()
            if isinstance(event, Arrived):
                self._tenants[event.tenant].received += len(event.data)
            if event is not None:
                return event
        if until is None:
            raise FedEmError("every tenant of this simulation is silent, and the server waits without a deadline")
        self._now = max(self._now, until)
        return None

    def send(self, tenant: int, data: bytes) -> None:
        """Queue a message to a tenant. Raises `ServerCrashed` likewise: it never leaves."""
        self._charge_server()
        self._live()
        for each in self._meddler.forged(tenant, data):
            self._send(tenant, each)

    def _send(self, tenant: int, data: bytes) -> None:
        party = self._tenants[tenant]
        link = party.link
        party.sent += len(data)

        def happen() -> HubEvent | None:
            party = self._party(tenant)
            if not party.up or party.link != link:
                return None
            fate = self._meddler.fate(Passing(Direction.TO_TENANT, tenant, data, self._now))
            if fate is Fate.KILL:
                self.kill(tenant)
            elif fate in (Fate.BREAK, Fate.HOLD):
                self.break_link(tenant, fate is Fate.HOLD)
            elif fate is Fate.DELIVER:
                self._host.deliver(tenant, data)
                self._ask(tenant)
            return None

        self._travel(tenant, Direction.TO_TENANT, len(data), max(self._now, self._busy_until), happen)

    def traffic(self) -> tuple[int, int]:
        """Bytes of messages received and sent by the server so far."""
        return sum(party.received for party in self._tenants), sum(party.sent for party in self._tenants)

    def traffic_of(self, tenant: int) -> tuple[int, int]:
        """The same of one tenant."""
        return self._tenants[tenant].received, self._tenants[tenant].sent

    def tenants_work(self) -> Work:
        """What all tenants together have done so far."""
        return self._done.total

    def cut(self, tenant: int, hold: bool = False) -> None:
        """Break a tenant's link from the server's side, with all that is under way on it. The tenant dials again, unless it is held."""
        party = self._party(tenant)
        party.up = False
        party.held = party.held or hold
        party.broken = party.link
        if not party.held:
            self._dial(tenant, _REDIAL_SECONDS)

    def break_link(self, tenant: int, hold: bool = False) -> None:
        """The same, from neither side: the server is told."""
        self.cut(tenant, hold)
        self._tell_unlinked(tenant)

    def let_back(self, tenant: int) -> None:
        """Let a tenant dial again whose link broke for longer."""
        party = self._party(tenant)
        if party.held:
            party.held = False
            self._dial(tenant, 0.0)

    def crash(self, seconds: float) -> None:
        """End the server's process once it sends or listens, and have another up after some seconds; until then nobody is linked."""
        self._down_until = self.now() + seconds
        for index in range(len(self._tenants)):
            self.cut(index)

    def _live(self) -> None:
        """End the server's process if it is to end, once what happens while nobody listens has happened. Whoever does anything lives."""
        self._died = self._down_until is not None
        if self._down_until is not None:
            time = self._down_until
            while self._is_due(time) and self._queue[0][0] < time:
                self._next()
            self._now, self._down_until = max(self._now, time), None
            raise ServerCrashed

    def close(self) -> None:
        """Let everything that is under way arrive; of a process that crashed there is nothing to close, the next one goes on."""
        if self._died:
            return
        while self._is_due(math.inf):
            self._next()
        self._host.close()

    def kill(self, tenant: int) -> None:
        """End a tenant's process. What it has sent still arrives, then its link goes down."""
        self._party(tenant)
        self._host.end(tenant)
        self._gone(tenant)

    def set_latency(self, tenant: int, seconds: float) -> None:
        """Let a tenant's messages, either way, take so long from now on."""
        self._party(tenant).latency = seconds

    def restart(self, tenant: int, after: float) -> None:
        """Start a tenant's process (again) after some seconds."""

        def happen() -> HubEvent | None:
            party = self._party(tenant)
            party.alive, party.over, party.held = True, False, False
            self._greet(tenant, anew=True)
            return None

        self.later(after, happen)

    def later(self, seconds: float, happen: Callable[[], HubEvent | None]) -> None:
        """Have something happen after so many virtual seconds; the server is told of the event that it gives, if it gives one."""
        self._at(self._now + seconds, happen)

    # --- events ---

    def _is_due(self, latest: float) -> bool:
        """Whether anything happens up to `latest`: what comes first is the first of the queue then."""
        # Answers are heard as far as they could come before the rest, and no further: tenants in other processes work on them meanwhile.
        while self._owed and self._owed.soonest <= min(latest, self._queue[0][0] if self._queue else math.inf):
            self._hear()
        return bool(self._queue) and self._queue[0][0] <= latest

    def _next(self) -> HubEvent | None:
        """Let the next event happen."""
        self._now, _, _, happen = heapq.heappop(self._queue)
        return happen()

    def _party(self, tenant: int) -> _Tenant:
        """A tenant on whom something is about to come: what follows from its answers, if it owes any, was before."""
        while self._owed.owes(tenant):
            self._hear()
        return self._tenants[tenant]

    def _ask(self, tenant: int) -> None:
        """A tenant owes an answer, which is heard before the first event that it could come before."""
        latency = self._tenants[tenant].latency
        arrives = self._prices.travelling(tenant, Direction.TO_SERVER, 0)[1] if latency is None else latency
        self._number += 1
        self._owed.add(Asked(tenant, self._now, self._number, self._now + min(arrives, _REDIAL_SECONDS)))
        if isinstance(self._host, LocalTenants):
            self._hear()

    def _hear(self) -> None:
        """Take in the first answer that is owed. What follows from it follows from when it was asked."""
        asked, now, before = self._owed.take(), self._now, self._answered
        self._now, self._answered = asked.time, asked
        self._answer(self._host.answer())
        self._now, self._answered = now, before

    def _charge_server(self) -> None:
        done = self._serving()
        if done is not self._served and done != self._served:
            before, self._served, self._charged = self._charged, done, self._prices.of_server(done)
            self.busy(self._charged - before)

    def _dial(self, tenant: int, after: float) -> None:
        link = self._tenants[tenant].link

        def dial() -> HubEvent | None:
            party = self._party(tenant)
            if self._down_until is not None and self._now < self._down_until:
                self._dial(tenant, _REDIAL_SECONDS)
            elif party.link == link and party.alive and not party.over and not party.held:
                self._greet(tenant, anew=False)
            return None

        self.later(after, dial)

    def _greet(self, tenant: int, anew: bool) -> None:
        """A new link: the old one, if it is still up, ends with all that is under way on it."""
        party = self._tenants[tenant]
        party.broken = party.link
        party.link += 1
        party.up = True
        self._host.greet(tenant, anew)
        self._ask(tenant)

    def _gone(self, tenant: int) -> None:
        party = self._tenants[tenant]
        party.alive = party.up = False
        self._tell_unlinked(tenant)

    def _tell_unlinked(self, tenant: int) -> None:
        party = self._tenants[tenant]
        link = party.link
        self._travel(
            tenant, Direction.TO_SERVER, 0, self._now, lambda: Unlinked(tenant) if party.link == link else None
        )

    def _answer(self, answer: Answer) -> None:
        tenant, party = answer.tenant, self._tenants[answer.tenant]
        party.over = answer.over
        self._done.add(answer.work)
        began = max(self._now, party.busy_until)
        party.busy_until = leaves = began + self._prices.of_tenant(tenant, answer.work)
        for data in answer.messages:
            passing = Passing(Direction.TO_SERVER, tenant, data, leaves)
            leaves += self._meddler.lateness(passing)
            fate = self._meddler.fate(passing)
            if fate in (Fate.BREAK, Fate.HOLD):
                self.break_link(tenant, fate is Fate.HOLD)
                break
            if fate is not Fate.LOSE:
                self._travel(tenant, Direction.TO_SERVER, len(data), leaves, self._arrival(tenant, data))
            if fate is Fate.KILL:
                self.kill(tenant)
                break
        if answer.error is not None:
            party.error = answer.error
            self._gone(tenant)

    def _arrival(self, tenant: int, data: bytes) -> Callable[[], HubEvent | None]:
        party = self._tenants[tenant]
        link = party.link
        return lambda: Arrived(tenant, data) if link > party.broken else None

    def _travel(
        self, tenant: int, direction: Direction, size: int, leaves: float, happen: Callable[[], HubEvent | None]
    ) -> None:
        """Over the server's link, which all share, and the tenant's own."""
        party = self._tenants[tenant]
        occupied, latency = self._prices.travelling(tenant, direction, size)
        latency = latency if party.latency is None else party.latency
        shared = self._prices.passing_the_server(direction, size)
        if shared and direction is Direction.TO_TENANT:
            leaves = self._passing[direction] = max(leaves, self._passing[direction]) + shared
        if occupied:
            leaves = party.taken[direction] = max(leaves, party.taken.get(direction, 0.0)) + occupied
        arrives = max(leaves + latency, party.reached.get(direction, 0.0))
        party.reached[direction] = arrives
        if shared and direction is Direction.TO_SERVER:
            self._at(arrives, lambda: self._come_in(shared, happen))
        else:
            self._at(arrives, happen)

    def _come_in(self, shared: float, happen: Callable[[], HubEvent | None]) -> None:
        """Over the server's own line, in the order of arrival."""
        self._passing[Direction.TO_SERVER] = max(self._now, self._passing[Direction.TO_SERVER]) + shared
        self._at(self._passing[Direction.TO_SERVER], happen)

    def _at(self, time: float, happen: Callable[[], HubEvent | None]) -> None:
        if self._answered is None:
            self._number += 1
        self._place += 1
        number = self._number if self._answered is None else self._answered.number
        heapq.heappush(self._queue, (time, number, self._place, happen))
