"""A session's events as lines, and back."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from small_federation import Recorder, clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.event_lines import EventLines, lines_of, replay
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_server.watchers import Watchers


def run(tmp_path: Path, watchers: Watchers) -> None:
    session = session_toml(fit="max_iterations = 4")
    federation = write_small_federation(tmp_path / "f", clustered_rows((20, 30, 40)), session)
    run_session(open_server(federation.server).plan("memory"), memory_hub(federation), watchers)


def same(one: Recorder, other: Recorder) -> bool:
    return (one.record, one.notices, one.rounds) == (other.record, other.notices, other.rounds)


def test_a_replay_tells_the_same_as_the_session(tmp_path: Path) -> None:
    seen, told = Recorder(), Recorder()
    with EventLines(tmp_path / "events") as lines:
        run(tmp_path, Watchers([seen, lines]))
    replay((tmp_path / "events").read_text(encoding="utf-8").splitlines(), told)
    assert len(seen.rounds) == 5
    assert same(seen, told)


def test_lines_are_there_as_soon_as_they_happen(tmp_path: Path) -> None:
    path, over = tmp_path / "events", threading.Event()
    seen, told = Recorder(), Recorder()
    reader = threading.Thread(target=lambda: replay(lines_of(path, over.is_set), told))
    reader.start()
    with EventLines(path) as lines:
        run(tmp_path, Watchers([seen, lines]))
    over.set()
    reader.join(10)
    assert same(seen, told)


def test_nobody_writes_and_nobody_waits(tmp_path: Path) -> None:
    assert list(lines_of(tmp_path / "never", lambda: True)) == []


def test_a_reader_that_goes_away_does_not_end_the_session(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: path.open().close())
    reader.start()
    with EventLines(path) as lines:
        reader.join()
        for _ in range(3):
            lines.noticed(Notice(NoticeKind.LATE, 1, ("t0",), "x" * 100_000))
