"""The log has a line for every round and every happening, in ASCII."""

from __future__ import annotations

import io

import pytest

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.plain_log import PlainLog
from fed_em_server.report_words import bytes_in_words
from tests.views.clinics import tell
from tests.views.conftest import Session


@pytest.fixture(scope="module")
def lines(session: Session) -> list[str]:
    return log_of(session)


def log_of(session: Session) -> list[str]:
    stream = io.StringIO()
    with PlainLog(stream, lambda: 0.0) as log:
        tell(log, session.told)
    return [line.removeprefix("    0.00s  ") for line in stream.getvalue().splitlines()]


def test_it_starts_with_what_is_trained_and_under_which_trust(session: Session, lines: list[str]) -> None:
    assert lines[0] == f"session {session.record.session} of nine-clinics: handwritten-digits, over memory"
    assert "9 tenants" in lines[1]
    assert lines[2] == "f = 1, 3 blocks of 3, sums of 3 tenants or more"
    assert lines[3] == session.record.banner


def test_what_the_terms_expose_follows_the_trust(exposed: Session) -> None:
    lines = log_of(exposed)
    assert lines[2] == "f = 1, no blocks, sums of 5 tenants or more"
    assert lines[3] == exposed.record.banner
    assert lines[4] == exposed.record.warnings[0]
    assert "semi-honest" in lines[3] and "Difference guard: off" in lines[4]


def test_every_round_has_one_line(session: Session, lines: list[str]) -> None:
    for opened in session.record.rounds:
        told = [line for line in lines if line.startswith(f"round {opened.round}: ") and ", up " in line]
        assert len(told) == 1
        lacking = f"{opened.stale} of 9 terms are of earlier rounds"
        assert (f"{opened.summed} of 9 tenants ({lacking}), up" in told[0]) == bool(opened.stale)
    first, second, third = session.record.rounds[:3]
    assert second.log_likelihood is not None
    assert third.log_likelihood is not None
    assert f"round 1: moments of the columns, 9 of 9 tenants, up {bytes_in_words(first.bytes_up)}, down" in "".join(
        lines
    )
    starts = (
        f"round 2: iteration 1, log-likelihood {second.log_likelihood:.6f}, 9 of 9 tenants, up ",
        f"round 3: iteration 2, log-likelihood {third.log_likelihood:.6f} "
        f"({third.log_likelihood - second.log_likelihood:+.6f}), 9 of 9 tenants, up ",
    )
    assert all(any(line.startswith(start) for line in lines) for start in starts)


def test_happenings_are_told_when_they_happen(lines: list[str]) -> None:
    told = ": elm fell silent after upload; its mask came off with shares"
    silent = next(k for k, line in enumerate(lines) if line.endswith(told))
    number = lines[silent].split(":")[0]
    assert lines[silent + 1].startswith(f"{number}: iteration ")
    assert any(line.endswith(": maple missed the cut-off; the sum goes on without it") for line in lines)


def test_a_pause_is_told_with_whom_it_waits_for() -> None:
    stream = io.StringIO()
    PlainLog(stream).noticed(Notice(NoticeKind.PAUSED, 4, ("elm",), "8 of 9 tenants answer, 9 are needed"))
    assert "round 4: paused until elm is back: 8 of 9 tenants answer, 9 are needed" in stream.getvalue()


def test_certificates_are_the_ordinary_course(lines: list[str]) -> None:
    assert not any("certified" in line for line in lines)


def test_lines_are_ascii_whatever_is_told(session: Session) -> None:
    stream = io.StringIO()
    log = PlainLog(stream)
    log.session_started(session.record.model_copy(update={"title": "naïve", "banner": "…"}))
    log.noticed(Notice(NoticeKind.FAULT, 3, ("ash",), "sent ✕"))
    assert stream.getvalue().isascii()
    assert "round 3: fault of ash: sent ?" in stream.getvalue()
