"""What tests of serving share: a source that is told what to give, a watcher that remembers, and a running service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from fed_em.errors import CallerError
from fed_em.model_file import FittedModel
from fed_em_server.serving.limits import ServingLimits
from fed_em_server.serving.live_model import LiveModel
from fed_em_server.serving.served_model import ServedModel
from fed_em_server.serving.service import ServingService, TlsFiles


@dataclass
class ToldSource:
    """Gives what it is told to; a version without a model is damaged. Implements `ModelSource`."""

    there: tuple[str, FittedModel | None] | None = None
    made: dict[str, float] = field(default_factory=dict)

    def version(self) -> str | None:
        return None if self.there is None else self.there[0]

    def current(self) -> tuple[str, FittedModel] | None:
        if self.there is None:
            return None
        version, fitted = self.there
        if fitted is None:
            raise CallerError(f"version {version} is damaged")
        return version, fitted

    def made_at(self, version: str) -> float | None:
        return self.made.get(version)


@dataclass
class Seen:
    """Remembers. Implements `ServingWatcher`."""

    versions: list[str] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)

    def took_over(self, served: ServedModel) -> None:
        self.versions.append(served.version)

    def kept_the_old(self, version: str, reason: str) -> None:
        self.kept.append((version, reason))

    def answered(self, method: str, outcome: str, seconds: float, rows: int) -> None:
        assert seconds >= 0
        self.requests.append((method, outcome, rows))

    def broke(self, method: str, error: str) -> None:
        self.broken.append((method, error))


@dataclass
class Running:
    """A service with its parts."""

    service: ServingService
    source: ToldSource
    live: LiveModel
    seen: Seen

    @property
    def grpc(self) -> str:
        assert self.service.grpc is not None
        return f"127.0.0.1:{self.service.grpc.port}"

    @property
    def http(self) -> int:
        assert self.service.http is not None
        return self.service.http.port


@contextlib.contextmanager
def running(
    fitted: FittedModel | None,
    limits: ServingLimits | None = None,
    threshold: float | None = None,
    tls: TlsFiles | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Running]:
    """A service of one model, on ports of its own. It looks for another version when a test says so."""
    source, seen = ToldSource(None if fitted is None else ("first", fitted)), Seen()
    live = LiveModel(source, seen, threshold, every=3600.0)
    service = ServingService(live, limits or ServingLimits(), seen, f"{host}:0", f"{host}:0", tls)
    with service:
        yield Running(service, source, live, seen)
