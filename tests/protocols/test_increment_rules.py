"""Increments: what they start from, that a tenant checks it, and that the running total is exact whatever happens to a round."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fed_em.errors import FedEmError
from fed_em_protocols.envelope import Sealed, seal
from fed_em_protocols.errors import BadSignature, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import AskBase, Header, Mode, Outcome
from fed_em_protocols.tenant_round import tenant_recall
from fed_em_protocols.tenant_state import BaseRound
from fed_em_protocols.terms import Trust
from tests.protocols.drill import Drill
from tests.protocols.federation import KnownVector, identity_of

pytestmark = pytest.mark.usefixtures("remembered_keys")

LENGTH = 48
NINE = range(9)
BLOCKS = [{0, 3, 6}, {1, 4, 7}, {2, 5, 8}]
either_trust = pytest.mark.parametrize("trust", Trust)


def ring_of(index: int, theta: bytes) -> RingVector:
    """A tenant's statistics at some parameters."""
    return KnownVector(index, LENGTH).vector_at(theta)


def plain_sum(members: Any, theta: bytes) -> RingVector:
    total = np.zeros(LENGTH, dtype=np.uint64)
    for index in members:
        total += ring_of(index, theta)
    return total


def run(drill: Drill, number: int, theta: bytes, **options: Any) -> RingVector:
    """A whole round in which everybody asked gives its statistics at `theta`."""
    rings = {i: ring_of(i, theta) for i in range(drill.roster.n)}
    return drill.run(number, rings=rings, theta=theta, **options)


def after_base_round(trust: Trust = Trust.MALICIOUS_SERVER) -> Drill:
    """Nine tenants in three blocks that gave whole vectors at θ1 in round 1."""
    drill = Drill(9, blocks=3, colluders=1, length=LENGTH, window_rounds=8, trust=int(trust))
    assert np.array_equal(run(drill, 1, b"1"), plain_sum(NINE, b"1"))
    return drill


def bases_of(drill: Drill) -> list[tuple[int, bool]]:
    return [(state.base.round, state.base.certain) for state in drill.states]


# --- the arithmetic ---


@either_trust
def test_an_increment_is_the_difference_to_the_base(trust: Trust) -> None:
    drill = after_base_round(trust)
    second = run(drill, 2, b"2", mode=Mode.INCREMENT, bases=(1, 1, 1))
    assert np.array_equal(second, plain_sum(NINE, b"2") - plain_sum(NINE, b"1"))
    assert drill.tell(0, drill.header(3)) is None
    assert bases_of(drill)[0] == (2, True)


def test_blocks_that_miss_rounds_keep_the_bases_that_they_had() -> None:
    """Each block answers in its own rounds; the total is always the sum of everybody's last terms."""
    drill = after_base_round()
    total, last = plain_sum(NINE, b"1"), [1, 1, 1]
    terms = dict.fromkeys(NINE, b"1")
    for number, here in enumerate([(0, 1), (1, 2), (0, 2), (0, 1, 2)], 2):
        theta = b"%d" % number
        members = set().union(*(BLOCKS[k] for k in here))
        total = total + run(drill, number, theta, survivors=members, mode=Mode.INCREMENT, bases=tuple(last))
        terms |= dict.fromkeys(members, theta)
        last = [number if k in here else base for k, base in enumerate(last)]
        assert np.array_equal(
            total, sum((ring_of(i, theta) for i, theta in terms.items()), np.zeros(LENGTH, np.uint64))
        )
    assert last == [5, 5, 5]


def test_a_block_that_was_never_opened_joins_whole() -> None:
    drill = Drill(9, blocks=3, colluders=1, length=LENGTH)
    first = run(drill, 1, b"1", survivors=BLOCKS[0] | BLOCKS[1])
    assert np.array_equal(first, plain_sum(BLOCKS[0] | BLOCKS[1], b"1"))
    total = first + run(drill, 2, b"2", mode=Mode.INCREMENT, bases=(1, 1, 0))
    assert np.array_equal(total, plain_sum(NINE, b"2"))


def test_a_base_round_leaves_no_older_base() -> None:
    """The total restarted without block 2: its terms of round 1 are gone, and it joins whole."""
    drill = after_base_round()
    second = run(drill, 2, b"2", survivors=BLOCKS[0] | BLOCKS[1])
    stale = drill.header(3, mode=Mode.INCREMENT, bases=(2, 2, 1))
    drill.refused(2, stale, PeerFault, "start from round 1; by the certified rounds it is nothing")
    total = second + run(drill, 3, b"3", mode=Mode.INCREMENT, bases=(2, 2, 0))
    assert np.array_equal(total, plain_sum(NINE, b"3"))


def test_a_round_of_counts_moves_no_base() -> None:
    drill = after_base_round()
    run(drill, 2, b"2", mode=Mode.COUNTS)
    total = plain_sum(NINE, b"1") + run(drill, 3, b"3", mode=Mode.INCREMENT, bases=(1, 1, 1))
    assert np.array_equal(total, plain_sum(NINE, b"3"))


# --- certified, and not opened ---


def unopened_round(drill: Drill, number: int, theta: bytes, **options: Any) -> Sealed[Header]:
    """Everybody uploads, the round is certified, and nobody is asked to open it."""
    header = drill.header(number, theta=theta, **options)
    for i in NINE:
        drill.upload(i, header, ring_of(i, theta))
    drill.certify(header, NINE)
    return header


@pytest.mark.parametrize("mode", [Mode.INCREMENT, Mode.WHOLE])
def test_a_certified_round_that_was_not_opened_leaves_every_base_and_the_total(mode: Mode) -> None:
    drill = after_base_round()
    bases = (1, 1, 1) if mode is Mode.INCREMENT else ()
    unopened_round(drill, 2, b"2", mode=mode, bases=bases)
    told = {"previous_outcome": int(Outcome.NOT_OPENED), "mode": Mode.INCREMENT}
    drill.refused(0, drill.header(3, bases=(2, 1, 1), **told), PeerFault, "start from round 2")
    total = plain_sum(NINE, b"1") + run(drill, 3, b"3", bases=(1, 1, 1), **told)
    assert np.array_equal(total, plain_sum(NINE, b"3"))


def test_a_round_that_is_void_leaves_every_base_and_the_total() -> None:
    drill = after_base_round()
    header = drill.header(2, theta=b"2", mode=Mode.INCREMENT, bases=(1, 1, 1))
    for i in range(4):
        drill.upload(i, header, ring_of(i, b"2"))
    drill.certify(header, [])
    total = plain_sum(NINE, b"1") + run(drill, 3, b"3", mode=Mode.INCREMENT, bases=(1, 1, 1))
    assert np.array_equal(total, plain_sum(NINE, b"3"))


# --- wrong bases ---


def refused_base(drill: Drill, index: int, bases: tuple[int, ...], says: str, **changes: Any) -> None:
    wrong = drill.header(1 + max(drill.certified), mode=Mode.INCREMENT, bases=bases, **changes)
    drill.refused(index, wrong, PeerFault, says)


@either_trust
def test_no_whole_vector_is_sent_in_a_round_of_increments_unless_the_total_holds_nothing_of_the_block(
    trust: Trust,
) -> None:
    drill = after_base_round(trust)
    refused_base(drill, 0, (0, 1, 1), "start from round nothing; by the certified rounds it is 1")
    refused_base(drill, 0, (0, 0, 0), "start from round nothing; by the certified rounds it is 1")
    header = drill.header(2, theta=b"2", mode=Mode.INCREMENT, bases=(1, 1, 1))
    uploads = [drill.upload(i, header, ring_of(i, b"2")) for i in NINE]
    assert not any(np.array_equal(upload, ring_of(i, b"2")) for i, upload in enumerate(uploads))
    opened = drill.opened_sum(header, drill.openings(drill.certify(header, NINE)))
    assert np.array_equal(opened, plain_sum(NINE, b"2") - plain_sum(NINE, b"1"))


@either_trust
def test_a_base_that_is_not_the_latest_opened_round_of_the_block_is_refused(trust: Trust) -> None:
    drill = after_base_round(trust)
    run(drill, 2, b"2", survivors=BLOCKS[0] | BLOCKS[1], mode=Mode.INCREMENT, bases=(1, 1, 1))
    refused_base(drill, 0, (1, 2, 1), "start from round 1; by the certified rounds it is 2")
    refused_base(drill, 1, (2, 1, 1), "start from round 1; by the certified rounds it is 2")
    refused_base(drill, 2, (2, 2, 2), "start from round 2; by the certified rounds it is 1")
    # Somebody else's base is theirs to check.
    run(drill, 3, b"3", mode=Mode.INCREMENT, bases=(2, 2, 1))


@either_trust
def test_a_base_of_another_context_is_refused(trust: Trust) -> None:
    """The right number with other parameters: an increment on what was never in the total."""
    drill = after_base_round(trust)
    other = drill.header(1, theta=b"others").digest
    refused_base(drill, 0, (1, 1, 1), "start from round 1; by the certified rounds it is 1", base_contexts=other)


def test_contexts_of_two_base_rounds_cannot_be_swapped() -> None:
    drill = after_base_round()
    run(drill, 2, b"2", survivors=BLOCKS[0] | BLOCKS[1], mode=Mode.INCREMENT, bases=(1, 1, 1))
    swapped = drill.contexts([2]) + drill.contexts([1])
    for index in (0, 1, 2):
        refused_base(drill, index, (2, 2, 1), "by the certified rounds it is", base_contexts=swapped)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"base_rounds": (1, 1)}, "do not fit the roster's blocks"),
        ({"base_rounds": (1,) * 9}, "do not fit the roster's blocks"),
        ({"base_rounds": ()}, "do not fit the roster's blocks"),
        ({"base_contexts": b""}, "do not fit the roster's blocks"),
        ({"base_contexts": bytes(64)}, "do not fit the roster's blocks"),
        ({"base_rounds": (2, 2, 2)}, "a base round that is not over"),
        ({"base_rounds": (2**40, 2**40, 2**40)}, "a base round that is not over"),
        ({"mode": int(Mode.WHOLE)}, "base rounds where whole vectors are asked for"),
        ({"mode": int(Mode.COUNTS)}, "base rounds where whole vectors are asked for"),
        ({"mode": int(Mode.WHOLE), "base_rounds": ()}, "base rounds where whole vectors are asked for"),
    ],
)
def test_base_rounds_that_do_not_fit_are_refused(changes: dict[str, Any], text: str) -> None:
    drill = after_base_round()
    good: dict[str, Any] = {"mode": int(Mode.INCREMENT), "base_rounds": (1, 1, 1), "base_contexts": drill.contexts([1])}
    drill.refused(0, drill.header(2, **{**good, **changes}), MalformedMessage, text)


@pytest.mark.parametrize("changes", [{"encoding": b"e" * 32}, {"length": LENGTH + 1}, {"ring": 32}])
def test_a_base_of_another_encoding_is_refused(changes: dict[str, Any]) -> None:
    """Whether the tenant still has its statistics of that round, or is told which parameters to compute them at."""
    drill = after_base_round()
    other = drill.header(2, theta=b"2", mode=Mode.INCREMENT, bases=(1, 1, 1), **changes)
    drill.refused(0, other, PeerFault, "start from a round of another encoding")
    forget(drill, 0)
    assert isinstance(drill.told(0, other), AskBase)
    drill.refused(0, drill.base(1), PeerFault, "start from a round of another encoding")


def test_counts_are_no_base() -> None:
    """A tenant that missed rounds takes the server's word for its base, but not for any base."""
    drill = Drill(9, blocks=3, colluders=1, length=LENGTH)
    run(drill, 1, b"1", mode=Mode.COUNTS)
    drill.restart(0)
    drill.set_up(NINE, number=2, first_round=2)
    assert isinstance(drill.told(0, drill.header(2, mode=Mode.INCREMENT, bases=(1, 0, 0))), AskBase)
    drill.refused(0, drill.base(1), PeerFault, "start from a round of counts")


# --- who missed rounds ---


def without_block_2(drill: Drill, number: int) -> None:
    """A round of increments on round 1 of which block 2 hears nothing."""
    here = BLOCKS[0] | BLOCKS[1]
    run(drill, number, b"%d" % number, among=here, by=here, mode=Mode.INCREMENT, bases=(1, 1, 1))


def test_a_tenant_that_missed_a_round_takes_the_named_base_until_it_is_in_a_sum_again() -> None:
    """What it did not see it cannot check; the header binds one base for its whole block all the same."""
    drill = after_base_round()
    without_block_2(drill, 2)
    header = drill.header(3, theta=b"3", mode=Mode.INCREMENT, bases=(2, 2, 1))
    drill.tell(8, header)
    assert not drill.states[8].base.certain
    run(drill, 3, b"3", mode=Mode.INCREMENT, bases=(2, 2, 1))
    refused_base(drill, 8, (3, 3, 1), "start from round 1; by the certified rounds it is 3")
    refused_base(drill, 8, (3, 3, 0), "start from round nothing; by the certified rounds it is 3")
    drill.tell(8, drill.header(4, mode=Mode.INCREMENT, bases=(3, 3, 3)))
    assert bases_of(drill)[8] == (3, True)


def test_a_base_round_makes_a_tenant_certain_that_nothing_older_counts() -> None:
    drill = after_base_round()
    without_block_2(drill, 2)
    run(drill, 3, b"3", survivors=BLOCKS[0] | BLOCKS[1])
    refused_base(drill, 8, (3, 3, 1), "start from round 1; by the certified rounds it is nothing")
    drill.tell(8, drill.header(4, mode=Mode.INCREMENT, bases=(3, 3, 0)))
    assert drill.states[8].base == BaseRound(certain=True)


# --- lost statistics ---


def forget(drill: Drill, index: int) -> None:
    """The tenant loses the statistics that it gave before."""
    drill.states[index] = replace(drill.states[index], vectors={})


def test_lost_statistics_are_computed_again_to_the_same_integers() -> None:
    drill, spared = after_base_round(), after_base_round()
    forget(drill, 4)
    header = drill.header(2, theta=b"2", mode=Mode.INCREMENT, bases=(1, 1, 1))
    expected = spared.upload(4, spared.header(2, theta=b"2", mode=Mode.INCREMENT, bases=(1, 1, 1)), ring_of(4, b"2"))
    step = drill.deliver(4, header.to_bytes())
    ask = drill.answer_in(step)
    assert (
        ask is not None
        and ask.content == AskBase(drill.session, 2, drill.contexts([1]), ask.content.context)
        and step.evaluate is None
    )
    ask.require_signature(drill.fixed.window_key(4), "t4")
    recall = drill.deliver(4, drill.base(1).to_bytes()).evaluate
    assert recall is not None and recall.recall and (recall.round, recall.parameters) == (1, b"1")
    step = tenant_recall(drill.states[4], ring_of(4, b"1"))
    drill.states[4] = step.state
    assert step.evaluate is not None and not step.evaluate.recall and step.evaluate.parameters == b"2"
    assert np.array_equal(drill.compute(4, ring_of(4, b"2")), expected)


def test_the_base_may_come_twice_and_late() -> None:
    drill = after_base_round()
    forget(drill, 4)
    header = drill.header(2, theta=b"2", mode=Mode.INCREMENT, bases=(1, 1, 1))
    asked = drill.deliver(4, header.to_bytes()).sends
    assert drill.deliver(4, header.to_bytes()).sends == asked
    first, again = (drill.deliver(4, drill.base(1).to_bytes()).evaluate for _ in range(2))
    assert first == again is not None
    drill.states[4] = tenant_recall(drill.states[4], ring_of(4, b"1")).state
    late = drill.deliver(4, drill.base(1).to_bytes())
    assert late.evaluate is None and not late.sends
    uploaded = drill.compute(4, ring_of(4, b"2"))
    assert uploaded.any()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ("another round", MalformedMessage, "another base round than its header names"),
        ("other parameters", MalformedMessage, "parameters that are not those of the base round"),
        ("another key", BadSignature, "does not verify"),
    ],
)
def test_a_base_that_is_not_the_one_asked_for_is_refused(change: str, error: type[FedEmError], text: str) -> None:
    drill = after_base_round()
    run(drill, 2, b"2", mode=Mode.INCREMENT, bases=(1, 1, 1))
    forget(drill, 4)
    drill.tell(4, drill.header(3, mode=Mode.INCREMENT, bases=(2, 2, 2)))
    content, parameters = drill.base(2).content, b"2"
    if change == "another round":
        content, parameters = drill.base(1).content, b"1"
    elif change == "other parameters":
        parameters = b"1"
    else:
        forged = seal(drill.certified[2][0].content, identity_of("t1"), b"2")
        content = replace(content, header=forged.quoted())
    drill.refused(4, drill.sealed(content, parameters), error, text)


def test_nobody_is_told_a_base_that_it_has_not_asked_for() -> None:
    drill = after_base_round()
    drill.refused(0, drill.base(1), OutOfTurn, "sent Base while this side is opened")
    drill.tell(0, drill.header(2, theta=b"2", mode=Mode.INCREMENT, bases=(1, 1, 1)))
    step = drill.deliver(0, drill.base(1).to_bytes())
    assert step.evaluate is None and not step.sends


def test_old_statistics_are_not_kept_for_ever() -> None:
    drill = after_base_round()
    for number in range(2, 7):
        run(drill, number, b"%d" % number, mode=Mode.INCREMENT, bases=(number - 1,) * 3)
        assert len(drill.states[0].vectors) <= 3


def test_parameters_of_a_base_are_bound_to_its_header() -> None:
    drill = after_base_round()
    header, _ = drill.certified[1]
    assert header.content.parameters == hashlib.sha256(b"1").digest()
