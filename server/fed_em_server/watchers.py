"""Several watchers of a session as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fed_em_protocols.coordinator_state import Notice
from fed_em_server.record import RoundRecord, SessionRecord
from fed_em_server.session import Watcher


@dataclass(frozen=True)
class Watchers:
    """Tells each of them everything, in order."""

    watchers: Sequence[Watcher] = ()

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
