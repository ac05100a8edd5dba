"""The deployment of `docs/flower-deployment.md`, by its own commands: real SuperLink and SuperNodes with TLS, registered nodes, signed bundle."""

from __future__ import annotations

import json
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import Deployment, block, wait_until
from small_federation import MODEL, clustered_rows, session_toml, write_small_federation

from fed_em_server.event_lines import lines_of
from fed_em_simulations.federation_folder import FederationFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SIZES = (60, 40, 50)


@pytest.fixture
def federation(tmp_path: Path) -> FederationFolder:
    fit = "tolerance = 0\nmax_iterations = 40"
    times = "gather = 300\npatience = 0.3\nstraggler = 0.5\nset_up = 5\nupload = 10\nopen = 2"
    return write_small_federation(tmp_path / "f", clustered_rows(SIZES), session_toml(MODEL, fit, times))


@pytest.fixture
def deployment(tmp_path: Path, doors: Path, federation: FederationFolder) -> Iterator[Deployment]:
    deployed = Deployment(tmp_path / "parties", doors, federation)
    try:
        yield deployed
    finally:
        deployed.stop_all()


def test_it(deployment: Deployment, federation: FederationFolder) -> None:
    t0 = time.time()
    def say(x):
        print(f"{time.time()-t0:6.1f} {x}", flush=True)
    deployment.prepare()
    say("prepared")
    for name in deployment.tenants:
        deployment.start_tenant(name)
    print(deployment.server.run(block("server", "run")))
    say("submitted")
    events = deployment.server.folder / "events.jsonl"
    wait_until(lambda: all(p.serving["tenant"].poll() is not None for p in deployment.tenants.values()), "over", 100)
    say("tenants over")
    print(deployment.server.run(block("server", "look")))
    say("looked")
