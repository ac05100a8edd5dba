"""The tenant's half of the secure sum: a pure state machine.

    step = tenant_receive(state, data, …)     a message came; step.sends go back to the server
    step = tenant_join(state, …)              after step.offer was found acceptable: checks the policy
    step = tenant_upload(state, ring, …)      after step.evaluate was computed (tenant_recall if it was a base)
    step = tenant_gate(state, held)           after the rule of the mass gate was applied to step.counts

Ordering rules, enforced here, in `tenant_round`, `tenant_outcome` and `transitions`:

1. A round's header is accepted only with a number above every earlier one; the number is durable before the upload leaves.
2. One outcome a round is endorsed, durably before the signature leaves; the own self seed, pair keys and shares of a round are
   released for the first certified set of survivors, and no other.
3. Shares of a self seed are released only for survivors, shares of an agreement secret only for the dropped: never both.
4. Everything of a round is forgotten when the next header is accepted, which must carry the certificate of the round before.
5. A message that was answered before is answered with the same bytes; nothing is computed twice.

Randomness, the durable marks and the tenant's policy are arguments. A raise leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from fed_em_protocols.envelope import Sealed, seal, unseal
from fed_em_protocols.errors import SERVER, Equivocation, IllegalStep, MalformedMessage, OutOfTurn
from fed_em_protocols.messages import (
    Base,
    Boxes,
    Certificate,
    Close,
    Counted,
    Header,
    Hello,
    Join,
    Neighbours,
    OpenWindow,
    Payload,
    Proposal,
    Recover,
    Refusal,
    RefusalCode,
    SetUp,
)
from fed_em_protocols.policy import check_terms
from fed_em_protocols.records import replace
from fed_em_protocols.tenant_outcome import on_certificate, on_counted, on_proposal, on_recover
from fed_em_protocols.tenant_round import on_base, on_header
from fed_em_protocols.tenant_state import RoundMarks, TenantSelf, TenantState, TenantStep
from fed_em_protocols.tenant_window import on_boxes, on_neighbours, on_open_window, on_setup
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transitions import (
    ROUND_TRANSITIONS,
    SESSION_TRANSITIONS,
    WINDOW_TRANSITIONS,
    TenantPhase,
    concerns_round,
    concerns_window,
    require_target,
    require_turn,
)
from fed_em_protocols.window import Randomness
from fed_em_protocols.wire.fields import SESSION_BYTES


def tenant_start(me: TenantSelf, randomness: Randomness) -> TenantState:
    """The state of a process that has just started. Its boot number is fresh, so nobody takes it for its predecessor."""
    return TenantState(me, boot=randomness(SESSION_BYTES))


def tenant_greet(state: TenantState) -> TenantStep:
    """The first message on every new link."""
    me = state.me
    hello = seal(Hello(me.name, me.roster.digest, state.boot, me.software, me.commitment), me.identity)
    return TenantStep(state, (hello.to_bytes(),))


def tenant_consider(state: TenantState) -> None:
    """Hold the terms on offer against this tenant's policy, before any row is read.

    Raises:
        TermsRefused: they are below it: call `tenant_refuse`.
    """
    if state.phase is not TenantPhase.OFFERED or state.terms is None:
        raise IllegalStep("there are no terms on offer")
    check_terms(state.me.policy, state.terms.content, state.me.roster)


def tenant_join(state: TenantState, changed: bool = False) -> TenantStep:
    """Accept the terms on offer.

    Args:
        changed: Whether rows or code differ from those of an earlier process of this tenant in this session: what it gave then can
            be no base of an increment, and the next round starts from whole vectors.

    Raises:
        TermsRefused: they are below this tenant's policy: call `tenant_refuse`.
    """
    tenant_consider(state)
    joined = replace(state, phase=TenantPhase.JOINED, changed=changed)
    return TenantStep(joined, (_join(joined),))


def tenant_refuse(state: TenantState, code: RefusalCode) -> TenantStep:
    """Refuse the terms on offer, or leave the session, with a code."""
    session = state.terms.content.session if state.terms else bytes(SESSION_BYTES)
    refusal = seal(Refusal(session, int(code), state.highest_round, state.me.commitment), state.me.identity)
    return TenantStep(_closed(state), (refusal.to_bytes(),))


def _closed(state: TenantState) -> TenantState:
    return replace(state, phase=TenantPhase.CLOSED, window=None, upcoming=None, round=None, vectors={}, gate=None)


def tenant_receive(state: TenantState, data: bytes, randomness: Randomness, marks: RoundMarks) -> TenantStep:
    """Take one message from the server.

    Raises:
        PeerFault: the server, or a tenant whose signed message it passed on, broke the protocol; the state is unchanged.
    """
    sealed = unseal(data, SERVER)
    kind = type(sealed.content)
    answered = _answers(state).get(sealed.digest)
    if answered is None:
        _require_turn(state, kind)
    sealed.require_signature(state.me.roster.server.identity_key, SERVER)
    if answered is not None:
        return TenantStep(state, answered)
    if state.phase is TenantPhase.OUTSIDE and kind is not SessionTerms:
        return TenantStep(state)  # meant for this tenant's last process
    if kind is not SessionTerms:
        _require_session(state, sealed)
    step = _HANDLERS[kind](state, sealed, randomness, marks)
    require_target(SESSION_TRANSITIONS, state.phase, kind, step.state.phase)
    if kind is not Close:
        require_target(WINDOW_TRANSITIONS, state.window_stage, kind, step.state.window_stage)
        require_target(ROUND_TRANSITIONS, state.round_stage, kind, step.state.round_stage)
    return replace(step, state=_with_answer(step, sealed, kind))


def _answers(state: TenantState) -> Mapping[bytes, tuple[bytes, ...]]:
    current = state.round.answers if state.round else {}
    return {**state.upcoming.answers, **current} if state.upcoming else current


def _require_turn(state: TenantState, kind: type) -> None:
    require_turn(SESSION_TRANSITIONS, state.phase, kind, SERVER)
    if state.phase is TenantPhase.JOINED and concerns_window(kind):
        require_turn(WINDOW_TRANSITIONS, state.window_stage, kind, SERVER)
    if state.phase is TenantPhase.JOINED and concerns_round(kind):
        require_turn(ROUND_TRANSITIONS, state.round_stage, kind, SERVER)


def _with_answer(step: TenantStep, sealed: Sealed[Payload], kind: type) -> TenantState:
    state, answer = step.state, {sealed.digest: step.sends}
    if concerns_window(kind) and state.upcoming and (step.sends or kind is SetUp):
        return replace(state, upcoming=replace(state.upcoming, answers={**state.upcoming.answers, **answer}))
    if concerns_round(kind) and state.round and step.sends:
        return replace(state, round=replace(state.round, answers={**state.round.answers, **answer}))
    return state


def _require_session(state: TenantState, sealed: Sealed[Payload]) -> None:
    session = getattr(sealed.content, "session", None)
    if state.terms is None or session != state.terms.content.session:
        raise OutOfTurn(SERVER, f"sent {type(sealed.content).__name__} of another session")


def _join(state: TenantState) -> bytes:
    """Says in each join of a process that its rows changed: the one before may be lost, with its link or with the server's process."""
    assert state.terms is not None
    content = Join(state.terms.content.session, state.terms.digest, state.boot, int(state.changed), state.me.commitment)
    return seal(content, state.me.identity).to_bytes()


def _on_terms(
    state: TenantState, sealed: Sealed[SessionTerms], randomness: Randomness, marks: RoundMarks
) -> TenantStep:
    if state.phase is TenantPhase.JOINED:
        if state.terms is not None and state.terms.content.session != sealed.content.session:
            raise OutOfTurn(SERVER, "began another session: the one that this tenant's process is in does not go on")
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


def _on_close(state: TenantState, sealed: Sealed[Close], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    return TenantStep(_closed(state), closed=sealed)


_Handler = Callable[[TenantState, Sealed[Payload], Randomness, RoundMarks], TenantStep]

_HANDLERS: Mapping[type, _Handler] = {
    SessionTerms: cast(_Handler, _on_terms),
    OpenWindow: cast(_Handler, on_open_window),
    SetUp: cast(_Handler, on_setup),
    Neighbours: cast(_Handler, on_neighbours),
    Boxes: cast(_Handler, on_boxes),
    Header: cast(_Handler, on_header),
    Base: cast(_Handler, on_base),
    Proposal: cast(_Handler, on_proposal),
    Certificate: cast(_Handler, on_certificate),
    Counted: cast(_Handler, on_counted),
    Recover: cast(_Handler, on_recover),
    Close: cast(_Handler, _on_close),
}
