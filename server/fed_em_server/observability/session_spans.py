"""A session as OpenTelemetry spans: the session, its rounds, and in each round its phases."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from fed_em_client.observability.tracing import child_of, mark_failed
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.live_picture import Picture, Stage
from fed_em_server.record import RoundRecord, SessionRecord

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer


class SessionSpans(AbstractContextManager["SessionSpans"]):
    """A `fed_em_server.session.Watcher`. What happens outside of rounds (gathering, a pause) is a phase of the session itself.

    Args:
        tracer: What makes spans.
        clock: Nanoseconds since 1970.
    """

    def __init__(self, tracer: Tracer, clock: Callable[[], int] = time.time_ns) -> None:
        self._tracer = tracer
        self._clock = clock
        self._picture: Picture | None = None
        self._session: Span | None = None
        self._round: Span | None = None
        self._phase: Span | None = None

    def session_started(self, record: SessionRecord) -> None:
        """The session's span begins."""
        self._picture = Picture.of(record)
        attributes: dict[str, str | int] = {
            "session": record.session,
            "federation": record.federation,
            "title": record.title,
            "trust": record.trust,
            "tenants": len(record.tenants),
        }
        self._session = self._tracer.start_span("session", attributes=attributes, start_time=self._clock())
        self._begin_phase(Stage.GATHERING)

    def noticed(self, notice: Notice) -> None:
        """A round begins or fails, a phase gives way to the next."""
        if self._picture is None or self._session is None:
            return
        before = self._picture.stage
        self._picture = self._picture.after_notice(notice, 0.0)
        started = notice.kind is NoticeKind.ROUND_STARTED
        if started or self._picture.stage is not before:
            self._end_phase()
            if started:
                self._end_round()
                self._round = self._child("round", self._session, round=notice.round, asked=len(notice.tenants))
            if notice.kind is NoticeKind.ROUND_FAILED and self._round is not None:
                mark_failed(self._round, "SumNotOpened")
                self._end_round()
            self._begin_phase(self._picture.stage)

    def round_opened(self, record: RoundRecord) -> None:
        """The round's M-step is done."""
        self._end_phase()
        if self._round is not None:
            self._round.set_attributes(
                {
                    "iteration": record.iteration,
                    "summed": record.summed,
                    "stale": record.stale,
                    "bytes_up": record.bytes_up,
                    "bytes_down": record.bytes_down,
                }
            )
        self._end_round()

    def finished(self, record: SessionRecord) -> None:
        """The session ended with a model."""
        if self._session is not None:
            self._session.set_attributes({"rounds": len(record.rounds), "converged": record.converged})
        self._end_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._session is not None:
            mark_failed(self._session, kind.__name__)
        self._end_all()

    def _child(self, name: str, parent: Span, **attributes: int) -> Span:
        return self._tracer.start_span(name, context=child_of(parent), attributes=attributes, start_time=self._clock())

    def _begin_phase(self, stage: Stage) -> None:
        parent = self._round or self._session
        if parent is not None:
            self._phase = self._child(stage.name.lower(), parent)

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._phase.end(self._clock())
            self._phase = None

    def _end_round(self) -> None:
        if self._round is not None:
            self._round.end(self._clock())
            self._round = None

    def _end_all(self) -> None:
        self._end_phase()
        self._end_round()
        if self._session is not None:
            self._session.end(self._clock())
            self._session = None
