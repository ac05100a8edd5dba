"""What a tenant refuses from a server that breaks the rules, and that a refusal leaves it exactly as it was.

Headers, replays, restarts and the tables of transitions. Windows, certificates, increments and the gate have files of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em.errors import EnvironmentFault, FedEmError
from fed_em_client.tenant_session import SessionLeft, TenantSession
from fed_em_protocols.envelope import Sealed, seal, unseal
from fed_em_protocols.errors import (
    SERVER,
    BadSignature,
    Equivocation,
    IllegalStep,
    MalformedMessage,
    OutOfTurn,
    PeerFault,
    TermsRefused,
)
from fed_em_protocols.messages import (
    KINDS,
    Base,
    Close,
    Counted,
    Header,
    Mode,
    OpenWindow,
    Proposal,
    Recover,
    Refusal,
    RefusalCode,
)
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.tenant import tenant_join, tenant_refuse
from fed_em_protocols.tenant_outcome import tenant_gate
from fed_em_protocols.tenant_round import tenant_recall, tenant_upload
from fed_em_protocols.terms import FIRST_SIMULATED_SUITE, SUITE, Trust
from fed_em_protocols.transitions import (
    ROUND_TRANSITIONS,
    SESSION_TRANSITIONS,
    WINDOW_TRANSITIONS,
    RoundStage,
    TenantPhase,
    WindowStage,
    concerns_round,
    concerns_window,
)
from tests.protocols.drill import Drill
from tests.protocols.drill_window import POLICY
from tests.protocols.examples import EXAMPLES, messages_of
from tests.protocols.federation import DESCRIPTION, MemoryMarks, identity_of, roster_of, terms_of

FROM_SERVER = [kind for kind, number in KINDS.items() if number >= 32]
pytestmark = pytest.mark.usefixtures("remembered_keys")

ALL = range(4)


# --- one header, one upload ---


def test_a_second_header_for_one_round_is_refused_and_proved() -> None:
    drill = Drill()
    first, second = drill.header(1), drill.header(1, theta=b"others")
    drill.tell(0, first)
    fault = drill.refused(0, second, Equivocation, "two different headers for round 1")
    assert isinstance(fault, Equivocation) and fault.peer == SERVER and "keep both" in fault.proves
    drill.compute(0)
    drill.refused(0, second, Equivocation, "two different headers")
    drill.tell(0, drill.certificate(first, ALL))
    drill.refused(0, second, Equivocation, "two different headers")
    drill.refused(0, drill.recover(second, drill.certificate(second, ALL), silent=[1]), Equivocation, "two different")


def test_two_headers_of_one_round_convict_the_server_before_anybody() -> None:
    """Whoever has the roster can check it: same session, same round, two contexts, and the server's key under both."""
    drill = Drill()
    one, other = drill.header(1), drill.header(1, theta=b"others")
    drill.tell(0, one)
    drill.tell(1, other)
    held = [drill.states[i].round for i in (0, 1)]
    headers = [current.header for current in held if current is not None]
    assert headers[0].digest != headers[1].digest
    for header in headers:
        assert (header.content.session, header.content.round) == (drill.session, 1)
        header.require_signature(drill.roster.server.identity_key, SERVER)


# --- replay, reordering, and messages from elsewhere ---


def test_every_message_of_a_set_up_is_answered_with_the_same_bytes_again() -> None:
    drill = Drill(window=False)
    opening = drill.open_window()
    for i in ALL:
        first = drill.deliver(i, opening.to_bytes()).sends
        assert first and drill.deliver(i, opening.to_bytes()).sends == first
    drill = Drill()
    assert drill.opening is not None
    told = (drill.opening, drill.setup_message(), drill.neighbours_message(0), drill.boxes_message(0))
    answers = []
    for message in told:
        state = drill.states[0]
        again = drill.deliver(0, message.to_bytes())
        assert drill.states[0] is state and drill.deliver(0, message.to_bytes()).sends == again.sends
        answers.append(again.sends)
    assert [len(sends) for sends in answers] == [1, 0, 1, 1]  # the complete graph draws nothing


def test_every_message_of_a_round_is_answered_with_the_same_bytes_again() -> None:
    drill = Drill()
    header = drill.header(1)
    drill.upload(0, header)
    uploaded = drill.deliver(0, header.to_bytes())
    assert uploaded.sends and uploaded.evaluate is None and drill.deliver(0, header.to_bytes()).sends == uploaded.sends
    proposal, certificate = drill.proposal(header, ALL), drill.certificate(header, ALL)
    recover = drill.recover(header, certificate, silent=[1])
    for message in (proposal, certificate, recover, header, proposal, certificate):
        answers = {drill.deliver(0, message.to_bytes()).sends for _ in range(3)}
        assert len(answers) == 1 and answers != {()}
    assert drill.deliver(0, header.to_bytes()).sends == uploaded.sends


def test_a_header_again_before_the_upload_asks_again_and_changes_nothing() -> None:
    drill = Drill()
    header = drill.header(1)
    first = drill.deliver(0, header.to_bytes())
    again = drill.deliver(0, header.to_bytes())
    assert first.evaluate == again.evaluate is not None and first.state == again.state
    drill.compute(0)


@pytest.mark.parametrize("trust", Trust)
def test_messages_out_of_order_are_refused(trust: Trust) -> None:
    drill = Drill(trust=int(trust))
    first, second = drill.header(1), drill.header(2)
    drill.refused(0, drill.certificate(first, ALL), OutOfTurn, "while this side is no-round")
    drill.upload(0, second)
    drill.refused(0, first, OutOfTurn, "round 1 again")
    drill.refused(0, drill.certificate(first, ALL), OutOfTurn, "certificate for another round than 2")
    drill.refused(0, drill.recover(first, drill.certificate(first, ALL), silent=[1]), OutOfTurn, "round 1 again")
    drill.refused(0, drill.recover(second, drill.certificate(first, ALL), silent=[1]), OutOfTurn, "another round")
    drill.refused(0, drill.base(1), OutOfTurn, "sent Base while this side is uploaded")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"previous_round": 0}, MalformedMessage),
        ({"previous_round": 2}, MalformedMessage),
        ({"previous_outcome": 77}, MalformedMessage),
    ],
)
def test_a_header_that_does_not_continue_the_chain_is_refused(changes: dict[str, int], error: type[FedEmError]) -> None:
    drill = Drill()
    first = drill.header(1)
    drill.upload(0, first)
    drill.certificate(first, ALL)
    drill.refused(0, drill.header(2, **changes), error, "chain of rounds")


def test_a_recover_of_an_old_round_with_a_newer_header_in_between_is_refused() -> None:
    drill = Drill()
    first = drill.header(1)
    drill.upload(0, first)
    drill.tell(0, drill.certificate(first, ALL))
    drill.upload(0, drill.header(2))
    drill.refused(0, drill.recover(first, drill.certificate(first, ALL), silent=[1]), OutOfTurn, "round 1 again")


HEADERS_THAT_DO_NOT_FIT: list[tuple[dict[str, Any], type[FedEmError], str]] = [
    ({"session": b"x" * 16}, OutOfTurn, "another session"),
    ({"terms": bytes(32)}, OutOfTurn, "other terms"),
    ({"setup": bytes(32)}, OutOfTurn, "another set-up"),
    ({"witnesses": b"\x07"}, MalformedMessage, "other witnesses than the window's"),
    ({"witnesses": b"\x1f"}, MalformedMessage, "other witnesses than the window's"),
    ({"witnesses": b""}, MalformedMessage, "other witnesses than the window's"),
    ({"round": 0}, OutOfTurn, "round 0 again"),
    ({"round": 5}, PeerFault, "beyond the window"),
    ({"round": 2**40}, PeerFault, "beyond the window"),
    ({"mode": 0}, MalformedMessage, "mode 0"),
    ({"mode": 4}, MalformedMessage, "mode 4"),
    ({"length": 0}, MalformedMessage, "asks for 0 integers"),
    ({"length": 3}, MalformedMessage, "asks for 3 integers"),
    ({"ring": 32}, MalformedMessage, "asks for 4 integers"),
    ({"ring": 0}, MalformedMessage, r"a sum modulo 2\^0"),
    ({"ring": 16}, MalformedMessage, r"a sum modulo 2\^16"),
    ({"parameters": bytes(32)}, MalformedMessage, "parameters that its header does not name"),
    ({"participants": b"\x0e"}, OutOfTurn, "without counting it as a participant"),
    ({"participants": b"\x03"}, PeerFault, "sum of 2 tenants"),
    ({"participants": b"\x1f"}, MalformedMessage, "names tenant 4"),
    ({"participants": b"\x0f\x00"}, MalformedMessage, "bitmap of 2 bytes"),
]


@pytest.mark.parametrize(("changes", "error", "text"), HEADERS_THAT_DO_NOT_FIT)
def test_a_header_that_does_not_fit_is_refused(changes: dict[str, Any], error: type[FedEmError], text: str) -> None:
    drill = Drill()
    drill.refused(0, drill.header(1, **changes), error, text)
    drill.upload(0, drill.header(1))  # and the right one still goes


def test_rounds_beyond_the_sessions_cap_are_refused() -> None:
    drill = Drill(round_cap=2)
    drill.refused(0, drill.header(3), PeerFault, "round cap")
    drill.upload(0, drill.header(2))


def test_participants_outside_the_window_are_refused() -> None:
    drill = Drill(window=False)
    drill.set_up([0, 1, 2])
    drill.refused(0, drill.header(1, [0, 1, 2, 3]), PeerFault, "names participants that cannot be any")


def test_a_message_of_one_tenants_session_signed_by_another_is_refused() -> None:
    drill = Drill()
    forged = seal(drill.header(1).content, identity_of("t1"), b"theta")
    drill.refused(0, forged, BadSignature, "does not verify")
    certificate = drill.certificate(forged, ALL)
    forged_inside = drill.sealed(Recover(drill.session, forged.quoted(), certificate.quoted(), b"\x02", b"\0"))
    drill.refused(0, forged_inside, BadSignature, "does not verify")
    header = drill.header(1)
    certificate = seal(drill.certificate(header, ALL).content, identity_of("t1"))
    drill.refused(0, drill.recover(header, certificate, silent=[1]), BadSignature, "does not verify")


def test_quoted_messages_of_another_session_are_refused() -> None:
    drill = Drill()
    header = drill.header(1)
    foreign = drill.header(1, session=b"x" * 16)
    certificate = drill.certificate(header, ALL)
    drill.refused(0, drill.recover(foreign, certificate, silent=[1]), OutOfTurn, "shares of another session")
    foreign_certificate = drill.certificate(header, ALL, session=b"x" * 16)
    drill.refused(0, drill.recover(header, foreign_certificate, silent=[1]), OutOfTurn, "shares of another session")


ELSEWHERE = b"x" * 16


def of_another_session(drill: Drill) -> list[Sealed[Any]]:
    header = drill.header(1)
    certificate = drill.certificate(header, ALL)
    contents: list[tuple[Any, bytes]] = [
        (OpenWindow(ELSEWHERE, bytes(32), 2, 9, b"\0"), b""),
        (replace(drill.setup_message().content, session=ELSEWHERE), drill.setup_message().attachment),
        (replace(certificate.content, session=ELSEWHERE), b""),
        (Proposal(ELSEWHERE, header.quoted(), b"\x0f", drill.fixed.digest), drill.evidence(header, ALL)),
        (Recover(ELSEWHERE, header.quoted(), certificate.quoted(), b"\x02", b"\0"), b""),
        (Counted(ELSEWHERE, 1, certificate.quoted(), b""), b""),
        (Base(ELSEWHERE, header.quoted()), b""),
        (Close(ELSEWHERE, 1, 1), b""),
    ]
    return [drill.sealed(content, attachment) for content, attachment in contents]


def test_other_messages_of_another_session_are_refused() -> None:
    for message in of_another_session(Drill()):
        drill = Drill(window=False)
        drill.advertise(ALL)
        if concerns_round(type(message.content)):
            drill.deposit()
            drill.tell(0, drill.boxes_message(0))
            drill.tell(0, drill.header(1))
        if message.content.__class__.__name__ == "Certificate":
            drill.compute(0)
        drill.refused(0, message, OutOfTurn, "of another session")


# --- restarts and marks ---


def test_a_restarted_tenant_is_out_of_the_window_and_above_its_mark() -> None:
    drill = Drill()
    drill.upload(0, drill.header(2))
    drill.states[0] = drill.newborn(0)
    assert drill.states[0].boot != drill.states[1].boot
    drill.join(0)
    assert drill.states[0].highest_round == 2
    for header in (drill.header(2), drill.header(3)):
        drill.refused(0, header, OutOfTurn, r"round 2 again|of another set-up")
    drill.refused(0, drill.setup_message(), OutOfTurn, "while this side is no-window")
    drill.refused(0, drill.certificate(drill.header(2), ALL), OutOfTurn, "while this side is no-round")
    drill.refused(0, drill.proposal(drill.header(2), ALL), OutOfTurn, "of another window")
    answer = drill.tell(0, drill.open_window(2, 3))
    assert answer is not None and answer.content.window_key != drill.advertisements[0].content.window_key


class FailingMarks(MemoryMarks):
    """A disk that is full."""

    def record(self, session: bytes, round_number: int) -> None:
        raise EnvironmentFault("the disk is full")


def test_no_upload_leaves_before_its_mark_is_durable() -> None:
    drill = Drill()
    drill.tell(0, drill.header(1))
    before = drill.states[0]
    with pytest.raises(EnvironmentFault, match="disk is full"):
        tenant_upload(before, np.zeros(4, dtype=np.uint64), FailingMarks())
    assert drill.states[0] is before and before.round_stage is RoundStage.ANSWERING
    assert drill.marks[0].highest(drill.session) == 0
    drill.compute(0)
    assert drill.marks[0].highest(drill.session) == 1


def test_a_mark_above_the_state_is_obeyed() -> None:
    """Two processes of one tenant on one disk: what one has answered, the other does not."""
    drill = Drill()
    drill.marks[0].record(drill.session, 2)
    drill.refused(0, drill.header(2), OutOfTurn, "round 2 again")
    drill.upload(0, drill.header(3))


def test_an_endorsement_above_the_state_is_obeyed() -> None:
    drill = Drill()
    drill.marks[0].endorse(drill.session, 2, b"an outcome")
    drill.refused(0, drill.header(2), OutOfTurn, "round 2 again")
    drill.upload(0, drill.header(3))


# --- joining ---


def test_changed_terms_of_a_running_session_are_refused() -> None:
    drill = Drill()
    other = drill.sealed(terms_of(drill.roster, round_cap=50), DESCRIPTION)
    drill.refused(0, other, Equivocation, "changed the terms")
    state = drill.states[0]
    answer = drill.tell(0, drill.terms)
    assert answer is not None and drill.states[0] is state  # the same terms on a new link: joined, again


def test_a_description_that_the_terms_do_not_name_is_refused() -> None:
    drill = Drill(window=False)
    drill.states[0] = drill.newborn(0)
    drill.refused(0, drill.sealed(drill.terms.content, b"{}"), MalformedMessage, "does not match the terms")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"roster": roster_of(5).digest}, "another roster"),
        ({"suite": SUITE + 1}, "suite 2"),
        ({"suite": FIRST_SIMULATED_SUITE}, "suite 32768"),
        ({"trust": 3}, "break the protocol's own rules|trust 3"),
        ({"minimum_cohort": 2, "colluders": 1}, "below colluders"),
        ({"certificate_quorum": 2}, "derives by rule"),
        ({"share_threshold": 1}, "derives by rule"),
    ],
)
def test_terms_of_another_roster_or_suite_or_below_the_rules_are_not_joined(changes: dict[str, Any], text: str) -> None:
    drill = Drill(window=False)
    drill.states[0] = drill.newborn(0)
    drill.deliver(0, drill.sealed(replace(drill.terms.content, **changes), DESCRIPTION).to_bytes())
    with pytest.raises(TermsRefused, match=text):
        tenant_join(drill.states[0])


@pytest.mark.parametrize("changed", [False, True])
def test_a_join_tells_whether_rows_or_code_changed(changed: bool) -> None:
    """What an earlier process gave can then be no base of an increment."""
    drill = Drill(window=False)
    drill.states[0] = drill.newborn(0)
    drill.deliver(0, drill.terms.to_bytes())
    joined = tenant_join(drill.states[0], changed)
    answer = drill.answer_in(joined)
    assert answer is not None and answer.content.changed == int(changed)
    # The server that heard it may be gone, and another one asks again.
    drill.states[0] = joined.state
    assert drill.told(0, drill.terms).changed == int(changed)


class Unasked:
    """Rows that must not be looked at."""

    def prepare(self, description: bytes, mass_floor: int) -> None:
        raise AssertionError("the policy comes first")

    def changed(self, session: bytes) -> bool:
        raise AssertionError("the policy comes first")

    evaluate = held = prepare


def test_a_tenant_whose_policy_refuses_leaves_with_a_code_for_this_session() -> None:
    drill = Drill(window=False, trust=int(Trust.SEMI_HONEST))
    me = replace(drill.states[0].me, policy=TermsPolicy())
    session = TenantSession(me, Unasked(), drill.marks[0], drill.randomness[0])
    with pytest.raises(SessionLeft, match="trusts the server") as caught:
        session.handle(drill.terms.to_bytes())
    (refusal,) = (unseal(data, "tenant").content for data in caught.value.messages)
    assert refusal == Refusal(drill.session, int(RefusalCode.POLICY), 0, me.commitment)
    assert session.over


def test_a_policy_with_the_difference_guard_refuses_a_session_without_blocks() -> None:
    drill = Drill(window=False)
    drill.states[0] = replace(
        drill.newborn(0), me=replace(drill.states[0].me, policy=replace(POLICY, difference_guard=True))
    )
    drill.deliver(0, drill.terms.to_bytes())
    with pytest.raises(TermsRefused, match="waives the difference guard"):
        tenant_join(drill.states[0])


def test_a_refusal_ends_the_session_and_forgets_its_secrets() -> None:
    drill = Drill()
    drill.upload(0, drill.header(1))
    step = tenant_refuse(drill.states[0], RefusalCode.LOCAL_FAULT)
    closed = step.state
    assert closed.phase is TenantPhase.CLOSED and not closed.vectors
    assert closed.window is closed.upcoming is closed.round is None
    answer = drill.answer_in(step)
    assert answer is not None and answer.content.round == 1


# --- the tables ---

Place = tuple[TenantPhase, WindowStage, RoundStage]


def place_of(drill: Drill) -> Place:
    state = drill.states[0]
    return state.phase, state.window_stage, state.round_stage


def in_set_up() -> list[Drill]:
    """Tenant 0 in every stage of the session and of the set-up of a first window."""
    newborn, offered = Drill(window=False), Drill(window=False)
    for drill in (newborn, offered):
        drill.states[0] = drill.newborn(0)
    offered.deliver(0, offered.terms.to_bytes())
    advertised, fixed, deposited = (Drill(window=False) for _ in range(3))
    for drill in (advertised, fixed, deposited):
        drill.advertise(ALL)
    fixed.fix()
    deposited.deposit()
    closed = Drill()
    closed.tell(0, closed.sealed(Close(closed.session, 1, 0)))
    return [newborn, offered, Drill(window=False), advertised, fixed, deposited, Drill(), closed]


def in_rounds() -> list[Drill]:
    """Tenant 0 in every stage of a round, with the next window in every stage of its set-up."""
    found = []
    for stage, setting_up in itertools.product(RoundStage, WindowStage):
        drill = Drill()
        header = drill.header(1, [1, 2, 3] if stage is RoundStage.NONE else None)
        if stage is RoundStage.NONE:
            drill.tell(0, drill.proposal(header, [1, 2, 3]))
        else:
            drill.tell(0, header)
        if stage in {RoundStage.UPLOADED, RoundStage.OPENED}:
            drill.compute(0)
        if stage is RoundStage.OPENED:
            drill.tell(0, drill.certificate(header, ALL))
        first = drill.fixed
        if setting_up is not WindowStage.NONE:
            drill.advertise(ALL, number=2, first_round=2)
        if setting_up in {WindowStage.FIXED, WindowStage.DEPOSITED, WindowStage.READY}:
            drill.fix()
        if setting_up in {WindowStage.DEPOSITED, WindowStage.READY}:
            drill.deposits = {i: drill.tell(i, drill.neighbours_message(i)) for i in ALL}  # type: ignore[misc]
        if setting_up is WindowStage.READY:
            drill.tell(0, drill.boxes_message(0))
        drill.setup = first
        assert place_of(drill) == (TenantPhase.JOINED, setting_up, stage)
        found.append(drill)
    return found


@cache
def in_every_place() -> dict[Place, Drill]:
    """A drill whose tenant 0 is in each place that the three tables of a tenant know."""
    return {place_of(drill): drill for drill in [*in_set_up(), *in_rounds()]}


def admitted(place: Place, kind: type) -> bool:
    phase, window, stage = place
    if kind not in SESSION_TRANSITIONS[phase]:
        return False
    if phase is TenantPhase.JOINED and concerns_window(kind):
        return kind in WINDOW_TRANSITIONS[window]
    if phase is TenantPhase.JOINED and concerns_round(kind):
        return kind in ROUND_TRANSITIONS[stage]
    return True


def test_every_place_of_the_tables_is_reached() -> None:
    places = in_every_place()
    assert {phase for phase, _, _ in places} == set(TenantPhase) == set(SESSION_TRANSITIONS)
    assert {window for _, window, _ in places} == set(WindowStage) == set(WINDOW_TRANSITIONS)
    assert {stage for _, _, stage in places} == set(RoundStage) == set(ROUND_TRANSITIONS)


def test_every_message_that_a_place_does_not_know_is_refused_and_changes_nothing() -> None:
    refused = 0
    for (place, drill), content in itertools.product(in_every_place().items(), EXAMPLES):
        if not admitted(place, type(content)):
            text = f"sent {type(content).__name__} while this side is "
            fault = drill.refused(0, drill.sealed(content), OutOfTurn, text)
            assert any(str(fault).endswith(stage.value) for stage in place)
            refused += 1
    assert refused > 300


def test_every_local_event_that_a_place_does_not_know_is_refused() -> None:
    ring = np.zeros(4, dtype=np.uint64)
    for (phase, _, stage), drill in in_every_place().items():
        state = drill.states[0]
        if phase is not TenantPhase.OFFERED:
            with pytest.raises(IllegalStep):
                tenant_join(state)
        if stage is not RoundStage.ANSWERING:
            with pytest.raises(IllegalStep):
                tenant_upload(state, ring, drill.marks[0])
        with pytest.raises(IllegalStep):
            tenant_recall(state, ring)
        if state.round is None or state.round.survivors is None:
            with pytest.raises(IllegalStep):
                tenant_gate(state, b"")
        assert drill.states[0] is state


@pytest.mark.parametrize(("bits", "right"), [(64, np.uint64), (32, np.uint32)])
@pytest.mark.parametrize("kind", [np.float64, np.int64, np.int32, np.uint32, np.uint64])
def test_masks_are_added_to_integers_of_the_headers_ring_only(
    kind: Callable[..., Any], bits: int, right: Callable[..., Any]
) -> None:
    drill = Drill(length=6)
    drill.tell(0, drill.header(1, ring=bits))
    if kind is not right:
        with pytest.raises(IllegalStep, match="integers modulo"):
            tenant_upload(drill.states[0], np.zeros(6, dtype=kind), drill.marks[0])
    with pytest.raises(IllegalStep, match="6 integers"):
        tenant_upload(drill.states[0], np.zeros(5, dtype=right), drill.marks[0])
    assert drill.compute(0).dtype == right


@pytest.mark.parametrize("bits", [64, 32])
def test_a_round_is_exact_in_either_ring(bits: int) -> None:
    drill = Drill(length=6)
    kind = np.dtype(f"<u{bits // 8}")
    rings = {i: np.array([i, 5, -1 - i, -(2 ** (bits - 1)), 7, 0], dtype=np.int64).astype(kind) for i in ALL}
    total = drill.run(1, survivors=[0, 1, 3], rings=rings, ring=bits)
    assert total.dtype == kind and np.array_equal(total, rings[0] + rings[1] + rings[3])


# --- noise ---


def truths(drill: Drill) -> dict[str, Any]:
    """What a message of round 1 in this drill would say."""
    found: dict[str, Any] = {
        "session": drill.session, "terms": drill.terms.digest, "round": 1, "survivors": b"\x07", "silent": b"\x02",
        "participants": b"\x0f", "witnesses": b"\x0f", "members": b"\x0f", "quoted": b"\0", "nonces": (), "dropped": b"\x08",
        "mode": int(Mode.WHOLE), "dealers": b"\x0e", "previous_round": 0, "previous_outcome": 0, "previous": (), "held": b"",
        "base_rounds": (), "base_contexts": b"",
    }  # fmt: skip
    if drill.opening is not None:
        found |= {"window": drill.opening.digest}
    if drill.setup is not None:
        current = drill.states[0].round
        header = current.header if current is not None else drill.header(1)
        certificate = drill.certificate(header, [0, 1, 2])
        found |= {"setup": drill.fixed.digest, "context": header.digest, "root": certificate.content.root}
        found |= {"header": header.quoted(), "certificate": certificate.quoted(), "endorsers": b"\x0f"}
        found |= {"signatures": certificate.content.signatures}
    return found


@settings(max_examples=300)
@given(st.data())
def test_noise_from_the_server_never_breaks_a_tenant(data: st.DataObject) -> None:
    """Signed messages of any kind and content, in any place: an answer, or a fault that leaves everything as it was."""
    places = in_every_place()
    drill = places[data.draw(st.sampled_from(list(places)), label="place")]
    lie = data.draw(st.sampled_from(FROM_SERVER).flatmap(messages_of), label="message")
    true = truths(drill)
    names = sorted(name for name, value in true.items() if isinstance(getattr(lie, name, None), type(value)))
    kept = data.draw(st.sets(st.sampled_from(names)), label="true fields")
    evidence = drill.evidence(drill.header(1), [0, 1, 2]) if drill.setup is not None else b""
    attachment = data.draw(st.one_of(st.binary(max_size=8), st.just(evidence)), label="attachment")
    message = drill.sealed(replace(lie, **{name: true[name] for name in kept}), attachment)
    before, marks = drill.states[0], drill.marks[0]
    drill.marks[0] = MemoryMarks()
    try:
        drill.deliver(0, message.to_bytes())
    except PeerFault:
        assert drill.states[0] is before
    drill.states[0], drill.marks[0] = before, marks


def test_the_header_is_all_that_a_context_says() -> None:
    """Each field of a header changes the context, and with it every mask: no field can be shown differently to two tenants."""
    drill = Drill()
    first = drill.header(1)
    other: dict[str, Any] = {
        "session": ELSEWHERE, "terms": bytes(32), "setup": bytes(32), "witnesses": b"\x07", "round": 2, "mode": 2,
        "parameters": bytes(32), "encoding": b"e" * 32, "length": 5, "held": b"\x01", "participants": b"\x07",
        "previous_round": 9, "previous_outcome": 1, "previous": (first.quoted(),), "previous_sum": b"s" * 32,
        "base_rounds": (1,), "base_contexts": b"c" * 32, "ring": 32,
    }  # fmt: skip
    assert set(other) == set(vars(first.content))
    contexts = {drill.header(1, **{name: value}).digest for name, value in other.items()}
    assert len(contexts | {first.digest}) == len(other) + 1
    assert isinstance(first.content, Header)
