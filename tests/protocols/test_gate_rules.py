"""The mass gate between server and tenants: counts are recomputed from evidence, and a round of moments stands behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fed_em.errors import FedEmError
from fed_em_protocols.envelope import Sealed, seal
from fed_em_protocols.errors import BadSignature, IllegalStep, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.masks import MASK_KEY_BYTES, RingVector
from fed_em_protocols.messages import Certificate, Counted, Header, Mode, Opening
from fed_em_protocols.ring import RING_64
from fed_em_protocols.tenant_outcome import tenant_gate
from fed_em_simulations.liars import flipped
from tests.protocols.drill import Drill
from tests.protocols.federation import KnownVector, identity_of

pytestmark = pytest.mark.usefixtures("remembered_keys")

LENGTH = 48
FIVE = range(5)
HELD = b"\x02"
SOME = [0, 1, 3, 4]
"""Who is in the sum of counts where somebody drops out."""


def counts_of(index: int) -> RingVector:
    return KnownVector(index, LENGTH).vector_at(b"counts", RING_64.for_counts)


class Counts:
    """Five tenants, and a round of counts that was opened.

    Args:
        by: Whom the server asked to certify it, all by default.
        left_out: Who never saw its header.
    """

    def __init__(
        self, survivors: Iterable[int] = FIVE, by: Iterable[int] | None = None, left_out: int | None = None
    ) -> None:
        self.drill = Drill(5, length=LENGTH, mass_floor=10_000)
        self.survivors = sorted(survivors)
        self.header: Sealed[Header] = self.drill.header(1, mode=Mode.COUNTS)
        for i in set(FIVE) - {left_out}:
            self.drill.upload(i, self.header, counts_of(i))
        self.certificate: Sealed[Certificate] = self.drill.certify(self.header, self.survivors, by)
        self.openings: dict[int, Opening] = self.drill.openings(self.certificate)
        self.message: Sealed[Counted] = self.drill.counted(self.header, self.certificate, self.openings)

    def gate(self, index: int, held: bytes = HELD) -> None:
        """Show a tenant the counts; it finds that these components stay shut."""
        step = self.drill.deliver(index, self.message.to_bytes())
        assert step.counts is not None
        self.drill.states[index] = tenant_gate(step.state, held).state

    def gated(self, number: int = 2, **changes: Any) -> Sealed[Header]:
        """A header for the moments of those who were counted."""
        return self.drill.header(number, **{"among": self.survivors, "held": HELD, **changes})

    def shown(self, attachment: bytes | None = None, **changes: Any) -> Sealed[Counted]:
        """The evidence, changed."""
        content = replace(self.message.content, **changes)
        return self.drill.sealed(content, self.message.attachment if attachment is None else attachment)


# --- evidence ---


@pytest.mark.parametrize("survivors", [FIVE, SOME], ids=["everybody", "one dropped"])
def test_everybody_who_was_asked_recomputes_the_counts(survivors: Iterable[int]) -> None:
    counts = Counts(survivors)
    expected = sum((counts_of(i) for i in counts.survivors), np.zeros(LENGTH, dtype=np.uint64))
    for i in FIVE:
        step = counts.drill.deliver(i, counts.message.to_bytes())
        assert step.counts is not None and np.array_equal(step.counts, expected)


def entry(counts: Counts, place: int) -> tuple[int, int]:
    size = len(counts.message.attachment) // len(counts.survivors)
    return place * size, size


def with_a_changed_byte(at: int) -> Callable[[Counts], Sealed[Counted]]:
    """In the second survivor's entry."""

    def forge(counts: Counts) -> Sealed[Counted]:
        start, size = entry(counts, 1)
        changed = bytearray(counts.message.attachment)
        changed[start + at % size] ^= 1
        return counts.shown(bytes(changed))

    return forge


def with_a_false_pair_key(counts: Counts) -> Sealed[Counted]:
    return counts.shown(pair_keys=flipped(counts.message.content.pair_keys))


def without_a_pair_key(counts: Counts) -> Sealed[Counted]:
    return counts.shown(pair_keys=counts.message.content.pair_keys[MASK_KEY_BYTES:])


def without_a_survivor(counts: Counts) -> Sealed[Counted]:
    start, size = entry(counts, 1)
    return counts.shown(counts.message.attachment[:start] + counts.message.attachment[start + size :])


def with_two_survivors_swapped(counts: Counts) -> Sealed[Counted]:
    _, size = entry(counts, 0)
    whole = counts.message.attachment
    return counts.shown(whole[size : 2 * size] + whole[:size] + whole[2 * size :])


def under_a_certificate_without_quorum(counts: Counts) -> Sealed[Counted]:
    few = counts.drill.certificate(counts.header, [0, 1, 3], by=[0])
    return counts.shown(certificate=few.quoted())


def under_a_certificate_of_others(counts: Counts) -> Sealed[Counted]:
    other = counts.drill.certificate(counts.header, [0, 1, 3])
    return counts.shown(certificate=other.quoted())


def under_a_certificate_that_the_server_did_not_sign(counts: Counts) -> Sealed[Counted]:
    forged = seal(counts.certificate.content, identity_of("t1"))
    return counts.shown(certificate=forged.quoted())


UPLOAD, SIGNATURE, SELF_KEY = 0, 8 * LENGTH, -1


@pytest.mark.parametrize(
    ("forge", "error", "text"),
    [
        (with_a_changed_byte(UPLOAD), PeerFault, "other uploads of counts than those that were certified"),
        (with_a_changed_byte(SIGNATURE), PeerFault, "other uploads of counts than those that were certified"),
        (with_a_changed_byte(SELF_KEY), PeerFault, "keys that do not open the certified counts"),
        (with_a_false_pair_key, PeerFault, "keys that do not open the certified counts"),
        (without_a_pair_key, MalformedMessage, "counts that do not fit their round"),
        (without_a_survivor, MalformedMessage, "counts that do not fit their round"),
        (with_two_survivors_swapped, PeerFault, "other uploads of counts than those that were certified"),
        (under_a_certificate_without_quorum, PeerFault, "two different outcomes"),
        (under_a_certificate_of_others, PeerFault, "two different outcomes"),
        (under_a_certificate_that_the_server_did_not_sign, BadSignature, "does not verify"),
    ],
)
def test_false_evidence_of_counts_is_refused(
    forge: Callable[[Counts], Sealed[Counted]], error: type[FedEmError], text: str
) -> None:
    counts = Counts(SOME)
    for i in FIVE:
        counts.drill.refused(i, forge(counts), error, text)
        counts.gate(i)


def test_whoever_has_seen_no_outcome_checks_the_certificate_of_the_counts() -> None:
    """t2 uploaded, was left out, and was not asked to endorse."""
    counts = Counts(SOME, by=SOME)
    few = counts.drill.certificate(counts.header, SOME, by=SOME[:-2])
    counts.drill.refused(2, counts.shown(certificate=few.quoted()), PeerFault, "a certificate needs 4")
    counts.gate(2)
    other = counts.drill.certificate(counts.header, FIVE)
    counts.drill.refused(2, counts.shown(certificate=other.quoted()), PeerFault, "two different outcomes")


def test_counts_of_a_round_that_counted_nothing_are_refused() -> None:
    drill = Drill(5, length=LENGTH)
    header = drill.header(1)
    for i in FIVE:
        drill.upload(i, header, counts_of(i))
    certificate = drill.certify(header, FIVE)
    message = drill.counted(header, certificate, drill.openings(certificate))
    drill.refused(0, message, OutOfTurn, "counts of round 1, which counted nothing")


def test_counts_of_a_round_that_a_tenant_was_not_in_say_nothing() -> None:
    counts = Counts()
    counts.drill.restart(0)
    step = counts.drill.deliver(0, counts.message.to_bytes())
    assert step.counts is None and step.state.gate is None
    with pytest.raises(IllegalStep, match="no counts were opened"):
        tenant_gate(step.state, HELD)


# --- the gate ---


@pytest.mark.parametrize("survivors", [FIVE, SOME], ids=["everybody", "one dropped"])
def test_moments_stand_behind_the_gate_that_the_counts_give(survivors: Iterable[int]) -> None:
    counts = Counts(survivors)
    for i in FIVE:
        counts.gate(i)
    header = counts.gated()
    for i in counts.survivors:
        step = counts.drill.deliver(i, header.to_bytes())
        assert step.evaluate is not None and (step.evaluate.held, step.evaluate.mass_floor) == (HELD, 10_000)
        counts.drill.compute(i)
    certificate = counts.drill.certify(header, counts.survivors, by=counts.survivors)
    assert not counts.drill.opened_sum(header, counts.drill.openings(certificate)).any()


def test_a_gate_without_counts_is_refused() -> None:
    drill = Drill(5, length=LENGTH, mass_floor=10_000)
    for held in (HELD, b"\0"):
        drill.refused(0, drill.header(1, held=held), PeerFault, "a gate that the counts of round 0 do not give")
    counts = Counts()
    counts.drill.refused(0, counts.gated(), PeerFault, "a gate that the counts of round 1 do not give")


@pytest.mark.parametrize(
    "changes",
    [{"held": b"\0"}, {"held": b"\x03"}, {"held": b"\x02\0"}, {"among": [0, 1, 3]}, {"among": FIVE}],
    ids=str,
)
def test_a_gate_that_the_counts_do_not_give_is_refused(changes: dict[str, Any]) -> None:
    counts = Counts(SOME)
    for i in FIVE:
        counts.gate(i)
    for i in (0, 1, 3):
        counts.drill.refused(i, counts.gated(**changes), PeerFault, "a gate that the counts of round 1 do not give")
        counts.drill.refused(
            i, counts.drill.proposal(counts.gated(**changes), []), PeerFault, "a gate that the counts of round 1 do not"
        )


def test_a_gate_serves_the_round_after_its_counts_only() -> None:
    counts = Counts()
    for i in FIVE:
        counts.gate(i)
    drill = counts.drill
    between = drill.header(2)
    for i in FIVE:
        drill.upload(i, between)
    drill.certificate(between, FIVE)
    drill.refused(0, counts.gated(number=3), PeerFault, "a gate that the counts of round 2 do not give")


def test_moments_behind_a_gate_are_those_of_all_who_were_counted() -> None:
    counts = Counts()
    for i in FIVE:
        counts.gate(i)
    header = counts.gated()
    for i in FIVE:
        counts.drill.upload(i, header)
    others = "moments of other tenants than those whose counts opened the mass gate"
    counts.drill.refused(0, counts.drill.proposal(header, SOME), PeerFault, others)
    fewer = counts.drill.certificate(header, SOME)
    counts.drill.refused(0, fewer, PeerFault, others)
    counts.drill.refused(0, counts.drill.recover(header, fewer, dropped=[2]), PeerFault, others)
    counts.drill.told(0, counts.drill.certificate(header, FIVE))


def test_a_witness_outside_the_round_holds_it_to_the_gate_that_it_knows() -> None:
    """If it saw no counts, the gate is left to those whose moments are asked for: each of them must have."""
    counts, blind = Counts(SOME), Counts(SOME)
    counts.gate(2)
    false = counts.gated(held=b"\0")
    counts.drill.refused(
        2, counts.drill.proposal(false, SOME), PeerFault, "a gate that the counts of round 1 do not give"
    )
    assert counts.drill.tell(2, counts.drill.proposal(counts.gated(), SOME)) is not None
    assert blind.drill.tell(2, blind.drill.proposal(blind.gated(held=b"\0"), SOME)) is not None
    blind.drill.refused(0, blind.gated(), PeerFault, "a gate that the counts of round 1 do not give")


def test_whoever_missed_the_counts_gives_no_moments_and_can_still_certify_that_the_round_is_void() -> None:
    counts = Counts()
    for i in range(1, 5):
        counts.gate(i)
    header = counts.gated()
    counts.drill.refused(0, header, PeerFault, "a gate that the counts of round 1 do not give")
    assert counts.drill.tell(0, counts.drill.proposal(header, [])) is not None
    step = counts.drill.deliver(0, header.to_bytes())
    assert step.evaluate is None and step.sends == ()


def test_a_witness_that_counted_nothing_itself_has_no_gate() -> None:
    """It checks the certificate of the counts, and has no rule of its own to apply to them."""
    counts = Counts(SOME, left_out=2)
    few = counts.drill.certificate(counts.header, SOME, by=SOME[:-2])
    counts.drill.refused(2, counts.shown(certificate=few.quoted()), PeerFault, "a certificate needs 4")
    step = counts.drill.deliver(2, counts.message.to_bytes())
    assert step.counts is None and step.state.gate is None
    assert counts.drill.tell(2, counts.drill.proposal(counts.gated(), SOME)) is not None
