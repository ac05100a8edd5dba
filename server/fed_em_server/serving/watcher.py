"""Whoever looks on while models are served: a log, metrics. Told no row and no answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fed_em_server.serving.served_model import ServedModel


class ServingWatcher(Protocol):
    """Is told what happens, from any thread."""

    def took_over(self, served: ServedModel) -> None:
        """A version is the one that answers now."""
        ...

    def kept_the_old(self, version: str, reason: str) -> None:
        """A version could not be served; the one before it answers, if there is one."""
        ...

    def answered(self, method: str, outcome: str, seconds: float, rows: int) -> None:
        """A request is over.

        Args:
            method: "predict", "score", "impute" or "sample".
            outcome: "ok", "refused" or "failed".
            seconds: From the request to its answer.
            rows: Of the answer; 0 without one.
        """
        ...

    def broke(self, method: str, error: str) -> None:
        """A request met an error that nobody foresaw, of this class."""
        ...


class LineWatcher:
    """Says each change in a line; of requests only what broke. Implements `ServingWatcher`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def took_over(self, served: ServedModel) -> None:
        """Say which."""
        self._say(f"serving version {served.version[:12]}, a {served.fitted.model.family}")

    def kept_the_old(self, version: str, reason: str) -> None:
        """Say why."""
        self._say(f"cannot serve version {version[:12] or '(unknown)'}, the one before stays: {reason}")

    def answered(self, method: str, outcome: str, seconds: float, rows: int) -> None:
        """Nothing: a line a request is too many."""

    def broke(self, method: str, error: str) -> None:
        """Say what."""
        self._say(f"{method} failed: {error}")


@dataclass(frozen=True)
class ServingWatchers:
    """Several as one, told everything in order. Implements `ServingWatcher`."""

    watchers: Sequence[ServingWatcher]

    def took_over(self, served: ServedModel) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.took_over(served)

    def kept_the_old(self, version: str, reason: str) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.kept_the_old(version, reason)

    def answered(self, method: str, outcome: str, seconds: float, rows: int) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.answered(method, outcome, seconds, rows)

    def broke(self, method: str, error: str) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.broke(method, error)
