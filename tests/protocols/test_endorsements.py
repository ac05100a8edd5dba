"""Endorsements: a witness checks what it signs, signs one outcome a round, and remembers it across windows and restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from fed_em.errors import EnvironmentFault, FedEmError
from fed_em_protocols.certification import EVIDENCE_BYTES, outcome_digest
from fed_em_protocols.envelope import Sealed, seal
from fed_em_protocols.errors import SERVER, BadSignature, Equivocation, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.messages import Endorsement, Header
from fed_em_protocols.tenant import tenant_receive
from fed_em_protocols.terms import Trust
from fed_em_protocols.transitions import RoundStage
from tests.protocols.drill import NOTHING, Drill
from tests.protocols.federation import MemoryMarks, identity_of
from tests.protocols.test_certificates import uploaded

pytestmark = pytest.mark.usefixtures("remembered_keys")

ALL = range(4)


# --- endorsing ---


def test_an_endorsement_binds_header_survivors_and_uploads() -> None:
    drill, header = uploaded()
    proposal = drill.proposal(header, [0, 1, 2])
    endorsement = drill.tell(3, proposal)
    assert endorsement is not None
    assert endorsement.content == drill.statement(header, [0, 1, 2], drill.fixed)
    endorsement.require_signature(drill.fixed.window_key(3), "t3")
    assert drill.marks[3].endorsed(drill.session)[0] == 1


def test_outcomes_differ_by_context_survivors_and_root() -> None:
    """And by nothing else: the keys of any window sign the one outcome."""
    drill, header = uploaded()
    statement = drill.statement(header, ALL, drill.fixed)
    others = [{"context": bytes(32)}, {"survivors": b"\x07"}, {"root": bytes(32)}]
    digests = {outcome_digest(replace(statement, **change)) for change in others}
    assert len(digests | {outcome_digest(statement)}) == 4
    assert outcome_digest(replace(statement, setup=bytes(32))) == outcome_digest(statement)


def false_evidence(drill: Drill, header: Sealed[Header], forged: Sealed[Any]) -> bytes:
    """Of survivors 0, 1 and 2, of whom 2 is shown with this upload."""
    return drill.evidence(header, [0, 1]) + forged.attachment_digest + forged.signature


def unsigned(drill: Drill, header: Sealed[Header]) -> Sealed[Any]:
    return replace(drill.forged_upload(2, header), signature=bytes(64))


def of_another_round(drill: Drill, header: Sealed[Header]) -> Sealed[Any]:
    return drill.forged_upload(2, header, round=2)


def of_another_context(drill: Drill, header: Sealed[Header]) -> Sealed[Any]:
    return drill.forged_upload(2, header, context=drill.header(1, theta=b"others").digest)


def of_another_session(drill: Drill, header: Sealed[Header]) -> Sealed[Any]:
    return drill.forged_upload(2, header, session=b"x" * 16)


def of_another_tenant(drill: Drill, header: Sealed[Header]) -> Sealed[Any]:
    return drill.forged_upload(3, header)


def of_another_vector(drill: Drill, header: Sealed[Header]) -> Sealed[Any]:
    return replace(drill.forged_upload(2, header), attachment_digest=bytes(32))


@pytest.mark.parametrize(
    "forge", [unsigned, of_another_round, of_another_context, of_another_session, of_another_tenant, of_another_vector]
)
def test_a_survivor_that_never_uploaded_is_not_endorsed(forge: Callable[[Drill, Sealed[Header]], Sealed[Any]]) -> None:
    """The server shows something in place of t2's upload under this very header."""
    drill = Drill()
    header = drill.header(1)
    for i in (0, 1, 3):
        drill.upload(i, header)
    shown = false_evidence(drill, header, forge(drill, header))
    for i in ALL:
        message = drill.proposal(header, [0, 1, 2], evidence=shown)
        drill.refused(i, message, PeerFault, "counts 't2' as a survivor of round 1 without its upload")


def test_uploads_shown_in_the_wrong_places_are_not_endorsed() -> None:
    drill, header = uploaded()
    shown = drill.evidence(header, ALL)
    swapped = shown[EVIDENCE_BYTES : 2 * EVIDENCE_BYTES] + shown[:EVIDENCE_BYTES] + shown[2 * EVIDENCE_BYTES :]
    drill.refused(0, drill.proposal(header, ALL, evidence=swapped), PeerFault, "'t0' as a survivor of round 1 without")
    for wrong in (b"", shown[:-1], shown + b"\0"):
        message = drill.proposal(header, ALL, evidence=wrong)
        drill.refused(0, message, MalformedMessage, "do not belong to 4 survivors")


def test_an_endorsement_is_repeated_byte_by_byte_and_no_other_is_given() -> None:
    drill, header = uploaded()
    proposal = drill.proposal(header, [0, 1, 2])
    first = drill.deliver(0, proposal.to_bytes()).sends
    assert first and all(drill.deliver(0, proposal.to_bytes()).sends == first for _ in range(3))
    for other in (ALL, [1, 2, 3], []):
        drill.refused(0, drill.proposal(header, other), Equivocation, "two different outcomes of round 1")


def test_whoever_has_opened_endorses_the_same_outcome_only() -> None:
    drill, header = uploaded()
    drill.tell(0, drill.certificate(header, [0, 1, 2], by=[1, 2, 3]))
    drill.refused(0, drill.proposal(header, []), Equivocation, "two different outcomes")
    assert isinstance(drill.told(0, drill.proposal(header, [0, 1, 2])), Endorsement)


def test_whoever_gave_shares_endorses_the_same_outcome_only() -> None:
    drill, header = uploaded()
    drill.tell(3, drill.recover(header, drill.certificate(header, [0, 1, 2], by=[0, 1, 2]), silent=[0]))
    drill.refused(3, drill.proposal(header, []), Equivocation, "two different outcomes")
    assert isinstance(drill.told(3, drill.proposal(header, [0, 1, 2])), Endorsement)


def test_whoever_endorsed_a_round_before_its_header_came_uploads_nothing_for_it() -> None:
    """Its upload could be in no certified sum any more."""
    drill = Drill()
    header = drill.header(1)
    for i in (0, 1, 2):
        drill.upload(i, header)
    drill.tell(3, drill.proposal(header, [0, 1, 2]))
    step = drill.deliver(3, header.to_bytes())
    assert not step.sends and step.evaluate is None and drill.states[3].round_stage is RoundStage.NONE


def test_a_second_header_is_not_endorsed_and_is_proved() -> None:
    drill, first = uploaded()
    second = drill.header(1, theta=b"others")
    fault = drill.refused(0, drill.proposal(second, [0, 1, 2]), Equivocation, "two different headers for round 1")
    assert isinstance(fault, Equivocation) and fault.peer == SERVER
    drill.tell(0, drill.proposal(first, ALL))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"session": b"x" * 16}, OutOfTurn, "another session"),
        ({"setup": bytes(32)}, OutOfTurn, "endorsement of another session, of another window"),
        ({"survivors": b"\x1f"}, MalformedMessage, "names tenant 4"),
        ({"survivors": b"\x07\x00"}, MalformedMessage, "bitmap of 2 bytes"),
    ],
)
def test_a_proposal_that_does_not_fit_is_refused(changes: dict[str, Any], error: type[FedEmError], text: str) -> None:
    drill, header = uploaded()
    message = drill.proposal(header, [0, 1, 2])
    drill.refused(0, drill.sealed(replace(message.content, **changes), message.attachment), error, text)


def test_a_proposal_for_a_header_that_the_server_did_not_sign_is_refused() -> None:
    drill, header = uploaded()
    forged = seal(header.content, identity_of("t1"), header.attachment)
    drill.refused(0, drill.proposal(forged, ALL), BadSignature, "does not verify")


def test_a_proposal_for_a_header_of_another_session_is_refused() -> None:
    drill, _ = uploaded()
    drill.refused(0, drill.proposal(drill.header(2, session=b"x" * 16), []), OutOfTurn, "another session")


def test_nobody_endorses_under_semi_honest_trust() -> None:
    drill, header = uploaded(Trust.SEMI_HONEST)
    drill.refused(0, drill.proposal(header, ALL), OutOfTurn, "where none is due")


class FailingMarks(MemoryMarks):
    """A disk that is full."""

    def endorse(self, session: bytes, round_number: int, outcome: bytes) -> None:
        raise EnvironmentFault("the disk is full")


def test_no_endorsement_leaves_before_its_mark_is_durable() -> None:
    drill, header = uploaded()
    state, message = drill.states[0], drill.proposal(header, ALL).to_bytes()
    with pytest.raises(EnvironmentFault, match="disk is full"):
        tenant_receive(state, message, drill.randomness[0], FailingMarks())
    assert drill.states[0] is state


# --- restarts, and rounds that outlive their window ---


def next_window(drill: Drill, restarted: Iterable[int], first_round: int = 2) -> None:
    """These tenants start anew, and everybody sets up window 2."""
    for index in restarted:
        drill.restart(index)
    drill.set_up(range(drill.roster.n), number=2, first_round=first_round)


def test_a_restarted_tenant_endorses_nothing_in_its_former_window() -> None:
    drill, header = uploaded()
    drill.restart(0)
    for survivors in (ALL, []):
        drill.refused(0, drill.proposal(header, survivors), OutOfTurn, "of another window")
    drill.refused(0, drill.certificate(header, ALL), OutOfTurn, "while this side is no-round")
    drill.refused(0, drill.recover(header, drill.certificate(header, ALL), silent=[1]), OutOfTurn, "round 1 again")


@pytest.mark.parametrize("survivors", [[], [0, 1, 2]], ids=["void", "opened"])
def test_a_restarted_process_closes_a_round_of_its_former_window_once(survivors: list[int]) -> None:
    """Whoever still has the window's keys endorses the same under the new keys, and the next header is accepted by all."""
    drill, header = uploaded()
    former = drill.fixed
    next_window(drill, restarted=[0])
    later = drill.fixed
    other = ALL if survivors else [0, 1, 2]
    closing = drill.certify(header, survivors)
    assert closing.content.setup == later.digest != former.digest
    drill.refused(0, drill.proposal(header, other), OutOfTurn, "another endorsement of round 1")
    drill.refused(1, drill.proposal(header, other), Equivocation, "two different outcomes")
    again = drill.tell(0, drill.proposal(header, survivors))
    assert again is not None and again.content == drill.statement(header, survivors, later)
    following = drill.header(2)
    for i in ALL:
        drill.upload(i, following)


def test_an_endorsement_before_a_restart_binds_after_it() -> None:
    drill, header = uploaded()
    drill.tell(0, drill.proposal(header, [0, 1, 2]))
    next_window(drill, restarted=[0])
    for survivors in (ALL, [0, 1, 3], []):
        drill.refused(0, drill.proposal(header, survivors), OutOfTurn, "another endorsement of round 1")
    assert drill.told(0, drill.proposal(header, [0, 1, 2])).setup == drill.fixed.digest


def test_an_endorsement_in_one_window_binds_in_the_next() -> None:
    drill, header = uploaded()
    former = drill.fixed
    drill.tell(0, drill.proposal(header, [0, 1, 2]))
    next_window(drill, restarted=[])
    drill.refused(0, drill.proposal(header, []), Equivocation, "two different outcomes of round 1")
    drill.refused(0, drill.proposal(header, [], keys=former), Equivocation, "two different outcomes of round 1")
    drill.told(0, drill.proposal(header, [0, 1, 2]))
    # And the other way round.
    drill.tell(1, drill.proposal(header, []))
    drill.refused(1, drill.proposal(header, [0, 1, 2], keys=former), Equivocation, "two different outcomes of round 1")


def test_keys_of_a_later_window_never_open_a_round() -> None:
    """A restarted witness knows nothing of the uploads: it may close the round, and never has it opened."""
    drill, header = uploaded()
    former = drill.fixed
    next_window(drill, restarted=[0])
    closing = drill.certify(header, [1, 2, 3])
    for i in (1, 2, 3):
        drill.refused(i, closing, OutOfTurn, "does not belong to round 1")
        drill.refused(i, drill.recover(header, closing, silent=[2]), OutOfTurn, "does not belong to round 1")
        relabelled = drill.sealed(replace(closing.content, setup=former.digest))
        drill.refused(i, relabelled, BadSignature, "does not verify")


def test_a_witness_that_still_knows_the_uploads_checks_them_under_any_keys() -> None:
    drill = Drill()
    header = drill.header(1)
    for i in (0, 1, 3):
        drill.upload(i, header)
    shown = false_evidence(drill, header, unsigned(drill, header))
    next_window(drill, restarted=[0])
    drill.refused(1, drill.proposal(header, [0, 1, 2], evidence=shown), PeerFault, "without its upload")
    drill.refused(1, drill.proposal(header, [0, 1]), PeerFault, "sum of 2 tenants")


def test_old_rounds_are_not_closed_again() -> None:
    drill, header = uploaded()
    drill.certify(header, ALL)
    drill.openings(drill.certificate(header, ALL))
    second = drill.header(2)
    for i in ALL:
        drill.upload(i, second)
    drill.certify(second, ALL)
    next_window(drill, restarted=[0], first_round=3)
    drill.refused(0, drill.proposal(header, []), OutOfTurn, "another endorsement of round 1")
    drill.refused(1, drill.proposal(header, []), OutOfTurn, "round 1, which this tenant has passed")


def test_a_certificate_under_keys_that_a_tenant_does_not_know_tells_it_nothing() -> None:
    drill, header = uploaded()
    stranger = drill.certificate(header, [], setup=NOTHING)
    drill.refused(0, drill.header(2, previous=(stranger.quoted(),)), MalformedMessage, "does not know")
