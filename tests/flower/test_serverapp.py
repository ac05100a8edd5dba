"""The ServerApp as Flower calls it, with what the run's config may ask of it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from small_federation import MODEL, clustered_rows, session_toml, write_small_federation

from fed_em.model_file import load_model
from fed_em_client import flower_tenant
from fed_em_server.flower_app import app
from fed_em_server.live_page.live_page import ADDRESS_FILE
from tests.flower.fake_grid import FakeGrid, context_of, node_at
from tests.flower.live_state import state_of
from tests.flower.tenants import tenants_at

WITHIN = 120.0


def test_a_session_is_seen_on_the_live_page_whose_address_is_in_no_log(
    tmp_path: Path, doors: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While it waits for its tenants, and so until somebody has looked."""
    monkeypatch.setattr(flower_tenant, "_GLANCE", 0.02)
    session = session_toml(MODEL, "max_iterations = 3", "gather = 120\nset_up = 60\nupload = 60\nopen = 60")
    federation = write_small_federation(tmp_path / "f", clustered_rows((30, 30, 30)), session)
    output, events = federation.server.output, tmp_path / "events.jsonl"
    config = {"session": str(federation.session_file), "dashboard": "127.0.0.1:0", "events": str(events)}
    grid = FakeGrid({100 + k: node_at(doors / name) for k, name in enumerate(federation.tenant_files)})
    running = threading.Thread(target=lambda: app(grid, context_of({}, config)), daemon=True)  # type: ignore[arg-type]
    running.start()
    address, deadline = output / ADDRESS_FILE, time.monotonic() + WITHIN
    while (
        not address.exists()
        or "token" not in address.read_text()
        or not state_of(address.read_text().strip())["session"]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    url = address.read_text().strip()
    seen = state_of(url)
    assert address.stat().st_mode & 0o777 == 0o600
    assert seen["session"]["transport"] == "flower, gRPC"
    assert seen["now"]["standings"] == ["expected"] * 3
    with tenants_at(federation, doors):
        running.join(WITHIN)
    assert not running.is_alive() and not address.exists()
    assert load_model(output / "model").parameters
    assert {json.loads(line)["event"] for line in events.read_text().splitlines()} == {"session", "notice", "round"}
    said = capsys.readouterr()
    assert str(address) in said.out and url.partition("token=")[2] not in said.out + said.err
