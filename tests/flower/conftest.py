"""Doors for tests: sockets in folders of their own, and tenants behind them; and what everybody's logs say at the end when a test fails."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from flwr.supercore.task_identity import TaskIdentity

_LOGS = pytest.StashKey[list[Path]]()
_LINES_SHOWN = 60


@pytest.fixture(scope="session")
def shown_logs(pytestconfig: pytest.Config) -> list[Path]:
    """Folders of many tests whose logs are shown when one of them fails; a test's own `tmp_path` always is."""
    return pytestconfig.stash.setdefault(_LOGS, [])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A report of a failure has the last lines of all logs: the processes that were started here are gone when somebody reads it."""
    report = yield
    if report.failed:
        own = getattr(item, "funcargs", {}).get("tmp_path")
        folders = [*item.config.stash.get(_LOGS, []), *([own] if own else [])]
        for log in sorted(log for folder in folders for log in (*folder.rglob("*.log"), *folder.rglob("log.txt"))):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES_SHOWN:]
            report.sections.append((f"end of {log.relative_to(log.parents[2])}", "\n".join(lines)))
    return report


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
