"""From a plan to a fitted model: folders, keys at each party, requests, a roster, and a session over gRPC from those folders alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fed_em_protocols.roster import load_roster
from fed_em_server.configuration import read_server_configuration
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_server.watchers import Watchers
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.tenant_fleet import tenant_processes
from tests.parties.provisioned import NAMES, sent_out

pytestmark = pytest.mark.slow


def test_a_session_runs_from_what_provisioning_made(tmp_path: Path) -> None:
    made = sent_out(tmp_path)
    for name in NAMES:
        made.enrol(name)
    made.collect(*NAMES)
    made.publish()
    made.join()
    # Nothing of the coordinator's is needed any more.
    shutil.rmtree(made.desk)
    generator = np.random.default_rng(0)
    tenants, centres = NAMES[1:], np.array([[-3.0, 0.0], [3.0, 1.0]])
    for name in tenants:
        rows = centres[generator.integers(2, size=80)] + generator.standard_normal((80, 2))
        pq.write_table(pa.table({"a": rows[:, 0], "b": rows[:, 1]}), made.machine(name) / "rows.parquet")
    home = made.machine("server")
    federation = FederationFolder(
        home,
        load_roster(home / "roster.json"),
        home / "session.toml",
        {name: made.machine(name) / "tenant.toml" for name in tenants},
    )
    server = open_server(read_server_configuration(federation.session_file))
    hub = server.hub()
    with tenant_processes(federation, lambda _: ["--server", f"127.0.0.1:{hub.port}"]):
        outcome = run_session(server.plan("grpc"), hub, Watchers())
    assert outcome.record.converged
    assert outcome.record.tenants == tenants
    assert all(opened.complete for opened in outcome.record.rounds)
    means = outcome.fitted.coordinates.restore(outcome.fitted.parameters["means"])
    assert np.allclose(means[np.argsort(means[:, 0])], centres, atol=0.5)
    for name in tenants:
        assert (made.machine(name) / "state" / "model").is_dir()
