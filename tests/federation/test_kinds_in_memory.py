"""Kinds of sessions with a tenant that is killed time after time, in virtual time; `test_kinds_over_grpc` has real processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from kinds import KILLED, KINDS, MODEL_FILE, STREAM, Ended, assert_right
from small_federation import Moment, Recorder, memory_hub
from test_dropouts import TIMES, Trouble

from fed_em_server.serve import keep_outcome, open_server
from fed_em_server.session import run_session
from fed_em_simulations.memory_hub import Fate, MemoryHub

# A stream's minibatches are told by the logs that processes keep; `test_streams` has one whose tenant is killed.
NAMES = [
    # The quickest one has all that sessions do with somebody missing; the others have other features too.
    pytest.param(name, marks=() if name == MODEL_FILE else pytest.mark.slow)
    for name in KINDS
    if name != STREAM
]


class Deaths:
    """What a tenant dies with is its upload; it is back after some rounds."""

    def __init__(self, tenant: int, moments: Sequence[Moment], watcher: Recorder) -> None:
        self._tenant, self._moments, self._watcher = tenant, list(moments), watcher
        self.hub: MemoryHub | None = None

    def __call__(self, tenant: int, number: int) -> Fate:
        its = tenant == self._tenant and bool(self._watcher.rounds)
        if not its or not self._moments or not self._moments[0](self._watcher.rounds, number):
            return Fate.DELIVER
        self._moments.pop(0)
        assert self.hub is not None
        self.hub.restart(tenant, 0.05)
        return Fate.KILL


@pytest.mark.parametrize("name", NAMES)
def test_with_a_tenant_that_comes_and_goes_it_comes_right(tmp_path: Path, name: str) -> None:
    kind, watcher = KINDS[name], Recorder()
    federation = kind.federation(tmp_path, TIMES)
    deaths = Deaths(federation.roster.index(KILLED), kind.moments, watcher)
    deaths.hub = memory_hub(federation, interfere=Trouble(deaths))
    server = open_server(federation.server)
    with server.transcript() as store:
        outcome = run_session(server.plan("memory"), deaths.hub, watcher, store=store)
    keep_outcome(federation.server.output, outcome)
    assert_right(Ended(federation), kind)
