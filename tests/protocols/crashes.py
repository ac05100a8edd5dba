"""A server that crashes where it is told to, and starts anew from its last state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fed_em_protocols.coordinator import coordinator_restart
from fed_em_protocols.coordinator_state import CoordinatorState, CoordinatorStep
from fed_em_protocols.transitions import CoordinatorPhase, SetUpPhase
from fed_em_server.federated_sum import FederatedSum
from tests.protocols.federation import TestFederation


class Crashed(Exception):
    """The server's process is gone."""


class Fragile(FederatedSum):
    """Crashes when it comes to some phase: its last state is kept, the messages of its last step may or may not have left."""

    phase: CoordinatorPhase | SetUpPhase
    sends: bool
    armed: bool

    def _take(self, step: CoordinatorStep) -> Any:
        upcoming = step.state.upcoming
        comes = self.phase in {step.state.phase, upcoming.phase if upcoming else None}
        if not (self.armed and comes and self._due(step.state)):
            return super()._take(step)
        self.state = step.state
        for tenant, data in step.sends if self.sends else ():
            self._hub.send(tenant, data)
        raise Crashed

    def _due(self, state: CoordinatorState) -> bool:
        """In a round only from the second on: increments then have a base to lose."""
        return state.last_round >= 2 if isinstance(self.phase, CoordinatorPhase) else True


def crash_and_restart(
    federation: TestFederation,
    phase: CoordinatorPhase | SetUpPhase,
    sends: bool,
    wanted: Callable[[], object] | None = None,
) -> None:
    """A sum, or what else is wanted, that the server's crash ends; then it starts anew from its last state, and the tenants dial again."""
    server = federation.server
    server.__class__ = Fragile
    assert isinstance(server, Fragile)
    server.phase, server.sends, server.armed = phase, sends, True
    with pytest.raises(Crashed):
        (wanted or federation.sum)()
    server.armed = False
    server.state = coordinator_restart(server.state, federation.hub.now())
    for index in range(federation.roster.n):
        if federation.hub.session_of(index) is not None:
            federation.hub.break_link(index)
