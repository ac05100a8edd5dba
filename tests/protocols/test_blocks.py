"""The difference guard: every sum holds each block whole or not at all, and a session of one block waits for all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import Certificate, Endorsement, Header, Opening, Proposal, Upload
from fed_em_protocols.terms import SessionTerms, Trust
from fed_em_simulations.memory_hub import Fate, Passing
from tests.protocols.federation import SHORT_TIMES, TestFederation, kind_of
from tests.protocols.interferences import (
    TO_SERVER,
    TO_TENANT,
    Place,
    Watch,
    assert_no_error,
    name_of,
    notices,
    once,
)

pytestmark = pytest.mark.usefixtures("remembered_keys")

both_trusts = pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)
BEFORE_UPLOAD: list[Place] = [(TO_TENANT, Header)]
AFTER_UPLOAD: list[Place] = [
    (TO_SERVER, Upload),
    (TO_TENANT, Proposal),
    (TO_SERVER, Endorsement),
    (TO_TENANT, Certificate),
    (TO_SERVER, Opening),
]


def two_blocks(**options: object) -> TestFederation:
    """Blocks (t0, t2, t4, t6) and (t1, t3, t5)."""
    return TestFederation(7, blocks=2, colluders=1, **options)  # type: ignore[arg-type]


def in_round(number: int, place: Place, tenant: int, federation: list[TestFederation]) -> Watch:
    """A tenant dies at some place of one round."""
    dies = once(Fate.KILL, place, {tenant})

    def interfere(passing: Passing) -> Fate:
        return dies(passing) if federation[0].server.state.last_round == number else Fate.DELIVER

    return Watch(interfere)


@both_trusts
@pytest.mark.parametrize("place", BEFORE_UPLOAD, ids=name_of)
def test_a_tenant_that_dies_before_its_upload_takes_its_block_along_and_the_blocks_terms_stand(
    place: Place, trust: Trust
) -> None:
    found: list[TestFederation] = []
    federation = two_blocks(interfere=in_round(2, place, 3, found), trust=int(trust))
    found.append(federation)
    assert federation.sum().survivors == (0, 1, 2, 3, 4, 5, 6)
    for _ in range(3):
        opened = federation.sum()
        assert opened.survivors == (0, 2, 4, 6) and opened.stale == (1, 3, 5) and opened.missing == ()
    federation.hub.restart(3, 0.0)
    opened = [federation.sum() for _ in range(6)][-1]
    assert opened.survivors == (0, 1, 2, 3, 4, 5, 6) and opened.stale == ()
    assert_no_error(federation)


@pytest.mark.parametrize(
    ("trust", "place"),
    [
        *((Trust.MALICIOUS_SERVER, place) for place in AFTER_UPLOAD),
        *((Trust.SEMI_HONEST, place) for place in AFTER_UPLOAD if place[1] not in {Proposal, Endorsement}),
    ],
    ids=lambda value: value.label if isinstance(value, Trust) else name_of(value),
)
def test_one_that_dies_after_its_upload_is_replaced_and_costs_its_block_only_the_next_round(
    place: Place, trust: Trust
) -> None:
    found: list[TestFederation] = []
    federation = two_blocks(interfere=in_round(2, place, 3, found), trust=int(trust))
    found.append(federation)
    federation.sum()
    assert federation.sum().survivors == (0, 1, 2, 3, 4, 5, 6)
    opened = federation.sum()
    assert opened.survivors == (0, 2, 4, 6) and opened.stale == (1, 3, 5)


def test_a_late_upload_takes_its_block_out_of_that_round() -> None:
    federation = two_blocks(latency=0.05, window_rounds=30)
    federation.sum()
    federation.hub.set_latency(5, 1.2)
    opened = federation.sum()
    assert opened.survivors == (0, 2, 4, 6) and opened.stale == (1, 3, 5)
    federation.hub.set_latency(5, 0.05)
    assert [federation.sum() for _ in range(8)][-1].survivors == (0, 1, 2, 3, 4, 5, 6)
    assert_no_error(federation)


def test_a_block_that_was_never_whole_is_missing_until_it_is() -> None:
    federation = two_blocks(window_rounds=30, interfere=once(Fate.KILL, (TO_TENANT, SessionTerms), {1}))
    first = federation.sum()
    assert first.survivors == (0, 2, 4, 6) and first.stale == () and first.missing == (1, 3, 5)
    federation.hub.restart(1, 0.0)
    later = [federation.sum() for _ in range(6)][-1]
    assert later.survivors == (0, 1, 2, 3, 4, 5, 6) and later.missing == ()
    assert_no_error(federation)


def test_mates_of_the_missing_are_not_asked_for_uploads_but_endorse() -> None:
    watch = Watch()
    federation = two_blocks(interfere=watch)
    federation.sum()
    federation.hub.kill(1)
    federation.sum()  # the server learns of it in mid-round
    federation.sum()
    last = max(watch.headers())
    asked = {tenant for tenant, sealed in watch.passed(Header) if sealed.content.round == last}
    endorsed = {tenant for tenant, sealed in watch.passed(Endorsement) if sealed.content.round == last}
    assert asked == {0, 2, 4, 6} and endorsed == {0, 2, 3, 4, 5, 6}


def split(watch: Watch, federation: TestFederation) -> list[frozenset[int]]:
    """Sets of tenants named by headers, proposals and certificates that hold a part of a block."""
    n, units = federation.roster.n, federation.server.state.units
    named = [from_bitmap(header.participants, n) for header in watch.headers().values()]
    named += [from_bitmap(sealed.content.survivors, n) for sealed in watch.seen(Proposal)]
    named += [from_bitmap(sealed.content.survivors, n) for sealed in watch.seen(Certificate)]
    return [members for members in named if any(unit & members not in {frozenset(), unit} for unit in units)]


FATES = st.sampled_from([Fate.KILL, Fate.BREAK])
PLACES = st.sampled_from([*BEFORE_UPLOAD, *AFTER_UPLOAD])


@given(
    st.integers(2, 3),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 8), PLACES, FATES, st.floats(0.05, 3.0)), max_size=6),
    st.sampled_from(list(Trust)),
)
@settings(max_examples=30)
def test_whoever_dies_and_comes_back_no_block_is_ever_split(
    blocks: int, troubles: list[tuple[int, int, Place, Fate, float]], trust: Trust
) -> None:
    left = list(troubles)

    def interfere(passing: Passing) -> Fate:
        here = (federation.server.state.last_round, passing.tenant, (passing.direction, kind_of(passing.data)))
        for trouble in left:
            if here == trouble[:3]:
                left.remove(trouble)
                if trouble[3] is Fate.KILL:
                    federation.hub.restart(passing.tenant, trouble[4])
                return trouble[3]
        return Fate.DELIVER

    watch = Watch(interfere)
    federation = TestFederation(9, blocks=blocks, colluders=1, interfere=watch, trust=int(trust), window_rounds=10)
    for _ in range(5):
        federation.sum()
    assert split(watch, federation) == []
    assert_no_error(federation)


# --- one block ---


@pytest.mark.parametrize("process", ["the same", "a new one"])
def test_a_session_of_one_block_pauses_names_whom_it_waits_for_and_goes_on(process: str) -> None:
    federation = TestFederation(4, blocks=1, window_rounds=20)
    federation.sum()
    began = federation.hub.now()
    if process == "the same":
        # Its link breaks, and it dials again only after some time.
        federation.hub.break_link(2, hold=True)
        federation.hub.later(5.0, lambda: federation.hub.let_back(2))
    else:
        federation.hub.kill(2)
        federation.hub.restart(2, 5.0)
    opened = federation.sum()
    assert opened.survivors == (0, 1, 2, 3) and opened.stale == ()
    assert 5.0 <= federation.hub.now() - began < 5.5
    assert notices(federation, NoticeKind.PAUSED) == [(2, ("t2",))]
    # The same process still has its keys; for a new one there is a new window.
    windows = len(notices(federation, NoticeKind.WINDOW_OPENED))
    assert windows == (1 if process == "the same" else 2)
    federation.sum()
    assert_no_error(federation)


def test_a_pause_in_mid_round_ends_that_round_and_the_total_is_still_exact() -> None:
    def interfere(passing: Passing) -> Fate:
        if (
            passing.tenant == 1
            and kind_of(passing.data) is Header
            and federation.server.state.last_round == 2
            and not died
        ):
            died.append(passing.tenant)
            federation.hub.restart(1, 4.0)
            return Fate.KILL
        return Fate.DELIVER

    died: list[int] = []
    federation = TestFederation(4, blocks=1, interfere=interfere)
    federation.sum()
    opened = federation.sum()
    assert opened.round == 3 and opened.survivors == (0, 1, 2, 3)
    assert [tenants for _, tenants in notices(federation, NoticeKind.PAUSED)] == [("t1",)]
    assert_no_error(federation)


def test_a_late_tenant_of_the_only_block_is_waited_for() -> None:
    def interfere(passing: Passing) -> Fate:
        if passing.tenant == 3 and kind_of(passing.data) is Header:
            federation.hub.set_latency(3, 2.0 if federation.server.state.last_round == 2 else 0.05)
        return Fate.DELIVER

    federation = TestFederation(4, blocks=1, latency=0.05, interfere=interfere)
    federation.sum()
    opened = federation.sum()
    assert opened.survivors == (0, 1, 2, 3) and opened.round > 2
    assert {tenants for _, tenants in notices(federation, NoticeKind.PAUSED)} == {("t3",)}
    assert_no_error(federation)


def test_a_pause_ends_when_its_time_is_up_and_says_for_whom_it_was() -> None:
    federation = TestFederation(4, blocks=1, timetable=replace(SHORT_TIMES, pause=3.0))
    federation.sum()
    federation.hub.kill(1)
    began = federation.hub.now()
    with pytest.raises(SumFailed, match=r"3 of 4 tenants answer, 3 are needed in whole blocks; missing: t1"):
        federation.sum()
    assert federation.hub.now() - began < 3.0 + SHORT_TIMES.patience + 0.1
    federation.hub.restart(1, 0.0)
    assert federation.sum().survivors == (0, 1, 2, 3)


class Refusing(TenantSession):
    """Its policy asks for more than any session offers."""

    def greet(self) -> tuple[bytes, ...]:
        me = self.state.me
        self.state = replace(self.state, me=replace(me, policy=replace(me.policy, round_cap=1)))
        return super().greet()


def test_refusals_in_every_block_end_the_session_at_once_and_in_one_block_do_not() -> None:
    federation = two_blocks(sessions={1: Refusing, 6: Refusing})
    with pytest.raises(SumFailed, match=r"refused the session: t1, t6 \(each knows why\)"):
        federation.sum()
    assert federation.hub.now() < 1.0
    assert two_blocks(sessions={6: Refusing}).sum().survivors == (1, 3, 5)
