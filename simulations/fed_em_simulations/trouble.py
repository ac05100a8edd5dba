"""Everyday trouble: tenants that come, go and lag, at any step of the protocol, by chance, in bursts, by region, for good; a crash.

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
from fed_em_protocols.messages import (
    Boxes,
    Certificate,
    Header,
    Neighbours,
    OpenWindow,
    Proposal,
    Recover,
    SetUp,
    Upload,
)
from fed_em_simulations.distributions import Distribution, generator_of
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from fed_em_simulations.scene import Mischief, Scene, Trouble, kind_of, read


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

# A sum can do without whoever is gone from here on, or has to wait. Whoever comes back while the others open it is there for the next.
_SETTLED = frozenset({NoticeKind.SURVIVORS, NoticeKind.SUMMED})
_FAILED = frozenset({NoticeKind.ROUND_FAILED, NoticeKind.PAUSED, NoticeKind.WINDOW_ABANDONED})


class Sums(Mischief):
    """Counts the sums of a session: its rounds are attempts at them, which the parameters tell apart."""

    def __init__(self) -> None:
        self._sums: dict[bytes, int] = {}

    @property
    def begun(self) -> int:
        """How many there were so far, the one in progress included."""
        return len(self._sums)

    def fate(self, passing: Passing) -> Fate:
        """See `Mischief`."""
        if passing.direction is Direction.TO_TENANT and kind_of(passing.data) is Header:
            self._sums.setdefault(read(passing.data).attachment_digest, len(self._sums))
        return Fate.DELIVER

    def sum_of(self, passing: Passing) -> int:
        """The sum that a message belongs to: a header says so, others to the last one, or to the first."""
        if kind_of(passing.data) is Header:
            return self._sums[read(passing.data).attachment_digest]
        return max(self.begun - 1, 0)


class Absences(Sums):
    """Absences at work: who is gone when it is asked for a step, and back once the round is over.

    Args:
        scene: Where.
        step: Which is missed.
        gone: Who is gone in which sum.
        obliging: Whether they come back as soon as a round fails or the session waits for them; if not, once they are not gone.
    """

    def __init__(self, scene: Scene, step: Step, gone: Gone, obliging: bool = True) -> None:
        super().__init__()
        self._scene = scene
        self._asks: type = step.value
        self._gone = gone
        self._obliging = obliging
        self._struck: set[tuple[int, int]] = set()
        self._held: set[int] = set()

    def fate(self, passing: Passing) -> Fate:
        """See `Mischief`."""
        super().fate(passing)
        if passing.direction is Direction.TO_SERVER or kind_of(passing.data) is not self._asks:
            return Fate.DELIVER
        now = self.sum_of(passing)
        if (passing.tenant, now) in self._struck or not self._gone(passing.tenant, now):
            return Fate.DELIVER
        self._struck.add((passing.tenant, now))
        self._held.add(passing.tenant)
        return Fate.HOLD

    def noticed(self, notice: Notice) -> None:
        """See `Mischief`."""
        if notice.kind not in _SETTLED | _FAILED:
            return
        # After a sum the next one is to come, after a failure the same.
        following = self.begun if notice.kind in _SETTLED else self.begun - 1
        waited_for = self._obliging and notice.kind in _FAILED
        for tenant in sorted(self._held):
            if waited_for or not self._gone(tenant, following):
                self._held.discard(tenant)
                self._scene.hub.let_back(tenant)


@dataclass(frozen=True)
class Dropout(Trouble):
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
        some = scene.those(self.tenants)
        return Absences(scene, self.step, lambda tenant, k: tenant in some and scene.draw(tenant, k) < self.probability)


@dataclass(frozen=True)
class Bursts(Trouble):
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
class RegionalOutage(Trouble):
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
class Partition(Trouble):
    """The network falls apart: some tenants cannot reach the server for some sums, whoever waits for them.

    Attributes:
        tenants: Roster indices.
        first: The sum with which it begins, the moments being 0.
        sums: How many it lasts: a session that cannot do without them fails once it has waited for its `pause`.
    """

    tenants: Sequence[int]
    first: int
    sums: int

    def __post_init__(self) -> None:
        check_whole_number("first", self.first, 0)
        check_whole_number("sums", self.sums, 1)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        some = scene.those(self.tenants)
        return Absences(
            scene,
            Step.UPLOAD,
            lambda tenant, k: tenant in some and self.first <= k < self.first + self.sums,
            obliging=False,
        )


@dataclass(frozen=True)
class Leaves(Trouble):
    """Tenants that are gone for good from one sum on.

    Attributes:
        tenants: Roster indices.
        after: Sums that they are in, the moments counted; 0: they join and never upload.
        step: What they miss first.
    """

    tenants: Sequence[int]
    after: int = 1
    step: Step = Step.UPLOAD

    def __post_init__(self) -> None:
        check_whole_number("after", self.after, 0)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        some = scene.those(self.tenants)
        return Absences(scene, self.step, lambda tenant, k: tenant in some and k >= self.after, obliging=False)


@dataclass(frozen=True)
class Joins(Trouble):
    """Tenants that come late: they say hello after some sums.

    Attributes:
        tenants: Roster indices.
        after: Sums that are opened without them.
    """

    tenants: Sequence[int]
    after: int = 1

    def __post_init__(self) -> None:
        check_whole_number("after", self.after, 1)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        return _LateComers(scene, scene.those(self.tenants), self.after)


class _LateComers(Mischief):
    def __init__(self, scene: Scene, tenants: frozenset[int], after: int) -> None:
        self._hub = scene.hub
        self._waiting = tenants
        self._left = after

    def fate(self, passing: Passing) -> Fate:
        """See `Mischief`."""
        greets = passing.direction is Direction.TO_SERVER and passing.tenant in self._waiting
        return Fate.HOLD if greets else Fate.DELIVER

    def noticed(self, notice: Notice) -> None:
        """See `Mischief`."""
        self._left -= notice.kind is NoticeKind.SUMMED
        if self._left > 0:
            return
        come, self._waiting = self._waiting, frozenset()
        for tenant in sorted(come):
            self._hub.let_back(tenant)


@dataclass(frozen=True)
class Stragglers(Trouble):
    """Uploads that come later than they could, anew in every sum.

    Attributes:
        seconds: How much later, over tenants: `Lognormal`, `Pareto`, `OneApart`.
    """

    seconds: Distribution

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        return _LateUploads(scene, self.seconds)


class _LateUploads(Sums):
    def __init__(self, scene: Scene, seconds: Distribution) -> None:
        super().__init__()
        self._scene = scene
        self._seconds = seconds
        self._drawn: tuple[int, list[float]] = (-1, [])

    def lateness(self, passing: Passing) -> float:
        """See `Mischief`."""
        if kind_of(passing.data) is not Upload:
            return 0.0
        if self._drawn[0] != self.begun:
            generator = generator_of(self._scene.seed, "stragglers", self._scene.number, self.begun)
            self._drawn = self.begun, self._seconds.draw(self._scene.n, generator).tolist()
        return self._drawn[1][passing.tenant]


@dataclass(frozen=True)
class ServerCrash(Trouble):
    """The server's process ends in the middle of a sum, and another goes on from the checkpoints, by production's own code.

    What it has just noticed is kept, if it is of what is kept, and no message that follows from it leaves.

    Attributes:
        sum: In which, the moments being 0.
        at: What it has just noticed.
        seconds: For how long it is away.
    """

    sum: int
    at: NoticeKind = NoticeKind.UPLOADED
    seconds: float = 5.0

    def __post_init__(self) -> None:
        check_whole_number("sum", self.sum, 0)
        check_real("seconds", self.seconds, 0.0, strict=True)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        return _Crash(scene, self)


class _Crash(Sums):
    def __init__(self, scene: Scene, crash: ServerCrash) -> None:
        super().__init__()
        self._hub = scene.hub
        self._crash: ServerCrash | None = crash

    def noticed(self, notice: Notice) -> None:
        """See `Mischief`."""
        crash = self._crash
        if crash is not None and notice.kind is crash.at and self.begun == crash.sum + 1:
            self._crash = None
            self._hub.crash(crash.seconds)


def _check_probability(name: str, value: float) -> None:
    check_real(name, value, 0.0)
    if value >= 1:
        raise CallerError(f"{name} = {value} is no probability below 1")
