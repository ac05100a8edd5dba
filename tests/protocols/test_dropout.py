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
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em_protocols.coordinator_state import NoticeKind, SumOpened
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
# In one worker, which checks each session once.
three_tenants = pytest.mark.xdist_group("three tenants that die")
both_trusts = pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)


@dataclass(frozen=True)
class Setting:
    """What a session is a function of, besides who dies where."""

    n: int
    colluders: int
    trust: Trust
    blocks: int


@dataclass(frozen=True)
class Deaths:
    """Who dies where in a session, those alone that came to it, and every step that anybody passed alive."""

    died: frozenset[tuple[int, Place]]
    passed: frozenset[tuple[int, Place]]


# A death at a step that never comes is none: the session is, byte for byte, that of those deaths that came. Each is run once.
_CHECKED: dict[tuple[Setting, frozenset[tuple[int, Place]]], Deaths] = {}


def check(deaths: Sequence[Step], colluders: int, trust: Trust = MALICIOUS, blocks: int = 0) -> None:
    """One federation in which tenant i dies at `deaths[i]`; if it is not one that was checked before."""
    setting = Setting(len(deaths), colluders, trust, blocks)
    if checked_before(deaths, setting) is None:
        came = run(deaths, setting)[0]
        _CHECKED[setting, came.died] = came


def checked_before(deaths: Sequence[Step], setting: Setting) -> Deaths | None:
    """The deaths of a checked session of which this one can differ in nothing: all came, and the others' steps never did."""
    meant = [(index, death) for index, death in enumerate(deaths) if death is not NEVER]
    for count in range(len(meant) + 1):
        for some in itertools.combinations(meant, count):
            came = _CHECKED.get((setting, frozenset(some)))
            if came is not None and came.passed.isdisjoint(meant):
                return came
    return None


def run(deaths: Sequence[Step], setting: Setting) -> tuple[Deaths, Watch]:
    """A federation whose outcome is what its deaths allow; and all that passed."""
    died, passed = set[tuple[int, Place]](), set[tuple[int, Place]]()

    def interfere(passing: Passing) -> Fate:
        step = (passing.direction, kind_of(passing.data))
        dies = deaths[passing.tenant] == step
        (died if dies else passed).add((passing.tenant, step))
        return Fate.KILL if dies else Fate.DELIVER

    watch = Watch(interfere)
    federation = TestFederation(
        setting.n, 1, interfere=watch, window_rounds=2,
        colluders=setting.colluders, trust=int(setting.trust), blocks=setting.blocks,
    )  # fmt: skip
    outcome = federation.try_sum()
    came = Deaths(frozenset(died), frozenset(passed))
    steps_of = dict(came.died)
    assert_allowed([steps_of.get(index, NEVER) for index in range(setting.n)], setting, outcome, federation, watch)
    return came, watch


def assert_allowed(
    deaths: Sequence[Step], setting: Setting, outcome: SumOpened | SumFailed, federation: TestFederation, watch: Watch
) -> None:
    """The sum is of everybody alive, or it failed as it had to and names somebody who died."""
    state = federation.server.state
    alive = frozenset(index for index, death in enumerate(deaths) if death is NEVER)
    whole, least = whole_units(state.units, alive), state.terms.content.minimum_survivors
    quorum_lives = setting.trust is SEMI_HONEST or check_certificates(deaths, watch, federation, setting.colluders)
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


@three_tenants
def test_a_session_that_is_left_out_is_one_that_was_seen() -> None:
    """The same deaths come, everybody passes the same steps, and the same bytes pass in the same order."""
    draw, setting, found = random.Random(1), Setting(3, 0, MALICIOUS, 0), 0
    while found < 8:
        deaths = draw.choices(STEPS[MALICIOUS], k=setting.n)
        seen = checked_before(deaths, setting)
        came, watch = run(deaths, setting)
        if seen is None:
            _CHECKED[setting, came.died] = came
        elif len(seen.died) < setting.n - deaths.count(NEVER):
            found += 1
            steps_of = dict(seen.died)
            again, alone = run([steps_of.get(index, NEVER) for index in range(setting.n)], setting)
            assert came == again == seen and watch.everything() == alone.everything()


# Tenants are alike but for their index, and an index matters to another only in which of the two is smaller: it decides the
# sign of their mask, and who is served first. So a set of steps is handed out in ascending and in descending order, where each two
# steps meet both ways round.


@three_tenants
@pytest.mark.parametrize("first", STEPS[MALICIOUS], ids=name_of)
def test_three_tenants_every_assignment_in_both_orders(first: Step) -> None:
    steps = STEPS[MALICIOUS]
    for rest in itertools.combinations_with_replacement(steps[steps.index(first) :], 2):
        check((first, *rest), colluders=0)
        check((*rest[::-1], first), colluders=0)


@pytest.mark.slow
@three_tenants
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
