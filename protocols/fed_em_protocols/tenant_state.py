"""What a tenant knows of a session, as frozen types, and the questions that all its steps ask of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from fed_em_protocols.deposits import HeldShares
from fed_em_protocols.envelope import Sealed
from fed_em_protocols.errors import SERVER, IllegalStep, MalformedMessage, PeerFault
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.masks import RingVector
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import Close, Header, OpenWindow
from fed_em_protocols.policy import TermsPolicy, commitment_to, salt_of
from fed_em_protocols.records import replace
from fed_em_protocols.roster import Roster
from fed_em_protocols.round_keys import RoundSecrets
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transitions import RoundStage, TenantPhase, WindowStage
from fed_em_protocols.window import WindowSecrets, WindowSetUp


class RoundMarks(Protocol):
    """What a tenant remembers of a session for ever, each entry durable before its message leaves.

    Window secrets are not among them: a restarted tenant is out of its window. These marks keep it from answering or endorsing
    a round a second time when it comes back in another one.
    """

    def highest(self, session: bytes) -> int:
        """The highest round ever uploaded for in a session; 0 if none."""
        ...

    def record(self, session: bytes, round_number: int) -> None:
        """Record an upload durably before returning."""
        ...

    def endorsed(self, session: bytes) -> tuple[int, bytes]:
        """The last round endorsed in a session, and its outcome digest; (0, b"") if none."""
        ...

    def endorse(self, session: bytes, round_number: int, outcome: bytes) -> None:
        """Record an endorsement durably before returning."""
        ...


@dataclass(frozen=True)
class TenantSelf:
    """Who this tenant is: fixed for the life of its process."""

    roster: Roster
    index: int
    identity: SigningKey
    policy: TermsPolicy
    software: str

    @cached_property
    def commitment(self) -> bytes:
        """What every message of this tenant says of its policy."""
        return commitment_to(self.policy.digest, salt_of(self.policy.digest, self.identity))

    @property
    def name(self) -> str:
        """Its roster name."""
        return self.roster.tenants[self.index].name


@dataclass(frozen=True)
class TenantWindow:
    """A window this tenant has advertised for.

    Attributes:
        opening: The signed OpenWindow.
        secrets: Own secrets, in memory only.
        advertised: Digest of the own advertisement.
        stage: How far its set-up has come.
        setup: Its public state, once fixed.
        held: Other dealers' shares, by dealer.
        answers: What was sent in answer to each message of the set-up.
    """

    opening: Sealed[OpenWindow]
    secrets: WindowSecrets
    advertised: bytes
    stage: WindowStage = WindowStage.ADVERTISED
    setup: WindowSetUp | None = None
    held: Mapping[int, HeldShares] = field(default_factory=dict, repr=False)
    answers: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict, repr=False)

    @property
    def fixed(self) -> WindowSetUp:
        """The public state of a window whose set-up is over."""
        if self.setup is None:
            raise IllegalStep("the set-up of this window is not fixed")
        return self.setup

    def after(self, round_number: int) -> TenantWindow:
        """The same without the secrets of a round and of those before it."""
        chain = self.secrets.chain.advanced(round_number + 1)
        held = {dealer: shares.from_round(round_number + 1) for dealer, shares in self.held.items()}
        return replace(self, secrets=replace(self.secrets, chain=chain), held=held)


@dataclass(frozen=True)
class BaseRound:
    """The round that this tenant's term in the running total belongs to.

    Attributes:
        round: Its number; 0 if the total holds nothing of this tenant's unit.
        context: H(header) of that round.
        certain: Whether it follows from rounds that this process saw without a gap.
    """

    round: int = 0
    context: bytes = b""
    certain: bool = False


@dataclass(frozen=True)
class OwnStatistics:
    """This tenant's encoded statistics of one round, and the digest of their encoding."""

    encoding: bytes
    ring: RingVector = field(repr=False)


@dataclass(frozen=True)
class GateOpened:
    """What a round of counts says of the next: who took part, and which components stay shut (bitmap)."""

    round: int
    survivors: frozenset[int]
    held: bytes


@dataclass(frozen=True)
class TenantRound:
    """The one round this tenant is in.

    Attributes:
        header: Its signed header; `context` is its digest.
        participants: P.
        secrets: Own a_t and b_t; None if this tenant only certifies or helps to recover.
        base: Round and context that an increment starts from; None for a whole vector.
        survivors: U, once it was seen under a certificate; the first U is the only one.
        outcome: Outcome digest of that certificate.
        endorsed: Outcome digest that this tenant has signed.
        recoveries: How many requests for shares were answered.
        answers: What was sent in answer to each message of the round.
    """

    header: Sealed[Header]
    participants: frozenset[int]
    secrets: RoundSecrets | None = field(repr=False)
    stage: RoundStage = RoundStage.NONE
    base: tuple[int, bytes] | None = None
    survivors: frozenset[int] | None = None
    outcome: bytes | None = None
    endorsed: bytes | None = None
    recoveries: int = 0
    answers: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict, repr=False)

    @property
    def number(self) -> int:
        """t."""
        return self.header.content.round

    @property
    def context(self) -> bytes:
        """H(header)."""
        return self.header.digest


@dataclass(frozen=True)
class TenantState:
    """Everything a tenant knows of a session. Start with `tenant_start`.

    Attributes:
        changed: Whether rows or code differ from those of an earlier process in the session: see `fed_em_protocols.tenant.tenant_join`.
        window: The window in use; `upcoming` is the one being set up.
        drawn: H(set-up) of each window whose graph was drawn since that of the last one known to be in use, in order.
        base: What this tenant's next increment starts from.
        vectors: Own encoded statistics of the base round and of rounds since, by context.
        gate: What the last round of counts says.
    """

    me: TenantSelf
    boot: bytes
    phase: TenantPhase = TenantPhase.OUTSIDE
    terms: Sealed[SessionTerms] | None = None
    changed: bool = False
    window: TenantWindow | None = None
    upcoming: TenantWindow | None = None
    drawn: tuple[bytes, ...] = ()
    round: TenantRound | None = None
    highest_round: int = 0
    base: BaseRound = BaseRound()
    vectors: Mapping[bytes, OwnStatistics] = field(default_factory=dict, repr=False)
    gate: GateOpened | None = None

    @property
    def window_stage(self) -> WindowStage:
        """Where the set-up of the next window stands."""
        return self.upcoming.stage if self.upcoming else WindowStage.NONE

    @property
    def round_stage(self) -> RoundStage:
        """Where the round stands."""
        return self.round.stage if self.round else RoundStage.NONE

    @property
    def accepted_terms(self) -> SessionTerms:
        """The terms of the session."""
        if self.terms is None:
            raise IllegalStep("this tenant has accepted no terms")
        return self.terms.content

    def window_of(self, setup: bytes) -> TenantWindow | None:
        """The window with this set-up, if this process is ready in it."""
        for window in (self.window, self.upcoming):
            if window and window.stage is WindowStage.READY and window.fixed.digest == setup:
                return window
        return None


@dataclass(frozen=True)
class Evaluate:
    """What the server asks to be summed. Compute it, then call `tenant_upload` (or `tenant_recall` if `recall`).

    Attributes:
        round: t, for messages to people.
        mode: See `Mode`.
        parameters: The broadcast.
        encoding: H(encoding); `length` its length.
        held: Bitmap of the components whose statistics must be zero; empty if no gate was passed.
        mass_floor: The session's mass floor in thousandths of a record; 0: no gate.
        colluders: The session's f.
        ring: Bits of the ring.
        recall: Whether the base of an increment is computed again, rather than this round's statistics.
        minimum_survivors: The session's u_min.
    """

    round: int
    mode: int
    parameters: bytes = field(repr=False)
    encoding: bytes
    length: int
    held: bytes = b""
    mass_floor: int = 0
    colluders: int = 0
    ring: int = 64
    recall: bool = False
    minimum_survivors: int = 0


@dataclass(frozen=True)
class TenantStep:
    """A new state, and what is to be done.

    Attributes:
        sends: Messages to the server, in order.
        offer: The session's description (JSON), to be checked before `tenant_join` or `tenant_refuse`.
        evaluate: Statistics to compute.
        counts: An opened and verified sum of counts: apply the gate's rule to it and call `tenant_gate`.
        closed: How the session ended, with the final parameters (empty if none) in its attachment.
    """

    state: TenantState
    sends: tuple[bytes, ...] = field(default=(), repr=False)
    offer: bytes | None = None
    evaluate: Evaluate | None = None
    counts: RingVector | None = field(default=None, repr=False)
    closed: Sealed[Close] | None = None


def with_round(state: TenantState, current: TenantRound) -> TenantState:
    return replace(state, round=current)


def members_in(bitmap: bytes, roster: Roster, within: Collection[int], what: str) -> frozenset[int]:
    """A set of tenants that the server names. Raises `PeerFault` if it is no subset of `within`."""
    try:
        found = from_bitmap(bitmap, roster.n)
    except ValueError as error:
        raise MalformedMessage(SERVER, str(error)) from None
    if not found <= frozenset(within):
        raise PeerFault(SERVER, f"names {what} that cannot be any")
    return found
