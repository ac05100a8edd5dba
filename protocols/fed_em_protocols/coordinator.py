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
from typing import cast

from fed_em.errors import CallerError
from fed_em_protocols.certification import admissible_survivors, least_quorum
from fed_em_protocols.coordinator_round import (
    certifying_stage,
    close_round,
    closing_stage,
    on_ask_base,
    on_endorsement,
    on_opening,
    on_shares,
    on_upload,
    opening_stage,
    pending_round,
    recovering_stage,
    start_round,
    uploading_stage,
)
from fed_em_protocols.coordinator_state import (
    RESTARTED,
    Attendance,
    CoordinatorState,
    CoordinatorStep,
    Member,
    Notice,
    NoticeKind,
    SumRequest,
    Timetable,
    fail_request,
    require_policy,
    with_cut_off,
    with_deadline,
    with_member,
)
from fed_em_protocols.coordinator_window import (
    advance_setup,
    on_advertise,
    on_deposit,
    on_ready,
    on_reveal,
    open_window,
    pending_setup,
    wants_window,
)
from fed_em_protocols.envelope import Sealed, seal, unseal
from fed_em_protocols.errors import AnotherRoster, Equivocation, IllegalStep, OutOfTurn, PeerFault
from fed_em_protocols.graph_parameters import MAX_RESTARTS
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.limits import MAX_VECTOR_LENGTH
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import (
    Advertise,
    AskBase,
    Close,
    CloseReason,
    Deposit,
    Endorsement,
    Hello,
    Join,
    Opening,
    Payload,
    Ready,
    Refusal,
    RefusalCode,
    Reveal,
    Shares,
    Upload,
)
from fed_em_protocols.records import replace
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms, validate_terms
from fed_em_protocols.transitions import (
    COORDINATOR_HEARS,
    COORDINATOR_MOVES,
    CoordinatorPhase,
    SetUpPhase,
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
    planned_rounds: int = 0,
) -> CoordinatorState:
    """The state before anybody is linked.

    Args:
        description: The JSON whose SHA-256 the terms name.
        planned_rounds: How many rounds the session takes if none fails: no window is set up beside the last of them for more. 0 if
            nobody knows.

    Raises:
        CallerError: the terms break a rule, belong to another roster, or the key is not the roster's.
    """
    validate_terms(terms, roster)
    if identity.public != roster.server.identity_key:
        raise CallerError(
            "the server's identity key is not the one in the roster",
            remedy="use the key the roster was made with",
        )
    if terms.roster != roster.digest or terms.schema != hashlib.sha256(description).digest():
        raise CallerError("the terms name another roster or another description")
    members = _nobody_yet(roster, now + timetable.gather)
    return CoordinatorState(
        roster, identity, seal(terms, identity, description), timetable, members, planned_rounds=planned_rounds
    )


def _nobody_yet(roster: Roster, wait_until: float) -> Attendance:
    return Attendance({index: Member(wait_until=wait_until) for index in range(roster.n)})


def coordinator_restart(state: CoordinatorState, now: float) -> CoordinatorState:
    """The state of a server that comes back after a crash, from the last one that it kept before it sent anything.

    Nobody is linked, no window is open, and the round in progress is over: under malicious-server trust it is closed with the
    outcome that witnesses were asked to endorse, or as void, before the next begins. A session that was over stays so.
    """
    if state.phase is CoordinatorPhase.CLOSED:
        return state
    members = _nobody_yet(state.roster, now + state.timetable.gather)
    ended = fail_request(state, RESTARTED).state
    return replace(ended, members=members, window=None, upcoming=None, deadline=None)


def coordinator_request(state: CoordinatorState, request: SumRequest, now: float) -> CoordinatorStep:
    """Ask for a sum. Exactly one request can be open.

    Raises:
        CallerError: no message may hold so long a vector, or so many parameters.
    """
    if state.request is not None or state.phase is CoordinatorPhase.CLOSED:
        raise IllegalStep("a sum is being computed, or the session is over")
    tail = request.ring.tail_words
    if not tail < request.length <= MAX_VECTOR_LENGTH or len(request.parameters) > 8 * MAX_VECTOR_LENGTH:
        raise CallerError(
            f"a sum of {request.length} integers at {len(request.parameters)} bytes of parameters is beyond the "
            f"protocol's limits",
            remedy=f"a vector has {tail + 1} to {MAX_VECTOR_LENGTH} entries, its tail included",
        )
    give_up = now + (state.timetable.gather if state.last_round == 0 else state.timetable.pause)
    asked = replace(state, request=request, give_up=give_up, windows_before=state.windows_opened, paused=False)
    return _advance(asked, now)


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
    heard = with_member(state, index, replace(member, late=False)) if member.late else state
    return _HANDLERS[kind](heard, index, sealed, now).then(lambda s: _advance(s, now))


def coordinator_close(state: CoordinatorState, reason: CloseReason, parameters: bytes = b"") -> CoordinatorStep:
    """End the session: tell every linked tenant, with the final parameters if there are any."""
    if state.phase is CoordinatorPhase.CLOSED:
        return CoordinatorStep(state)
    close = seal(Close(state.terms.content.session, int(reason), state.last_round), state.identity, parameters)
    data = close.to_bytes()
    sends = tuple((index, data) for index, member in state.members.items() if member.linked)
    closed = replace(
        state, phase=CoordinatorPhase.CLOSED, request=None, round=None, window=None, upcoming=None, total=None,
        cut_off=None, deadline=None,
    )  # fmt: skip
    return CoordinatorStep(closed, sends, closed=close)


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
    if same and hello.policy != member.policy:
        raise Equivocation(name, "changed its policy without a new process", proves="the tenant signed two policies")
    before = member if same else _waited_for(state, member, now)
    linked = replace(
        before, boot=hello.boot, policy=hello.policy, linked=True, joined=member.joined and same, late=False, refusal=0
    )
    told = (state.terms.to_bytes(), *_counts_for(state, index, linked))
    step = CoordinatorStep(
        with_member(state, index, linked),
        tuple((index, data) for data in told),
        (Notice(NoticeKind.LINKED, state.last_round, (name,), "again" if same else ""),),
    )
    return step.then(lambda s: _forget_predecessor(s, index)) if not same else step


def _counts_for(state: CoordinatorState, index: int, member: Member) -> tuple[bytes, ...]:
    """The evidence of the counts, for a process that was asked for them: it may have been lost with the link before.

    First on the new link: what comes next may be a header of moments behind those counts.
    """
    counts = state.counts
    return (counts.evidence,) if counts and member.joined and index in counts.participants else ()


def _forget_predecessor(state: CoordinatorState, index: int) -> CoordinatorStep:
    """A new process has none of its predecessor's secrets: it is out of the window, whatever the predecessor did."""
    window, upcoming = (
        replace(one, active=one.active - {index}) if one else None for one in (state.window, state.upcoming)
    )
    return CoordinatorStep(replace(state, window=window, upcoming=upcoming))


def _on_join(state: CoordinatorState, index: int, sealed: Sealed[Join], now: float) -> CoordinatorStep:
    name, member = state.name(index), state.members[index]
    sealed.require_signature(state.roster.tenants[index].identity_key, name)
    if sealed.content.terms != state.terms.digest or sealed.content.boot != member.boot:
        raise OutOfTurn(name, "accepted other terms than were offered")
    require_policy(member, sealed.content.policy, name)
    if member.joined:
        return CoordinatorStep(state, _pending_for(state, index))  # the same process on a new link
    joined = with_member(state, index, replace(member, joined=True, wait_until=0.0))
    if sealed.content.changed:
        joined = replace(joined, changed_after=state.last_round)
    return CoordinatorStep(joined, notices=(Notice(NoticeKind.JOINED, state.last_round, (name,)),))


def _pending_for(state: CoordinatorState, index: int) -> tuple[tuple[int, bytes], ...]:
    """What a tenant must be told again when the same process links anew: the messages whose answers are still awaited."""
    told, again = pending_setup(state, index), pending_round(state, index)
    return tuple((index, data) for data in (*told, again) if data)


def _on_refusal(state: CoordinatorState, index: int, sealed: Sealed[Refusal], now: float) -> CoordinatorStep:
    name, member = state.name(index), state.members[index]
    sealed.require_signature(state.roster.tenants[index].identity_key, name)
    require_policy(member, sealed.content.policy, name)
    code = sealed.content.code
    text = RefusalCode(code).name.lower().replace("_", "-") if code in set(RefusalCode) else f"code {code}"
    refused = with_member(state, index, replace(member, joined=False, refusal=code, wait_until=0.0))
    return CoordinatorStep(refused, notices=(Notice(NoticeKind.REFUSED, state.last_round, (name,), text),))


def _advance(state: CoordinatorState, now: float) -> CoordinatorStep:
    """Go on as far as what has come in, and the time, allow: with the next window's set-up, and with the round."""
    step = CoordinatorStep(state)
    while step.result is None and step.state.request is not None:
        before = step.state
        step = step.then(lambda s: advance_setup(s, now)).then(lambda s: _STAGES[s.phase](s, now))
        require_move(COORDINATOR_MOVES, before.phase, step.state.phase)
        if step.state is before:
            break
    return step.then(lambda s: CoordinatorStep(with_deadline(s, now)))


def _gather(state: CoordinatorState, now: float) -> CoordinatorStep:
    """Close what is open of the round before, wait for tenants and for the window, then start a round."""
    if state.upcoming is not None and state.upcoming.phase is SetUpPhase.READY:
        return CoordinatorStep(_with_next_window(state))
    if len(state.members) - len(state.members.refused) < _least(state) or _refused_units(state):
        return fail_request(state, _who_is_missing(state), final=True)
    away = any(now < until for until in state.members.waits)
    held_up = away and now < state.give_up
    if state.unresolved is not None:
        return close_round(state, now) or _wait_for_window(state, now, held_up)
    participants = _participants(state)
    if state.request and state.request.held and not held_up:
        return _start_gated(state, participants, now)
    if len(participants) < _least(state) or held_up:
        return _wait_for_window(state, now, held_up)
    return open_window(state, now) if wants_window(state) else start_round(state, participants, now)


def _with_next_window(state: CoordinatorState) -> CoordinatorState:
    """The window that was set up is in use. A round that was closed with keys of another is closed again with its keys.

    Tenants check that certificate in the next header, and need not know the keys of a window that served no round.
    """
    taken, closed = replace(state, window=state.upcoming, upcoming=None), state.previous.closed
    if closed is None or closed.outcome.setup == closed.header.content.setup:
        return taken
    return replace(taken, unresolved=closed)


def _least(state: CoordinatorState) -> int:
    return state.terms.content.minimum_survivors


def _participants(state: CoordinatorState) -> frozenset[int]:
    """Whom a round would ask: whole units of members of the window that are here and do not lag."""
    window = state.window
    if window is None or not window.fixed.covers(state.last_round + 1):
        return frozenset()
    return admissible_survivors(state.here & window.active, window.fixed, state.roster)


def _refused_units(state: CoordinatorState) -> bool:
    """Whether refusals leave too few tenants in units without any."""
    refused = state.members.refused
    return bool(refused) and sum(len(unit) for unit in state.units if unit.isdisjoint(refused)) < _least(state)


def _start_gated(state: CoordinatorState, participants: frozenset[int], now: float) -> CoordinatorStep:
    """The moments behind a mass gate are those of the tenants that were counted: all of them, or the counts are taken again."""
    counts = state.counts
    if counts is None or counts.round != state.last_round:
        return fail_request(state, "the mass gate has no counts of the round before", final=True)
    same = frozenset(index for index, boot in counts.boots.items() if state.members[index].boot == boot)
    covered = state.window is not None and state.window.fixed.covers(state.last_round + 1)
    gone = counts.survivors - (same & participants if covered else same)
    if gone:
        names = ", ".join(state.roster.names(gone))
        away = state.roster.names(gone)
        return fail_request(state, f"after the counts of round {counts.round} these went away: {names}", away=away)
    return start_round(state, counts.survivors, now) if covered else _wait_for_window(state, now)


def _wait_for_window(state: CoordinatorState, now: float, held_up: bool = False) -> CoordinatorStep:
    """Nobody can be asked yet: wait for the next window, open it, or wait for those without whom it would be of no use."""
    if state.upcoming is not None and not held_up:
        return CoordinatorStep(with_cut_off(state, None))
    if not held_up and _can_go_on_with(state, state.here):
        return _open_next_window(state, now)
    if now >= state.give_up:
        return fail_request(state, _who_is_missing(state), final=True, away=_hoped_for_names(state))
    waiting = with_cut_off(state, state.give_up)
    if state.last_round == 0 or state.paused or _can_go_on_with(state, state.here):
        return CoordinatorStep(waiting)
    notice = Notice(NoticeKind.PAUSED, state.last_round, _waited_for_names(state), _who_is_missing(state))
    return CoordinatorStep(replace(waiting, paused=True), notices=(notice,))


def _open_next_window(state: CoordinatorState, now: float) -> CoordinatorStep:
    """Open a window that a round waits for, unless too many have been opened in vain."""
    if state.draws > MAX_RESTARTS:
        reason = (
            f"the graph of a window was drawn {state.draws} times without a sum on any; tenants admit no other draw"
        )
        return fail_request(state, reason, final=True)
    if state.windows_opened - state.windows_before >= _WINDOWS_A_REQUEST:
        outside = ", ".join(state.roster.names(i for i in state.here if _is_outside(state, i))) or "several"
        reason = f"tenants leave as fast as windows are opened ({outside}); {_who_is_missing(state)}"
        return fail_request(state, reason, away=_hoped_for_names(state))
    return open_window(state, now)


def _is_outside(state: CoordinatorState, index: int) -> bool:
    """Whether a tenant did not get into the last window, or left it."""
    return state.members[index].missed > 0 or (state.window is not None and index not in state.window.active)


def _can_go_on_with(state: CoordinatorState, members: frozenset[int]) -> bool:
    """Whether a window of some tenants could open a sum and, before that, close the round that has no certificate.

    One window must do both: its tenants check that certificate in the next header.
    """
    if state.unresolved is not None:
        header = state.unresolved.header.content
        witnesses = from_bitmap(header.witnesses, state.roster.n)
        if len(members & witnesses) < least_quorum(state.terms.content, header, state.roster):
            return False
    return sum(len(unit) for unit in state.units if unit <= members) >= _least(state)


def _waited_for_names(state: CoordinatorState) -> tuple[str, ...]:
    return state.roster.names(frozenset(state.members) - state.here)


def _hoped_for_names(state: CoordinatorState) -> tuple[str, ...]:
    """The same without those that refused the session, and will not be back."""
    return state.roster.names(frozenset(state.members) - state.here - state.members.refused)


def _who_is_missing(state: CoordinatorState) -> str:
    here, least = state.here, _least(state)
    late = state.roster.names(i for i, member in state.members.items() if member.here and member.late)
    reason = f"{len(here)} of {state.roster.n} tenants answer, {least} are needed"
    reason += " in whole blocks" if state.terms.content.blocks else ""
    if state.unresolved is not None:
        number, header = state.unresolved.header.content.round, state.unresolved.header.content
        quorum = least_quorum(state.terms.content, header, state.roster)
        reason += f", and {quorum} witnesses of round {number} to certify how it ended"
    refused = state.roster.names(i for i, member in state.members.items() if member.refusal)
    joining = state.roster.names(i for i, m in state.members.items() if m.linked and not m.joined and not m.refusal)
    missing = [name for name in state.missing if name not in {*refused, *joining}]
    reason += f"; missing: {', '.join(missing)}" if missing else ""
    reason += f"; still joining: {', '.join(joining)}" if joining else ""
    reason += f"; refused the session: {', '.join(refused)} (each knows why)" if refused else ""
    return reason + (f"; late: {', '.join(late)}" if late else "")


_Handler = Callable[[CoordinatorState, int, Sealed[Payload], float], CoordinatorStep]


_HANDLERS: Mapping[type, _Handler] = {
    Hello: cast(_Handler, _on_hello),
    Join: cast(_Handler, _on_join),
    Refusal: cast(_Handler, _on_refusal),
    Advertise: cast(_Handler, on_advertise),
    Deposit: cast(_Handler, on_deposit),
    Ready: cast(_Handler, on_ready),
    Reveal: cast(_Handler, on_reveal),
    Upload: cast(_Handler, on_upload),
    AskBase: cast(_Handler, on_ask_base),
    Endorsement: cast(_Handler, on_endorsement),
    Opening: cast(_Handler, on_opening),
    Shares: cast(_Handler, on_shares),
}


_STAGES: Mapping[CoordinatorPhase, Callable[[CoordinatorState, float], CoordinatorStep]] = {
    CoordinatorPhase.GATHERING: _gather,
    CoordinatorPhase.UPLOADING: uploading_stage,
    CoordinatorPhase.CERTIFYING: certifying_stage,
    CoordinatorPhase.OPENING: opening_stage,
    CoordinatorPhase.RECOVERING: recovering_stage,
    CoordinatorPhase.CLOSING: closing_stage,
    CoordinatorPhase.CLOSED: lambda state, now: CoordinatorStep(state),
}
