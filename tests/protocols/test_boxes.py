"""Sealed boxes open at the end of their own route, unchanged, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em_protocols import boxes
from fed_em_protocols.boxes import TAG_BYTES, Channel, Route
from fed_em_protocols.errors import PeerFault
from fed_em_protocols.keys import agree, agreement_public

SENDER, RECIPIENT, STRANGER = (bytes([k]) * 32 for k in (1, 2, 3))
ROUTE = Route(b"s" * 32, 4, 7)
BOX = ROUTE.seal(b"plain text", SENDER, agreement_public(RECIPIENT), "recipient")


def opened(
    route: Route, box: bytes, secret: bytes = RECIPIENT, public: bytes = agreement_public(SENDER)
) -> bytes | None:
    return route.open(box, secret, public, "sender")


@given(st.binary(max_size=200))
def test_a_box_opens_at_its_end(plaintext: bytes) -> None:
    box = ROUTE.seal(plaintext, SENDER, agreement_public(RECIPIENT), "recipient")
    assert len(box) == len(plaintext) + TAG_BYTES
    assert opened(ROUTE, box) == plaintext


def test_one_agreement_a_pair_serves_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(boxes, "agree", lambda key, public, peer: made.append(peer) or agree(key, public, peer))
    here, there = Channel(SENDER), Channel(RECIPIENT)
    assert (here.public, there.public) == (agreement_public(SENDER), agreement_public(RECIPIENT))
    assert ROUTE.seal(b"plain text", here, there.public, "recipient") == BOX
    assert ROUTE.open(BOX, there, here.public, "sender") == b"plain text"
    back = replace(ROUTE, sender=ROUTE.recipient, recipient=ROUTE.sender)
    answer = back.seal(b"an answer", there, here.public, "sender")
    assert (back.open(answer, here, there.public, "recipient"), made) == (b"an answer", ["recipient", "sender"])
    assert here.agreed(agreement_public(STRANGER), "stranger") != here.agreed(there.public, "recipient")
    assert repr(here) == "Channel(…)"


@pytest.mark.parametrize(
    "route", [Route(b"t" * 32, 4, 7), Route(b"s" * 32, 7, 4), Route(b"s" * 32, 4, 6), Route(b"s" * 32, 5, 7)]
)
def test_another_route_does_not_open_it(route: Route) -> None:
    assert opened(route, BOX) is None


def test_it_does_not_open_back_at_its_sender() -> None:
    assert opened(ROUTE, BOX, SENDER, agreement_public(RECIPIENT)) == b"plain text"  # the agreement is symmetric …
    back = replace(ROUTE, sender=ROUTE.recipient, recipient=ROUTE.sender)
    assert opened(back, BOX, SENDER, agreement_public(RECIPIENT)) is None  # … the route is not: no reflection


def test_other_keys_do_not_open_it() -> None:
    assert opened(ROUTE, BOX, STRANGER) is None
    assert opened(ROUTE, BOX, public=agreement_public(STRANGER)) is None


@given(st.integers(0, 8 * len(BOX) - 1))
def test_a_changed_bit_is_seen(bit: int) -> None:
    changed = bytearray(BOX)
    changed[bit // 8] ^= 1 << bit % 8
    assert opened(ROUTE, bytes(changed)) is None


@pytest.mark.parametrize("box", [b"", BOX[:-1], BOX[:15], BOX + b"\0"])
def test_another_length_is_seen(box: bytes) -> None:
    assert opened(ROUTE, box) is None


def test_a_channel_key_of_small_order_names_its_owner() -> None:
    with pytest.raises(PeerFault) as caught:
        ROUTE.seal(b"", SENDER, bytes(32), "mallory")
    assert caught.value.peer == "mallory"
