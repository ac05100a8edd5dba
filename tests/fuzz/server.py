"""Fuzz target for the server's machine: tenants that sign anything, at any moment of a session, until time is up."""

from __future__ import annotations

import copy
from contextlib import suppress

from fed_em.errors import CallerError
from fed_em_protocols.coordinator import (
    coordinator_receive,
    coordinator_request,
    coordinator_tick,
    coordinator_unlinked,
)
from fed_em_protocols.coordinator_state import CoordinatorState, CoordinatorStep, SumRequest
from fed_em_protocols.errors import PeerFault
from tests.fuzz.changes import changed
from tests.fuzz.choices import Choices, told_next
from tests.fuzz.record import Record, ServerMoment, recorded
from tests.fuzz.sessions import TENANTS
from tests.fuzz.signatures import Signatures, noted_signatures, signer_of
from tests.protocols.federation import identity_of

_MOST_STEPS = 16
_MOST_TICKS = 60


class Server:
    """The machine from one moment on. What it sends keeps to the auditor's rules, whatever it is told."""

    def __init__(self, moment: ServerMoment) -> None:
        self.state: CoordinatorState = moment.state
        self.now = moment.now
        self._auditor = copy.deepcopy(moment.auditor)

    def take(self, step: CoordinatorStep) -> None:
        """Go on."""
        self.state = step.state
        for tenant, data in step.sends:
            self._auditor.sees(tenant, data)

    def hears(self, tenant: int, data: bytes, cut: bool) -> None:
        """A message; if it is a fault, the link may be cut."""
        try:
            self.take(coordinator_receive(self.state, tenant, data, self.now))
        except PeerFault:
            if cut:
                self.take(coordinator_unlinked(self.state, tenant, self.now))

    def is_asked(self, request: SumRequest) -> None:
        """Somebody wants a sum, perhaps one that this session does not have."""
        with suppress(CallerError):
            self.take(coordinator_request(self.state, request, self.now))

    def waits(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.take(coordinator_tick(self.state, self.now))

    def hears_nothing_more(self) -> None:
        """Nothing comes any more: the request ends."""
        for _ in range(_MOST_TICKS):
            if self.state.request is None:
                return
            assert self.state.deadline is not None, "the server waits without a deadline"
            self.waits(max(0.0, self.state.deadline - self.now))
        raise AssertionError(f"the request is still open after {_MOST_TICKS} deadlines")


def server(data: bytes) -> None:
    """Messages as they came, changed, from another tenant or again; links that break; time; and then silence."""
    record, signatures = recorded(), dict(recorded().signatures)
    with noted_signatures(signatures):
        _play(Choices(data), record, signatures)


def _play(choices: Choices, record: Record, signatures: Signatures) -> None:
    moment = choices.one(list(record.server_moments.values()))
    machine, pool, following = Server(moment), record.pool.grown(), iter(moment.messages)
    said = list(record.to_server)
    for _ in range(_MOST_STEPS):
        if not choices:
            break
        tenant, message = told_next(following, said, choices)
        match choices.below(8):
            case 0 | 1:
                pass
            case 2:
                tenant = choices.below(TENANTS)
            case 3:
                message = choices.one(record.examples[tenant])
            case 4:
                machine.waits(choices.below(2**8) / 16)
            case 5 if machine.state.request is None:
                machine.is_asked(choices.one(record.requests))
            case _:
                key = signer_of(message, signatures) or identity_of(f"t{tenant}")
                message = changed(message, key, choices, pool)
        said.append((tenant, message))
        machine.hears(tenant, message, cut=choices.below(2) == 1)
    machine.hears_nothing_more()
