"""The tenant's half of the secure sum: a pure state machine.

    step = tenant_receive(state, data, …)     a message came; step.sends go back to the server
    step = tenant_join(state)                 after step.offer was found acceptable: checks the policy
    step = tenant_upload(state, ring, …)      after step.evaluate was computed

Ordering rules, enforced here and in `transitions`:

1. A round's header is accepted only with a number above every earlier one; the number is durable before the upload leaves.
2. The own self seed, pair keys and shares of a round are released for the first set of survivors ever seen for it, and no other.
3. Shares of a self seed are released only for survivors, shares of an agreement secret only for the dropped: never both.
4. Everything of a round is forgotten when the next header is accepted.
5. A message that was answered before is answered with the same bytes; nothing is computed twice.

Randomness, the durable mark and the tenant's policy are arguments. A raise leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import numpy as np

from fed_em_protocols.deposits import HeldShares, check_deposit, deal, open_box
from fed_em_protocols.deposits import box_bytes as box_bytes_of
from fed_em_protocols.envelope import Sealed, seal, unquote, unseal
from fed_em_protocols.errors import (
    SERVER,
    Equivocation,
    IllegalStep,
    MalformedMessage,
    OutOfTurn,
    PeerFault,
)
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.masks import RingVector, add_masks
from fed_em_protocols.members import from_bitmap, to_bitmap
from fed_em_protocols.messages import (
    Boxes,
    Certificate,
    Close,
    Deposit,
    Header,
    Hello,
    Join,
    Mode,
    Opening,
    OpenWindow,
    Outcome,
    Payload,
    Ready,
    Recover,
    Refusal,
    RefusalCode,
    SetUp,
    SharedSecret,
    Shares,
    Upload,
)
from fed_em_protocols.policy import TermsPolicy, check_terms
from fed_em_protocols.roster import Roster
from fed_em_protocols.round_keys import AgreementKey, RoundSecrets, self_mask_key
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transitions import TENANT_TRANSITIONS, TenantPhase, require_target, require_turn
from fed_em_protocols.window import (
    Randomness,
    WindowSecrets,
    WindowSetUp,
    advertisement,
    draw_window_secrets,
    read_setup,
)
from fed_em_protocols.wire.fields import SESSION_BYTES


class RoundMarks(Protocol):
    """The durable high-water mark of a tenant: one number a session, never falling."""

    def highest(self, session: bytes) -> int:
        """The highest round ever recorded for a session; 0 if none."""
        ...

    def record(self, session: bytes, round_number: int) -> None:
        """Record a round durably before returning."""
        ...


@dataclass(frozen=True)
class TenantSelf:
    """Who this tenant is: fixed for the life of its process."""

    roster: Roster
    index: int
    identity: SigningKey
    policy: TermsPolicy
    software: str

    @property
    def name(self) -> str:
        """Its roster name."""
        return self.roster.tenants[self.index].name


@dataclass(frozen=True)
class TenantWindow:
    """A window this tenant has advertised for (`advertised`: the digest of what it signed); `setup` and `held` come later."""

    opening: Sealed[OpenWindow]
    secrets: WindowSecrets
    advertised: bytes
    setup: WindowSetUp | None = None
    held: Mapping[int, HeldShares] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class TenantRound:
    """The one round this tenant is in.

    Attributes:
        header: Its signed header; `context` is its digest.
        participants: P.
        secrets: Own a_t and b_t; None if this tenant only helps to recover.
        survivors: U, once it was seen; the first U is the only one.
        certificate: Digest of the certificate that named U.
    """

    header: Sealed[Header]
    participants: frozenset[int]
    secrets: RoundSecrets | None = field(repr=False)
    survivors: frozenset[int] | None = None
    certificate: bytes | None = None

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
    """Everything a tenant knows of a session. Start with `tenant_start`."""

    me: TenantSelf
    boot: bytes
    phase: TenantPhase = TenantPhase.OUTSIDE
    terms: Sealed[SessionTerms] | None = None
    window: TenantWindow | None = None
    round: TenantRound | None = None
    highest_round: int = 0
    answers: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Evaluate:
    """What the server asks to be summed: compute it and call `tenant_upload`, or leave by `tenant_refuse`."""

    round: int
    parameters: bytes
    encoding: bytes
    length: int


@dataclass(frozen=True)
class TenantStep:
    """A new state, and what is to be done.

    Attributes:
        sends: Messages to the server, in order.
        offer: The session's description (JSON), to be checked before `tenant_join` or `tenant_refuse`.
        evaluate: Statistics to compute.
        closed: How the session ended, with the final parameters (empty if none) in its attachment.
    """

    state: TenantState
    sends: tuple[bytes, ...] = field(default=(), repr=False)
    offer: bytes | None = None
    evaluate: Evaluate | None = None
    closed: Sealed[Close] | None = None


def tenant_start(me: TenantSelf, randomness: Randomness) -> TenantState:
    """The state of a process that has just started. Its boot number is fresh, so nobody takes it for its predecessor."""
    return TenantState(me, boot=randomness(SESSION_BYTES))


def tenant_greet(state: TenantState) -> TenantStep:
    """The first message on every new link."""
    me = state.me
    hello = seal(Hello(me.name, me.roster.digest, state.boot, me.software), me.identity)
    return TenantStep(state, (hello.to_bytes(),))


def tenant_join(state: TenantState) -> TenantStep:
    """Accept the terms on offer.

    Raises:
        TermsRefused: they are below this tenant's policy: call `tenant_refuse`.
    """
    if state.phase is not TenantPhase.OFFERED or state.terms is None:
        raise IllegalStep("there are no terms on offer")
    check_terms(state.me.policy, state.terms.content, state.me.roster)
    joined = replace(state, phase=TenantPhase.JOINED)
    return TenantStep(joined, (_join(joined),))


def tenant_refuse(state: TenantState, code: RefusalCode) -> TenantStep:
    """Refuse the terms on offer, or leave the session, with a code."""
    session = state.terms.content.session if state.terms else bytes(SESSION_BYTES)
    refusal = seal(Refusal(session, int(code), state.highest_round), state.me.identity)
    return TenantStep(replace(state, phase=TenantPhase.CLOSED, window=None, round=None), (refusal.to_bytes(),))


def tenant_upload(state: TenantState, ring: RingVector, marks: RoundMarks) -> TenantStep:
    """Mask the encoded statistics of the current round and upload them. The round number is durable before this returns.

    Args:
        ring: The encoded vector, of the header's length. It is not changed.
    """
    current, window = state.round, state.window
    if state.phase is not TenantPhase.ANSWERING or current is None or window is None or current.secrets is None:
        raise IllegalStep("no round is waiting for statistics")
    header = current.header.content
    if ring.shape != (header.length,):
        raise IllegalStep(f"the header asks for {header.length} integers, not {ring.shape}")
    if ring.dtype != np.uint64:
        raise IllegalStep(f"masks are added to integers modulo 2^64, not to {ring.dtype}")
    masked = ring.astype("<u8")
    keys = _pair_keys(state, current, current.participants - {state.me.index})
    own = state.me.index
    add_masks(
        masked,
        added=[self_mask_key(current.secrets.self_seed, current.context)]
        + [key for peer, key in keys.items() if own < peer],
        subtracted=[key for peer, key in keys.items() if own > peer],
    )
    marks.record(header.session, current.number)
    upload = seal(Upload(header.session, current.number, current.context), window.secrets.signing_key, masked.tobytes())
    sends = (upload.to_bytes(),)
    answers = {**state.answers, current.header.digest: sends}
    return TenantStep(replace(state, phase=TenantPhase.UPLOADED, answers=answers), sends)


def tenant_receive(state: TenantState, data: bytes, randomness: Randomness, marks: RoundMarks) -> TenantStep:
    """Take one message from the server.

    Raises:
        PeerFault: the server, or a tenant whose signed message it passed on, broke the protocol; the state is unchanged.
    """
    sealed = unseal(data, SERVER)
    kind = type(sealed.content)
    answered = sealed.digest in state.answers
    if not answered:
        require_turn(TENANT_TRANSITIONS, state.phase, kind, SERVER)
    sealed.require_signature(state.me.roster.server.identity_key, SERVER)
    if answered:
        return TenantStep(state, state.answers[sealed.digest])
    if state.phase is TenantPhase.OUTSIDE and kind is not SessionTerms:
        return TenantStep(state)  # meant for this tenant's last process
    if kind is not SessionTerms:
        _require_session(state, sealed)
    step = _HANDLERS[kind](state, sealed, randomness, marks)
    require_target(state.phase, kind, step.state.phase)
    if step.sends and kind is not SessionTerms:
        answers = {**step.state.answers, sealed.digest: step.sends}
        step = replace(step, state=replace(step.state, answers=answers))
    return step


def _require_session(state: TenantState, sealed: Sealed[Payload]) -> None:
    session = getattr(sealed.content, "session", None)
    if state.terms is None or session != state.terms.content.session:
        raise OutOfTurn(SERVER, f"sent {type(sealed.content).__name__} of another session")


def _terms(state: TenantState) -> SessionTerms:
    if state.terms is None:
        raise IllegalStep("this tenant has accepted no terms")
    return state.terms.content


def _join(state: TenantState) -> bytes:
    assert state.terms is not None
    content = Join(state.terms.content.session, state.terms.digest, state.boot)
    return seal(content, state.me.identity).to_bytes()


def _on_terms(
    state: TenantState, sealed: Sealed[SessionTerms], randomness: Randomness, marks: RoundMarks
) -> TenantStep:
    if state.phase not in {TenantPhase.OUTSIDE, TenantPhase.OFFERED}:
        if state.terms is None or state.terms.digest != sealed.digest:
            raise Equivocation(
                SERVER,
                "changed the terms of a running session",
                proves="the server signed two different terms",
            )
        return TenantStep(state, (_join(state),))
    if sealed.attachment_digest != sealed.content.schema:
        raise MalformedMessage(SERVER, "sent a description that does not match the terms")
    highest = marks.highest(sealed.content.session)
    offered = replace(state, phase=TenantPhase.OFFERED, terms=sealed, highest_round=highest)
    return TenantStep(offered, offer=sealed.attachment)


def _on_open_window(
    state: TenantState, sealed: Sealed[OpenWindow], randomness: Randomness, marks: RoundMarks
) -> TenantStep:
    assert state.terms is not None
    content, terms = sealed.content, state.terms.content
    if content.terms != state.terms.digest:
        raise OutOfTurn(SERVER, "opens a window under other terms")
    if state.window is not None and content.number <= state.window.opening.content.number:
        raise OutOfTurn(SERVER, f"opens window {content.number} again")
    if content.first_round <= state.highest_round:
        raise PeerFault(SERVER, f"opens a window at round {content.first_round}, which this tenant has passed")
    secrets = draw_window_secrets(sealed, randomness)
    advertised = seal(advertisement(secrets, terms, state.boot), state.me.identity)
    window = TenantWindow(sealed, secrets, advertised.digest)
    opened = replace(state, phase=TenantPhase.ADVERTISED, window=window, round=None, answers={})
    return TenantStep(opened, (advertised.to_bytes(),))


def _on_setup(state: TenantState, sealed: Sealed[SetUp], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    window, terms, me = state.window, _terms(state), state.me
    assert window is not None
    setup = read_setup(sealed, window.opening, terms, me.roster)
    own = setup.advertisements.get(me.index)
    if own is None or own.digest != window.advertised:
        raise PeerFault(SERVER, "sent a set-up without this tenant's own advertisement")
    names = {index: me.roster.tenants[index].name for index in setup.members}
    roots, boxes = deal(setup, me.index, window.secrets, names, randomness)
    deposit = seal(Deposit(terms.session, setup.digest, roots), window.secrets.signing_key, boxes)
    dealt = replace(state, phase=TenantPhase.DEPOSITED, window=replace(window, setup=setup))
    return TenantStep(dealt, (deposit.to_bytes(),))


def _on_boxes(state: TenantState, sealed: Sealed[Boxes], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    window, terms, me = state.window, _terms(state), state.me
    assert window is not None and window.setup is not None
    setup, content = window.setup, sealed.content
    if content.setup != setup.digest:
        raise OutOfTurn(SERVER, "sent boxes of another set-up")
    dealers = sorted(_members(content.dealers, me.roster, within=setup.others(me.index), what="dealers"))
    size = box_bytes_of(setup)
    if len(dealers) != len(content.deposits) or len(sealed.attachment) != size * len(dealers):
        raise MalformedMessage(SERVER, f"sent boxes that do not belong to {len(dealers)} dealers")
    held: dict[int, HeldShares] = {}
    for place, (dealer, quoted) in enumerate(zip(dealers, content.deposits, strict=True)):
        name = me.roster.tenants[dealer].name
        deposit = unquote(quoted, Deposit, SERVER)
        check_deposit(deposit, setup, dealer, name)
        box = sealed.attachment[place * size : (place + 1) * size]
        shares = open_box(setup, deposit, dealer, me.index, window.secrets, box, name)
        if shares is not None:
            held[dealer] = shares
    ready = seal(Ready(terms.session, setup.digest, to_bitmap(held, me.roster.n)), window.secrets.signing_key)
    opened = replace(window, held=held, secrets=window.secrets.without_channel())
    return TenantStep(replace(state, phase=TenantPhase.READY, window=opened), (ready.to_bytes(),))


def _on_header(state: TenantState, sealed: Sealed[Header], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    header = sealed.content
    waiting = state.phase is TenantPhase.ANSWERING and state.round is not None and state.round.context == sealed.digest
    accepted = state if waiting else _accept_header(state, sealed, marks)
    assert accepted.round is not None
    if state.me.index not in accepted.round.participants:
        raise OutOfTurn(SERVER, f"asks this tenant for round {header.round} without counting it as a participant")
    if sealed.attachment_digest != header.parameters:
        raise MalformedMessage(SERVER, "sent parameters that its header does not name")
    evaluate = Evaluate(header.round, sealed.attachment, header.encoding, header.length)
    return TenantStep(replace(accepted, phase=TenantPhase.ANSWERING), evaluate=evaluate)


def _accept_header(state: TenantState, sealed: Sealed[Header], marks: RoundMarks) -> TenantState:
    """The state in a new round: older rounds are forgotten, their keys and shares erased."""
    window, header = state.window, sealed.content
    assert state.terms is not None and window is not None and window.setup is not None
    _require_fresh_round(state, sealed, marks)
    terms, setup = state.terms.content, window.setup
    if header.terms != state.terms.digest or header.setup != setup.digest:
        raise OutOfTurn(SERVER, "sent a header of other terms or of another set-up")
    if not setup.covers(header.round) or header.round > terms.round_cap:
        raise PeerFault(SERVER, f"asks for round {header.round}, beyond the window or the session's round cap")
    if header.mode != Mode.WHOLE:
        raise MalformedMessage(SERVER, f"asks for a round of mode {header.mode}, which this version does not know")
    participants = _members(header.participants, state.me.roster, within=setup.members, what="participants")
    if len(participants) < terms.minimum_survivors:
        raise PeerFault(
            SERVER,
            f"asks for a sum of {len(participants)} tenants, the terms say {terms.minimum_survivors} or more",
        )
    _require_chain(state.round, header)
    chain = window.secrets.chain.advanced(header.round)
    mine = chain.current() if state.me.index in participants else None
    kept = {dealer: shares.from_round(header.round) for dealer, shares in window.held.items()}
    secrets = replace(window.secrets, chain=chain.advanced(header.round + 1))
    return replace(
        state,
        phase=TenantPhase.READY,
        window=replace(window, secrets=secrets, held=kept),
        round=TenantRound(sealed, participants, mine),
        highest_round=header.round,
        answers={},
    )


def _require_chain(previous: TenantRound | None, header: Header) -> None:
    """Hold a header against what this tenant knows of the round before: once certified, it cannot be told otherwise."""
    if header.previous_round != header.round - 1 or header.previous_outcome not in set(Outcome):
        raise MalformedMessage(
            SERVER, f"sent a header for round {header.round} that does not continue the chain of rounds"
        )
    if previous is not None and previous.number == header.previous_round and previous.certificate is not None:
        _require_same_certificate(previous, header.previous_certificate)


def _require_fresh_round(state: TenantState, sealed: Sealed[Header], marks: RoundMarks) -> None:
    header, current = sealed.content, state.round
    if current is not None and header.round == current.number and sealed.digest != current.context:
        raise Equivocation(
            SERVER,
            f"signed two different headers for round {header.round}",
            proves="the server showed different rounds to different tenants; keep both headers",
        )
    if header.round <= max(state.highest_round, marks.highest(header.session)):
        raise OutOfTurn(SERVER, f"asks for round {header.round} again, which this tenant has passed")


def _require_same_certificate(current: TenantRound, certificate: bytes) -> None:
    if current.certificate is not None and current.certificate != certificate:
        raise Equivocation(
            SERVER,
            f"named two different sets of survivors for round {current.number}",
            proves="two openings of one round would give a single tenant's statistics away; nothing was released for the second",
        )


def _on_certificate(
    state: TenantState, sealed: Sealed[Certificate], randomness: Randomness, marks: RoundMarks
) -> TenantStep:
    current, window = state.round, state.window
    assert current is not None and window is not None and current.secrets is not None
    certified = _accept_certificate(state, current, sealed)
    survivors = cast(frozenset[int], certified.survivors)
    if state.me.index not in survivors:
        raise OutOfTurn(SERVER, "asks this tenant to open a sum that does not hold its upload")
    keys = _pair_keys(state, current, current.participants - survivors)
    opening = Opening(
        session=_terms(state).session,
        round=current.number,
        context=current.context,
        self_seed=current.secrets.self_seed,
        pair_keys=b"".join(keys[peer] for peer in sorted(keys)),
    )
    sends = (seal(opening, window.secrets.signing_key).to_bytes(),)
    return TenantStep(replace(state, phase=TenantPhase.OPENED, round=certified), sends)


def _accept_certificate(state: TenantState, current: TenantRound, sealed: Sealed[Certificate]) -> TenantRound:
    """Bind the round to its one set of survivors, or refuse a second one."""
    content, terms = sealed.content, _terms(state)
    if content.round != current.number or content.context != current.context:
        raise OutOfTurn(SERVER, f"sent a certificate for another round than {current.number}")
    _require_same_certificate(current, sealed.digest)
    survivors = _members(content.survivors, state.me.roster, within=current.participants, what="survivors")
    if len(survivors) < terms.minimum_survivors:
        raise PeerFault(
            SERVER,
            f"asks to open a sum of {len(survivors)} tenants, the terms say {terms.minimum_survivors} or more",
            proves="the server tried to see a smaller sum than was agreed",
        )
    return replace(current, survivors=survivors, certificate=sealed.digest)


def _on_recover(state: TenantState, sealed: Sealed[Recover], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    header = unquote(sealed.content.header, Header, SERVER)
    header.require_signature(state.me.roster.server.identity_key, SERVER)
    certificate = unquote(sealed.content.certificate, Certificate, SERVER)
    certificate.require_signature(state.me.roster.server.identity_key, SERVER)
    if header.content.session != _terms(state).session or certificate.content.session != _terms(state).session:
        raise OutOfTurn(SERVER, "asks for shares of another session")
    helping = state
    if state.round is None or header.digest != state.round.context:
        helping = _accept_header(state, header, marks)
    assert helping.round is not None and helping.window is not None and helping.window.setup is not None
    certified = _accept_certificate(helping, helping.round, certificate)
    survivors = cast(frozenset[int], certified.survivors)
    silent = _members(sealed.content.silent, state.me.roster, within=survivors, what="silent survivors")
    outside = certified.participants - survivors
    dropped = _members(sealed.content.dropped, state.me.roster, within=outside, what="dropped participants")
    wanted = [(dealer, SharedSecret.SELF_SEED) for dealer in sorted(silent)]
    wanted += [(dealer, SharedSecret.AGREEMENT) for dealer in sorted(dropped)]
    held, setup = helping.window.held, helping.window.setup
    released = tuple(
        held[dealer].release(setup, certified.number, secret) for dealer, secret in wanted if dealer in held
    )
    shares = Shares(_terms(state).session, certified.number, certified.context, released)
    sends = (seal(shares, helping.window.secrets.signing_key).to_bytes(),)
    return TenantStep(replace(helping, round=certified), sends)


def _on_close(state: TenantState, sealed: Sealed[Close], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    return TenantStep(replace(state, phase=TenantPhase.CLOSED, window=None, round=None, answers={}), closed=sealed)


def _members(bitmap: bytes, roster: Roster, within: object, what: str) -> frozenset[int]:
    try:
        found = from_bitmap(bitmap, roster.n)
    except ValueError as error:
        raise MalformedMessage(SERVER, str(error)) from None
    if not found <= frozenset(cast("frozenset[int]", within)):
        raise PeerFault(SERVER, f"names {what} that cannot be any")
    return found


def _pair_keys(state: TenantState, current: TenantRound, peers: frozenset[int]) -> dict[int, bytes]:
    """Keys of the masks shared with `peers` in a round, by roster index, ascending."""
    assert state.window is not None and state.window.setup is not None and current.secrets is not None
    setup, roster = state.window.setup, state.me.roster
    own = AgreementKey(state.me.index, current.secrets.agreement)
    return {
        peer: own.pair_mask_key(peer, setup.round_key(peer, current.number), current.context, roster.tenants[peer].name)
        for peer in sorted(peers)
    }


_Handler = Callable[[TenantState, Sealed[Payload], Randomness, RoundMarks], TenantStep]

_HANDLERS: Mapping[type, _Handler] = {
    SessionTerms: cast(_Handler, _on_terms),
    OpenWindow: cast(_Handler, _on_open_window),
    SetUp: cast(_Handler, _on_setup),
    Boxes: cast(_Handler, _on_boxes),
    Header: cast(_Handler, _on_header),
    Certificate: cast(_Handler, _on_certificate),
    Recover: cast(_Handler, _on_recover),
    Close: cast(_Handler, _on_close),
}
