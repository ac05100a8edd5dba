"""Traces by OpenTelemetry, an extra: where spans come from, and a tenant's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fed_em.errors import CallerError
from fed_em_client.privacy_account import PrivacyAccount
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.policy_rules import PolicyRule

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_SECOND = 1_000_000_000


class Tracing(AbstractContextManager["Tracing"]):
    """Sends spans to an OTLP collector, as the standard variables say (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_RESOURCE_ATTRIBUTES`, …).

    Args:
        service: The service's name, unless `OTEL_SERVICE_NAME` gives another.

    Attributes:
        tracer: What makes spans.

    Raises:
        CallerError: OpenTelemetry is not installed.
    """

    def __init__(self, service: str) -> None:
        resources, sdk, export = map(
            _module,
            (
                "opentelemetry.sdk.resources",
                "opentelemetry.sdk.trace",
                "opentelemetry.sdk.trace.export",
            ),
        )
        otlp = _module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
        detected = resources.OTELResourceDetector().detect()
        named = resources.Resource.create({"service.name": service}).merge(detected)
        self._provider = sdk.TracerProvider(resource=named)
        self._provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
        self.tracer: Tracer = self._provider.get_tracer("fed-em")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._provider.shutdown()


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise CallerError(
            "OpenTelemetry is not installed, which traces need", remedy="pip install 'fed-em[tracing]'"
        ) from error


def child_of(parent: Span) -> Any:
    """The context in which spans are children of another."""
    return _module("opentelemetry.trace").set_span_in_context(parent)


def mark_failed(span: Span, error: str) -> None:
    """Give a span the status of an error; `error` is the name of its class, as its text may be long."""
    status = _module("opentelemetry.trace.status")
    span.set_status(status.Status(status.StatusCode.ERROR, error))


class TenantSpans(AbstractContextManager["TenantSpans"]):
    """A `fed_em_client.tenant_watcher.TenantWatcher`: a span for the session, and in it one for each E-step and each upload.

    Args:
        tracer: What makes them.
        clock: Nanoseconds since 1970.
    """

    def __init__(self, tracer: Tracer, clock: Callable[[], int] = time.time_ns) -> None:
        self._tracer = tracer
        self._clock = clock
        self._session: Span | None = None

    def ledger_opened(self, account: PrivacyAccount) -> None:
        """Nothing of it is in a trace."""

    def linked(self) -> None:
        """An event of the session."""
        if self._session is not None:
            self._session.add_event("linked")

    def unlinked(self) -> None:
        """An event of the session."""
        if self._session is not None:
            self._session.add_event("unlinked")

    def carried(self, up: int, down: int) -> None:
        """Nothing of it is in a trace."""

    def joined(self, session: bytes) -> None:
        """The session's span begins."""
        self._end()
        self._session = self._tracer.start_span(
            "session", attributes={"session": session.hex()}, start_time=self._clock()
        )

    def evaluated(self, round_number: int, seconds: float) -> None:
        """A span that just ended."""
        self._ended("e-step", round_number, seconds)

    def uploaded(self, round_number: int, seconds: float) -> None:
        """A span that just ended."""
        self._ended("mask and upload", round_number, seconds)

    def refused(self, rule: PolicyRule) -> None:
        """The session's span, if there is one, ends as an error."""
        if self._session is not None:
            self._session.set_attribute("rule", rule.value)
            mark_failed(self._session, "TermsRefused")
            self._end()

    def closed(self, session: bytes, reason: CloseReason) -> None:
        """The session's span ends."""
        if self._session is not None:
            self._session.set_attribute("reason", reason.name.lower())
            self._end()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None and kind is not None:
            mark_failed(self._session, kind.__name__)
        self._end()

    def _ended(self, name: str, round_number: int, seconds: float) -> None:
        if self._session is None:
            return
        now = self._clock()
        start = now - round(seconds * _SECOND)
        span = self._tracer.start_span(
            name, context=child_of(self._session), attributes={"round": round_number}, start_time=start
        )
        span.end(now)

    def _end(self) -> None:
        if self._session is not None:
            self._session.end(self._clock())
            self._session = None
