"""What a tenant refuses in the set-up of a window: from the server, and from tenants whose messages it passes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from fed_em.errors import FedEmError
from fed_em_protocols.envelope import Sealed, seal
from fed_em_protocols.errors import SERVER, BadSignature, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.members import to_bitmap
from fed_em_protocols.messages import Neighbours, OpenWindow, Reveal
from fed_em_protocols.tenant_state import TenantState
from fed_em_protocols.terms import Trust
from fed_em_protocols.transitions import WindowStage
from fed_em_protocols.window import NO_NONCE
from tests.protocols.drill import Drill
from tests.protocols.drill_window import SPARSE
from tests.protocols.federation import identity_of

pytestmark = pytest.mark.usefixtures("remembered_keys")

ALL = range(4)
W = 4
"""Rounds of a window here."""


# --- OpenWindow ---


def test_a_window_is_opened_once() -> None:
    drill = Drill()
    drill.refused(0, drill.open_window(1, 9), OutOfTurn, "opens window 1 again")
    state = drill.states[0]
    assert drill.tell(0, drill.open_window()) is not None and drill.states[0] is state  # the very same: same answer
    drill.upload(0, drill.header(3))
    drill.refused(0, drill.open_window(1, 1), OutOfTurn, "opens window 1 again")
    drill.refused(0, drill.open_window(2, 0), PeerFault, "from round 0 on, all of which this tenant has passed")
    assert drill.tell(0, drill.open_window(2, 3)) is not None  # it was opened while round 3 ran


def test_a_window_under_other_terms_is_refused() -> None:
    drill = Drill()
    content = OpenWindow(drill.session, bytes(32), 2, 9, b"\0")
    drill.refused(0, drill.sealed(content), OutOfTurn, "under other terms")


@pytest.mark.parametrize(
    ("excused", "error", "text"),
    [(b"\x1f", MalformedMessage, "names tenant 4"), (b"", MalformedMessage, "bitmap of 0 bytes")],
)
def test_witnesses_that_are_none_cannot_be_excused(excused: bytes, error: type[FedEmError], text: str) -> None:
    drill = Drill(window=False)
    content = replace(drill.open_window().content, excused=excused)
    drill.refused(0, drill.sealed(content), error, text)


def test_every_window_has_keys_of_its_own() -> None:
    drill = Drill()
    first = drill.advertisements
    drill.set_up(ALL, number=2, first_round=2)
    for i in ALL:
        old, new = first[i], drill.advertisements[i]
        assert old.content.channel_key != new.content.channel_key and old.content.window_key != new.content.window_key
        tables = old.attachment + new.attachment
        assert len({tables[k : k + 32] for k in range(0, len(tables), 32)}) == 4 * W


def test_a_window_is_set_up_beside_a_running_round() -> None:
    """Every step of the set-up in another stage of the round; the old window serves until a header names the new one."""
    drill = Drill()
    drill.run(1)
    first, header = drill.fixed, drill.header(2)
    drill.advertise(ALL, number=2, first_round=3)
    for i in ALL:
        drill.upload(i, header)
    drill.fix()
    second, drill.setup = drill.fixed, first
    certificate = drill.certify(header, ALL)
    drill.setup = second
    drill.deposits = {i: drill.tell(i, drill.neighbours_message(i)) for i in ALL}  # type: ignore[misc]
    drill.setup = first
    assert not drill.opened_sum(header, drill.openings(certificate)).any()
    drill.setup = second
    for i in ALL:
        drill.tell(i, drill.boxes_message(i))
        assert drill.states[i].window_stage is WindowStage.READY
    assert not drill.run(3).any()
    assert {state.window_stage for state in drill.states} == {WindowStage.NONE}
    drill.setup = first
    drill.refused(0, drill.header(4), OutOfTurn, "another set-up")


def test_a_window_that_no_round_has_named_goes_when_the_next_is_opened() -> None:
    drill = Drill()
    first = drill.fixed
    drill.advertise(ALL, number=2)
    drill.setup = first
    drill.refused(0, drill.header(1), OutOfTurn, "another set-up")


def test_a_window_that_is_abandoned_is_followed_by_another() -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    drill.deposit()
    drill.advertise(ALL, number=2)
    assert {state.window_stage for state in drill.states} == {WindowStage.ADVERTISED}
    drill.deposit()
    for i in ALL:
        drill.tell(i, drill.boxes_message(i))
    assert not drill.run(1).any()


# --- which window is in use, told to whoever saw no header of it ---


def second_window_without_t3() -> Drill:
    """Rounds 2 and 3 run in a second window whose member t3 nobody asks; then a third one is opened, which shows round 3."""
    drill = Drill()
    drill.run(1)
    drill.set_up(ALL, number=2, first_round=2)
    second = drill.fixed
    drill.run(2, [0, 1, 2], by=[0, 1, 2])
    drill.run(3, [0, 1, 2], by=[0, 1, 2])
    drill.advertise(ALL, number=3, first_round=4)
    drill.setup = second
    return drill


def test_a_member_that_nobody_asked_stays_in_the_window_in_use_when_the_next_is_opened() -> None:
    """It holds shares of those who go on."""
    drill = second_window_without_t3()
    header = drill.header(4, [0, 1, 2])
    for i in (0, 1, 2):
        drill.upload(i, header)
    certificate = drill.certify(header, [0, 1, 2], by=[0, 1, 2])
    shares = drill.told(3, drill.recover(header, certificate, silent=[0]))
    assert [released.dealer for released in shares.released] == [0]
    assert drill.states[3].window_stage is WindowStage.ADVERTISED  # the set-up of the third is not disturbed


def test_what_is_older_than_the_round_that_an_opening_shows_is_erased() -> None:
    drill = second_window_without_t3()
    state = drill.states[3]
    assert state.window is not None and state.window.fixed.digest == drill.fixed.digest
    assert state.round is None and state.highest_round == 3
    assert state.window.secrets.chain.round == 4
    assert {shares.first_round for shares in state.window.held.values()} == {4}
    header, certificate = drill.certified[3]
    drill.refused(3, drill.recover(header, certificate, silent=[0]), OutOfTurn, "which this tenant has passed")


def test_a_round_that_was_not_certified_by_its_window_says_nothing_of_it() -> None:
    drill = Drill()
    drill.run(1)
    first = drill.fixed
    header, certificate = drill.certified[1]
    drill.set_up(ALL, number=2, first_round=2)
    second = drill.header(2)
    few, void = drill.certificate(second, ALL, by=[0, 1]), drill.certificate(second, [])
    closed = drill.certificate(header, ALL, keys=drill.fixed)
    unsigned = replace(certificate.quoted(), signature=bytes(64))
    late = drill.header(2 + W)
    opening = drill.open_window(3, 3)
    cases = [
        ((second.quoted(),), MalformedMessage, "half of a round"),
        ((header.quoted(), unsigned), BadSignature, "does not verify"),
        ((second.quoted(), few.quoted()), PeerFault, "2 endorsements of round 2, a certificate needs 3"),
        ((second.quoted(), void.quoted()), MalformedMessage, "closed, not certified"),
        ((header.quoted(), closed.quoted()), MalformedMessage, "closed, not certified"),
        ((second.quoted(), certificate.quoted()), MalformedMessage, "closed, not certified"),
        ((late.quoted(), drill.certificate(late, ALL).quoted()), MalformedMessage, "has no keys for it"),
    ]
    for shown, error, text in cases:
        drill.refused(3, drill.sealed(replace(opening.content, last_certified=shown)), error, text)
    # A window that it does not know is none of its business.
    drill.restart(3)
    drill.setup = first
    assert drill.tell(3, drill.sealed(replace(opening.content, last_certified=(header.quoted(), certificate.quoted()))))
    assert drill.states[3].window is None


# --- SetUp and Neighbours ---


def change_setup(drill: Drill, attachment: bytes | None = None, **changes: Any) -> Sealed[Any]:
    message = drill.setup_message()
    return drill.sealed(replace(message.content, **changes), message.attachment if attachment is None else attachment)


def test_a_setup_that_does_not_fit_is_refused() -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    message = drill.setup_message()
    quoted, digests = message.content.advertisements, message.attachment
    forged = replace(quoted[2], signature=bytes(64))
    swapped = digests[32:64] + digests[:32] + digests[64:]
    cases: list[tuple[dict[str, Any], type[FedEmError], str, str]] = [
        ({"window": bytes(32)}, OutOfTurn, "another window", SERVER),
        ({"session": b"x" * 16}, OutOfTurn, "another session", SERVER),
        ({"members": b"\x07"}, MalformedMessage, "digests do not belong to 3 members", SERVER),
        ({"members": b"\x07", "attachment": digests[:96]}, MalformedMessage, "4 advertisements for 3 members", SERVER),
        ({"members": b"\x1f"}, MalformedMessage, "names tenant 4", SERVER),
        ({"attachment": digests[:-1]}, MalformedMessage, "digests do not belong to 4 members", SERVER),
        ({"attachment": swapped}, MalformedMessage, "advertisement that its set-up does not bind", SERVER),
        ({"advertisements": (*quoted[:2], forged, quoted[3])}, BadSignature, "does not verify", "t2"),
        ({"advertisements": (*quoted[:2], quoted[3], quoted[2])}, BadSignature, "does not verify", "t2"),
        (
            {"members": b"\x03", "advertisements": quoted[:2], "attachment": digests[:64]},
            PeerFault,
            "window of 2 tenants, the terms say",
            SERVER,
        ),
        (
            {"members": b"\x0e", "advertisements": quoted[1:], "attachment": digests[32:]},
            PeerFault,
            "without this tenant's own",
            SERVER,
        ),
    ]
    for changes, error, text, culprit in cases:
        fault = drill.refused(0, change_setup(drill, **changes), error, text)
        assert isinstance(fault, PeerFault) and fault.peer == culprit
    drill.tell(0, drill.setup_message())
    assert drill.states[0].window_stage is WindowStage.FIXED


def readvertise(drill: Drill, index: int, table: bytes | None = None, **changes: Any) -> None:
    """Replace a tenant's advertisement by another that it signed."""
    known = drill.advertisements[index]
    content = replace(known.content, **changes)
    attachment = known.attachment if table is None else table
    drill.advertisements[index] = seal(content, identity_of(f"t{index}"), attachment)


ORDER_ONE = b"\x01" + bytes(31)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"window": bytes(32)}, OutOfTurn, "another window"),
        ({"session": b"x" * 16}, OutOfTurn, "another window"),
        ({"nonce_commitment": b"n" * 32}, MalformedMessage, "a nonce where none is due"),
        ({"channel_key": bytes(32)}, PeerFault, "small order"),
        ({"table": ORDER_ONE + b"\x09" * (2 * 32 * W - 32)}, PeerFault, "small order"),
        ({"table": b"\x09" * 32 * (W - 1) + ORDER_ONE + b"\x09" * 32 * W}, PeerFault, "small order"),
        ({"table": b"\x09" * (2 * 32 * W - 1)}, MalformedMessage, "tables that do not hold 4 rounds"),
        ({"table": b""}, MalformedMessage, "tables that do not hold 4 rounds"),
    ],
)
def test_an_advertisement_that_does_not_fit_names_its_author(
    changes: dict[str, Any], error: type[FedEmError], text: str
) -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    readvertise(drill, 2, **changes)
    shown = "table" in changes or "channel_key" in changes
    if shown:  # only its neighbours look at the keys of its rounds
        drill.tell(0, drill.setup_message())
        drill.setup = drill.setup_of_all()
        size = sum(len(drill.advertisements[i].attachment) for i in (1, 2, 3))
        if size != 3 * 2 * 32 * W:
            drill.refused(0, drill.neighbours_message(0), MalformedMessage, "round keys that do not belong to 3")
            return
    message = drill.neighbours_message(0) if shown else drill.setup_message()
    fault = drill.refused(0, message, error, text)
    assert isinstance(fault, PeerFault) and fault.peer == "t2"


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


def semi_honest_set_up() -> Drill:
    """Nobody is a witness: every advertisement comes with the neighbours."""
    drill = Drill(window=False, trust=int(Trust.SEMI_HONEST))
    drill.advertise(ALL)
    drill.fix()
    return drill


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"setup": bytes(32)}, OutOfTurn, "neighbours of another set-up"),
        ({"quoted": b"\x0c"}, MalformedMessage, "did not send the advertisement of every neighbour"),
        ({"quoted": b"\x1e"}, MalformedMessage, "names tenant 4"),
        ({"nonces": (bytes(32),)}, MalformedMessage, "1 nonces, the window has 0 witnesses"),
        ({"advertisements": ()}, MalformedMessage, "0 advertisements for 3 members"),
    ],
)
def test_neighbours_that_do_not_fit_are_refused(changes: dict[str, Any], error: type[FedEmError], text: str) -> None:
    drill = semi_honest_set_up()
    message = drill.neighbours_message(0)
    drill.refused(0, drill.sealed(replace(message.content, **changes), message.attachment), error, text)
    assert drill.tell(0, message) is not None


def test_advertisements_that_nobody_lacks_are_refused() -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    drill.fix()
    message = drill.neighbours_message(0)
    again = replace(message.content, quoted=b"\x02", advertisements=(drill.advertisements[1].quoted(),))
    drill.refused(0, drill.sealed(again, message.attachment), MalformedMessage, "that nobody lacks")


def test_round_keys_that_their_tenant_did_not_sign_are_refused() -> None:
    drill = semi_honest_set_up()
    message = drill.neighbours_message(0)
    size = len(message.attachment) // 3
    first, second, third = (message.attachment[k * size : (k + 1) * size] for k in range(3))
    for tables in (second + first + third, bytes(size) + second + third):
        drill.refused(0, drill.sealed(message.content, tables), MalformedMessage, "that their tenant did not sign")
    for tables in (b"", first + second, message.attachment + b"\0"):
        drill.refused(0, drill.sealed(message.content, tables), MalformedMessage, "do not belong to 3 neighbours")


# --- boxes ---


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


def test_a_deposit_for_another_set_up_names_its_dealer() -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    drill.deposit()
    content, boxes = drill.deposits[2].content, drill.deposits[2].attachment
    for change, text in (
        ({"setup": bytes(32)}, "for another set-up"),
        ({"roots": bytes(32)}, "another number of roots"),
    ):
        drill.deposits[2] = seal(replace(content, **change), drill.signing_key(2, drill.fixed.digest), boxes)
        fault = drill.refused(0, drill.boxes_message(0), MalformedMessage, text)
        assert isinstance(fault, PeerFault) and fault.peer == "t2"


# --- the draw of a sparse graph ---


@cache
def fixed_sparse() -> tuple[Drill, Sequence[TenantState]]:
    """66 tenants, six of them witnesses, whose nonces are revealed; the states before anybody was shown its neighbours."""
    drill = Drill(66, window=False, **SPARSE)
    drill.advertise(range(66))
    drill.fix()
    return drill, tuple(drill.states)


def sparse() -> Drill:
    drill, states = fixed_sparse()
    drill.states = list(states)
    return drill


def test_the_witnesses_of_a_sparse_graph_reveal_what_they_committed_to_once_the_set_up_is_fixed() -> None:
    drill = sparse()
    assert sorted(drill.nonces) == list(range(6))
    for i in range(66):
        committed = drill.advertisements[i].content.nonce_commitment
        assert (committed != NO_NONCE) is (i < 6)
    reveal = drill.told(0, drill.setup_message())
    assert reveal == Reveal(drill.session, drill.fixed.digest, drill.nonces[0])


def test_the_graph_is_the_same_for_everybody_and_nobody_chooses_it() -> None:
    drill = sparse()
    for i in (0, 10, 65):
        drill.tell(i, drill.neighbours_message(i))
        upcoming = drill.states[i].upcoming
        assert upcoming is not None and upcoming.fixed.graph == drill.fixed.graph
    other = Drill(66, window=False, seed=1, **SPARSE)
    other.advertise(range(66))
    other.fix()
    assert other.fixed.graph is not None and drill.fixed.graph is not None
    assert other.fixed.graph.ring != drill.fixed.graph.ring


def without_one(nonces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return nonces[1:]


def one_chosen(nonces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (bytes(32), *nonces[1:])


def in_another_order(nonces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (nonces[1], nonces[0], *nonces[2:])


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (without_one, MalformedMessage, "5 nonces, the window has 6 witnesses"),
        (one_chosen, PeerFault, "a nonce that its witness did not commit to"),
        (in_another_order, PeerFault, "a nonce that its witness did not commit to"),
    ],
)
def test_a_draw_that_the_server_chose_is_refused(
    change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]], error: type[FedEmError], text: str
) -> None:
    drill = sparse()
    for i in (0, 40):
        message: Sealed[Neighbours] = drill.neighbours_message(i)
        chosen = replace(message.content, nonces=change(message.content.nonces))
        drill.refused(i, drill.sealed(chosen, message.attachment), error, text)


def test_a_witness_needs_the_keys_of_everybody() -> None:
    """It checks every upload: one whose key it lacked could be invented."""
    drill = sparse()
    message = drill.neighbours_message(0)
    near = sorted(set(drill.fixed.neighbours(0)) - set(range(6)))
    fewer = replace(
        message.content,
        quoted=drill.bitmap(near),
        advertisements=tuple(drill.advertisements[i].quoted() for i in near),
    )
    drill.refused(0, drill.sealed(fewer, message.attachment), MalformedMessage, "keeps keys from a witness")
    assert drill.tell(0, message) is not None


def test_a_window_without_enough_witnesses_is_refused() -> None:
    drill = Drill(66, window=False, **SPARSE)
    drill.advertise(range(66), excused=[0, 1])
    drill.refused(9, drill.setup_message(), PeerFault, "window of 4 witnesses, a quorum has 5")


def test_whoever_is_no_witness_cannot_be_excused() -> None:
    drill = Drill(66, window=False, **SPARSE)
    drill.refused(9, drill.open_window(excused=[7]), PeerFault, "excused witnesses that cannot be any")


def test_an_excused_witness_gives_no_nonce_and_certifies_nothing() -> None:
    drill = Drill(66, window=False, **SPARSE)
    drill.advertise(range(66), excused=[3])
    assert drill.advertisements[3].content.nonce_commitment == NO_NONCE
    drill.fix()
    assert sorted(drill.nonces) == [0, 1, 2, 4, 5] == list(drill.fixed.witnesses)


def test_the_ninth_graph_in_a_row_that_nobody_used_is_refused() -> None:
    """Whoever may draw for ever chooses the graph: eight tries cost three bits."""
    drill = Drill(66, window=False, **SPARSE)
    # Those who answer are enough for a set-up, and the others do not matter.
    members = [*range(7), *range(60, 66)]
    for number in range(1, 9):
        drill.advertise(members, number=number)
        drill.fix()
    drill.advertise(members, number=9)
    drill.refused(60, drill.setup_message(), PeerFault, "graph number 9, and has shown no sum on any")


# Enough for a set-up and for a sum without t60.
FEW = (*range(7), *range(60, 66))
ASKED = tuple(i for i in FEW if i != 60)


def test_a_sum_on_a_graph_starts_the_count_of_draws_anew() -> None:
    drill = Drill(66, window=False, **{**SPARSE, "window_rounds": 2})
    for number in range(1, 8):
        drill.advertise(FEW, number=number)
        drill.fix()
    drill.set_up(FEW, number=8)
    assert len(drill.states[60].drawn) == 8
    assert not drill.run(1).any()
    drill.advertise(FEW, number=9, first_round=2)
    drill.fix()
    assert drill.states[60].drawn == (drill.fixed.digest,)


def test_windows_that_serve_others_are_no_draws_in_a_row() -> None:
    """t60 is a member of each, and nobody asks it: each opening shows it the sum of the window before."""
    drill = Drill(66, window=False, **SPARSE)
    for number in range(1, 11):
        drill.set_up(FEW, number=number, first_round=number)
        assert drill.states[60].drawn == (drill.fixed.digest,)
        drill.run(number, ASKED)


def test_rounds_in_an_older_window_do_not_buy_another_draw() -> None:
    drill = Drill(66, window=False, **{**SPARSE, "window_rounds": 16})
    drill.set_up(FEW)
    first = drill.fixed
    for number in range(2, 10):
        drill.run(number - 1)
        drill.advertise(FEW, number=number, first_round=number)
        drill.fix()
        drill.setup = first
    drill.run(9)
    drill.advertise(FEW, number=10, first_round=10)
    for i in (0, 60):
        drill.refused(i, drill.setup_message(), PeerFault, "graph number 9, and has shown no sum")


def test_a_round_that_ends_void_does_not_buy_another_draw() -> None:
    """A header, and a round that nobody opens, cost a server that looks for a graph nothing."""
    drill = Drill(66, window=False, **SPARSE)
    for number in range(1, 9):
        drill.set_up(FEW, number=number, first_round=number)
        header = drill.header(number)
        for i in FEW:
            drill.upload(i, header)
        drill.certify(header, [])
    drill.advertise(FEW, number=9, first_round=9)
    for i in (0, 60):
        drill.refused(i, drill.setup_message(), PeerFault, "graph number 9, and has shown no sum")
