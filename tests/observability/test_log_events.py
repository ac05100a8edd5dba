"""Nothing but the closed list of events and fields can be written to a log."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em_client.observability.tenant_json_log import TenantJsonLog
from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.log_events import EVENTS, EventLog, Holds, require_loggable, sentence
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.policy_rules import PolicyRule

SESSION = "00112233445566778899aabbccddeeff"
NOON = datetime(2026, 5, 4, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))

# What must never be in a log, each as a value of any field.
FORBIDDEN = (
    b"\x00\x01key",
    bytearray(b"row"),
    np.zeros(3),
    np.float64(1.5),
    [1.0, 2.0],
    (1.0, 2.0),
    {"row": 1},
    None,
    True,
    "x" * 301,
    "two\nlines",
    float("nan"),
    float("inf"),
    2**64,
    1e300,
    ("two words",),
    tuple(f"t{k}" for k in range(65)),
    object(),
)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("value", FORBIDDEN, ids=lambda value: type(value).__name__)
def test_no_field_of_any_event_takes_bytes_arrays_or_long_values(value: object) -> None:
    for name, event in EVENTS.items():
        for field in event.fields:
            stream = io.StringIO()
            with pytest.raises(IllegalStep) as refused:
                EventLog(stream).write(name, SESSION, 1, **{field: value})  # type: ignore[arg-type]
            assert stream.getvalue() == ""
            assert "x" * 301 not in str(refused.value) and "key" not in str(refused.value)


def test_no_event_field_session_or_round_beside_the_list_is_written() -> None:
    stream = io.StringIO()
    log = EventLog(stream)
    for wrong in (
        lambda: log.write("row_seen", SESSION),
        lambda: log.write("late", SESSION, 1, row=1),
        lambda: log.write("late", "not a session"),
        lambda: log.write("late", SESSION, -1),
        lambda: log.write("late", SESSION, 1, count=-1),
        lambda: log.write("session_finished", SESSION, outcome="exploded"),
    ):
        with pytest.raises(IllegalStep):
            wrong()
    assert stream.getvalue() == ""


def test_a_line_has_time_level_event_session_round_and_fields() -> None:
    stream = io.StringIO()
    EventLog(stream, lambda: NOON).write("paused", SESSION, 3, tenants=("ash",), count=1, reason="waits for ash")
    assert lines(stream) == [
        {
            "time": "2026-05-04T12:00:00.123Z",
            "level": "error",
            "event": "paused",
            "session": SESSION,
            "round": 3,
            "fields": {"tenants": ["ash"], "count": 1, "reason": "waits for ash"},
        }
    ]


@given(st.text())
def test_any_sentence_of_the_program_can_be_made_loggable_on_one_line(text: str) -> None:
    require_loggable("reason", sentence(text), Holds.SENTENCE)


@given(st.one_of(st.binary(), st.lists(st.floats()), st.floats(), st.integers(), st.text(min_size=65)))
def test_names_are_names(value: object) -> None:
    with pytest.raises(IllegalStep):
        require_loggable("tenant", value, Holds.NAME)


def test_a_tenant_logs_its_course_without_a_word_about_its_rows() -> None:
    stream = io.StringIO()
    log = TenantJsonLog(EventLog(stream, lambda: datetime(2026, 5, 4, tzinfo=UTC)))
    log.linked()
    log.joined(bytes.fromhex(SESSION))
    log.evaluated(2, 0.5)
    log.uploaded(2, 0.125)
    log.unlinked()
    log.refused(PolicyRule.HOURS)
    log.closed(bytes.fromhex(SESSION), CloseReason.FAILED)
    assert [(line["event"], line["session"], line["round"], line["fields"]) for line in lines(stream)] == [
        ("link_up", "", 0, {}),
        ("session_joined", SESSION, 0, {}),
        ("uploaded", SESSION, 2, {"e_step_seconds": 0.5, "masking_seconds": 0.125}),
        ("link_down", SESSION, 0, {}),
        ("session_refused", SESSION, 0, {"rule": "hours"}),
        ("session_closed", SESSION, 0, {"reason": "failed"}),
    ]
