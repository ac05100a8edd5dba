"""A tenant that cannot compute its statistics sends noise, and adds one to a word of the sum: it says how many, never who."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fed_em.errors import CallerError
from fed_em_protocols.coordinator_state import SumOpened, SumRequest
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import Certificate, Refusal
from fed_em_protocols.ring import RING_32, RING_64, Ring
from fed_em_protocols.tenant_state import Evaluate
from fed_em_protocols.terms import Trust
from fed_em_simulations.memory_hub import Fate
from tests.protocols.federation import TestFederation
from tests.protocols.interferences import TO_TENANT, Watch, assert_no_error, once

pytestmark = pytest.mark.usefixtures("remembered_keys")

both_trusts = pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)


def failing(federation: TestFederation, tenant: int, when: Callable[[Evaluate], bool]) -> None:
    """This tenant's statistics are beyond their bounds whenever `when` says so."""
    evaluate = federation.works[tenant].evaluate

    def at(asked: Evaluate) -> RingVector:
        if when(asked):
            raise CallerError("statistic 'age' is beyond its declared bound")
        return evaluate(asked)

    federation.works[tenant].evaluate = at  # type: ignore[method-assign]


def in_round(*numbers: int) -> Callable[[Evaluate], bool]:
    return lambda asked: asked.round in numbers and not asked.recall


def opened_at(federation: TestFederation, parameters: bytes) -> SumOpened:
    return federation.server.sum(SumRequest(parameters, bytes(32), federation.length))


def sum_of(federation: TestFederation, tenants: tuple[int, ...], parameters: bytes, ring: Ring = RING_64) -> RingVector:
    total = ring.zeros(federation.length)
    for index in tenants:
        total += federation.works[index].vector_at(parameters).astype(ring.dtype)
    return total


@both_trusts
@pytest.mark.parametrize("faulty", [(2,), (0, 3), (0, 1, 2, 3)], ids=str)
def test_the_sum_tells_how_many_could_not_compute_and_nothing_of_the_others(
    faulty: tuple[int, ...], trust: Trust
) -> None:
    watch = Watch()
    federation = TestFederation(4, interfere=watch, trust=int(trust))
    for tenant in faulty:
        failing(federation, tenant, in_round(2))
    federation.sum()
    opened = opened_at(federation, b"two")
    assert RING_64.faults_in(opened.vector) == len(faulty) and opened.survivors == (0, 1, 2, 3)
    # Who is at fault may be the server's choice, and with it whose statistics would be left.
    sound = tuple(index for index in range(4) if index not in faulty)
    statistics = slice(None, -RING_64.tail_words)
    assert not np.any(opened.vector[statistics] == sum_of(federation, sound, b"two")[statistics])
    assert RING_64.is_sum(opened.vector)
    # Its own operator is told, nobody else: not even that it was at fault.
    for index in range(4):
        session = federation.hub.session_of(index)
        assert session is not None and (session.fault is not None) == (index in faulty)
    assert watch.by(Refusal) == set()
    assert_no_error(federation)


@both_trusts
def test_once_it_can_compute_again_the_total_is_whole_again(trust: Trust) -> None:
    """Its increment starts from what it sent, noise and one fault."""
    federation = TestFederation(4, trust=int(trust))
    failing(federation, 1, in_round(1, 3))
    faults = []
    for number in range(1, 6):
        opened = opened_at(federation, b"at %d" % number)
        faults.append(RING_64.faults_in(opened.vector))
        if not faults[-1]:
            assert np.array_equal(opened.vector, sum_of(federation, (0, 1, 2, 3), b"at %d" % number))
    assert faults == [1, 0, 1, 0, 0]
    assert_no_error(federation)


def test_faults_are_counted_of_those_who_fall_silent_too_and_of_stale_ones_until_they_answer() -> None:
    watch = Watch(once(Fate.KILL, (TO_TENANT, Certificate), {1}))
    federation = TestFederation(4, interfere=watch)
    failing(federation, 1, in_round(1))
    faults = [RING_64.faults_in(opened_at(federation, b"at %d" % number).vector) for number in range(3)]
    assert faults == [1, 1, 1]  # t1 is dead, and its term in the total is the one it gave


def test_faults_are_counted_in_rounds_of_counts_and_shown_to_everybody() -> None:
    federation, ring = TestFederation(4, 48, mass_floor=1000), RING_64.for_counts
    failing(federation, 2, in_round(1))
    shown: list[int] = []

    def held(counts: RingVector) -> bytes:
        shown.append(ring.faults_in(counts))
        return b"\0"

    for work in federation.works:
        work.held = held  # type: ignore[method-assign]
    request = SumRequest(b"counts", bytes(32), federation.length, counts=True, ring=ring)
    assert ring.faults_in(federation.server.sum(request).vector) == 1
    federation.hub.close()
    assert shown == [1, 1, 1, 1]


@pytest.mark.parametrize("ring", [RING_32, RING_64], ids=lambda ring: str(ring.bits))
def test_a_fault_vector_is_noise_and_one_fault(ring: Ring) -> None:
    for statistics in (0, 9, 100):
        noise = bytes(k % 251 for k in range(statistics * ring.word_bytes))
        vector = ring.fault_vector(noise)
        assert vector.dtype == ring.dtype and len(vector) == statistics + ring.tail_words
        assert vector[:statistics].tobytes() == noise and vector[-ring.tail_words] == 1
        assert ring.is_sum(vector) and ring.faults_in(vector) == 1
        assert ring.faults_in(vector + vector) == 2


def test_an_increment_from_a_base_that_cannot_be_computed_again_hides_what_it_adds() -> None:
    """With nobody else's rows changed, the sum would be that tenant's whole vector."""
    federation = TestFederation(4)
    opened_at(federation, b"same")
    federation.hub.kill(1)
    federation.hub.restart(1, 0.0)
    failing(federation, 1, lambda asked: asked.recall)
    opened = [opened_at(federation, b"same") for _ in range(6)][-1]
    assert opened.survivors == (0, 1, 2, 3) and RING_64.faults_in(opened.vector)
    whole = sum_of(federation, (0, 1, 2, 3), b"same")
    twice = whole + federation.works[1].vector_at(b"same")
    statistics = slice(None, -RING_64.tail_words)
    assert not np.any((opened.vector == whole)[statistics] | (opened.vector == twice)[statistics])


def restarted_with_a_fault_in_its_base(when: Callable[[Evaluate], bool]) -> list[int]:
    """Faults in the sums after t1 has been started anew and must compute its base again."""
    federation = TestFederation(4)
    opened_at(federation, b"first")
    federation.hub.kill(1)
    federation.hub.restart(1, 0.0)
    failing(federation, 1, when)
    opened = [opened_at(federation, b"at %d" % number) for number in range(6)]
    assert opened[-1].survivors == (0, 1, 2, 3)
    return [RING_64.faults_in(each.vector) for each in opened]


def test_a_base_that_cannot_be_computed_again_is_noticed() -> None:
    assert restarted_with_a_fault_in_its_base(lambda asked: asked.recall)[-1] != 0


def test_so_is_one_in_a_round_that_cannot_be_computed_either() -> None:
    assert restarted_with_a_fault_in_its_base(lambda _: True)[-1] != 0
