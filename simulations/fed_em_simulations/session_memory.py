"""A watcher that remembers a session, so that there is a record also of one that fails, and where virtual time went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fed_em.errors import FedEmError
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.errors import SERVER
from fed_em_server.record import Happening, RoundRecord, SessionRecord
from fed_em_server.report_words import HAPPENINGS, happening_of

_BETWEEN = "between rounds"

# What begins with a notice.
_BEGINS = {
    NoticeKind.ROUND_STARTED: "uploads",
    NoticeKind.SURVIVORS: "certificate",
    NoticeKind.CERTIFIED: "openings",
    NoticeKind.RECOVERING: "recovery",
    NoticeKind.PAUSED: "pause",
    NoticeKind.SUMMED: _BETWEEN,
    NoticeKind.ROUND_FAILED: _BETWEEN,
}
PHASES = ("set-up", *dict.fromkeys(_BEGINS.values()))


@dataclass(frozen=True)
class Accusation:
    """Somebody said that a party broke the protocol.

    Attributes:
        by: A tenant's name, or "server".
        peer: Whom it accuses, likewise.
        fault: Of what.
        proves: What that shows, where it is told.
    """

    by: str
    peer: str
    fault: str
    proves: str = ""


class SessionMemory:
    """Remembers the record as far as it has come. A `Watcher`.

    Args:
        now: The virtual clock.
        tell: Told of every notice as well.

    Attributes:
        accusations: What the server said of tenants.
        seconds_to_last_sum: Virtual seconds until the last sum was opened, times in which no server was up included.
        seconds: Virtual seconds by phase. What passes before a window opens is its set-up's, unless it is set up beside a round.
    """

    def __init__(self, now: Callable[[], float], tell: Callable[[Notice], None]) -> None:
        self._now = now
        self._tell = tell
        self.accusations: list[Accusation] = []
        self._record: SessionRecord | None = None
        self._rounds: dict[int, RoundRecord] = {}
        self._happenings: list[Happening] = []
        self._phase, self._since = _BETWEEN, now()
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.seconds_to_last_sum = 0.0

    def session_started(self, record: SessionRecord) -> None:
        """Keep what the session begins with."""
        self._record = record

    def noticed(self, notice: Notice) -> None:
        """Keep what happened, and charge the time since the last phase began."""
        if notice.kind in HAPPENINGS:
            self._happenings.append(happening_of(notice, self._now()))
        if notice.kind is NoticeKind.FAULT:
            self.accusations += [Accusation(SERVER, tenant, notice.text) for tenant in notice.tenants]
        if notice.kind is NoticeKind.WINDOW_OPENED and self._phase in (_BETWEEN, "pause"):
            self._phase = "set-up"
            self._pass_to(_BETWEEN)
        elif notice.kind in _BEGINS:
            self._pass_to(_BEGINS[notice.kind])
        self._tell(notice)

    def round_opened(self, record: RoundRecord) -> None:
        """Keep a round; it comes again once its M-step is done, and from another process of the server."""
        if record.round not in self._rounds:
            self.seconds_to_last_sum = self._now()
        self._rounds[record.round] = record

    def finished(self) -> None:
        """Charge the time of the last phase."""
        self._pass_to(self._phase)

    def _pass_to(self, phase: str) -> None:
        now = self._now()
        self.seconds[self._phase] += now - self._since
        self._phase, self._since = phase, now

    @property
    def record(self) -> SessionRecord:
        """The record as far as it has come."""
        if self._record is None:
            raise FedEmError("the session did not begin")
        return self._record.model_copy(
            update={
                "rounds": tuple(self._rounds.values()),
                "happenings": tuple(self._happenings),
                "seconds": self._since,
            }
        )
