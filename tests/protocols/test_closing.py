"""Rounds that end without a certificate get one before the next begins: void, or for the one U that witnesses were asked about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fed_em_protocols.certification import outcome_digest
from fed_em_protocols.coordinator import coordinator_close, coordinator_restart
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.envelope import unquote
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import (
    Certificate,
    CloseReason,
    Endorsement,
    Header,
    Opening,
    Outcome,
    Proposal,
)
from fed_em_protocols.terms import Trust
from fed_em_protocols.transitions import CoordinatorPhase, SetUpPhase
from fed_em_simulations.memory_hub import Fate, Passing
from tests.protocols.crashes import crash_and_restart
from tests.protocols.federation import SHORT_TIMES, TestFederation, kind_of
from tests.protocols.interferences import TO_TENANT, Watch, assert_no_error, notices

pytestmark = pytest.mark.usefixtures("remembered_keys")

VOID = bytes(32)


def certificate_of(watch: Watch, number: int) -> Certificate:
    """The certificate of a round, as the next header shows it."""
    certificate = watch.certified_by(watch.headers()[number + 1])
    assert certificate is not None and certificate.round == number
    return certificate


def assert_one_outcome(watch: Watch) -> None:
    """Witnesses are never asked for two outcomes of a round, nor sign two."""
    outcomes: dict[int, set[bytes]] = {}
    for sealed in watch.seen(Proposal):
        header = unquote(sealed.content.header, Header, "server").content
        outcomes.setdefault(header.round, set()).add(sealed.content.survivors + sealed.attachment_digest)
    signed: dict[tuple[int, int], set[bytes]] = {}
    for tenant, endorsement in watch.passed(Endorsement):
        signed.setdefault((tenant, endorsement.content.round), set()).add(outcome_digest(endorsement.content))
    assert all(len(found) == 1 for found in (*outcomes.values(), *signed.values()))


# --- too few uploads ---


def missing_in_round_two(tenants: set[int]) -> tuple[Watch, list[TestFederation]]:
    """These die before they upload in round 2, and start anew soon."""
    found: list[TestFederation] = []
    died: set[int] = set()

    def interfere(passing: Passing) -> Fate:
        now = found[0].server.state.last_round == 2 and passing.tenant in tenants - died
        if not now or kind_of(passing.data) is not Header:
            return Fate.DELIVER
        died.add(passing.tenant)
        found[0].hub.restart(passing.tenant, 0.2)
        return Fate.KILL

    return Watch(interfere), found


@pytest.mark.parametrize(
    ("n", "missing", "terms"),
    [(6, {1, 2}, {"minimum_survivors": 5}), (4, {3}, {"blocks": 1}), (6, {1, 2}, {"blocks": 2})],
    ids=["no-blocks", "one-block", "two-blocks"],
)
def test_a_round_with_too_few_uploads_is_certified_as_void_before_the_next_header(
    n: int, missing: set[int], terms: dict[str, int]
) -> None:
    watch, found = missing_in_round_two(missing)
    federation = TestFederation(n, interfere=watch, colluders=1, **terms)
    found.append(federation)
    for _ in range(3):
        federation.sum()
    headers, certificate, quorum = watch.headers(), certificate_of(watch, 2), (n + 1) // 2 + 1
    assert from_bitmap(certificate.survivors, n) == frozenset() and certificate.root == VOID
    # The living are a quorum: they sign with the keys of the round's own window, though the next round needs another one.
    assert certificate.setup == headers[2].setup != headers[3].setup
    assert from_bitmap(certificate.endorsers, n) == frozenset(range(n)) - missing
    assert headers[3].previous_outcome == Outcome.NOT_OPENED and headers[3].base_rounds == headers[2].base_rounds
    order = [(kind, number) for kind, number, _ in watch.sequence(Header, Endorsement)]
    assert order[: order.index((Header, 3))].count((Endorsement, 2)) >= quorum
    assert not any(sealed.content.round == 2 for _, sealed in watch.passed(Opening))
    assert_one_outcome(watch)
    assert_no_error(federation)


def test_under_semi_honest_trust_a_void_round_needs_nobodys_signature() -> None:
    watch, found = missing_in_round_two({1, 2})
    federation = TestFederation(4, interfere=watch, trust=int(Trust.SEMI_HONEST))
    found.append(federation)
    federation.sum()
    assert federation.sum().round == 3
    assert watch.headers()[3].previous == () and watch.headers()[3].previous_outcome == Outcome.NOT_OPENED
    assert watch.seen(Proposal) == [] and watch.seen(Endorsement) == []
    assert_no_error(federation)


# --- witnesses that die ---


def dying_witnesses(tenants: set[int], back: float | None) -> tuple[Watch, list[TestFederation]]:
    """In round 2 these die before they are asked to endorse, and start anew after a while."""
    found: list[TestFederation] = []
    died: set[int] = set()

    def interfere(passing: Passing) -> Fate:
        now = found[0].server.state.last_round == 2 and passing.tenant in tenants - died
        if not now or (passing.direction, kind_of(passing.data)) != (TO_TENANT, Proposal):
            return Fate.DELIVER
        died.add(passing.tenant)
        if back is not None:
            found[0].hub.restart(passing.tenant, back)
        return Fate.KILL

    return Watch(interfere), found


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_a_round_whose_witnesses_die_is_closed_with_its_u_under_the_next_windows_keys(blocks: int) -> None:
    watch, found = dying_witnesses({1, 2, 3}, back=0.3)
    federation = TestFederation(6, interfere=watch, colluders=1, blocks=blocks)
    found.append(federation)
    federation.sum()
    opened = federation.sum()
    assert opened.round == 3 and opened.survivors == (0, 1, 2, 3, 4, 5)
    certificate, headers = certificate_of(watch, 2), watch.headers()
    assert from_bitmap(certificate.survivors, 6) == {0, 1, 2, 3, 4, 5} and certificate.root != VOID
    assert certificate.setup == headers[3].setup != headers[2].setup
    assert len(from_bitmap(certificate.endorsers, 6)) >= 4
    assert headers[3].previous_outcome == Outcome.NOT_OPENED
    assert headers[3].base_rounds == headers[2].base_rounds
    # Nothing was opened for it, then or later.
    assert not any(sealed.content.round == 2 for _, sealed in watch.passed(Opening))
    assert 2 not in {number for number, _ in notices(federation, NoticeKind.CERTIFIED)}
    assert_one_outcome(watch)
    assert_no_error(federation)


def test_without_a_quorum_of_its_witnesses_the_session_waits_and_then_says_whom_it_needs() -> None:
    watch, found = dying_witnesses({1, 2, 3}, back=None)
    federation = TestFederation(6, interfere=watch, colluders=1, timetable=replace(SHORT_TIMES, pause=4.0))
    found.append(federation)
    federation.sum()
    with pytest.raises(SumFailed, match="and 4 witnesses of round 2 to certify how it ended; missing: t1, t2, t3"):
        federation.sum()
    assert {tenants for _, tenants in notices(federation, NoticeKind.PAUSED)} == {("t1", "t2", "t3")}
    federation.hub.restart(2, 0.0)
    assert federation.sum().survivors == (0, 2, 4, 5)  # a quorum of four suffices
    assert from_bitmap(certificate_of(watch, 2).endorsers, 6) == {0, 2, 4, 5}
    assert_one_outcome(watch)


def test_a_witness_that_dies_while_a_round_is_closed_costs_one_more_window() -> None:
    """The second window closes the round and serves none; the third closes it again, so that its members can check it."""
    watch, found = dying_witnesses({1, 2, 3}, back=0.3)
    inner, again = watch.inner, list[int]()

    def interfere(passing: Passing) -> Fate:
        closing = found[0].server.state.phase is CoordinatorPhase.CLOSING and not again
        if passing.tenant == 5 and closing and kind_of(passing.data) is Proposal:
            again.append(5)
            found[0].hub.restart(5, 0.3)
            return Fate.KILL
        return inner(passing)

    watch.inner = interfere
    federation = TestFederation(6, interfere=watch, colluders=1, blocks=1, latency=[0.05] * 5 + [0.001])
    found.append(federation)
    federation.sum()
    assert federation.sum().survivors == (0, 1, 2, 3, 4, 5)
    closing = [unquote(sealed.content.header, Header, "server").content.round for sealed in watch.seen(Proposal)]
    assert closing.count(2) == 3 and certificate_of(watch, 2).setup == watch.headers()[3].setup
    assert_one_outcome(watch)
    assert_no_error(federation)


# --- a server that starts anew ---


def trouble_in_round_two(kinds: set[type]) -> tuple[Watch, list[TestFederation]]:
    """t3 dies at one of these messages in round 2 and starts anew soon; so the server comes to recovering, or to closing."""
    found: list[TestFederation] = []
    died: list[int] = []

    def interfere(passing: Passing) -> Fate:
        if passing.tenant != 3 or kind_of(passing.data) not in kinds or died or found[0].server.state.last_round != 2:
            return Fate.DELIVER
        died.append(3)
        found[0].hub.restart(3, 0.2)
        return Fate.KILL

    return Watch(interfere), found


# What must happen in round 2 for the server to come to a phase.
IN_ROUND = {
    CoordinatorPhase.UPLOADING: set[type](),
    CoordinatorPhase.CERTIFYING: set[type](),
    CoordinatorPhase.OPENING: set[type](),
    CoordinatorPhase.RECOVERING: {Certificate},
    CoordinatorPhase.CLOSING: {Header},
}
# Nobody certifies anything under semi-honest trust; and t3 is missed in a session of one block alone.
CASES = [
    (trust, phase, blocks)
    for trust in Trust
    for phase in IN_ROUND
    for blocks in (0, 1, 2)
    if (trust is Trust.MALICIOUS_SERVER or phase not in {CoordinatorPhase.CERTIFYING, CoordinatorPhase.CLOSING})
    and (phase is not CoordinatorPhase.CLOSING or blocks == 1)
]


@pytest.mark.parametrize("sends", [False, True], ids=["before-sending", "after-sending"])
@pytest.mark.parametrize(
    ("trust", "phase", "blocks"), CASES, ids=[f"{trust.label}-{phase.value}-{blocks}" for trust, phase, blocks in CASES]
)
def test_a_server_that_starts_anew_in_a_round_goes_on(
    trust: Trust, phase: CoordinatorPhase, blocks: int, sends: bool
) -> None:
    watch, found = trouble_in_round_two(IN_ROUND[phase])
    federation = TestFederation(6, interfere=watch, colluders=1, blocks=blocks, trust=int(trust))
    found.append(federation)
    federation.sum()
    crash_and_restart(federation, phase, sends)
    opened = federation.sum()
    assert opened.round == 3 and opened.survivors == (0, 1, 2, 3, 4, 5)
    headers = watch.headers()
    assert headers[3].previous_outcome == Outcome.NOT_OPENED and set(headers[3].base_rounds) == {1}
    if trust is Trust.MALICIOUS_SERVER:
        void = phase in {CoordinatorPhase.UPLOADING, CoordinatorPhase.CLOSING}
        survivors = from_bitmap(certificate_of(watch, 2).survivors, 6)
        assert survivors == (frozenset() if void else frozenset(range(6)))
        assert_one_outcome(watch)
    for _ in range(4):
        federation.sum()
    assert_no_error(federation)


@pytest.mark.parametrize("sends", [False, True], ids=["before-sending", "after-sending"])
@pytest.mark.parametrize(
    "phase", [SetUpPhase.ADVERTISING, SetUpPhase.DEPOSITING, SetUpPhase.CONFIRMING], ids=lambda p: p.value
)
def test_a_server_that_starts_anew_in_a_set_up_goes_on(phase: SetUpPhase, sends: bool) -> None:
    for before in (0, 7):  # the first window, and one beside a running round
        watch = Watch()
        federation = TestFederation(5, interfere=watch, window_rounds=8)
        for _ in range(before):
            federation.sum()
        crash_and_restart(federation, phase, sends)
        for _ in range(3):
            assert federation.sum().survivors == (0, 1, 2, 3, 4)
        assert_one_outcome(watch)
        assert_no_error(federation)


def test_a_server_that_starts_anew_between_sums_goes_on_with_its_total() -> None:
    watch = Watch()
    federation = TestFederation(4, interfere=watch)
    for _ in range(2):
        federation.sum()
    federation.server.state = coordinator_restart(federation.server.state, federation.hub.now())
    for index in range(4):
        federation.hub.break_link(index)
    assert federation.sum().round == 3
    assert watch.headers()[3].base_rounds == (2, 2, 2, 2) and watch.headers()[3].previous_outcome == Outcome.OPENED
    assert_no_error(federation)


@pytest.mark.parametrize(
    "phase", [CoordinatorPhase.UPLOADING, CoordinatorPhase.CERTIFYING, CoordinatorPhase.OPENING], ids=lambda p: p.value
)
def test_tenants_may_start_anew_with_the_server(phase: CoordinatorPhase) -> None:
    """A power cut: nobody has a key left; what was signed before is on disk, and nothing else is signed."""
    watch = Watch()
    federation = TestFederation(5, interfere=watch, blocks=1)
    federation.sum()
    crash_and_restart(federation, phase, sends=True)
    for index in range(5):
        federation.hub.kill(index)
        federation.hub.restart(index, 0.5)
    opened = federation.sum()
    assert opened.round == 3 and opened.survivors == (0, 1, 2, 3, 4)
    assert_one_outcome(watch)
    assert_no_error(federation)


def test_a_server_that_crashes_again_and_again_loses_only_rounds() -> None:
    watch = Watch()
    federation = TestFederation(5, interfere=watch, window_rounds=3)
    federation.sum()
    for phase in (CoordinatorPhase.UPLOADING, CoordinatorPhase.CERTIFYING, CoordinatorPhase.OPENING) * 2:
        crash_and_restart(federation, phase, sends=True)
    federation.sum()
    assert max(watch.headers()) == 8
    assert_one_outcome(watch)
    assert_no_error(federation)


def test_a_session_that_is_over_stays_over() -> None:
    federation = TestFederation(3)
    federation.sum()
    closed = coordinator_close(federation.server.state, CloseReason.FINISHED).state
    assert coordinator_restart(closed, 99.0).phase is CoordinatorPhase.CLOSED
