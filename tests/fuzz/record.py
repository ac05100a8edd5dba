"""What real tenants and a real server said to each other, and knew at each moment: where the stateful targets start from.

A few small federations run, with trouble in most of them. The states of both machines are values, so a moment can be gone back
to any number of times.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from fed_em_client.tenant_session import TenantSession, TenantWork
from fed_em_protocols.coordinator_state import CoordinatorState, SumRequest
from fed_em_protocols.envelope import unseal
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.tenant_state import TenantState
from fed_em_server.federated_sum import FederatedSum
from fed_em_server.hub import Arrived, HubEvent
from fed_em_simulations.memory_hub import Fate, Passing
from tests.fuzz.changes import examples
from tests.fuzz.sessions import SESSION_KINDS, TENANTS, SessionKind, federation_of, request_of
from tests.fuzz.signatures import Signatures, noted_signatures
from tests.fuzz.twists import Pool
from tests.protocols.auditor import Auditor
from tests.protocols.federation import MemoryMarks, TestFederation, identity_of

# The number of the message, to or from the last tenant, at which its process dies: in a set-up, and in the round after it.
_DEATHS = (None, 10, 15, 18)
_RESTART_SECONDS = 6.0


@dataclass(frozen=True)
class TenantMoment:
    """A tenant that is about to read the first of `messages`, and then the others.

    Attributes:
        marks, auditor: Copies of what they were.
    """

    kind: SessionKind
    index: int
    work: TenantWork
    state: TenantState
    marks: MemoryMarks
    auditor: Auditor
    messages: list[bytes]


@dataclass(frozen=True)
class ServerMoment:
    """The server that is about to take the first of `messages` (each with the tenant that sent it), and then the others."""

    kind: SessionKind
    state: CoordinatorState
    now: float
    auditor: Auditor
    messages: list[tuple[int, bytes]]


@dataclass
class Record:
    """Everything that was recorded. Of moments and messages that are the same there is one.

    Attributes:
        to_tenants, to_server: Messages, the latter with the roster index of their sender.
        examples: A message of every kind, signed by each tenant, and at last by the server.
        requests: For sums.
        signatures: All that were made.
        pool: Values in messages.
    """

    tenant_moments: dict[tuple[int, bytes], TenantMoment] = field(default_factory=dict)
    server_moments: dict[tuple[float, HubEvent], ServerMoment] = field(default_factory=dict)
    to_tenants: dict[bytes, None] = field(default_factory=dict)
    to_server: dict[tuple[int, bytes], None] = field(default_factory=dict)
    examples: list[list[bytes]] = field(default_factory=list)
    requests: list[SumRequest] = field(default_factory=list)
    signatures: Signatures = field(default_factory=dict)
    pool: Pool = field(default_factory=Pool)

    @cached_property
    def for_tenants(self) -> tuple[bytes, ...]:
        """Whatever a tenant might be told: first what tenants were told, then all the rest."""
        return (*self.to_tenants, *self.examples[-1], *(data for _, data in self.to_server))

    def learn(self, data: bytes) -> None:
        """What can be said of a message, or about it, in another."""
        self.pool.learn_sealed(unseal(data, "recorded"))


@cache
def recorded() -> Record:
    """The record. It is made once a process, and the same in every one."""
    record = Record()
    with noted_signatures(record.signatures):
        for name in (*(f"t{index}" for index in range(TENANTS)), "server"):
            record.examples.append(examples(identity_of(name)))
        for kind in SESSION_KINDS:
            for death in _DEATHS:
                _run(record, death, kind)
    return record


def _run(record: Record, death: int | None, kind: SessionKind) -> None:
    last, count = TENANTS - 1, 0

    def interfere(passing: Passing) -> Fate:
        nonlocal count
        count += passing.tenant == last
        if passing.tenant != last or count != death:
            return Fate.DELIVER
        federation.hub.restart(last, _RESTART_SECONDS)
        return Fate.KILL

    sessions = {index: _recorded_session(record, kind, index) for index in range(TENANTS)}
    federation = federation_of(kind, interfere, sessions)
    hub: Any = RecordingHub(federation, record, kind)
    federation.server = FederatedSum(federation.server.state, hub, federation.notices.append)
    for number, asked in enumerate(kind.sums):
        with suppress(SumFailed):
            federation.server.sum(request_of(federation, number, asked))
    federation.server.close(CloseReason.FINISHED)


def _recorded_session(record: Record, kind: SessionKind, index: int) -> type[TenantSession]:
    class RecordedSession(TenantSession):
        """A tenant whose moments are kept."""

        def __init__(self, me: Any, work: Any, marks: Any, randomness: Any) -> None:
            super().__init__(me, work, marks, randomness)
            self._kept = work, marks, Auditor(TENANTS)
            self._following: list[list[bytes]] = []

        def handle(self, data: bytes) -> tuple[bytes, ...]:
            work, marks, auditor = self._kept
            if (index, data) not in record.tenant_moments:
                moment = TenantMoment(kind, index, work, self.state, copy.deepcopy(marks), copy.deepcopy(auditor), [])
                record.tenant_moments[index, data] = moment
                self._following.append(moment.messages)
            for messages in self._following:
                messages.append(data)
            record.to_tenants[data] = None
            record.learn(data)
            answers = super().handle(data)
            for message in (data, *answers):
                auditor.sees(index, message)
            return answers

    return RecordedSession


class RecordingHub:
    """Keeps the server's moments."""

    def __init__(self, federation: TestFederation, record: Record, kind: SessionKind) -> None:
        self._federation, self._record, self._kind = federation, record, kind
        self._auditor = Auditor(TENANTS)
        self._following: list[list[tuple[int, bytes]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._federation.hub, name)

    def send(self, tenant: int, data: bytes) -> None:
        self._auditor.sees(tenant, data)
        self._federation.hub.send(tenant, data)

    def receive(self, until: float | None) -> HubEvent | None:
        event, now = self._federation.hub.receive(until), self._federation.hub.now()
        if isinstance(event, Arrived):
            if (now, event) not in self._record.server_moments:
                state = self._federation.server.state
                if state.request is not None and state.request not in self._record.requests:
                    self._record.requests.append(state.request)
                moment = ServerMoment(self._kind, state, now, copy.deepcopy(self._auditor), [])
                self._record.server_moments[now, event] = moment
                self._following.append(moment.messages)
            for messages in self._following:
                messages.append((event.tenant, event.data))
            self._record.to_server[event.tenant, event.data] = None
            self._record.learn(event.data)
        return event
