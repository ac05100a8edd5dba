"""Where every tenant stands at a moment of a session, from the notices so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.record import SessionRecord


class Standing(Enum):
    """Where a tenant stands now."""

    EXPECTED = "not here yet"
    WAITING = "waits for next window"
    IN = "in"
    BLOCKED = "waits for its block"
    LATE = "late"
    RECOVERED = "recovered"
    AWAY = "away"
    REFUSED = "refused"


@dataclass(frozen=True)
class Standings:
    """All tenants' standings.

    Attributes:
        of: By tenant name, in roster order.
        blocks: Names of each block's tenants.
        members: Tenants of the window in use.
    """

    of: Mapping[str, Standing]
    blocks: tuple[frozenset[str], ...] = ()
    members: frozenset[str] = frozenset()

    @classmethod
    def at_start(cls, record: SessionRecord) -> Standings:
        """Before anybody is linked."""
        blocks = tuple(frozenset(record.tenants[i] for i in block) for block in record.block_members())
        return cls(dict.fromkeys(record.tenants, Standing.EXPECTED), blocks)

    @property
    def here(self) -> int:
        """Number of tenants that have joined and not left."""
        gone = {Standing.EXPECTED, Standing.AWAY, Standing.REFUSED}
        return sum(standing not in gone for standing in self.of.values())

    def those(self, standing: Standing) -> tuple[str, ...]:
        """Names of those who stand so."""
        return tuple(name for name, found in self.of.items() if found is standing)

    def after(self, notice: Notice) -> Standings:
        """The standings after something happened."""
        change = _CHANGES.get(notice.kind)
        return change(self, notice) if change else self

    def standing(self, of: Mapping[str, str], members: Iterable[str]) -> Standings:
        """The same tenants as they stood in the process before, by the values of `Standing`."""
        known = {name: Standing(of[name]) if name in of else found for name, found in self.of.items()}
        return replace(self, of=known, members=frozenset(members))

    def _with(self, names: Iterable[str], standing: Standing) -> Standings:
        known = {name: standing for name in names if name in self.of}
        return replace(self, of={**self.of, **known}) if known else self

    def _held_up(self, name: str) -> bool:
        """Whether somebody else of a tenant's block keeps it out of a round."""
        ready = {Standing.IN, Standing.BLOCKED}
        block = next((block for block in self.blocks if name in block), frozenset())
        return any(self.of[other] not in ready for other in block)


def _linked(now: Standings, notice: Notice) -> Standings:
    if notice.text != "again":  # a new process, which still has to accept the terms
        return now
    inside = [name for name in notice.tenants if name in now.members]
    return now._with(notice.tenants, Standing.WAITING)._with(inside, Standing.IN)


def _joined(now: Standings, notice: Notice) -> Standings:
    return now._with(notice.tenants, Standing.WAITING)


def _left(now: Standings, notice: Notice) -> Standings:
    # Whoever is being recovered stays so to the end of its round.
    return now._with((name for name in notice.tenants if now.of.get(name) is not Standing.RECOVERED), Standing.AWAY)


def _window_opened(now: Standings, notice: Notice) -> Standings:
    return replace(now._with(notice.tenants, Standing.IN), members=frozenset(notice.tenants))


def _round_started(now: Standings, notice: Notice) -> Standings:
    asked = frozenset(notice.tenants)
    idle = [name for name in now.of if name not in asked]
    now = now._with((name for name in idle if now.of[name] is Standing.RECOVERED), Standing.AWAY)
    ready = [name for name in idle if now.of[name] in {Standing.IN, Standing.BLOCKED}]
    outside = [name for name in ready if name not in now.members]
    held_up = [name for name in ready if name in now.members and now._held_up(name)]
    idle_only = now._with(ready, Standing.LATE)._with(held_up, Standing.BLOCKED)._with(outside, Standing.WAITING)
    return idle_only._with(notice.tenants, Standing.IN)


def _late(now: Standings, notice: Notice) -> Standings:
    return now._with((name for name in notice.tenants if now.of.get(name) is Standing.IN), Standing.LATE)


def _recovering(now: Standings, notice: Notice) -> Standings:
    return now._with(notice.tenants, Standing.RECOVERED)


def _refused(now: Standings, notice: Notice) -> Standings:
    return now._with(notice.tenants, Standing.REFUSED)


def _restarted(now: Standings, _: Notice) -> Standings:
    linked = (name for name, standing in now.of.items() if standing not in {Standing.EXPECTED, Standing.REFUSED})
    return replace(now._with(linked, Standing.AWAY), members=frozenset())


_CHANGES: Mapping[NoticeKind, Callable[[Standings, Notice], Standings]] = {
    NoticeKind.LINKED: _linked,
    NoticeKind.JOINED: _joined,
    NoticeKind.LEFT: _left,
    NoticeKind.REFUSED: _refused,
    NoticeKind.WINDOW_OPENED: _window_opened,
    NoticeKind.ROUND_STARTED: _round_started,
    NoticeKind.LATE: _late,
    NoticeKind.RECOVERING: _recovering,
    NoticeKind.RESTARTED: _restarted,
}
