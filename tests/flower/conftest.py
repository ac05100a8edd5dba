"""Doors for tests: sockets in folders of their own, and tenants behind them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.supercore.task_identity import TaskIdentity


@pytest.fixture(autouse=True)
def _as_within_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's messages can only be made by a process that Flower has given a task."""
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def doors() -> Iterator[Path]:
    """A folder with a short path: a socket's may have about 100 bytes, which `tmp_path` can exceed."""
    with tempfile.TemporaryDirectory(prefix="fed-em-") as folder:
        yield Path(folder)
