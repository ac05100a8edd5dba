"""The log has a line for every round and every happening, in ASCII."""

from __future__ import annotations

import io

import pytest

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.plain_log import PlainLog
from tests.views.clinics import tell
from tests.views.conftest import Session


@pytest.fixture(scope="module")
def lines(session: Session) -> list[str]:
    stream = io.StringIO()
    with PlainLog(stream, lambda: 0.0) as log:
        tell(log, session.told)
    return [line.removeprefix("    0.00s  ") for line in stream.getvalue().splitlines()]


def test_it_starts_with_what_is_trained_and_under_which_trust(session: Session, lines: list[str]) -> None:
    assert lines[0] == f"session {session.record.session} of nine-clinics: handwritten-digits, over memory"
    assert "9 tenants" in lines[1]
    assert lines[2] == session.record.banner


def test_every_round_has_one_line(session: Session, lines: list[str]) -> None:
    for opened in session.record.rounds:
        told = [line for line in lines if line.startswith(f"round {opened.round}: ") and "tenants, up" in line]
        assert len(told) == 1
    assert any(line.startswith("round 1: moments of the columns, 9 of 9 tenants, up 360 kB, down ") for line in lines)
    assert any(line.startswith("round 2: iteration 1, log-likelihood -12.963852, 9 of 9 tenants") for line in lines)
    assert any(line.startswith("round 3: iteration 2, log-likelihood -10.076653 (+2.887199)") for line in lines)


def test_happenings_are_told_when_they_happen(lines: list[str]) -> None:
    silent = lines.index("round 6: elm fell silent after upload; its mask came off with shares")
    assert lines[silent + 1].startswith("round 6: iteration 5, ")
    assert "round 10: maple missed the cut-off; the sum goes on without it" in lines


def test_lines_are_ascii_whatever_is_told(session: Session) -> None:
    stream = io.StringIO()
    log = PlainLog(stream)
    log.session_started(session.record.model_copy(update={"title": "naïve", "banner": "…"}))
    log.noticed(Notice(NoticeKind.FAULT, 3, ("ash",), "sent ✕"))
    assert stream.getvalue().isascii()
    assert "round 3: fault of ash: sent ?" in stream.getvalue()
