"""The server's half of the secure sum: a pure state machine.

    step = coordinator_request(state, request, now)       somebody wants a sum
    step = coordinator_linked / _unlinked / _receive       links and messages
    step = coordinator_tick(state, now)                    a deadline passed

Each step returns the new state, messages to send, notices for whoever watches, and at most one result. Time is an argument. A
raise names the tenant at fault and leaves the state as it was.

Whom a round asks: members of the window that are linked and not known to lag. Whom it sums: those whose upload came before the
cut-off. Who falls silent after that is recovered from shares; nobody's silence can change a sum, only prevent it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from fed_em.errors import CallerError
from fed_em_protocols.coordinator_round import (
    on_opening,
    on_shares,
    on_upload,
    opening_stage,
    recovering_stage,
    start_round,
    uploading_stage,
)
from fed_em_protocols.coordinator_state import (
    CoordinatorState,
    CoordinatorStep,
    Member,
    Notice,
    NoticeKind,
    SumRequest,
    Timetable,
    fail_request,
    involved,
    least_survivors,
    with_cut_off,
    with_deadline,
    with_member,
)
from fed_em_protocols.coordinator_window import (
    advertising_stage,
    boxes_for,
    confirming_stage,
    depositing_stage,
    on_advertise,
    on_deposit,
    on_ready,
    open_window,
    setup_message,
    wants_window,
)
from fed_em_protocols.encoding import CHECK_WORDS
from fed_em_protocols.envelope import Sealed, seal, unseal
from fed_em_protocols.errors import AnotherRoster, IllegalStep, OutOfTurn, PeerFault
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.limits import MAX_VECTOR_LENGTH
from fed_em_protocols.messages import (
    Advertise,
    Close,
    CloseReason,
    Deposit,
    Hello,
    Join,
    Opening,
    Payload,
    Ready,
    Refusal,
    RefusalCode,
    Shares,
    Upload,
)
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms, validate_terms
from fed_em_protocols.transitions import (
    COORDINATOR_HEARS,
    CoordinatorPhase,
    require_move,
    require_turn,
)

# Tenants that leave in every set-up could otherwise keep one request open for ever.
_WINDOWS_A_REQUEST = 2


def coordinator_start(
    roster: Roster,
    identity: SigningKey,
    terms: SessionTerms,
    description: bytes,
    timetable: Timetable,
    now: float,
) -> CoordinatorState:
    """The state before anybody is linked. `description` is the JSON whose SHA-256 the terms name.

    Raises:
        CallerError: the terms break a rule, belong to another roster, or the key is not the roster's.
    """
    validate_terms(terms, roster.n)
    if identity.public != roster.server.identity_key:
        raise CallerError(
            "the server's identity key is not the one in the roster",
            remedy="use the key the roster was made with",
        )
    if terms.roster != roster.digest or terms.schema != hashlib.sha256(description).digest():
        raise CallerError("the terms name another roster or another description")
    members = {index: Member(wait_until=now + timetable.gather) for index in range(roster.n)}
    return CoordinatorState(roster, identity, seal(terms, identity, description), timetable, members)


def coordinator_request(state: CoordinatorState, request: SumRequest, now: float) -> CoordinatorStep:
    """Ask for a sum. Exactly one request can be open.

    Raises:
        CallerError: no message may hold so long a vector, or so many parameters.
    """
    if state.request is not None or state.phase is CoordinatorPhase.CLOSED:
        raise IllegalStep("a sum is being computed, or the session is over")
    if not CHECK_WORDS < request.length <= MAX_VECTOR_LENGTH or len(request.parameters) > 8 * MAX_VECTOR_LENGTH:
        raise CallerError(
            f"a sum of {request.length} integers at {len(request.parameters)} bytes of parameters is beyond the "
            f"protocol's limits",
            remedy=f"a vector has {CHECK_WORDS + 1} to {MAX_VECTOR_LENGTH} entries, check words included",
        )
    give_up = now + state.timetable.gather
    return _advance(replace(state, request=request, give_up=give_up, windows_before=state.windows_opened), now)


def coordinator_unlinked(state: CoordinatorState, index: int, now: float) -> CoordinatorStep:
    """A tenant's link is down."""
    member = state.members[index]
    if not member.linked:
        return CoordinatorStep(state)
    gone = replace(_waited_for(state, member, now), linked=False)
    notice = Notice(NoticeKind.LEFT, state.last_round, (state.name(index),))
    return CoordinatorStep(with_member(state, index, gone), notices=(notice,)).then(lambda s: _advance(s, now))


def _waited_for(state: CoordinatorState, member: Member, now: float) -> Member:
    """A member that was in the session and is away, or is joining anew, gets the session's patience: once a round."""
    if not member.joined or member.waited_in >= state.last_round:
        return member
    return replace(member, wait_until=now + state.timetable.patience, waited_in=state.last_round)


def coordinator_tick(state: CoordinatorState, now: float) -> CoordinatorStep:
    """Time passes. Call it at `state.deadline`, or more often."""
    return _advance(state, now)


def coordinator_receive(state: CoordinatorState, index: int, data: bytes, now: float) -> CoordinatorStep:
    """Take one message from the tenant with this roster index.

    Raises:
        PeerFault: names the tenant; the state is unchanged. The caller should cut its link.
    """
    name = state.name(index)
    sealed = unseal(data, name)
    kind = type(sealed.content)
    require_turn(COORDINATOR_HEARS, state.phase, kind, name)
    session = getattr(sealed.content, "session", state.terms.content.session)
    if session != state.terms.content.session:
        raise OutOfTurn(name, f"sent {kind.__name__} of another session")
    member = state.members[index]
    if kind is not Hello and not member.linked:
        raise OutOfTurn(name, f"sent {kind.__name__} before saying hello")
    if kind not in {Hello, Join, Refusal} and not member.joined:
        raise OutOfTurn(name, f"sent {kind.__name__} before accepting the terms")
    heard = with_member(state, index, replace(member, late=False))
    return _HANDLERS[kind](heard, index, sealed, now).then(lambda s: _advance(s, now))


def coordinator_close(state: CoordinatorState, reason: CloseReason, parameters: bytes = b"") -> CoordinatorStep:
    """End the session: tell every linked tenant, with the final parameters if there are any."""
    if state.phase is CoordinatorPhase.CLOSED:
        return CoordinatorStep(state)
    close = seal(Close(state.terms.content.session, int(reason), state.last_round), state.identity, parameters)
    data = close.to_bytes()
    sends = tuple((index, data) for index, member in state.members.items() if member.linked)
    closed = replace(
        state, phase=CoordinatorPhase.CLOSED, request=None, round=None, window=None, cut_off=None, deadline=None
    )
    return CoordinatorStep(closed, sends)


def _on_hello(state: CoordinatorState, index: int, sealed: Sealed[Hello], now: float) -> CoordinatorStep:
    name, hello, member = state.name(index), sealed.content, state.members[index]
    sealed.require_signature(state.roster.tenants[index].identity_key, name)
    if hello.tenant != name:
        raise PeerFault(name, "says that it is another tenant", proves="its link carries another tenant's certificate")
    if hello.roster != state.roster.digest:
        raise AnotherRoster(
            name, "runs on another roster than this session", proves="one of the two rosters is out of date"
        )
    same = hello.boot == member.boot
    before = member if same else _waited_for(state, member, now)
    linked = replace(before, boot=hello.boot, linked=True, joined=member.joined and same, late=False, refusal=0)
    step = CoordinatorStep(
        with_member(state, index, linked),
        ((index, state.terms.to_bytes()),),
        (Notice(NoticeKind.LINKED, state.last_round, (name,), "again" if same else ""),),
    )
    return step.then(lambda s: _forget_predecessor(s, index)) if not same else step


def _forget_predecessor(state: CoordinatorState, index: int) -> CoordinatorStep:
    """A new process has none of its predecessor's secrets: it is out of the window, whatever the predecessor did."""
    if state.window is None:
        return CoordinatorStep(state)
    return CoordinatorStep(replace(state, window=replace(state.window, active=state.window.active - {index})))


def _on_join(state: CoordinatorState, index: int, sealed: Sealed[Join], now: float) -> CoordinatorStep:
    name, member = state.name(index), state.members[index]
    sealed.require_signature(state.roster.tenants[index].identity_key, name)
    if sealed.content.terms != state.terms.digest or sealed.content.boot != member.boot:
        raise OutOfTurn(name, "accepted other terms than were offered")
    if member.joined:
        return CoordinatorStep(state, _pending_for(state, index))  # the same process on a new link
    joined = with_member(state, index, replace(member, joined=True, wait_until=0.0))
    return CoordinatorStep(joined, notices=(Notice(NoticeKind.JOINED, state.last_round, (name,)),))


def _pending_for(state: CoordinatorState, index: int) -> tuple[tuple[int, bytes], ...]:
    """What a tenant must be told again when the same process links anew: the message whose answer is still awaited."""
    if index not in involved(state):
        return ()
    window, current = state.window, state.round
    sealed: Sealed[Payload] | None = None
    if state.phase is CoordinatorPhase.ADVERTISING and window:
        sealed = cast("Sealed[Payload]", window.opening)
    elif state.phase is CoordinatorPhase.DEPOSITING and window and window.setup:
        sealed = cast("Sealed[Payload]", setup_message(state, window, window.setup))
    elif state.phase is CoordinatorPhase.CONFIRMING and window and window.setup:
        return ((index, boxes_for(state, window, window.setup, index)),)
    elif state.phase is CoordinatorPhase.UPLOADING and current:
        sealed = cast("Sealed[Payload]", current.header)
    elif state.phase is CoordinatorPhase.OPENING and current and current.certificate:
        sealed = cast("Sealed[Payload]", current.certificate)
    elif state.phase is CoordinatorPhase.RECOVERING and current and current.recovery:
        sealed = cast("Sealed[Payload]", current.recovery)
    return ((index, sealed.to_bytes()),) if sealed else ()


def _on_refusal(state: CoordinatorState, index: int, sealed: Sealed[Refusal], now: float) -> CoordinatorStep:
    name, member = state.name(index), state.members[index]
    sealed.require_signature(state.roster.tenants[index].identity_key, name)
    code = sealed.content.code
    text = RefusalCode(code).name.lower().replace("_", "-") if code in set(RefusalCode) else f"code {code}"
    refused = with_member(state, index, replace(member, joined=False, refusal=code, wait_until=0.0))
    return CoordinatorStep(refused, notices=(Notice(NoticeKind.REFUSED, state.last_round, (name,), text),))


def _advance(state: CoordinatorState, now: float) -> CoordinatorStep:
    """Go on as far as what has come in, and the time, allow."""
    step = CoordinatorStep(state)
    while step.result is None and step.state.request is not None:
        before = step.state
        step = step.then(lambda s: _STAGES[s.phase](s, now))
        require_move(before.phase, step.state.phase)
        if step.state is before:
            break
    return step.then(lambda s: CoordinatorStep(with_deadline(s, now)))


def _gather(state: CoordinatorState, now: float) -> CoordinatorStep:
    """Wait for tenants, then open a window or start a round."""
    least = least_survivors(state)
    here = frozenset(i for i, member in state.members.items() if member.here and not member.late)
    members = here & (state.window.active if state.window else frozenset())
    willing = [member for member in state.members.values() if not member.refusal]
    if len(willing) < least:
        return fail_request(state, _who_is_missing(state, here, least), final=True)
    away = any(not member.here and now < member.wait_until for member in state.members.values())
    if now < state.give_up and (away or len(here) < least):
        return CoordinatorStep(with_cut_off(state, state.give_up))
    if len(here) < least:
        return fail_request(state, _who_is_missing(state, here, least), final=True)
    if len(members) >= least and not wants_window(state, here):
        return start_round(state, members, now)
    if state.windows_opened - state.windows_before >= _WINDOWS_A_REQUEST:
        return fail_request(
            state, f"tenants leave as fast as windows are opened; {_who_is_missing(state, here, least)}"
        )
    return open_window(state, here, now)


def _who_is_missing(state: CoordinatorState, here: frozenset[int], least: int) -> str:
    late = state.roster.names(i for i, member in state.members.items() if member.here and member.late)
    reason = f"{len(here)} of {state.roster.n} tenants answer, {least} are needed"
    refused = state.roster.names(i for i, member in state.members.items() if member.refusal)
    joining = state.roster.names(i for i, m in state.members.items() if m.linked and not m.joined and not m.refusal)
    missing = [name for name in state.missing if name not in {*refused, *joining}]
    reason += f"; missing: {', '.join(missing)}" if missing else ""
    reason += f"; still joining: {', '.join(joining)}" if joining else ""
    reason += f"; refused the session: {', '.join(refused)} (each knows why)" if refused else ""
    return reason + (f"; late: {', '.join(late)}" if late else "")


def _ready(state: CoordinatorState, now: float) -> CoordinatorStep:
    """A window is open and a sum is wanted."""
    return CoordinatorStep(replace(state, phase=CoordinatorPhase.GATHERING))


_Handler = Callable[[CoordinatorState, int, Sealed[Payload], float], CoordinatorStep]


_HANDLERS: Mapping[type, _Handler] = {
    Hello: cast(_Handler, _on_hello),
    Join: cast(_Handler, _on_join),
    Refusal: cast(_Handler, _on_refusal),
    Advertise: cast(_Handler, on_advertise),
    Deposit: cast(_Handler, on_deposit),
    Ready: cast(_Handler, on_ready),
    Upload: cast(_Handler, on_upload),
    Opening: cast(_Handler, on_opening),
    Shares: cast(_Handler, on_shares),
}


_STAGES: Mapping[CoordinatorPhase, Callable[[CoordinatorState, float], CoordinatorStep]] = {
    CoordinatorPhase.GATHERING: _gather,
    CoordinatorPhase.ADVERTISING: advertising_stage,
    CoordinatorPhase.DEPOSITING: depositing_stage,
    CoordinatorPhase.CONFIRMING: confirming_stage,
    CoordinatorPhase.READY: _ready,
    CoordinatorPhase.UPLOADING: uploading_stage,
    CoordinatorPhase.OPENING: opening_stage,
    CoordinatorPhase.RECOVERING: recovering_stage,
    CoordinatorPhase.CLOSED: lambda state, now: CoordinatorStep(state),
}
