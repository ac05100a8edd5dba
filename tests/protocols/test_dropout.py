"""Tenants that die: every assignment of {never, each step} for few tenants, every subset at one step for more.

A step is "before it reads" or "right after it sent" a message of one kind, in the set-up of a window or in a round. Whatever
happens, the sum is the plain sum of the survivors' vectors, bit for bit, or the request fails and names somebody who died; and
while enough tenants live, it does not fail. Under malicious-server trust "enough" includes a quorum of the witnesses of each round:
a round is certified if and only if q of its w witnesses lived to endorse it, and if the living can no longer be q, nothing more is opened.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import (
    Advertise,
    Boxes,
    Certificate,
    Deposit,
    Endorsement,
    Header,
    Hello,
    Join,
    Neighbours,
    Opening,
    OpenWindow,
    Proposal,
    Ready,
    Recover,
    Shares,
    Upload,
)
from fed_em_protocols.terms import SessionTerms, Trust, whole_units
from fed_em_simulations.memory_hub import Fate, Passing
from tests.protocols.federation import TestFederation, kind_of
from tests.protocols.interferences import TO_SERVER, TO_TENANT, Place, Watch, name_of

pytestmark = pytest.mark.usefixtures("remembered_keys")

Step = Place | None

NEVER: Step = None
SENT: list[Step] = [
    (TO_SERVER, kind) for kind in (Hello, Join, Advertise, Deposit, Ready, Upload, Endorsement, Opening, Shares)
]
# Not before SetUp: on the complete graph Neighbours comes together with it, and nothing is sent in between.
UNREAD: list[Step] = [
    (TO_TENANT, kind) for kind in (SessionTerms, OpenWindow, Neighbours, Boxes, Header, Proposal, Certificate, Recover)
]
STEPS = {
    Trust.MALICIOUS_SERVER: [NEVER, *SENT, *UNREAD],
    # Nobody is ever asked to endorse where the server is trusted.
    Trust.SEMI_HONEST: [NEVER, *(step for step in SENT + UNREAD if step and step[1] not in {Proposal, Endorsement})],
}
# Whoever dies there has endorsed, if it was asked to.
AFTER_ENDORSING = {NEVER, (TO_SERVER, Endorsement)} | {
    (direction, kind) for direction in (TO_SERVER, TO_TENANT) for kind in (Certificate, Opening, Recover, Shares)
}
# Whoever was not asked for an upload, as its block was not complete, does not die of it.
UPLOADING = {(TO_TENANT, Header), (TO_SERVER, Upload)}

# Three attempts, each with at most one gathering, two windows, one closing and one round.
LONGEST = 3 * (8.0 + 2 * 3 * 2.0 + 1.0 + 3.0 + 3 * 1.0)

MALICIOUS, SEMI_HONEST = Trust.MALICIOUS_SERVER, Trust.SEMI_HONEST
both_trusts = pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)


def check(deaths: Sequence[Step], colluders: int, trust: Trust = MALICIOUS, blocks: int = 0) -> None:
    """One federation in which tenant i dies at `deaths[i]`."""

    def interfere(passing: Passing) -> Fate:
        death = deaths[passing.tenant]
        dies = death is not None and passing.direction is death[0] and kind_of(passing.data) is death[1]
        return Fate.KILL if dies else Fate.DELIVER

    watch = Watch(interfere)
    federation = TestFederation(
        len(deaths), 1, interfere=watch, window_rounds=2, colluders=colluders, trust=int(trust), blocks=blocks
    )
    outcome, state = federation.try_sum(), federation.server.state
    alive = frozenset(index for index, death in enumerate(deaths) if death is NEVER)
    whole, least = whole_units(state.units, alive), state.terms.content.minimum_survivors
    quorum_lives = trust is SEMI_HONEST or check_certificates(deaths, watch, federation, colluders)
    if isinstance(outcome, SumFailed):
        assert len(whole) < least or not quorum_lives, f"{deaths}: {outcome}"
        named = [index for index in range(len(deaths)) if f"t{index}" in outcome.message]
        assert named and alive.isdisjoint(named), f"{deaths}: {outcome}"
    else:
        survivors = frozenset(outcome.survivors)
        assert quorum_lives and whole <= survivors == whole_units(state.units, survivors) and len(survivors) >= least
    assert federation.hub.now() <= LONGEST


def check_certificates(deaths: Sequence[Step], watch: Watch, federation: TestFederation, colluders: int) -> bool:
    """Whether the last round has, or can still get, its certificate; and that it is so exactly when a quorum of it could be had."""
    headers, endorsements = watch.headers(), watch.passed(Endorsement)
    proposed = any(any(sealed.content.survivors) for sealed in watch.seen(Proposal))
    certified = {notice.round for notice in federation.notices if notice.kind is NoticeKind.CERTIFIED}
    alive = {index for index, death in enumerate(deaths) if death is NEVER}
    for number, header in headers.items():
        witnesses = from_bitmap(header.witnesses, len(deaths))
        quorum = (len(witnesses) + colluders) // 2 + 1
        given = [
            (tenant, any(sealed.content.survivors)) for tenant, sealed in endorsements if sealed.content.round == number
        ]
        endorsed = {tenant for tenant, opens in given if opens}
        assert endorsed <= witnesses
        assert (number in certified) == (len(endorsed) >= quorum), deaths
        if number == 1 and proposed:
            asked = from_bitmap(header.participants, len(deaths))
            could = {
                i for i in witnesses if deaths[i] in (AFTER_ENDORSING if i in asked else AFTER_ENDORSING | UPLOADING)
            }
            assert endorsed == could, deaths
        if number not in certified and number < max(headers):
            assert len({tenant for tenant, _ in given}) >= quorum, deaths
        if number not in certified and number == max(headers):
            return len(alive & witnesses) >= quorum
    return True


def multisets(steps: Sequence[Step], n: int) -> Iterable[tuple[Step, ...]]:
    """Every way to hand n steps to n tenants, up to who gets which; that is drawn, once for all."""
    draw = random.Random(n)
    for chosen in itertools.combinations_with_replacement(steps, n):
        yield tuple(draw.sample(chosen, n))


# Tenants are alike but for their index, and an index matters to another only in which of the two is smaller: it decides the
# sign of their mask, and who is served first. So a set of steps is handed out in ascending and in descending order, where each two
# steps meet both ways round.


@pytest.mark.parametrize("first", STEPS[MALICIOUS], ids=name_of)
def test_three_tenants_every_assignment_in_both_orders(first: Step) -> None:
    steps = STEPS[MALICIOUS]
    for rest in itertools.combinations_with_replacement(steps[steps.index(first) :], 2):
        check((first, *rest), colluders=0)
        check((*rest[::-1], first), colluders=0)


@pytest.mark.slow
@pytest.mark.parametrize("first", STEPS[MALICIOUS], ids=name_of)
def test_three_tenants_every_assignment(first: Step) -> None:
    for rest in itertools.product(STEPS[MALICIOUS], repeat=2):
        check((first, *rest), colluders=0)


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 6])
@pytest.mark.parametrize("step", STEPS[MALICIOUS][1:], ids=name_of)
def test_more_tenants_every_subset_at_one_step(n: int, step: Step) -> None:
    for dying in itertools.product((False, True), repeat=n):
        check([step if dies else NEVER for dies in dying], colluders=1)


# --- heavier ---

# The number of colluders only changes τ and q, and gets an order by lot.


@pytest.mark.slow
@both_trusts
@pytest.mark.parametrize("first", STEPS[MALICIOUS], ids=name_of)
def test_four_tenants_every_assignment_in_both_orders(first: Step, trust: Trust) -> None:
    steps = STEPS[trust]
    if first in steps:
        for rest in itertools.combinations_with_replacement(steps[steps.index(first) :], 3):
            check((first, *rest), 1, trust)
            check((*rest[::-1], first), 1, trust)


@pytest.mark.slow
@both_trusts
@pytest.mark.parametrize("share", range(4))
def test_four_tenants_every_assignment_without_colluders_up_to_order(share: int, trust: Trust) -> None:
    for chosen in itertools.islice(multisets(STEPS[trust], 4), share, None, 4):
        check(chosen, 0, trust)


@pytest.mark.slow
@pytest.mark.parametrize("first", STEPS[SEMI_HONEST], ids=name_of)
def test_three_tenants_and_a_trusted_server_every_assignment(first: Step) -> None:
    for rest in itertools.product(STEPS[SEMI_HONEST], repeat=2):
        check((first, *rest), 0, SEMI_HONEST)


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 6])
@pytest.mark.parametrize("step", STEPS[SEMI_HONEST][1:], ids=name_of)
def test_more_tenants_and_a_trusted_server_every_subset_at_one_step(n: int, step: Step) -> None:
    for dying in itertools.product((False, True), repeat=n):
        check([step if dies else NEVER for dies in dying], 1, SEMI_HONEST)


# --- beyond ---


@st.composite
def sessions(draw: st.DrawFn) -> tuple[list[Step], int, Trust, int]:
    """Deaths of 5 to 10 tenants, colluders, trust and number of blocks."""
    trust, n = draw(st.sampled_from(list(Trust))), draw(st.integers(5, 10))
    colluders = draw(st.integers(0, (n - 1) // 3))
    blocks = draw(st.integers(0, n // (colluders + 2)))
    dying = st.one_of(st.just(NEVER), st.sampled_from(STEPS[trust]))
    return draw(st.lists(dying, min_size=n, max_size=n)), colluders, trust, blocks


@pytest.mark.slow
@given(sessions())
@settings(max_examples=100)
def test_any_number_of_tenants_and_deaths(session: tuple[list[Step], int, Trust, int]) -> None:
    check(*session)


@pytest.mark.slow
@given(sessions())
@settings(max_examples=500)
def test_many_more_sessions(session: tuple[list[Step], int, Trust, int]) -> None:
    check(*session)
