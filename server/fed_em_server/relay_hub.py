"""Links over Flower's own messages, for networks where only the SuperLink can be reached.

The server speaks first: every node is sent an empty parcel, and the tenant behind it introduces itself. From then on, what the
session sends to a tenant goes to that node, everything that has gathered up in one parcel, and the tenant's answers come back in the
reply. A trip takes 5 to 8 seconds whatever the parcel, as Flower's nodes ask for messages every 3 seconds and start a process for
each.

A node is who its tenant's signed Hello says. While it answers, nobody else is taken for that tenant; once a request to it is lost,
or answered by an error, the link counts as down and every free node is asked anew who it is.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace

from flwr.serverapp import Grid

from fed_em_protocols.coordinator_state import Timetable
from fed_em_protocols.envelope import unseal
from fed_em_protocols.errors import PeerFault
from fed_em_protocols.grid_payloads import Parcel
from fed_em_protocols.limits import MAX_MESSAGE_BYTES, MAX_PARCEL_MESSAGES
from fed_em_protocols.messages import Hello
from fed_em_protocols.roster import Roster
from fed_em_protocols.wire.grid_messages import Action, AnswerCode
from fed_em_server.grid_nodes import Answered, GridNodes
from fed_em_server.hub import Arrived, HubEvent, Unlinked

_POLL_SECONDS = 0.1
# Before a node is asked again who it is.
_FIRST_REST, _LONGEST_REST = 3.0, 60.0
_FAREWELL_SECONDS = 60.0

_AT_LEAST = Timetable(gather=180.0, patience=45.0, set_up=60.0, upload=60.0, straggler=30.0, open=60.0)


def relayed_timetable(timetable: Timetable) -> Timetable:
    """A timetable with every wait long enough for some trips, as shorter ones would lose everybody."""
    waits = ("gather", "patience", "set_up", "upload", "straggler", "open")
    return replace(timetable, **{name: max(getattr(timetable, name), getattr(_AT_LEAST, name)) for name in waits})


class RelayHub:
    """Links to the tenants behind a run's nodes. Implements `fed_em_server.hub.Hub`.

    Args:
        grid: Of the run.
        roster: Whom to let in.
        session: The session's number, 16 bytes.
        ttl: Seconds until a parcel without an answer is lost: as long as the longest stage.
    """

    def __init__(self, grid: Grid, roster: Roster, session: bytes, ttl: float) -> None:
        self._nodes = GridNodes(grid, Action.RELAY, ttl)
        self._roster = roster
        self._session = session
        self._node_of: dict[int, int] = {}
        self._tenant_at: dict[int, int] = {}
        self._rests: dict[int, float] = {}
        self._outbox: dict[int, list[bytes]] = {}
        self._events: deque[HubEvent] = deque()
        self._received = self._sent = 0
        self._closing = False

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return time.monotonic()

    def receive(self, until: float | None) -> HubEvent | None:
        """The next event, or None once the clock shows `until`. What was sent before goes out now, in one parcel a tenant."""
        if not self._events:
            self._turn()
        while not self._events:
            if until is not None and self.now() >= until:
                return None
            time.sleep(_POLL_SECONDS)
            self._turn()
        event = self._events.popleft()
        self._received += len(event.data) if isinstance(event, Arrived) else 0
        return event

    def send(self, tenant: int, data: bytes) -> None:
        """Put a message into a tenant's next parcel; lost if no node is known to be that tenant's."""
        if tenant in self._node_of:
            self._outbox.setdefault(tenant, []).append(data)

    def traffic(self) -> tuple[int, int]:
        """Bytes of messages received and sent so far."""
        return self._received, self._sent

    def cut(self, tenant: int) -> None:
        """Forget which node is a tenant's, with all that is under way; it is asked anew who it is."""
        if tenant in self._node_of:
            self._free(self._node_of[tenant])
        self._events = deque(event for event in self._events if event.tenant != tenant)

    def close(self) -> None:
        """Deliver what was sent. There is no link to close: who is not told that the session is over hears nothing more."""
        self._closing = True
        deadline = self.now() + _FAREWELL_SECONDS
        while self.now() < deadline and (any(self._outbox.values()) or self._nodes.under_way() & set(self._tenant_at)):
            self._turn()
            time.sleep(_POLL_SECONDS)

    def _turn(self) -> None:
        for node in self._nodes.look():
            self._lose(node)
        self._nodes.ask({node: self._parcel_for(node).to_bytes() for node in self._nodes.idle() if self._wants(node)})
        for answered in self._nodes.answers():
            self._take(answered)

    def _wants(self, node: int) -> bool:
        """Whether there is something to say to a node: its tenant's messages, or the question who it is."""
        if node in self._tenant_at:
            return bool(self._outbox.get(self._tenant_at[node]))
        return not self._closing

    def _parcel_for(self, node: int) -> Parcel:
        waiting = self._outbox.get(self._tenant_at.get(node, -1), [])
        size, count = 0, 0
        most = min(len(waiting), MAX_PARCEL_MESSAGES)
        while count < most and (count == 0 or size + len(waiting[count]) <= MAX_MESSAGE_BYTES):
            size, count = size + len(waiting[count]), count + 1
        packed = tuple(waiting[:count])
        del waiting[:count]
        self._sent += size
        return Parcel(self._session, packed)

    def _take(self, answered: Answered) -> None:
        node = answered.node
        if answered.code is not AnswerCode.DONE:
            self._lose(node)
            return
        try:
            parcel = Parcel.from_bytes(answered.data, f"node {node}")
            if node not in self._tenant_at:
                self._bind(node, parcel)
        except PeerFault:
            self._lose(node)
            return
        tenant = self._tenant_at[node]
        self._events.extend(Arrived(tenant, data) for data in parcel.messages)

    def _bind(self, node: int, parcel: Parcel) -> None:
        """Learn from a Hello which tenant is behind a node. Raises `PeerFault` if there is none, or it is not proved."""
        nobody = f"node {node}"
        if not parcel.messages:
            raise PeerFault(nobody, "does not introduce itself")
        sealed = unseal(parcel.messages[0], nobody)
        names = {tenant.name: index for index, tenant in enumerate(self._roster.tenants)}
        if not isinstance(sealed.content, Hello) or sealed.content.tenant not in names:
            raise PeerFault(nobody, "is no tenant of the roster")
        tenant = names[sealed.content.tenant]
        # Checked here as well as by the coordinator: otherwise any node could have the messages of any tenant, or break its link.
        sealed.require_signature(self._roster.tenants[tenant].identity_key, nobody)
        if tenant in self._node_of:
            raise PeerFault(nobody, f"is '{sealed.content.tenant}', which answers from another node")
        self._node_of[tenant], self._tenant_at[node] = node, tenant
        self._rests.pop(node, None)

    def _lose(self, node: int) -> None:
        if node in self._tenant_at:
            self._events.append(Unlinked(self._tenant_at[node]))
        self._free(node)

    def _free(self, node: int) -> None:
        """A node is nobody's, and is left alone for a while, the longer the more often this happens to it."""
        tenant = self._tenant_at.pop(node, None)
        if tenant is not None:
            del self._node_of[tenant]
            self._outbox.pop(tenant, None)
        rest = self._rests.get(node, _FIRST_REST)
        self._rests[node] = min(2 * rest, _LONGEST_REST)
        self._nodes.rest(node, rest)
