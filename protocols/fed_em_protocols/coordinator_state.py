"""What the coordinator knows of a session, as frozen types, and the questions that all its stages ask of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache

from fed_em.errors import CallerError
from fed_em_protocols.envelope import Sealed
from fed_em_protocols.errors import Equivocation, IllegalStep
from fed_em_protocols.growing_map import GrowingMap
from fed_em_protocols.hashing import DIGEST_BYTES
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.masks import RingVector
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import (
    Advertise,
    Certificate,
    Close,
    Deposit,
    Header,
    Mode,
    Opening,
    OpenWindow,
    Outcome,
    Recover,
    SharedSecret,
)
from fed_em_protocols.records import replace
from fed_em_protocols.ring import RING_64, Ring, ring_of
from fed_em_protocols.roster import Roster
from fed_em_protocols.round_sum import RoundSum
from fed_em_protocols.running_total import RunningTotal
from fed_em_protocols.terms import SessionTerms, Trust, guarded_units
from fed_em_protocols.transitions import CoordinatorPhase, SetUpPhase
from fed_em_protocols.window import WindowSetUp

NO_DIGEST = bytes(DIGEST_BYTES)

# Why an attempt at a sum came to nothing, where the server's process ended.
RESTARTED = "the server was restarted"


@dataclass(frozen=True)
class Timetable:
    """How long the server waits, in seconds of time in which it listens, and for whom.

    Attributes:
        gather: For all tenants at the start, and for enough of them at any time; then the request fails.
        patience: For a tenant that left in mid-session, before rounds go on without it; once a round.
        set_up: For each of the three trips of a window's set-up.
        upload: For uploads, at the longest.
        quorum: Fraction of the participants whose uploads start the straggler clock; in (0, 1].
        straggler: For the rest, once the quorum has uploaded.
        open: For endorsements, for openings, and for shares.
        pause: For tenants without whom there is no sum, once the session runs: those of blocks that must be whole.
    """

    gather: float = 60.0
    patience: float = 2.0
    set_up: float = 15.0
    upload: float = 60.0
    quorum: float = 0.75
    straggler: float = 5.0
    open: float = 10.0
    pause: float = 600.0

    def __post_init__(self) -> None:
        for name in ("gather", "set_up", "upload", "straggler", "open", "pause"):
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
    WINDOW_ABANDONED = "window-abandoned"
    ROUND_STARTED = "round-started"
    UPLOADED = "uploaded"
    LATE = "late"
    SURVIVORS = "survivors"
    RECOVERING = "recovering"
    CERTIFIED = "certified"
    PAUSED = "paused"
    SUMMED = "summed"
    ROUND_FAILED = "round-failed"
    NOT_COMPUTED = "not-computed"
    FAULT = "fault"
    RESTARTED = "restarted"


@dataclass(frozen=True)
class Notice:
    """Something that happened, for logs, views and tests. Names and numbers of messages only, never their content."""

    kind: NoticeKind
    round: int
    tenants: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class SumRequest:
    """A sum that somebody wants: the parameters to evaluate at, and how the vectors are encoded.

    Attributes:
        whole: Ask for whole vectors even where increments would do.
        counts: The sum is one of counts: it says which components the next request, with `held`, keeps shut.
        held: Bitmap of the components that stay shut; empty for a sum without a gate.
        ring: Of the encoded vectors; `length` counts its words.
    """

    parameters: bytes = field(repr=False)
    encoding: bytes
    length: int
    whole: bool = False
    counts: bool = False
    held: bytes = b""
    ring: Ring = RING_64


@dataclass(frozen=True)
class SumOpened:
    """A sum, exact over the survivors, and with it the running total.

    Attributes:
        round: t.
        vector: The running total modulo 2^64, check words included (zero): Σ of the encoded vectors of the survivors at this
            round's parameters and of the `stale` at older ones. Of counts: Σ over the survivors alone.
        survivors: U, as roster indices.
        stale: Roster indices whose terms in the total are of an earlier round.
        missing: Roster indices of whom the total holds nothing.
    """

    round: int
    vector: RingVector = field(repr=False)
    survivors: tuple[int, ...]
    stale: tuple[int, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True)
class SumNotOpened:
    """The request ended without a sum; nothing was decoded.

    Attributes:
        round: The last round tried.
        reason: Why, naming who is missing.
        final: Whether asking again would end the same way.
        away: Tenants without whom it came to nothing, where nothing else stood in the way: they may come back.
        interrupted: The server's process ended meanwhile: nobody failed.
    """

    round: int
    reason: str
    final: bool = False
    away: tuple[str, ...] = ()
    interrupted: bool = False


@dataclass(frozen=True)
class Member:
    """What the server knows of one tenant.

    Attributes:
        boot: Boot number of its process, once it has said hello.
        policy: That process's commitment to its policy.
        linked: Whether a link is up.
        joined: Whether this process accepted the terms.
        late: It missed a cut-off and has not been heard since.
        wait_until: While it is away, the others wait for it until this time.
        waited_in: The round number under which it was last waited for: whoever keeps leaving is not.
        missed: Windows in a row that were opened for it and that it did not get into.
        refusal: The code with which it refused the session; 0 if it did not.
    """

    boot: bytes = b""
    policy: bytes = b""
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


class Attendance(Mapping[int, Member]):
    """The tenants by roster index, never changed in place. Who is where is kept up with each change, not worked out at every message.

    Attributes:
        absent: Not linked, or not joined.
        late: Known to lag.
        refused: Those that refused the session.
        waits: How many of the absent are waited for until each time.
    """

    def __init__(self, members: Mapping[int, Member]) -> None:
        self._members: GrowingMap[int, Member] = GrowingMap(members)
        self.absent = frozenset(index for index, member in members.items() if not member.here)
        self.late = frozenset(index for index, member in members.items() if member.late)
        self.refused = frozenset(index for index, member in members.items() if member.refusal)
        self.waits: Mapping[float, int] = Counter(member.wait_until for member in members.values() if not member.here)

    def with_member(self, index: int, member: Member) -> Attendance:
        """The same with another entry for one of them."""
        before, changed = self[index], Attendance.__new__(Attendance)
        changed._members = self._members.with_entry(index, member)
        changed.absent = _with_or_without(self.absent, index, not member.here)
        changed.late = _with_or_without(self.late, index, member.late)
        changed.refused = _with_or_without(self.refused, index, member.refusal != 0)
        waits = Counter(self.waits)
        waits[before.wait_until] -= not before.here
        waits[member.wait_until] += not member.here
        changed.waits = +waits
        return changed

    def __getitem__(self, index: int) -> Member:
        return self._members[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    @cached_property
    def present(self) -> frozenset[int]:
        """Linked and joined."""
        return frozenset(self) - self.absent

    @cached_property
    def prompt(self) -> frozenset[int]:
        """Linked, joined, and not known to lag."""
        return self.present - self.late

    def of_processes(self, boots: Mapping[int, bytes]) -> frozenset[int]:
        """Those whose process is still the one with this boot number."""
        for known, same in self._asked_for:
            if known is boots:
                return same
        same = frozenset(index for index, boot in boots.items() if self[index].boot == boot)
        self._asked_for = ((boots, same), *self._asked_for[:1])
        return same

    @cached_property
    def _asked_for(self) -> tuple[tuple[Mapping[int, bytes], frozenset[int]], ...]:
        """The processes asked for last: of the window in use and of that being set up they are the same at each message."""
        return ()


def _with_or_without(those: frozenset[int], index: int, inside: bool) -> frozenset[int]:
    return those if (index in those) is inside else those ^ {index}


@dataclass(frozen=True)
class Awaited:
    """Those whose answers a phase needs: the expected ones but for those that have answered.

    It is asked at every message whether there are any; their set, as large as the federation, is made where it is needed.
    """

    expected: frozenset[int] = frozenset()
    answered: Collection[int] = ()

    @property
    def all(self) -> frozenset[int]:
        """The set of them."""
        return self.expected.difference(self.answered)

    def among(self, some: frozenset[int]) -> frozenset[int]:
        """Those of them that are among some others."""
        return frozenset(index for index in self.expected & some if index not in self.answered)


@dataclass(frozen=True)
class Window:
    """A window while it is set up and used.

    Attributes:
        opening: The signed OpenWindow; `boots` are the processes it was sent to.
        processes: Those that may still get in.
        phase: How far its set-up has come.
        cut_off: When the present phase goes on with what it has.
        advertisements, deposits: Signed messages by roster index.
        window_keys: Who advertised which.
        setup: Set once advertising is over.
        nonces: Of the witnesses of a sparse graph.
        held: Which dealers' shares each confirmed member holds.
        active: Members that take part in rounds: confirmed, and recoverable.
    """

    opening: Sealed[OpenWindow]
    boots: Mapping[int, bytes]
    processes: Mapping[int, bytes]
    phase: SetUpPhase = SetUpPhase.ADVERTISING
    cut_off: float = 0.0
    advertisements: GrowingMap[int, Sealed[Advertise]] = field(default_factory=GrowingMap)
    window_keys: GrowingMap[bytes, int] = field(default_factory=GrowingMap)
    setup: WindowSetUp | None = None
    nonces: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    deposits: GrowingMap[int, Sealed[Deposit]] = field(default_factory=GrowingMap)
    held: GrowingMap[int, frozenset[int]] = field(default_factory=GrowingMap)
    active: frozenset[int] = frozenset()

    @property
    def fixed(self) -> WindowSetUp:
        """The set-up, once advertising is over."""
        if self.setup is None:
            raise IllegalStep("the set-up of this window is not fixed")
        return self.setup

    @cached_property
    def confirmed(self) -> Mapping[int, bytes]:
        """The processes that have confirmed the set-up."""
        return {index: self.advertisements[index].content.boot for index in self.held}


@dataclass(frozen=True)
class Outcomes:
    """The one outcome of a round that witnesses are asked to endorse, and what has come in.

    Attributes:
        survivors: U, or nobody (void).
        evidence: H(y_i) and upload signature of each survivor, ascending.
        setup: The set-up whose keys endorse.
        endorsements: Signatures by witness.
    """

    survivors: frozenset[int]
    evidence: bytes
    setup: bytes
    endorsements: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """A round in progress.

    Attributes:
        header: The signed header, parameters attached.
        participants: P.
        sum: The running sum of uploads.
        uploads: Evidence (H(y_i) and signature) of each upload so far.
        vectors: Of a round of counts: the uploads themselves.
        outcome: U as it is put to the witnesses, once uploads are cut off.
        certificate: The certificate of U.
        self_seeds: b_t of the survivors that opened, or were recovered.
        keys_given: Keys of the masks that survivors share with the dropped, by survivor, then dropped.
        openings: What those that opened by themselves have signed.
        shares: Valid shares by (dealer, secret), then holder.
        asked: Holders that were asked for shares and have not answered.
        recovery: The request they were asked with.
    """

    header: Sealed[Header]
    participants: frozenset[int]
    sum: RoundSum
    uploads: GrowingMap[int, bytes] = field(default_factory=GrowingMap)
    vectors: GrowingMap[int, bytes] = field(default_factory=GrowingMap, repr=False)
    outcome: Outcomes | None = None
    certificate: Sealed[Certificate] | None = None
    self_seeds: GrowingMap[int, bytes] = field(default_factory=GrowingMap, repr=False)
    keys_given: GrowingMap[int, Mapping[int, bytes]] = field(default_factory=GrowingMap, repr=False)
    openings: GrowingMap[int, Sealed[Opening]] = field(default_factory=GrowingMap, repr=False)
    shares: Mapping[tuple[int, SharedSecret], Mapping[int, bytes]] = field(default_factory=dict, repr=False)
    asked: frozenset[int] = frozenset()
    recovery: Sealed[Recover] | None = None

    @property
    def number(self) -> int:
        """t."""
        return self.header.content.round

    @property
    def ring(self) -> Ring:
        """The ring it sums in."""
        header = self.header.content
        return ring_of(header.ring, header.mode == Mode.COUNTS)

    @property
    def survivors(self) -> frozenset[int]:
        """U, once uploads are cut off."""
        return self.outcome.survivors if self.outcome else frozenset()

    @property
    def dropped(self) -> frozenset[int]:
        """P∖U."""
        return _without(self.participants, self.survivors)

    @property
    def pair_keys(self) -> dict[tuple[int, int], bytes]:
        """Keys of the masks between survivors and dropped, by (survivor, dropped)."""
        return {(survivor, d): key for survivor, keys in self.keys_given.items() for d, key in keys.items()}

    @property
    def opened(self) -> frozenset[int]:
        """Survivors whose own mask is known."""
        return frozenset(self.self_seeds)


@dataclass(frozen=True)
class EndedRound:
    """A round that is over, for whoever keeps a transcript.

    Attributes:
        round: As it was at its end.
        opened: Σ over its survivors, unmasked, check words included; None if it was not opened.
    """

    round: Round
    opened: RingVector | None = field(default=None, repr=False)


_Sets = Callable[[frozenset[int], frozenset[int]], frozenset[int]]


def _of_the_very_same(function: _Sets) -> _Sets:
    """A function of two sets by memory of its last results for the same objects.

    The sets of two rounds are often equal and never one object: a memory by equality would compare all their members at each message.
    """
    known: tuple[tuple[frozenset[int], frozenset[int], frozenset[int]], ...] = ()

    def remembered(one: frozenset[int], other: frozenset[int]) -> frozenset[int]:
        nonlocal known
        for first, second, found in known:
            if first is one and second is other:
                return found
        found = function(one, other)
        known = ((one, other, found), *known[:7])
        return found

    return remembered


# The same sets of many tenants at each of their messages.
_witnesses = lru_cache(maxsize=8)(from_bitmap)
_both = _of_the_very_same(frozenset[int].intersection)
_without = _of_the_very_same(frozenset[int].difference)


@dataclass(frozen=True)
class Unresolved:
    """A round that ended without a certificate: it must get one before the next begins.

    Attributes:
        header: Its header, without parameters.
        outcome: What witnesses were asked to endorse, or void if they were asked nothing: they are never asked anything else.
    """

    header: Sealed[Header]
    outcome: Outcomes


@dataclass(frozen=True)
class PreviousRound:
    """What the next header tells of the round before it.

    Attributes:
        closed: How it was closed, if it had no certificate when it ended.
    """

    round: int = 0
    outcome: Outcome = Outcome.NONE
    certificate: Sealed[Certificate] | None = None
    sum: bytes = NO_DIGEST
    closed: Unresolved | None = None


@dataclass(frozen=True)
class Counts:
    """A round of counts: its survivors are the participants of the gated round that follows.

    Attributes:
        participants: Whom its evidence was sent to, in the message `evidence`.
        boots: The survivors' processes: one that starts later has not seen the evidence.
    """

    round: int
    survivors: frozenset[int]
    participants: frozenset[int]
    boots: Mapping[int, bytes]
    evidence: bytes = field(repr=False)


@dataclass(frozen=True)
class CoordinatorState:
    """Everything the server knows of a session. Start with `coordinator_start`.

    Attributes:
        give_up: When gathering for the present request fails.
        cut_off: When the present phase goes on with what it has; None while nothing is awaited.
        deadline: When `coordinator_tick` must be called at the latest: at a cut-off, or when the wait for one tenant ends.
        window: The window in use; `upcoming` is the one being set up.
        excused: Witnesses of a sparse graph that failed to reveal a nonce since the last complete set-up.
        draws: Sparse graphs drawn since that of the last window that served a sum: tenants refuse more than 8.
        last_certified: Header and certificate of the last round that was certified with keys of its own window.
        windows_before: Windows opened before the present request.
        paused: Whether the present request waits for tenants without whom there is no sum.
        unresolved: The last round, while it has no certificate and needs one.
        total: The running total of increments.
        planned_rounds: How many rounds the session takes if none fails; 0 if nobody knows.
        failed_rounds: Those that were spent without a sum.
        changed_after: No increment starts from this round or one before it: after it a tenant's rows or code changed.
        counts: The last round of counts, until the moments behind it are summed or have failed.
    """

    roster: Roster
    identity: SigningKey
    terms: Sealed[SessionTerms]
    timetable: Timetable
    members: Attendance
    phase: CoordinatorPhase = CoordinatorPhase.GATHERING
    request: SumRequest | None = None
    give_up: float = 0.0
    cut_off: float | None = None
    deadline: float | None = None
    window: Window | None = None
    upcoming: Window | None = None
    excused: frozenset[int] = frozenset()
    draws: int = 0
    last_certified: tuple[Sealed[Header], Sealed[Certificate]] | None = None
    windows_opened: int = 0
    windows_before: int = 0
    paused: bool = False
    round: Round | None = None
    last_round: int = 0
    previous: PreviousRound = PreviousRound()
    unresolved: Unresolved | None = None
    total: RunningTotal | None = None
    planned_rounds: int = 0
    failed_rounds: int = 0
    changed_after: int = 0
    counts: Counts | None = None

    def name(self, index: int) -> str:
        """Roster name of a tenant."""
        return self.roster.tenants[index].name

    @property
    def missing(self) -> tuple[str, ...]:
        """Tenants that are not here, by name."""
        return self.roster.names(self.members.absent)

    @property
    def serves_sums(self) -> bool:
        """Whether a round was certified in the window in use: until then, members drop it for the next that is opened."""
        header = self.last_certified[0].content if self.last_certified else None
        return header is not None and self.window is not None and header.setup == self.window.fixed.digest

    @property
    def certified(self) -> bool:
        """Whether rounds need a quorum's certificate."""
        return self.terms.content.trust == Trust.MALICIOUS_SERVER

    @cached_property
    def awaited(self) -> Awaited:
        """Tenants whose answer the present phase of the round still needs."""
        window, current, unresolved = self.window, self.round, self.unresolved
        if window is None:
            return Awaited()
        if self.phase is CoordinatorPhase.CLOSING and unresolved:
            return Awaited(endorsers_of(self, window, unresolved.header.content), unresolved.outcome.endorsements)
        if self.phase is CoordinatorPhase.UPLOADING and current:
            return Awaited(_both(current.participants, window.active), current.uploads)
        if self.phase is CoordinatorPhase.CERTIFYING and current and current.outcome:
            return Awaited(endorsers_of(self, window, current.header.content), current.outcome.endorsements)
        if self.phase is CoordinatorPhase.OPENING and current:
            return Awaited(_both(current.survivors, window.active), current.self_seeds)
        asked = current.asked if current and self.phase is CoordinatorPhase.RECOVERING else frozenset()
        return Awaited(asked & window.active)

    @property
    def involved(self) -> frozenset[int]:
        """The set of those that are awaited."""
        return self.awaited.all

    @cached_property
    def units(self) -> tuple[frozenset[int], ...]:
        """The units of the difference guard."""
        return guarded_units(self.roster, self.terms.content)

    @property
    def here(self) -> frozenset[int]:
        """Tenants that are linked, joined, and not known to lag."""
        return self.members.prompt


@dataclass(frozen=True)
class CoordinatorStep:
    """A new state, messages by recipient (roster index), notices, and what is over: a request and its round, the session."""

    state: CoordinatorState
    sends: tuple[tuple[int, bytes], ...] = ()
    notices: tuple[Notice, ...] = ()
    result: SumOpened | SumNotOpened | None = None
    ended: EndedRound | None = None
    closed: Sealed[Close] | None = None

    def then(self, following: Callable[[CoordinatorState], CoordinatorStep]) -> CoordinatorStep:
        """This step and one more from its state, as one."""
        more = following(self.state)
        if not (self.sends or self.notices or self.result or self.ended):
            return more
        return CoordinatorStep(
            more.state,
            self.sends + more.sends,
            self.notices + more.notices,
            self.result or more.result,
            self.ended or more.ended,
        )


def with_member(state: CoordinatorState, index: int, member: Member) -> CoordinatorState:
    if state.members[index] == member:
        return state
    return replace(state, members=state.members.with_member(index, member))


def require_policy(member: Member, policy: bytes, name: str) -> None:
    """Raise `PeerFault` unless a message commits to the policy that its sender's process said hello with."""
    if policy != member.policy:
        raise Equivocation(
            name,
            "signed under another policy than it said hello with",
            proves="the tenant signed two policies in one process: a changed one needs a new process, which joins anew",
        )


def endorsers_of(state: CoordinatorState, window: Window, header: Header) -> frozenset[int]:
    """Witnesses of a round that can endorse under a window's keys: those whose processes have confirmed its set-up."""
    witnesses = _witnesses(header.witnesses, state.roster.n)
    return witnesses.intersection(window.fixed.witnesses) & state.members.of_processes(window.confirmed)


def setup_awaited(state: CoordinatorState, window: Window) -> Awaited:
    """Tenants whose answer the set-up of a window still needs."""
    same = state.members.of_processes(window.processes)
    if window.phase is SetUpPhase.ADVERTISING:
        return Awaited(same, window.advertisements)
    if window.phase is SetUpPhase.DRAWING:
        return Awaited(same.intersection(window.fixed.witnesses), window.nonces)
    if window.phase is SetUpPhase.DEPOSITING:
        return Awaited(same, window.deposits)
    return Awaited(same, window.held) if window.phase is SetUpPhase.CONFIRMING else Awaited()


def same_process(state: CoordinatorState, window: Window) -> frozenset[int]:
    """Members that advertised and are still the process that did."""
    advertised, members = window.advertisements, state.members
    return frozenset(index for index in advertised if members[index].boot == advertised[index].content.boot)


def hopeful(state: CoordinatorState, whom: frozenset[int], now: float) -> frozenset[int]:
    """Those of some tenants whose answer can still be hoped for."""
    hoped_for = (i for i in whom & state.members.absent if state.members[i].hoped_for(now))
    return (whom & state.members.present).union(hoped_for)


def any_hopeful(state: CoordinatorState, whom: Awaited, now: float) -> bool:
    """Whether the answer of any of those awaited can still be hoped for."""
    members, absent = state.members, state.members.absent
    if len(whom.expected) - len(whom.expected & absent) > len(whom.answered):
        return True  # whoever has answered, somebody who is here has not
    silent = whom.all
    return not silent <= absent or any(members[i].hoped_for(now) for i in silent & absent)


def with_cut_off(state: CoordinatorState, cut_off: float | None) -> CoordinatorState:
    return state if state.cut_off == cut_off else replace(state, cut_off=cut_off)


def with_deadline(state: CoordinatorState, now: float) -> CoordinatorState:
    """The state with the time of its next tick: when a phase cuts off, or when it stops waiting for somebody who is away."""
    upcoming, members = state.upcoming, state.members
    times = [state.cut_off] if state.cut_off is not None else []
    away = frozenset[int]()
    if upcoming and upcoming.phase is not SetUpPhase.READY:
        times.append(upcoming.cut_off)
        away = setup_awaited(state, upcoming).among(members.absent)
    if state.phase is CoordinatorPhase.GATHERING:
        waits: Iterable[float] = members.waits
    else:
        waits = (members[i].wait_until for i in away | state.awaited.among(members.absent))
    times += [until for until in waits if until > now]
    deadline = min(times) if times and state.request is not None else None
    return state if state.deadline == deadline else replace(state, deadline=deadline)


def mark_late(state: CoordinatorState, owing: frozenset[int]) -> CoordinatorState:
    """At a cut-off: whoever is linked and owed an answer is late. (A restarted process owes none, and would never be heard.)"""
    late = {i: replace(state.members[i], late=True) for i in owing if state.members[i].linked}
    return replace(state, members=Attendance({**state.members, **late})) if late else state


def still_waiting(state: CoordinatorState, now: float) -> bool:
    """Whether the present phase of the round can still hope for an answer in time."""
    return state.cut_off is not None and now < state.cut_off and any_hopeful(state, state.awaited, now)


def fail_request(
    state: CoordinatorState,
    reason: str,
    notices: tuple[Notice, ...] = (),
    final: bool = False,
    away: tuple[str, ...] = (),
) -> CoordinatorStep:
    """End the request without a sum. The round number is spent, the window, if there is one, goes on; counts are taken anew."""
    current, previous, unresolved = state.round, state.previous, state.unresolved
    if current is not None and current.certificate is None and state.certified:
        outcome = current.outcome or Outcomes(frozenset(), b"", NO_DIGEST)
        unresolved = Unresolved(replace(current.header, attached=b""), outcome)
    if current is not None:
        total = previous.sum
        previous = PreviousRound(current.number, Outcome.NOT_OPENED, current.certificate, total)
    failed = replace(
        state, phase=CoordinatorPhase.GATHERING, request=None, round=None, cut_off=None, previous=previous,
        unresolved=unresolved, paused=False, counts=None, failed_rounds=state.failed_rounds + (current is not None),
    )  # fmt: skip
    notice = Notice(NoticeKind.ROUND_FAILED, state.last_round, (), reason)
    ended = None if current is None else EndedRound(current)
    result = SumNotOpened(state.last_round, reason, final, away)
    return CoordinatorStep(failed, notices=(*notices, notice), result=result, ended=ended)
