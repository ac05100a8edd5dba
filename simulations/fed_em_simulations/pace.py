"""A watcher that slows a session down, so that a person can follow it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fed_em_protocols.coordinator_state import Notice
from fed_em_server.record import RoundRecord, SessionRecord

# Times as long after a round with stale terms, when there is most to see. It also leaves a tenant the time to come back: a fit that has
# nothing else to do converges around the terms that it gave before.
_SLOWER = 3


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
        time.sleep(self.seconds * (_SLOWER if record.stale else 1))
