"""Tenants that come and go: absences at any step of the protocol, by chance, in bursts, by region, for good.

An absence begins when a tenant is to read the message that asks for a step: its link breaks, and it does not dial again before the
round is over. Rounds of a session are attempts at sums; a tenant is struck once a sum, so whoever is waited for comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from fed_em.description import check_real, check_whole_number
from fed_em.errors import CallerError
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.messages import Boxes, Certificate, Header, Neighbours, OpenWindow, Proposal, Recover, SetUp
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from fed_em_simulations.scene import Mischief, Scene, kind_of, read


class Step(Enum):
    """What a tenant is asked for; the value is the message that asks."""

    ADVERTISE = OpenWindow
    REVEAL = SetUp
    DEPOSIT = Neighbours
    CONFIRM = Boxes
    UPLOAD = Header
    ENDORSE = Proposal
    OPEN = Certificate
    RECOVER = Recover


# Whether a tenant is gone in the k-th sum, counted from 0 (the moments).
Gone = Callable[[int, int], bool]

_ROUND_OVER = frozenset({NoticeKind.SUMMED, NoticeKind.ROUND_FAILED, NoticeKind.PAUSED, NoticeKind.WINDOW_ABANDONED})


class Absences:
    """Absences at work: who is gone when it is asked for a step, and back once the round is over.

    Args:
        scene: Where.
        step: Which is missed.
        gone: Who is gone in which sum.
    """

    def __init__(self, scene: Scene, step: Step, gone: Gone) -> None:
        self._scene = scene
        self._asks: type = step.value
        self._gone = gone
        self._sums: dict[bytes, int] = {}
        self._struck: set[tuple[int, int]] = set()
        self._held: set[int] = set()

    def fate(self, passing: Passing) -> Fate:
        """See `Mischief`."""
        if passing.direction is Direction.TO_SERVER:
            return Fate.DELIVER
        kind = kind_of(passing.data)
        if kind is Header:
            # The parameters say which sum a round is an attempt at.
            self._sums.setdefault(read(passing.data).attachment_digest, len(self._sums))
        if kind is not self._asks:
            return Fate.DELIVER
        now = self._sum_of(passing)
        if (passing.tenant, now) in self._struck or not self._gone(passing.tenant, now):
            return Fate.DELIVER
        self._struck.add((passing.tenant, now))
        self._held.add(passing.tenant)
        return Fate.HOLD

    def _sum_of(self, passing: Passing) -> int:
        if self._asks is Header:
            return self._sums[read(passing.data).attachment_digest]
        return max(len(self._sums) - 1, 0)

    def noticed(self, notice: Notice) -> None:
        """See `Mischief`."""
        if notice.kind not in _ROUND_OVER:
            return
        for tenant in sorted(self._held):
            if notice.kind is not NoticeKind.SUMMED or not self._gone(tenant, len(self._sums)):
                self._held.discard(tenant)
                self._scene.hub.let_back(tenant)


@dataclass(frozen=True)
class Dropout:
    """Each tenant is gone in each sum with one probability, whoever else is.

    Attributes:
        probability: In [0, 1).
        step: What it misses.
        tenants: Whom it may strike; None: all.
    """

    probability: float
    step: Step = Step.UPLOAD
    tenants: Sequence[int] | None = None

    def __post_init__(self) -> None:
        _check_probability("probability", self.probability)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        some = _those(scene, self.tenants)
        return Absences(scene, self.step, lambda tenant, k: tenant in some and scene.draw(tenant, k) < self.probability)


@dataclass(frozen=True)
class Bursts:
    """Each tenant is there and gone by turns: a Markov chain over sums. In the long run it is gone for leave / (leave + come_back).

    Attributes:
        leave: The probability of being gone in a sum after one in which it was there.
        come_back: Of being there after one in which it was gone, positive.
        step: What it misses.
    """

    leave: float
    come_back: float
    step: Step = Step.UPLOAD

    def __post_init__(self) -> None:
        _check_probability("leave", self.leave)
        check_real("come_back", self.come_back, 0.0, strict=True)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`. Everybody is there in the first sum."""
        states: dict[int, list[bool]] = {}

        def gone(tenant: int, k: int) -> bool:
            chain = states.setdefault(tenant, [False])
            while len(chain) <= k:
                drawn = scene.draw(tenant, len(chain))
                chain.append(drawn >= self.come_back if chain[-1] else drawn < self.leave)
            return chain[k]

        return Absences(scene, self.step, gone)


@dataclass(frozen=True)
class RegionalOutage:
    """All tenants of a region are gone together: a power cut, a line.

    Attributes:
        regions: How many there are; tenant i is in region i mod `regions`.
        probability: That a region is out in a sum.
        step: What its tenants miss.
    """

    regions: int
    probability: float
    step: Step = Step.UPLOAD

    def __post_init__(self) -> None:
        check_whole_number("regions", self.regions, 1)
        _check_probability("probability", self.probability)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        return Absences(
            scene, self.step, lambda tenant, k: scene.draw("region", tenant % self.regions, k) < self.probability
        )


@dataclass(frozen=True)
class Leaves:
    """Tenants that are gone for good from one sum on.

    Attributes:
        tenants: Roster indices.
        after: Sums that they are in, the moments counted; 0: they never come.
        step: What they miss first.
    """

    tenants: Sequence[int]
    after: int = 1
    step: Step = Step.UPLOAD

    def __post_init__(self) -> None:
        check_whole_number("after", self.after, 0)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        some = _those(scene, self.tenants)
        return _Departures(scene, self.step, lambda tenant, k: tenant in some and k >= self.after)


class _Departures(Absences):
    """Absences that do not end."""

    def noticed(self, notice: Notice) -> None:
        """Nobody comes back."""


def _those(scene: Scene, tenants: Sequence[int] | None) -> frozenset[int]:
    everybody = frozenset(range(scene.n))
    if tenants is None:
        return everybody
    unknown = sorted(frozenset(tenants) - everybody)
    if unknown:
        raise CallerError(f"there is no tenant number {unknown[0]} among {scene.n}", remedy="count from 0")
    return frozenset(tenants)


def _check_probability(name: str, value: float) -> None:
    check_real(name, value, 0.0)
    if value >= 1:
        raise CallerError(f"{name} = {value} is no probability below 1")
