"""What the coordinator knows of a session, as frozen types, and the questions that all its stages ask of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from fed_em.errors import CallerError
from fed_em_protocols.envelope import Sealed
from fed_em_protocols.hashing import DIGEST_BYTES
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.limits import MIN_TENANTS
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import (
    Advertise,
    Certificate,
    Deposit,
    Header,
    OpenWindow,
    Outcome,
    Recover,
    SharedSecret,
)
from fed_em_protocols.roster import Roster
from fed_em_protocols.round_sum import RoundSum
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transitions import (
    CoordinatorPhase,
)
from fed_em_protocols.window import WindowSetUp

NO_DIGEST = bytes(DIGEST_BYTES)


@dataclass(frozen=True)
class Timetable:
    """How long the server waits, in seconds, and for whom.

    Attributes:
        gather: For all tenants at the start, and for enough of them at any time; then the request fails.
        patience: For a tenant that left in mid-session, before rounds go on without it; once a round.
        set_up: For each of the three trips of a window's set-up.
        upload: For uploads, at the longest.
        quorum: Fraction of the participants whose uploads start the straggler clock; in (0, 1].
        straggler: For the rest, once the quorum has uploaded.
        open: For openings, and for shares.
    """

    gather: float = 60.0
    patience: float = 2.0
    set_up: float = 15.0
    upload: float = 60.0
    quorum: float = 0.75
    straggler: float = 5.0
    open: float = 10.0

    def __post_init__(self) -> None:
        for name in ("gather", "set_up", "upload", "straggler", "open"):
            if not getattr(self, name) > 0:
                raise CallerError(f"timetable: {name} must be positive")
        if not (0 < self.quorum <= 1 and self.patience >= 0):
            raise CallerError("timetable: quorum must lie in (0, 1] and patience must not be negative")


class NoticeKind(Enum):
    """What a notice tells."""

    LINKED = "linked"
    LEFT = "left"
    JOINED = "joined"
    REFUSED = "refused"
    WINDOW_OPENED = "window-opened"
    ROUND_STARTED = "round-started"
    UPLOADED = "uploaded"
    LATE = "late"
    SURVIVORS = "survivors"
    RECOVERING = "recovering"
    SUMMED = "summed"
    ROUND_FAILED = "round-failed"
    FAULT = "fault"


@dataclass(frozen=True)
class Notice:
    """Something that happened, for logs, views and tests. Names and numbers of messages only, never their content."""

    kind: NoticeKind
    round: int
    tenants: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class SumRequest:
    """A sum that somebody wants: the parameters to evaluate at, and how the vectors are encoded."""

    parameters: bytes
    encoding: bytes
    length: int


@dataclass(frozen=True)
class SumOpened:
    """A sum, exact over the survivors.

    Attributes:
        round: t.
        vector: Σ over `survivors` of their encoded vectors, modulo 2^64, check words included (zero).
        survivors: U, as roster indices.
        missing: Roster indices outside U.
    """

    round: int
    vector: RingVector = field(repr=False)
    survivors: tuple[int, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True)
class SumNotOpened:
    """The request ended without a sum; nothing was decoded.

    Attributes:
        round: The last round tried.
        reason: Why, naming who is missing.
        final: Whether asking again would end the same way.
    """

    round: int
    reason: str
    final: bool = False


@dataclass(frozen=True)
class Member:
    """What the server knows of one tenant.

    Attributes:
        boot: Boot number of its process, once it has said hello.
        linked: Whether a link is up.
        joined: Whether this process accepted the terms.
        late: It missed a cut-off and has not been heard since.
        wait_until: While it is away, the others wait for it until this time.
        waited_in: The round number under which it was last waited for: whoever keeps leaving is not.
        missed: Windows in a row that were opened for it and that it did not get into.
        refusal: The code with which it refused the session; 0 if it did not.
    """

    boot: bytes = b""
    linked: bool = False
    joined: bool = False
    late: bool = False
    wait_until: float = 0.0
    waited_in: int = -1
    missed: int = 0
    refusal: int = 0

    @property
    def here(self) -> bool:
        """Linked and joined."""
        return self.linked and self.joined

    def hoped_for(self, now: float) -> bool:
        """Here, or away for so short a time that the same process is waited for."""
        return self.joined and (self.linked or now < self.wait_until)


@dataclass(frozen=True)
class Window:
    """A window while it is set up and used.

    Attributes:
        opening: The signed OpenWindow; `boots` are the processes it was sent to.
        advertisements, deposits: Signed messages by roster index.
        setup: Set once advertising is over.
        held: Which dealers' shares each confirmed member holds.
        active: Members that take part in rounds: confirmed, and recoverable.
    """

    opening: Sealed[OpenWindow]
    boots: Mapping[int, bytes]
    advertisements: Mapping[int, Sealed[Advertise]] = field(default_factory=dict)
    setup: WindowSetUp | None = None
    deposits: Mapping[int, Sealed[Deposit]] = field(default_factory=dict)
    held: Mapping[int, frozenset[int]] = field(default_factory=dict)
    active: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Round:
    """A round in progress.

    Attributes:
        header: The signed header, parameters attached.
        participants: P.
        sum: The running sum.
        uploads: Digest of the upload of each tenant summed so far: its keys become U.
        certificate: The signed set U, once uploads are cut off.
        opened: Survivors whose masks are off.
        shares: Valid shares by (dealer, secret), then holder.
        asked: Holders that were asked for shares and have not answered.
        recovery: The request they were asked with.
    """

    header: Sealed[Header]
    participants: frozenset[int]
    sum: RoundSum
    uploads: Mapping[int, bytes] = field(default_factory=dict)
    certificate: Sealed[Certificate] | None = None
    opened: frozenset[int] = frozenset()
    shares: Mapping[tuple[int, SharedSecret], Mapping[int, bytes]] = field(default_factory=dict, repr=False)
    asked: frozenset[int] = frozenset()
    recovery: Sealed[Recover] | None = None

    @property
    def number(self) -> int:
        """t."""
        return self.header.content.round

    @property
    def survivors(self) -> frozenset[int]:
        """U, or what would be U if uploads were cut off now."""
        return frozenset(self.uploads)

    @property
    def dropped(self) -> frozenset[int]:
        """P∖U."""
        return self.participants - self.survivors


@dataclass(frozen=True)
class PreviousRound:
    """What the next header tells of the round before it."""

    round: int = 0
    outcome: Outcome = Outcome.NONE
    certificate: bytes = NO_DIGEST
    sum: bytes = NO_DIGEST


@dataclass(frozen=True)
class CoordinatorState:
    """Everything the server knows of a session. Start with `coordinator_start`.

    Attributes:
        give_up: When gathering for the present request fails.
        cut_off: When the present stage goes on with what it has; None while nothing is awaited.
        deadline: When `coordinator_tick` must be called at the latest: at the cut-off, or when the wait for one tenant ends.
        windows_before: Windows opened before the present request.
    """

    roster: Roster
    identity: SigningKey
    terms: Sealed[SessionTerms]
    timetable: Timetable
    members: Mapping[int, Member]
    phase: CoordinatorPhase = CoordinatorPhase.GATHERING
    request: SumRequest | None = None
    give_up: float = 0.0
    cut_off: float | None = None
    deadline: float | None = None
    window: Window | None = None
    windows_opened: int = 0
    windows_before: int = 0
    round: Round | None = None
    last_round: int = 0
    previous: PreviousRound = PreviousRound()

    def name(self, index: int) -> str:
        """Roster name of a tenant."""
        return self.roster.tenants[index].name

    @property
    def missing(self) -> tuple[str, ...]:
        """Tenants that are not here, by name."""
        return self.roster.names(i for i, member in self.members.items() if not member.here)


@dataclass(frozen=True)
class CoordinatorStep:
    """A new state, messages by recipient (roster index), notices, and the end of a request."""

    state: CoordinatorState
    sends: tuple[tuple[int, bytes], ...] = ()
    notices: tuple[Notice, ...] = ()
    result: SumOpened | SumNotOpened | None = None

    def then(self, following: Callable[[CoordinatorState], CoordinatorStep]) -> CoordinatorStep:
        """This step and one more from its state, as one."""
        more = following(self.state)
        return CoordinatorStep(
            more.state, self.sends + more.sends, self.notices + more.notices, self.result or more.result
        )


def with_member(state: CoordinatorState, index: int, member: Member) -> CoordinatorState:
    return state if state.members[index] == member else replace(state, members={**state.members, index: member})


def involved(state: CoordinatorState) -> frozenset[int]:
    """Tenants whose answer the present stage still needs."""
    window, current = state.window, state.round
    expected: frozenset[int] = frozenset()
    if state.phase is CoordinatorPhase.ADVERTISING and window:
        same = (i for i, boot in window.boots.items() if state.members[i].boot == boot)
        expected = frozenset(same) - frozenset(window.advertisements)
    elif state.phase is CoordinatorPhase.DEPOSITING and window:
        expected = same_process(state, window) - frozenset(window.deposits)
    elif state.phase is CoordinatorPhase.CONFIRMING and window:
        expected = (same_process(state, window) & frozenset(window.deposits)) - frozenset(window.held)
    elif state.phase is CoordinatorPhase.UPLOADING and current and window:
        expected = (current.participants & window.active) - current.survivors
    elif state.phase is CoordinatorPhase.OPENING and current and window:
        expected = (current.survivors & window.active) - current.opened
    elif state.phase is CoordinatorPhase.RECOVERING and current and window:
        expected = current.asked & window.active
    return expected


def awaited(state: CoordinatorState, now: float) -> frozenset[int]:
    """Tenants whose answer the present stage needs and can still hope for."""
    return frozenset(i for i in involved(state) if state.members[i].hoped_for(now))


def same_process(state: CoordinatorState, window: Window) -> frozenset[int]:
    """Members that advertised and are still the process that did."""
    return frozenset(i for i, sealed in window.advertisements.items() if state.members[i].boot == sealed.content.boot)


def least_survivors(state: CoordinatorState) -> int:
    return max(MIN_TENANTS, state.terms.content.minimum_survivors)


def with_cut_off(state: CoordinatorState, cut_off: float) -> CoordinatorState:
    return state if state.cut_off == cut_off else replace(state, cut_off=cut_off)


def with_deadline(state: CoordinatorState, now: float) -> CoordinatorState:
    """The state with the time of its next tick: when it cuts off, or stops waiting for somebody who is away."""
    whom = state.members if state.phase is CoordinatorPhase.GATHERING else involved(state)
    away = (state.members[i] for i in whom if not state.members[i].here)
    times = [member.wait_until for member in away if member.wait_until > now]
    if state.cut_off is not None:
        times.append(state.cut_off)
    deadline = min(times) if times and state.request is not None else None
    return state if state.deadline == deadline else replace(state, deadline=deadline)


def mark_late(state: CoordinatorState) -> CoordinatorState:
    """At a cut-off: whoever is linked and owed an answer is late. (A restarted process owes none, and would never be heard.)"""
    owing = involved(state)
    late = {i: replace(m, late=True) for i, m in state.members.items() if i in owing and m.linked}
    return replace(state, members={**state.members, **late}) if late else state


def still_waiting(state: CoordinatorState, now: float) -> bool:
    return bool(awaited(state, now)) and state.cut_off is not None and now < state.cut_off


def fail_request(
    state: CoordinatorState, reason: str, notices: tuple[Notice, ...] = (), final: bool = False
) -> CoordinatorStep:
    """End the request without a sum. The round number is spent, the window, if there is one, goes on."""
    current = state.round
    previous = state.previous
    if current is not None:
        certificate = current.certificate.digest if current.certificate else NO_DIGEST
        previous = PreviousRound(current.number, Outcome.NOT_OPENED, certificate)
    failed = replace(state, phase=CoordinatorPhase.GATHERING, request=None, round=None, cut_off=None, previous=previous)
    notice = Notice(NoticeKind.ROUND_FAILED, state.last_round, (), reason)
    return CoordinatorStep(failed, notices=(*notices, notice), result=SumNotOpened(state.last_round, reason, final))
