"""The log of a session as JSON lines: every round and every happening, of closed fields."""

from __future__ import annotations

import io
import json
from collections import Counter
from contextlib import suppress

from fed_em.errors import CallerError
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.log_events import EVENTS, MOST_NAMES
from fed_em_server.observability.json_log import JsonLog
from tests.views.clinics import tell
from tests.views.conftest import Session


def logged(session: Session) -> list[dict[str, object]]:
    stream = io.StringIO()
    with JsonLog(stream) as log:
        tell(log, session.told)
        log.finished(session.record)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_round_and_every_happening_has_one_line(session: Session) -> None:
    lines, record = logged(session), session.record
    events = Counter(str(line["event"]) for line in lines)
    assert set(events) <= set(EVENTS)
    assert events["round_opened"] == len(record.rounds)
    assert events["session_started"] == events["session_finished"] == 1
    for kind, n in Counter(happening.kind for happening in record.happenings).items():
        assert events[kind.replace("-", "_")] == n
    assert {line["session"] for line in lines} == {record.session}
    opened = [line["fields"] for line in lines if line["event"] == "round_opened"]
    for fields, of in zip(opened, record.rounds, strict=True):
        assert isinstance(fields, dict)
        assert (fields["iteration"], fields["summed"], fields["stale"]) == (of.iteration, of.summed, of.stale)
        assert fields.get("log_likelihood") == of.log_likelihood


def test_a_session_that_fails_says_with_what_and_nothing_of_its_text(session: Session) -> None:
    stream = io.StringIO()
    with suppress(CallerError), JsonLog(stream) as log:
        log.session_started(session.record)
        raise CallerError("a secret")
    assert json.loads(stream.getvalue().splitlines()[-1])["fields"] == {"error": "CallerError"}
    assert "secret" not in stream.getvalue()


def test_notices_of_any_length_and_text_are_written(session: Session) -> None:
    stream, names = io.StringIO(), tuple(f"t{k}" for k in range(3 * MOST_NAMES))
    with JsonLog(stream) as log:
        log.session_started(session.record)
        for kind in NoticeKind:
            log.noticed(Notice(kind, 7, names, "long\n" * 400))
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all(len(line["fields"]["tenants"]) == MOST_NAMES for line in told[1:])
    assert [line["fields"]["code"] for line in told if line["event"] == "refused"] == ["unknown"]
