"""What a live view shows at one moment: a frozen value, and how notices and rounds change it.

Whoever draws it reads one reference, so a session is never held up by its picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.record import Happening, Participation, RoundRecord, SessionRecord
from fed_em_server.report_words import happening_of, with_happening

_HAPPENINGS_KEPT = 12

_TOLD = frozenset(
    {NoticeKind.LEFT, NoticeKind.JOINED, NoticeKind.REFUSED, NoticeKind.WINDOW_OPENED, NoticeKind.LATE,
     NoticeKind.RECOVERING, NoticeKind.ROUND_FAILED, NoticeKind.FAULT}
)  # fmt: skip


class Standing(Enum):
    """Where a tenant stands now."""

    EXPECTED = "not here yet"
    WAITING = "waits for next window"
    IN = "in"
    LATE = "late"
    RECOVERED = "recovered"
    AWAY = "away"
    REFUSED = "refused"


class Stage(Enum):
    """What the session is doing now."""

    GATHERING = "gathering tenants"
    SETTING_UP = "setting up masks for a window of rounds"
    COMPUTING = "tenants compute"
    OPENING = "masks come off the sum"
    RECOVERING = "masks of the silent come off with shares"
    BETWEEN = "M-step"
    OVER = "session over"


@dataclass(frozen=True)
class Picture:
    """A session at one moment.

    Attributes:
        record: The record as it was when the session started.
        now: Seconds of the session at the last change.
        stage, since: What the session does, and from which second.
        round: The last round that was started.
        standings: By tenant name, in roster order.
        members: Tenants of the window in use.
        owing: Tenants whose upload the round still waits for.
        rounds: Opened rounds.
        happenings: The last few, swarms of them merged.
    """

    record: SessionRecord
    now: float = 0.0
    stage: Stage = Stage.GATHERING
    since: float = 0.0
    round: int = 0
    standings: Mapping[str, Standing] = field(default_factory=dict)
    members: frozenset[str] = frozenset()
    owing: tuple[str, ...] = ()
    rounds: tuple[RoundRecord, ...] = ()
    happenings: tuple[Happening, ...] = ()

    @classmethod
    def of(cls, record: SessionRecord) -> Picture:
        """Before anybody is linked."""
        return cls(record, standings=dict.fromkeys(record.tenants, Standing.EXPECTED))

    @property
    def here(self) -> int:
        """Number of tenants that have joined and not left."""
        gone = {Standing.EXPECTED, Standing.AWAY, Standing.REFUSED}
        return sum(standing not in gone for standing in self.standings.values())

    @property
    def log_likelihoods(self) -> tuple[float, ...]:
        """The curve so far."""
        return tuple(opened.log_likelihood for opened in self.rounds if opened.log_likelihood is not None)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes to and from the server, in opened rounds and the windows before them."""
        return sum(opened.bytes_up for opened in self.rounds), sum(opened.bytes_down for opened in self.rounds)

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """Tenants that hold up what is going on."""
        if self.stage is Stage.GATHERING:
            return tuple(name for name, standing in self.standings.items() if standing is Standing.EXPECTED)
        return self.owing if self.stage is Stage.COMPUTING else ()

    def sums_of(self, index: int) -> int:
        """Number of sums that hold the statistics of a tenant."""
        return sum(opened.participation[index].in_sum for opened in self.rounds)

    def parts_of(self, index: int, last: int) -> tuple[Participation, ...]:
        """A tenant's part in each of the last rounds."""
        return tuple(opened.participation[index] for opened in self.rounds[-last:])

    def after_notice(self, notice: Notice, now: float) -> Picture:
        """The picture after something happened."""
        changed = _CHANGES[notice.kind](replace(self, now=now), notice)
        if changed.stage is not self.stage:
            changed = replace(changed, since=now)
        if notice.kind not in _TOLD:
            return changed
        happenings = with_happening(changed.happenings, happening_of(notice, now))
        return replace(changed, happenings=happenings[-_HAPPENINGS_KEPT:])

    def after_round(self, opened: RoundRecord, now: float) -> Picture:
        """The picture after a sum and its M-step."""
        return replace(self, now=now, rounds=(*self.rounds, opened))

    def over(self, now: float) -> Picture:
        """The picture that stays."""
        return replace(self, now=now, stage=Stage.OVER, since=now, owing=())

    def _with(self, names: Iterable[str], standing: Standing) -> Picture:
        known = {name: standing for name in names if name in self.standings}
        return replace(self, standings={**self.standings, **known}) if known else self


def _same(picture: Picture, _: Notice) -> Picture:
    return picture


def _linked(picture: Picture, notice: Notice) -> Picture:
    if notice.text != "again":  # a new process, which still has to accept the terms
        return picture
    standing = {name: Standing.IN if name in picture.members else Standing.WAITING for name in notice.tenants}
    return replace(picture, standings={**picture.standings, **standing})


def _joined(picture: Picture, notice: Notice) -> Picture:
    joined = picture._with(notice.tenants, Standing.WAITING)
    all_here = joined.stage is Stage.GATHERING and Standing.EXPECTED not in joined.standings.values()
    return replace(joined, stage=Stage.SETTING_UP) if all_here else joined


def _left(picture: Picture, notice: Notice) -> Picture:
    # Whoever is being recovered stays so to the end of its round.
    gone = (name for name in notice.tenants if picture.standings.get(name) is not Standing.RECOVERED)
    return replace(picture._with(gone, Standing.AWAY), owing=_without(picture.owing, notice.tenants))


def _window_opened(picture: Picture, notice: Notice) -> Picture:
    members = frozenset(notice.tenants)
    return replace(picture._with(notice.tenants, Standing.IN), members=members, stage=Stage.BETWEEN)


def _round_started(picture: Picture, notice: Notice) -> Picture:
    outside = {Standing.RECOVERED, Standing.IN}
    gone = (n for n, s in picture.standings.items() if n not in notice.tenants and s in outside)
    started = picture._with(gone, Standing.AWAY)._with(notice.tenants, Standing.IN)
    return replace(started, stage=Stage.COMPUTING, round=notice.round, owing=notice.tenants)


def _uploaded(picture: Picture, notice: Notice) -> Picture:
    return replace(picture, owing=_without(picture.owing, notice.tenants))


def _late(picture: Picture, notice: Notice) -> Picture:
    return picture._with((n for n in notice.tenants if picture.standings.get(n) is Standing.IN), Standing.LATE)


def _survivors(picture: Picture, _: Notice) -> Picture:
    return replace(picture, stage=Stage.OPENING, owing=())


def _recovering(picture: Picture, notice: Notice) -> Picture:
    return replace(picture._with(notice.tenants, Standing.RECOVERED), stage=Stage.RECOVERING)


def _between(picture: Picture, _: Notice) -> Picture:
    return replace(picture, stage=Stage.BETWEEN, owing=())


def _failed(picture: Picture, _: Notice) -> Picture:
    return replace(picture, stage=Stage.GATHERING, owing=())


def _refused(picture: Picture, notice: Notice) -> Picture:
    return picture._with(notice.tenants, Standing.REFUSED)


def _without(names: tuple[str, ...], gone: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in gone)


_CHANGES: Mapping[NoticeKind, Callable[[Picture, Notice], Picture]] = {
    **dict.fromkeys(NoticeKind, _same),
    NoticeKind.LINKED: _linked,
    NoticeKind.LEFT: _left,
    NoticeKind.JOINED: _joined,
    NoticeKind.REFUSED: _refused,
    NoticeKind.WINDOW_OPENED: _window_opened,
    NoticeKind.ROUND_STARTED: _round_started,
    NoticeKind.UPLOADED: _uploaded,
    NoticeKind.LATE: _late,
    NoticeKind.SURVIVORS: _survivors,
    NoticeKind.RECOVERING: _recovering,
    NoticeKind.SUMMED: _between,
    NoticeKind.ROUND_FAILED: _failed,
}
