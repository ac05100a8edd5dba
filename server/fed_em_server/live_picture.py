"""What a live view shows at one moment: a frozen value, and how notices and rounds change it.

Whoever draws it reads one reference, so a session is never held up by its picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.record import Happening, Participation, RoundRecord, SessionRecord
from fed_em_server.report_words import HAPPENINGS, happening_of, with_happening
from fed_em_server.standings import Standing, Standings

_HAPPENINGS_KEPT = 40


class Stage(Enum):
    """What the session is doing now."""

    GATHERING = "gathering tenants"
    PAUSED = "paused"
    SETTING_UP = "setting up masks for a window of rounds"
    COMPUTING = "tenants compute"
    CERTIFYING = "witnesses certify who is in the sum"
    OPENING = "masks come off the sum"
    RECOVERING = "masks of the silent come off with shares"
    BETWEEN = "M-step"
    OVER = "session over"


@dataclass(frozen=True)
class Picture:
    """A session at one moment.

    Attributes:
        record: The record as it was when the session started, but for the model once it is picked.
        now: Seconds of the session at the last change.
        stage, since: What the session does, and from which second.
        round: The last round that was started.
        standings: Where every tenant stands.
        owing: Tenants whose upload the round still waits for, or whose return a paused session.
        rounds: Opened rounds.
        happenings: The last few, swarms of them merged.
        told: How often each kind of notice came.
        restarts: How often a new process of a tenant joined after an earlier one.
        ending: How it ended, in sentences; empty before.
        failed: Whether it ended without a model.
    """

    record: SessionRecord
    now: float = 0.0
    stage: Stage = Stage.GATHERING
    since: float = 0.0
    round: int = 0
    standings: Standings = field(default_factory=lambda: Standings({}))
    owing: tuple[str, ...] = ()
    rounds: tuple[RoundRecord, ...] = ()
    happenings: tuple[Happening, ...] = ()
    told: Mapping[NoticeKind, int] = field(default_factory=dict)
    restarts: int = 0
    ending: tuple[str, ...] = ()
    failed: bool = False

    @classmethod
    def of(cls, record: SessionRecord) -> Picture:
        """Before anybody is linked."""
        return cls(record, standings=Standings.at_start(record))

    @property
    def log_likelihoods(self) -> tuple[float, ...]:
        """The curve so far."""
        seen = (opened for opened in self.rounds if opened.step.is_gone_on_from)
        return tuple(opened.log_likelihood for opened in seen if opened.log_likelihood is not None)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes to and from the server, in opened rounds and the windows before them."""
        return sum(opened.bytes_up for opened in self.rounds), sum(opened.bytes_down for opened in self.rounds)

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """Tenants that hold up what is going on."""
        if self.stage is Stage.GATHERING:
            return self.standings.those(Standing.EXPECTED)
        return self.owing if self.stage in {Stage.COMPUTING, Stage.PAUSED} else ()

    def sums_of(self, index: int) -> int:
        """Number of sums that hold the statistics of a tenant."""
        return sum(opened.participation[index].in_sum for opened in self.rounds)

    def parts_of(self, index: int, last: int) -> tuple[Participation, ...]:
        """A tenant's part in each of the last rounds."""
        return tuple(opened.participation[index] for opened in self.rounds[-last:])

    def after_notice(self, notice: Notice, now: float) -> Picture:
        """The picture after something happened."""
        seen = replace(
            self,
            now=now,
            standings=self.standings.after(notice),
            told={**self.told, notice.kind: self.told.get(notice.kind, 0) + 1},
            restarts=self.restarts + self._joins_anew(notice),
        )
        changed = _CHANGES[notice.kind](seen, notice)
        if changed.stage is not self.stage:
            changed = replace(changed, since=now)
        if notice.kind not in HAPPENINGS:
            return changed
        happenings = with_happening(changed.happenings, happening_of(notice, now))
        return replace(changed, happenings=happenings[-_HAPPENINGS_KEPT:])

    def _joins_anew(self, notice: Notice) -> int:
        joining = notice.tenants if notice.kind is NoticeKind.JOINED else ()
        return sum(self.standings.of.get(name) is not Standing.EXPECTED for name in joining)

    def after_round(self, opened: RoundRecord, now: float) -> Picture:
        """The picture after a sum and its M-step."""
        record = self.record.model_copy(update={"model": opened.picked}) if opened.picked else self.record
        return replace(self, now=now, record=record, rounds=(*self.rounds, opened))

    def over(self, now: float, ending: tuple[str, ...] = (), failed: bool = False) -> Picture:
        """The picture that stays."""
        return replace(self, now=now, stage=Stage.OVER, since=now, owing=(), ending=ending, failed=failed)


class PictureKeeper:
    """A `fed_em_server.session.Watcher` that keeps the picture. The session's thread only replaces one reference.

    Args:
        clock: Seconds on a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._picture: Picture | None = None

    @property
    def picture(self) -> Picture | None:
        """As it is now; None before the session's terms are fixed."""
        return self._picture

    @property
    def now(self) -> float:
        """Seconds of the session."""
        return self._clock() - self._began

    def session_started(self, record: SessionRecord) -> None:
        """Begin with the tenants that are expected."""
        self._began = self._clock()
        self._picture = Picture.of(record)

    def noticed(self, notice: Notice) -> None:
        """Take a notice into the picture."""
        if self._picture is not None:
            self._picture = self._picture.after_notice(notice, self.now)

    def round_opened(self, record: RoundRecord) -> None:
        """Take a round into the picture."""
        if self._picture is not None:
            self._picture = self._picture.after_round(record, self.now)

    def over(self, ending: tuple[str, ...] = (), failed: bool = False) -> None:
        """The session is over; see `Picture.ending` and `Picture.failed`."""
        if self._picture is not None:
            self._picture = self._picture.over(self.now, ending, failed)


def _same(picture: Picture, _: Notice) -> Picture:
    return picture


def _linked(picture: Picture, notice: Notice) -> Picture:
    # A new process still has to accept the terms.
    return _returned(picture, notice) if notice.text == "again" else picture


def _joined(picture: Picture, notice: Notice) -> Picture:
    joined = _returned(picture, notice)
    all_here = joined.stage is Stage.GATHERING and not joined.standings.those(Standing.EXPECTED)
    return replace(joined, stage=Stage.SETTING_UP) if all_here else joined


def _returned(picture: Picture, notice: Notice) -> Picture:
    return _without(picture, notice.tenants) if picture.stage is Stage.PAUSED else picture


def _left(picture: Picture, notice: Notice) -> Picture:
    return picture if picture.stage is Stage.PAUSED else _without(picture, notice.tenants)


def _window_opened(picture: Picture, _: Notice) -> Picture:
    # Most windows are set up while rounds go on.
    idle = picture.stage in {Stage.GATHERING, Stage.PAUSED, Stage.SETTING_UP}
    return replace(picture, stage=Stage.BETWEEN) if idle else picture


def _round_started(picture: Picture, notice: Notice) -> Picture:
    return replace(picture, stage=Stage.COMPUTING, round=notice.round, owing=notice.tenants)


def _uploaded(picture: Picture, notice: Notice) -> Picture:
    return _without(picture, notice.tenants)


def _survivors(picture: Picture, _: Notice) -> Picture:
    return replace(picture, stage=Stage.CERTIFYING if picture.record.certified else Stage.OPENING, owing=())


def _certified(picture: Picture, _: Notice) -> Picture:
    return replace(picture, stage=Stage.OPENING)


def _recovering(picture: Picture, _: Notice) -> Picture:
    return replace(picture, stage=Stage.RECOVERING)


def _paused(picture: Picture, notice: Notice) -> Picture:
    return replace(picture, stage=Stage.PAUSED, owing=notice.tenants)


def _between(picture: Picture, _: Notice) -> Picture:
    return replace(picture, stage=Stage.BETWEEN, owing=())


def _failed(picture: Picture, _: Notice) -> Picture:
    return replace(picture, stage=Stage.GATHERING, owing=())


def _without(picture: Picture, gone: tuple[str, ...]) -> Picture:
    return replace(picture, owing=tuple(name for name in picture.owing if name not in gone))


_CHANGES: Mapping[NoticeKind, Callable[[Picture, Notice], Picture]] = {
    **dict.fromkeys(NoticeKind, _same),
    NoticeKind.LINKED: _linked,
    NoticeKind.LEFT: _left,
    NoticeKind.JOINED: _joined,
    NoticeKind.WINDOW_OPENED: _window_opened,
    NoticeKind.ROUND_STARTED: _round_started,
    NoticeKind.UPLOADED: _uploaded,
    NoticeKind.SURVIVORS: _survivors,
    NoticeKind.CERTIFIED: _certified,
    NoticeKind.RECOVERING: _recovering,
    NoticeKind.PAUSED: _paused,
    NoticeKind.SUMMED: _between,
    NoticeKind.ROUND_FAILED: _failed,
}
