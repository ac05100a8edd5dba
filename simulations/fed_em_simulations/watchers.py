"""Small watchers of a session, to be put beside a view."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from fed_em_protocols.coordinator_state import Notice
from fed_em_server.record import RoundRecord, SessionRecord
from fed_em_server.session import Watcher


@dataclass(frozen=True)
class Watchers:
    """Several watchers as one, called in order."""

    watchers: Sequence[Watcher]

    def session_started(self, record: SessionRecord) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.session_started(record)

    def noticed(self, notice: Notice) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.noticed(notice)

    def round_opened(self, record: RoundRecord) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.round_opened(record)


@dataclass(frozen=True)
class Pace:
    """Waits after each round, so that a person can follow."""

    seconds: float

    def session_started(self, record: SessionRecord) -> None:
        """Nothing to do."""

    def noticed(self, notice: Notice) -> None:
        """Nothing to do."""

    def round_opened(self, record: RoundRecord) -> None:
        """Wait."""
        time.sleep(self.seconds)
