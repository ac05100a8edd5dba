"""Every kind of session with real tenant processes over gRPC, one of which is killed time after time."""

from __future__ import annotations

from pathlib import Path

import pytest
from kinds import KILLED, KINDS, Ended, assert_right, assert_tenants_have_it
from small_federation import Killing

from fed_em_server.serve import keep_outcome, open_server
from fed_em_server.session import run_session
from fed_em_simulations.tenant_fleet import tenant_processes

pytestmark = pytest.mark.slow

TIMES = "gather = 200\npatience = 0.05\nstraggler = 5\nset_up = 5\nupload = 10\nopen = 2"


@pytest.mark.parametrize("name", KINDS)
def test_it_comes_right(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    federation = kind.federation(tmp_path, TIMES)
    server = open_server(federation.server)
    plan, hub = server.plan("grpc"), server.hub()
    log = federation.tenant_files[KILLED].parent / "log.txt"
    with (
        server.transcript() as store,
        tenant_processes(federation, lambda _: ["--server", f"127.0.0.1:{hub.port}"]) as fleet,
    ):
        watcher = Killing(KILLED, kind.moments, lambda: fleet.restart(KILLED), log)
        outcome = run_session(plan, hub, watcher, store=store)
    keep_outcome(federation.server.output, outcome)
    assert watcher.joins() == 1 + len(kind.moments), "it was killed and came back"
    ended = Ended(federation)
    assert_right(ended, kind)
    assert_tenants_have_it(ended)
