"""Trouble for a demonstration: one tenant is killed and comes back, another lags for some rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.record import RoundRecord, SessionRecord

VICTIM, LAGGARD = "fir", "hazel"
# Trouble comes once the components have found their places. What is stale moves the path a little, and where the path is steep that may
# lead to another maximum of the likelihood, neither better nor worse in general.
_KILL_FROM, _LAG_FROM, _LAG_ROUNDS = 20, 32, 4


@dataclass
class Trouble:
    """Kills one tenant right after its upload has come in, and lets another lag for some rounds.

    A watcher: it is called before the server goes on, so the killed tenant never sees the round's certificate. They are of two
    blocks; each takes its own out of the sums until it is back.
    """

    kill: Callable[[], None]
    lag: Callable[[], None]
    catch_up: Callable[[], None]
    killed: bool = field(default=False, init=False)
    lagged: int = field(default=0, init=False)

    def session_started(self, record: SessionRecord) -> None:
        """Nothing to do yet."""

    def noticed(self, notice: Notice) -> None:
        """Make trouble when its time has come."""
        uploaded = notice.kind is NoticeKind.UPLOADED and VICTIM in notice.tenants
        if uploaded and notice.round >= _KILL_FROM and not self.killed:
            self.killed = True
            self.kill()
        # One trouble after the other: both tenants are asked.
        asked = notice.kind is NoticeKind.ROUND_STARTED and {LAGGARD, VICTIM} <= set(notice.tenants)
        if asked and self.killed and notice.round >= _LAG_FROM and not self.lagged:
            self.lagged = notice.round
            self.lag()

    def round_opened(self, record: RoundRecord) -> None:
        """Let the laggard go on after some rounds."""
        if self.lagged and record.round == self.lagged + _LAG_ROUNDS:
            self.catch_up()
