"""A session as spans: rounds in the session, phases in rounds, and nothing left open."""

from __future__ import annotations

import sys
from contextlib import suppress
from itertools import count

import pytest

from fed_em.errors import CallerError
from fed_em_client.observability.tracing import TenantSpans, Tracing
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.policy_rules import PolicyRule
from fed_em_server.observability.session_spans import SessionSpans
from tests.views.clinics import tell
from tests.views.conftest import Session

trace = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra `tracing` is not installed")
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import Tracer  # noqa: E402


class Collected:
    """A tracer, and what came of it."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer: Tracer = provider.get_tracer("test")
        self.clock = count(1).__next__

    def named(self, *names: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name in names]

    def children(self, parent: ReadableSpan) -> list[ReadableSpan]:
        assert parent.context is not None
        identity = parent.context.span_id
        return [span for span in self.exporter.get_finished_spans() if span.parent and span.parent.span_id == identity]


def test_a_session_has_rounds_and_rounds_have_phases(session: Session) -> None:
    found = Collected()
    with SessionSpans(found.tracer, found.clock) as spans:
        tell(spans, session.told)
        spans.finished(session.record)
    [whole] = found.named("session")
    assert whole.attributes is not None and whole.attributes["session"] == session.record.session
    assert whole.attributes["rounds"] == len(session.record.rounds)
    rounds = found.named("round")
    started = [told for told in session.told if isinstance(told, Notice) and told.kind is NoticeKind.ROUND_STARTED]
    assert len(rounds) == len(started) and all(each in found.children(whole) for each in rounds)
    opened = {each.attributes["round"]: each for each in rounds if each.attributes and "iteration" in each.attributes}
    assert set(opened) == {each.round for each in session.record.rounds}
    for record in session.record.rounds:
        span = opened[record.round]
        assert span.attributes is not None and span.attributes["summed"] == record.summed
        phases = [child.name for child in found.children(span)]
        assert phases[:2] == ["computing", "certifying"] and phases[-1] == "between"
        assert "opening" in phases
    outside = {child.name for child in found.children(whole)} - {"round"}
    assert "gathering" in outside
    for span in found.exporter.get_finished_spans():
        assert span.start_time is not None and span.end_time is not None and span.start_time < span.end_time
        for child in found.children(span):
            assert child.start_time is not None and child.end_time is not None
            assert span.start_time < child.start_time and child.end_time < span.end_time


def test_what_fails_has_the_status_of_an_error(session: Session) -> None:
    found = Collected()
    with suppress(CallerError), SessionSpans(found.tracer, found.clock) as spans:
        spans.session_started(session.record)
        spans.noticed(Notice(NoticeKind.ROUND_STARTED, 1, session.record.tenants))
        spans.noticed(Notice(NoticeKind.ROUND_FAILED, 1, (), "nobody answered"))
        raise CallerError("no model")
    for name, error in (("round", "SumNotOpened"), ("session", "CallerError")):
        [span] = found.named(name)
        assert not span.status.is_ok and span.status.description == error
    assert "nobody answered" not in str([span.to_json() for span in found.exporter.get_finished_spans()])


def test_a_tenants_session_has_e_steps_and_uploads() -> None:
    found = Collected()
    with TenantSpans(found.tracer, lambda: 10_000_000_000) as spans:
        spans.linked()
        spans.evaluated(1, 1.0)  # of no session yet
        spans.joined(bytes(16))
        spans.evaluated(1, 2.0)
        spans.uploaded(1, 0.5)
        spans.closed(bytes(16), CloseReason.FINISHED)
        spans.joined(bytes(16))
        spans.refused(PolicyRule.HOURS)
    first, second = found.named("session")
    e_step, upload = found.children(first)
    assert (e_step.name, upload.name) == ("e-step", "mask and upload")
    assert e_step.start_time == 8_000_000_000 and upload.start_time == 9_500_000_000
    assert first.attributes is not None and first.attributes["reason"] == "finished" and first.status.is_unset
    assert second.attributes is not None and second.attributes["rule"] == "hours" and not second.status.is_ok


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(CallerError, match=r"pip install 'fed-em\[tracing\]'"):
        Tracing("fed-em-server")


def test_the_service_is_named_unless_the_environment_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    for named in (None, "north"):
        if named is not None:
            monkeypatch.setenv("OTEL_SERVICE_NAME", named)
        with Tracing("fed-em-server") as tracing:
            span = tracing.tracer.start_span("none")
            assert isinstance(span, ReadableSpan)
            assert span.resource.attributes["service.name"] == (named or "fed-em-server")
