"""What a tenant refuses from a server that breaks the rules, and that a refusal leaves it exactly as it was."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em.errors import EnvironmentFault, FedEmError
from fed_em_client.tenant_session import SessionLeft, TenantSession
from fed_em_protocols import tenant
from fed_em_protocols.encoding import check_words_are_zero
from fed_em_protocols.envelope import Sealed, seal, unseal
from fed_em_protocols.errors import (
    SERVER,
    BadSignature,
    Equivocation,
    IllegalStep,
    MalformedMessage,
    OutOfTurn,
    PeerFault,
)
from fed_em_protocols.masks import RingVector, add_masks
from fed_em_protocols.members import to_bitmap
from fed_em_protocols.messages import (
    KINDS,
    Close,
    Header,
    Mode,
    Opening,
    OpenWindow,
    Outcome,
    Recover,
    Refusal,
    RefusalCode,
    SharedSecret,
    Shares,
)
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.round_keys import AgreementKey, self_mask_key
from fed_em_protocols.round_sum import RoundSum
from fed_em_protocols.shamir import combine
from fed_em_protocols.tenant import tenant_join, tenant_refuse, tenant_upload
from fed_em_protocols.transitions import TENANT_TRANSITIONS, TenantPhase
from tests.protocols.drill import Drill
from tests.protocols.examples import EXAMPLES, messages_of
from tests.protocols.federation import DESCRIPTION, identity_of, terms_of
from tests.protocols.uniformity import uniform_p_value

FROM_SERVER = [kind for kind, number in KINDS.items() if number >= 32]
pytestmark = pytest.mark.usefixtures("remembered_keys")

ALL = range(4)


def opened(drill: Drill, header: Sealed[Header], survivors: Any = ALL) -> dict[int, Opening]:
    """Everybody uploads, the survivors open."""
    certificate = drill.certificate(header, survivors)
    openings = {}
    for i in survivors:
        answer = drill.tell(i, certificate)
        assert answer is not None
        openings[i] = answer.content
    return openings


# --- one header, one certificate, one upload ---


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


def test_a_second_header_is_not_opened_against_the_firsts_certificate() -> None:
    drill = Drill()
    first, second = drill.header(1), drill.header(1, theta=b"others")
    drill.upload(0, first)
    drill.refused(0, drill.certificate(second, ALL), OutOfTurn, "certificate for another round")
    recover = drill.recover(first, drill.certificate(second, ALL), silent=[1])
    drill.refused(0, recover, OutOfTurn, "certificate for another round")


def test_the_first_survivors_are_the_only_ones_for_the_own_opening() -> None:
    drill = Drill()
    header = drill.header(1)
    drill.upload(0, header)
    drill.tell(0, drill.certificate(header, ALL))
    drill.refused(0, drill.certificate(header, [0, 1, 2]), OutOfTurn, "while this side is opened")
    second = drill.recover(header, drill.certificate(header, [0, 1, 2]), silent=[1], dropped=[3])
    drill.refused(0, second, Equivocation, "two different sets of survivors for round 1")


def test_the_first_survivors_are_the_only_ones_for_shares() -> None:
    drill = Drill()
    header = drill.header(1)
    drill.upload(0, header)
    drill.tell(0, drill.recover(header, drill.certificate(header, [0, 1, 2]), silent=[1], dropped=[3]))
    drill.refused(0, drill.certificate(header, ALL), Equivocation, "two different sets of survivors")
    drill.refused(
        0, drill.recover(header, drill.certificate(header, ALL), silent=[3]), Equivocation, "two different sets"
    )
    answer = drill.tell(0, drill.recover(header, drill.certificate(header, [0, 1, 2]), silent=[2], dropped=[3]))
    assert answer is not None  # the same survivors may fall silent one after the other


def test_the_first_survivors_bind_a_holder_that_only_helps() -> None:
    drill = Drill()
    header = drill.header(1, [1, 2, 3])
    drill.tell(0, drill.recover(header, drill.certificate(header, [1, 2, 3]), silent=[1]))
    drill.refused(
        0, drill.recover(header, drill.certificate(header, [1, 2, 3], root=b"r"), silent=[1]), Equivocation, "two"
    )


def test_a_hidden_certificate_cannot_be_swapped_in_the_next_header() -> None:
    drill = Drill()
    header = drill.header(1)
    drill.upload(0, header)
    drill.tell(0, drill.certificate(header, ALL))
    other = drill.certificate(header, [0, 1, 2]).digest
    drill.refused(0, drill.header(2, previous_certificate=other), Equivocation, "two different sets of survivors")


@pytest.mark.parametrize(
    ("participants", "survivors", "error", "text"),
    [
        ([0, 1, 2], [0, 1, 3], PeerFault, "names survivors that cannot be any"),
        ([0, 1, 2, 3], [0, 1], PeerFault, "sum of 2 tenants, the terms say 3"),
        ([0, 1, 2, 3], [], PeerFault, "sum of 0 tenants"),
        ([0, 1, 2, 3], [0], PeerFault, "sum of 1 tenants"),
        ([0, 1, 2, 3], [1, 2, 3], OutOfTurn, "does not hold its upload"),
    ],
)
def test_a_certificate_of_unfit_survivors_is_refused(
    participants: list[int], survivors: list[int], error: type[FedEmError], text: str
) -> None:
    drill = Drill()
    header = drill.header(1, participants)
    drill.upload(0, header)
    drill.refused(0, drill.certificate(header, survivors), error, text)
    if error is PeerFault:
        drill.refused(0, drill.recover(header, drill.certificate(header, survivors), silent=survivors), error, text)


def test_the_own_minimum_of_the_terms_is_enforced_on_participants_and_survivors() -> None:
    drill = Drill(minimum_survivors=4)
    drill.refused(0, drill.header(1, [0, 1, 2]), PeerFault, "sum of 3 tenants, the terms say 4")
    header = drill.header(1)
    drill.upload(0, header)
    drill.refused(0, drill.certificate(header, [0, 1, 2]), PeerFault, "sum of 3 tenants, the terms say 4")
    drill.refused(
        0, drill.recover(header, drill.certificate(header, [0, 1, 2]), dropped=[3]), PeerFault, "the terms say 4"
    )


@pytest.mark.parametrize(("silent", "dropped"), [([3], []), ([], [1]), ([], [0]), ([3], [3]), ([0, 1, 2, 3], [])])
def test_shares_of_both_secrets_of_one_tenant_are_never_released(silent: list[int], dropped: list[int]) -> None:
    drill = Drill()
    header = drill.header(1)
    drill.upload(0, header)
    message = drill.recover(header, drill.certificate(header, [0, 1, 2]), silent, dropped)
    drill.refused(0, message, PeerFault, "that cannot be any")


def test_what_is_released_is_what_was_asked() -> None:
    drill = Drill()
    header = drill.header(1)
    drill.upload(0, header)
    answer = drill.tell(0, drill.recover(header, drill.certificate(header, [0, 1, 2]), silent=[0, 1], dropped=[3]))
    assert answer is not None and isinstance(answer.content, Shares)
    released = {(share.dealer, SharedSecret(share.secret)) for share in answer.content.released}
    assert released == {(1, SharedSecret.SELF_SEED), (3, SharedSecret.AGREEMENT)}  # nobody holds shares of its own


def test_an_opening_holds_the_own_seed_and_keys_with_the_dropped_only() -> None:
    drill = Drill()
    header = drill.header(1)
    for i in ALL:
        drill.upload(i, header)
    openings = opened(drill, header, [0, 1, 2])
    assert all(len(opening.pair_keys) == 16 for opening in openings.values())
    drill = Drill()
    for i in ALL:
        drill.upload(i, drill.header(1))
    assert all(opening.pair_keys == b"" for opening in opened(drill, drill.header(1)).values())


# --- replay, reordering, and messages from elsewhere ---


def test_every_message_is_answered_with_the_same_bytes_again() -> None:
    drill = Drill(window=False)
    opening = drill.open_window()
    for i in ALL:
        first = drill.deliver(i, opening.to_bytes()).sends
        assert first and drill.deliver(i, opening.to_bytes()).sends == first
    drill = Drill()
    header = drill.header(1)
    setup, boxes = drill.setup_message(), drill.boxes_message(0)
    for message in (drill.opening, setup, boxes):
        assert message is not None
        state = drill.states[0]
        again = drill.deliver(0, message.to_bytes())
        assert again.sends and drill.states[0] is state and drill.deliver(0, message.to_bytes()).sends == again.sends
    drill.upload(0, header)
    uploaded = drill.deliver(0, header.to_bytes())
    assert uploaded.sends and uploaded.evaluate is None and drill.deliver(0, header.to_bytes()).sends == uploaded.sends
    certificate = drill.certificate(header, ALL)
    openings = {drill.deliver(0, certificate.to_bytes()).sends for _ in range(3)}
    assert len(openings) == 1
    recover = drill.recover(header, certificate, silent=[1])
    assert len({drill.deliver(0, recover.to_bytes()).sends for _ in range(3)}) == 1
    assert drill.deliver(0, header.to_bytes()).sends == uploaded.sends


def test_a_header_again_before_the_upload_asks_again_and_changes_nothing() -> None:
    drill = Drill()
    header = drill.header(1)
    first = drill.deliver(0, header.to_bytes())
    again = drill.deliver(0, header.to_bytes())
    assert first.evaluate == again.evaluate is not None and first.state == again.state
    drill.compute(0)


def test_messages_out_of_order_are_refused() -> None:
    drill = Drill()
    first, second = drill.header(1), drill.header(2)
    drill.refused(0, drill.certificate(first, ALL), OutOfTurn, "while this side is ready")
    drill.upload(0, second)
    drill.refused(0, first, OutOfTurn, "round 1 again")
    drill.refused(0, drill.certificate(first, ALL), OutOfTurn, "certificate for another round than 2")
    drill.refused(0, drill.recover(first, drill.certificate(first, ALL), silent=[1]), OutOfTurn, "round 1 again")
    drill.refused(0, drill.recover(second, drill.certificate(first, ALL), silent=[1]), OutOfTurn, "another round")


def test_a_certificate_that_was_opened_cannot_be_hidden_from_the_chain() -> None:
    """The next header must name it: calling the round void, after it was opened, would allow a second opening of the same sum."""
    drill = Drill()
    first = drill.header(1)
    drill.upload(0, first)
    drill.tell(0, drill.certificate(first, ALL))
    void = drill.header(2, previous_certificate=bytes(32), previous_outcome=int(Outcome.NOT_OPENED))
    drill.refused(0, void, Equivocation, "two different sets of survivors")


@pytest.mark.parametrize("changes", [{"previous_round": 0}, {"previous_round": 2}, {"previous_outcome": 77}])
def test_a_header_that_does_not_continue_the_chain_is_refused(changes: dict[str, int]) -> None:
    drill = Drill()
    drill.upload(0, drill.header(1))
    drill.refused(0, drill.header(2, **changes), MalformedMessage, "chain of rounds")


def test_a_recover_of_an_old_round_with_a_newer_header_in_between_is_refused() -> None:
    drill = Drill()
    first = drill.header(1)
    drill.upload(0, first)
    drill.tell(0, drill.certificate(first, ALL))
    drill.upload(0, drill.header(2))
    drill.refused(0, drill.recover(first, drill.certificate(first, ALL), silent=[1]), OutOfTurn, "round 1 again")


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"session": b"x" * 16}, OutOfTurn, "another session"),
        ({"terms": bytes(32)}, OutOfTurn, "other terms"),
        ({"setup": bytes(32)}, OutOfTurn, "another set-up"),
        ({"round": 0}, OutOfTurn, "round 0 again"),
        ({"round": 5}, PeerFault, "beyond the window"),
        ({"round": 2**40}, PeerFault, "beyond the window"),
        ({"mode": int(Mode.INCREMENT)}, MalformedMessage, "mode 2"),
        ({"mode": int(Mode.COUNTS)}, MalformedMessage, "mode 3"),
        ({"mode": 0}, MalformedMessage, "mode 0"),
        ({"parameters": bytes(32)}, MalformedMessage, "parameters that its header does not name"),
        ({"participants": b"\x0e"}, OutOfTurn, "without counting it as a participant"),
        ({"participants": b"\x03"}, PeerFault, "sum of 2 tenants"),
        ({"participants": b"\x1f"}, MalformedMessage, "names tenant 4"),
        ({"participants": b"\x0f\x00"}, MalformedMessage, "bitmap of 2 bytes"),
    ],
)
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
    forged_inside = drill.sealed(
        Recover(drill.session, forged.quoted(), drill.certificate(forged, ALL).quoted(), b"\x02", b"\0")
    )
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


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (OpenWindow(b"x" * 16, bytes(32), 2, 9), OutOfTurn, "another session"),
        (Close(b"x" * 16, 1, 1), OutOfTurn, "another session"),
    ],
)
def test_other_messages_of_another_session_are_refused(content: Any, error: type[FedEmError], text: str) -> None:
    drill = Drill()
    drill.refused(0, drill.sealed(content), error, text)


# --- windows ---


def test_a_window_is_opened_once() -> None:
    drill = Drill()
    drill.refused(0, drill.open_window(1, 9), OutOfTurn, "opens window 1 again")
    state = drill.states[0]
    assert drill.tell(0, drill.open_window()) is not None and drill.states[0] is state  # the very same: same answer
    drill.upload(0, drill.header(3))
    drill.refused(0, drill.open_window(1, 1), OutOfTurn, "opens window 1 again")
    drill.refused(0, drill.open_window(2, 3), PeerFault, "round 3, which this tenant has passed")
    assert drill.tell(0, drill.open_window(2, 4)) is not None


def test_a_window_under_other_terms_is_refused() -> None:
    drill = Drill()
    content = OpenWindow(drill.session, bytes(32), 2, 9)
    drill.refused(0, drill.sealed(content), OutOfTurn, "under other terms")


def change_setup(drill: Drill, **changes: Any) -> Sealed[Any]:
    return drill.sealed(replace(drill.setup_message().content, **changes))


def test_a_setup_that_does_not_fit_is_refused() -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    quoted = drill.setup_message().content.advertisements
    forged = replace(quoted[2], signature=bytes(64))
    cases: list[tuple[dict[str, Any], type[FedEmError], str, str]] = [
        ({"window": bytes(32)}, OutOfTurn, "another window", SERVER),
        ({"session": b"x" * 16}, OutOfTurn, "another session", SERVER),
        ({"members": b"\x07"}, MalformedMessage, "4 advertisements for 3 members", SERVER),
        ({"members": b"\x1f"}, MalformedMessage, "names tenant 4", SERVER),
        ({"members": b"\x03", "advertisements": quoted[:2]}, PeerFault, "window of 2 tenants", SERVER),
        ({"members": b"\x0e", "advertisements": quoted[1:]}, PeerFault, "without this tenant's own", SERVER),
        ({"advertisements": (*quoted[:2], forged, quoted[3])}, BadSignature, "does not verify", "t2"),
        ({"advertisements": (*quoted[:2], quoted[3], quoted[2])}, BadSignature, "does not verify", "t2"),
    ]
    for changes, error, text, culprit in cases:
        fault = drill.refused(0, change_setup(drill, **changes), error, text)
        assert isinstance(fault, PeerFault) and fault.peer == culprit
    assert drill.tell(0, drill.setup_message()) is not None


def readvertise(drill: Drill, index: int, **changes: Any) -> None:
    """Replace a tenant's advertisement by another that it signed."""
    content = replace(drill.advertisements[index].content, **changes)
    drill.advertisements[index] = seal(content, identity_of(f"t{index}"))


@pytest.mark.parametrize(
    ("changes", "error", "text", "culprit"),
    [
        ({"channel_key": bytes(32)}, PeerFault, "small order", "t2"),
        ({"round_keys": b"\x01" + bytes(31) + b"\x09" * 96}, PeerFault, "small order", "t2"),
        ({"round_keys": b"\x09" * 96}, MalformedMessage, "do not hold 4 rounds", "t2"),
        ({"commitments": b"\x09" * 160}, MalformedMessage, "do not hold 4 rounds", "t2"),
        ({"window": bytes(32)}, OutOfTurn, "another window", "t2"),
        ({"session": b"x" * 16}, OutOfTurn, "another window", "t2"),
    ],
)
def test_an_advertisement_that_does_not_fit_names_its_author(
    changes: dict[str, Any], error: type[FedEmError], text: str, culprit: str
) -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    readvertise(drill, 2, **changes)
    fault = drill.refused(0, drill.setup_message(), error, text)
    assert isinstance(fault, PeerFault) and fault.peer == culprit


def test_two_tenants_with_one_window_key_are_refused() -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    readvertise(drill, 2, window_key=drill.advertisements[3].content.window_key)
    drill.refused(0, drill.setup_message(), PeerFault, "same window key")


def test_an_own_advertisement_that_it_never_made_is_refused() -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    readvertise(drill, 0, channel_key=b"\x09" * 32)
    drill.refused(0, drill.setup_message(), PeerFault, "without this tenant's own advertisement")


def test_boxes_that_do_not_fit_are_refused_or_not_held() -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    drill.deposit()
    message = drill.boxes_message(0)
    good = message.content
    drill.refused(0, drill.sealed(replace(good, setup=bytes(32)), message.attachment), OutOfTurn, "another set-up")
    drill.refused(0, drill.sealed(good, message.attachment[:-1]), MalformedMessage, "do not belong to 3 dealers")
    drill.refused(
        0, drill.sealed(replace(good, deposits=good.deposits[:2]), message.attachment), MalformedMessage, "3 dealers"
    )
    drill.refused(
        0, drill.sealed(replace(good, dealers=b"\x0f"), message.attachment), PeerFault, "dealers that cannot be any"
    )
    swapped = replace(good, deposits=(good.deposits[1], good.deposits[0], good.deposits[2]))
    drill.refused(0, drill.sealed(swapped, message.attachment), BadSignature, "does not verify")
    spoiled = bytearray(message.attachment)
    spoiled[0] ^= 1  # the box of t1
    ready = drill.tell(0, drill.sealed(good, bytes(spoiled)))
    assert ready is not None and ready.content.held == to_bitmap([2, 3], 4)


def test_boxes_swapped_between_dealers_are_not_held() -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    drill.deposit()
    message = drill.boxes_message(0)
    size = len(message.attachment) // 3
    first, second, third = (message.attachment[k * size : (k + 1) * size] for k in range(3))
    ready = drill.tell(0, drill.sealed(message.content, second + first + third))
    assert ready is not None and ready.content.held == to_bitmap([3], 4)


# --- restarts and marks ---


def test_a_restarted_tenant_is_out_of_the_window_and_above_its_mark() -> None:
    drill = Drill()
    drill.upload(0, drill.header(2))
    drill.states[0] = drill.newborn(0)
    assert drill.states[0].boot != drill.states[1].boot
    drill.join(0)
    assert drill.states[0].highest_round == 2
    for message in (drill.header(2), drill.header(3), drill.setup_message(), drill.certificate(drill.header(2), ALL)):
        drill.refused(0, message, OutOfTurn, "while this side is joined")
    drill.refused(0, drill.open_window(2, 2), PeerFault, "round 2, which this tenant has passed")
    answer = drill.tell(0, drill.open_window(2, 3))
    assert answer is not None and answer.content.window_key != drill.advertisements[0].content.window_key


class FailingMarks:
    """A disk that is full."""

    def highest(self, session: bytes) -> int:
        return 0

    def record(self, session: bytes, round_number: int) -> None:
        raise EnvironmentFault("the disk is full")


def test_no_upload_leaves_before_its_mark_is_durable() -> None:
    drill = Drill()
    drill.tell(0, drill.header(1))
    before = drill.states[0]
    with pytest.raises(EnvironmentFault, match="disk is full"):
        tenant_upload(before, np.zeros(4, dtype=np.uint64), FailingMarks())
    assert drill.states[0] is before and before.phase is TenantPhase.ANSWERING
    assert drill.marks[0].highest(drill.session) == 0
    drill.compute(0)
    assert drill.marks[0].highest(drill.session) == 1


def test_a_mark_above_the_state_is_obeyed() -> None:
    """Two processes of one tenant on one disk: what one has answered, the other does not."""
    drill = Drill()
    drill.marks[0].record(drill.session, 2)
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


class Unasked:
    """Rows that must not be looked at."""

    def prepare(self, description: bytes) -> None:
        raise AssertionError("the policy comes first")

    evaluate = prepare


def test_a_tenant_whose_policy_refuses_leaves_with_a_code_for_this_session() -> None:
    drill = Drill(window=False)
    me = replace(drill.states[0].me, policy=TermsPolicy())
    session = TenantSession(me, Unasked(), drill.marks[0], drill.randomness[0])
    with pytest.raises(SessionLeft, match="trusts the server") as caught:
        session.handle(drill.terms.to_bytes())
    (refusal,) = (unseal(data, "tenant").content for data in caught.value.messages)
    assert refusal == Refusal(drill.session, int(RefusalCode.POLICY), 0)
    assert session.over


# --- the tables ---


@cache
def in_every_phase() -> dict[TenantPhase, Drill]:
    """A drill whose tenant 0 is in each phase."""
    drills: dict[TenantPhase, Drill] = {}

    def keep(drill: Drill) -> None:
        drills.setdefault(drill.states[0].phase, drill)

    newborn = Drill(window=False)
    newborn.states[0] = newborn.newborn(0)
    keep(newborn)
    offered = Drill(window=False)
    offered.states[0] = offered.newborn(0)
    offered.deliver(0, offered.terms.to_bytes())
    keep(offered)
    keep(Drill(window=False))
    advertised = Drill(window=False)
    advertised.advertise(ALL)
    keep(advertised)
    deposited = Drill(window=False)
    deposited.advertise(ALL)
    deposited.deposit()
    keep(deposited)
    keep(Drill())
    answering = Drill()
    answering.tell(0, answering.header(1))
    keep(answering)
    uploaded = Drill()
    uploaded.upload(0, uploaded.header(1))
    keep(uploaded)
    opened = Drill()
    opened.upload(0, opened.header(1))
    opened.tell(0, opened.certificate(opened.header(1), ALL))
    keep(opened)
    closed = Drill()
    closed.tell(0, closed.sealed(Close(closed.session, 1, 0)))
    keep(closed)
    return drills


def test_every_message_that_a_phase_does_not_know_is_refused_and_changes_nothing() -> None:
    drills = in_every_phase()
    assert set(drills) == set(TenantPhase) == set(TENANT_TRANSITIONS)
    refused = 0
    for (phase, drill), content in itertools.product(drills.items(), EXAMPLES):
        if type(content) not in TENANT_TRANSITIONS[phase]:
            drill.refused(
                0, drill.sealed(content), OutOfTurn, f"sent {type(content).__name__} while this side is {phase.value}"
            )
            refused += 1
    assert refused > 100


def test_every_local_event_that_a_phase_does_not_know_is_refused() -> None:
    ring = np.zeros(4, dtype=np.uint64)
    for phase, drill in in_every_phase().items():
        state = drill.states[0]
        if phase is not TenantPhase.OFFERED:
            with pytest.raises(IllegalStep):
                tenant_join(state)
        if phase is not TenantPhase.ANSWERING:
            with pytest.raises(IllegalStep):
                tenant_upload(state, ring, drill.marks[0])
        assert drill.states[0] is state


@pytest.mark.parametrize("kind", [np.float64, np.int64, np.uint32])
def test_masks_are_added_to_ring_integers_only(kind: Callable[..., Any]) -> None:
    drill = Drill()
    drill.tell(0, drill.header(1))
    with pytest.raises(IllegalStep, match="integers modulo"):
        tenant_upload(drill.states[0], np.zeros(4, dtype=kind), drill.marks[0])
    with pytest.raises(IllegalStep, match="4 integers"):
        tenant_upload(drill.states[0], np.zeros(5, dtype=np.uint64), drill.marks[0])


def test_a_refusal_ends_the_session_and_forgets_its_secrets() -> None:
    drill = Drill()
    drill.upload(0, drill.header(1))
    step = tenant_refuse(drill.states[0], RefusalCode.LOCAL_FAULT)
    assert step.state.phase is TenantPhase.CLOSED and step.state.window is None and step.state.round is None
    answer = drill.answer_in(step)
    assert answer is not None and answer.content.round == 1


# --- parameters shown differently, and late uploads ---


def unmasked(drill: Drill, headers: dict[int, Sealed[Header]], uploads: dict[int, RingVector]) -> RingVector:
    """What a server gets by opening each tenant under the header that it showed to it."""
    total = RoundSum.zero(drill.length)
    for upload in uploads.values():
        total = total.with_upload(upload)
    for i, header in headers.items():
        answer = drill.tell(i, drill.certificate(header, uploads))
        assert answer is not None
        total = total.without_masks(i, answer.content.self_seed, {}, header.digest)
    return total.vector


@pytest.mark.parametrize("halves", [False, True])
def test_different_parameters_to_two_halves_give_noise(halves: bool) -> None:
    drill = Drill(length=6)
    one, other = drill.header(1), drill.header(1, theta=b"others") if halves else drill.header(1)
    headers = {i: one if i < 2 else other for i in ALL}
    rings = {i: np.array([i, 10 * i, 1, 2, 0, 0], dtype=np.uint64) for i in ALL}
    uploads = {i: drill.upload(i, headers[i], rings[i]) for i in ALL}
    result = unmasked(drill, headers, uploads)
    assert np.array_equal(result, sum(rings.values())) is not halves
    assert check_words_are_zero(result) is not halves


def residual_of_a_late_upload(length: int) -> RingVector:
    """A dropped tenant's upload, a vector of zeros, less everything that a server can take off it after the opening."""
    drill = Drill(length=length)
    header = drill.header(1)
    uploads = {i: drill.upload(i, header) for i in ALL}
    certificate = drill.certificate(header, [0, 1, 2])
    assert drill.setup is not None
    shares: dict[int, bytes] = {}
    keys: dict[int, bytes] = {}
    for i in (0, 1, 2):
        opening, answer = drill.tell(i, certificate), drill.tell(i, drill.recover(header, certificate, dropped=[3]))
        assert opening is not None and answer is not None
        shares[i] = answer.content.released[0].share
        keys[i] = opening.content.pair_keys
    secret = combine(shares, drill.setup.threshold)
    assert secret is not None
    late = AgreementKey(3, secret)
    for i in (0, 1, 2):
        assert keys[i] == late.pair_mask_key(i, drill.setup.round_key(i, 1), header.digest, "")
    residual = uploads[3].copy()
    add_masks(residual, added=keys.values())  # the larger index had subtracted
    return residual


def test_a_late_upload_stays_uniform_after_the_opening() -> None:
    """χ² over the bytes of the residual; false alarm once in 10^6 (the sample is fixed)."""
    residual = residual_of_a_late_upload(8192)
    assert uniform_p_value(residual.view(np.uint8), 256) > 1e-6


def test_the_uniformity_of_a_late_upload_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the defect that tenants leave their own mask out, the same test fails: all of the residual is known."""
    own: set[bytes] = set()

    def remember(seed: bytes, context: bytes) -> bytes:
        key = self_mask_key(seed, context)
        own.add(key)
        return key

    def without_own(vector: RingVector, added: Iterable[bytes], subtracted: Iterable[bytes]) -> None:
        add_masks(vector, [key for key in added if key not in own], subtracted)

    monkeypatch.setattr(tenant, "self_mask_key", remember)
    monkeypatch.setattr(tenant, "add_masks", without_own)
    assert uniform_p_value(residual_of_a_late_upload(8192).view(np.uint8), 256) < 1e-6


# --- noise ---


@settings(max_examples=200)
@given(st.data())
def test_noise_from_the_server_never_breaks_a_tenant(data: st.DataObject) -> None:
    """Signed messages of any kind and content, in any phase: an answer, or a fault that leaves everything as it was."""
    drill = in_every_phase()[data.draw(st.sampled_from(TenantPhase), label="phase")]
    lie = data.draw(st.sampled_from(FROM_SERVER).flatmap(messages_of), label="message")
    header = drill.header(1) if drill.setup is not None else None
    truths = {
        "session": drill.session,
        "terms": drill.terms.digest,
        "round": 1,
        "survivors": b"\x07",
        "silent": b"\x02",
    }
    truths |= {"participants": b"\x0f", "members": b"\x0f", "dropped": b"\x08", "mode": 1, "dealers": b"\x0e"}
    if header is not None and drill.setup is not None and drill.opening is not None:
        truths |= {"setup": drill.setup.digest, "context": header.digest, "window": drill.opening.digest}
        truths |= {"header": header.quoted(), "certificate": drill.certificate(header, [0, 1, 2]).quoted()}
    names = sorted(name for name in truths if hasattr(lie, name))
    kept = data.draw(st.sets(st.sampled_from(names)), label="true fields")
    message = drill.sealed(replace(lie, **{name: truths[name] for name in kept}), data.draw(st.binary(max_size=8)))
    before = drill.states[0]
    try:
        drill.deliver(0, message.to_bytes())
    except PeerFault:
        assert drill.states[0] is before
    drill.states[0] = before
